"""Forms over a sheet of stories, one or two at a time: points by criteria, or which of two is better.

A sheet is a list of rows, already shuffled, such as `storylib.ratings.blind(...).rows`: nothing here knows who told
what.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import ipywidgets as widgets

from storylib.errors import UserError
from storylib.feedback import SCORES
from storylib.widgets.controls import Form, Notice, StoryCard, button, html, label, mark, row, stack

SIDES = ("left", "right")


def rating_form(
    sheet: Sequence[Mapping[str, str]],
    rate: Callable[[str, str, int, str], None],
    criteria: Mapping[str, str],
) -> RatingForm:
    """A form that shows one story of the sheet at a time and asks for 1 to 5 points by each criterion.

    sheet: rows with `prompt` and `story`. rate: called as `rate(prompt, story, score, criterion)` at each press; a
        reader who thinks again calls it again. With a store: `partial(store.rate, rater="Ana")`.
    criteria: their names with a question each, such as `storylib.ratings.CRITERIA`.
    Raises UserError for a sheet without rows.
    """
    return RatingForm(sheet, rate, criteria)


def comparison_form(sheet: Sequence[Mapping[str, str]], choose: Callable[[str, str, str], None]) -> ComparisonForm:
    """A form that shows two stories of a prompt side by side and asks which one is better.

    sheet: rows with `prompt`, `left` and `right`.
    choose: called as `choose(prompt, chosen, rejected)`, and not at all for two that are equally good.
    Raises UserError for a sheet without rows.
    """
    return ComparisonForm(sheet, choose)


class SheetForm(Form):
    """Goes through the rows of a sheet: `place` is the row on show, `judged` are the rows that are done with."""

    def __init__(self, title: str, sheet: Sequence[Mapping[str, str]], judging: Sequence[widgets.Widget]) -> None:
        if not sheet:
            raise UserError("the sheet has no rows: there is nothing to rate; make it from some stories first")
        self.sheet, self.place, self.judged = list(sheet), 0, set()
        self.progress, self.prompt, self.notice = widgets.HTML(), widgets.HTML(), Notice()
        self.back, self.next = button("◂ Back"), button("Next ▸")
        self.notice.on_press(self.back, lambda: self.turn_to(self.place - 1))
        self.notice.on_press(self.next, lambda: self.turn_to(self.place + 1))
        steps = row(self.back, self.next, self.progress)
        super().__init__([label(title, "h1"), self.prompt, *judging, self.notice, steps])
        self.turn_to(0)

    def turn_to(self, place: int) -> None:
        self.place = min(max(place, 0), len(self.sheet) - 1)
        self.prompt.value = html(f"Asked for: {self.sheet[self.place]['prompt'].strip()}", css="soft")
        self.notice.say("")
        self.show_row(self.sheet[self.place])
        self.show_progress()

    def done(self, what: str) -> None:
        """The row on show is judged; nothing turns by itself, or a double click would judge the next one unseen."""
        self.judged.add(self.place)
        everything = len(self.judged) == len(self.sheet)
        self.notice.say(
            f"All {len(self.sheet)} are judged. Thank you!" if everything else f"Kept. On to the next {what}."
        )
        self.show_progress()

    def show_progress(self) -> None:
        self.back.disabled, self.next.disabled = self.place == 0, self.place == len(self.sheet) - 1
        judged = f"{len(self.judged)} judged"
        self.progress.value = html(f"{self.place + 1} of {len(self.sheet)} · {judged}", css="soft")

    def show_row(self, row: Mapping[str, str]) -> None:
        raise NotImplementedError


class RatingForm(SheetForm):
    """One story, a line of points for each criterion."""

    def __init__(self, sheet, rate, criteria: Mapping[str, str]) -> None:
        self.rate, self.given, self.turning = rate, {}, False
        self.card = StoryCard()
        self.scores = {criterion: points(criterion) for criterion in criteria}
        for criterion, buttons in self.scores.items():
            buttons.observe(lambda change, criterion=criterion: self.press(criterion, change["new"]), "value")
        lines = [
            stack(label(f"{criterion.capitalize()}. {asked}"), buttons, css="score")
            for (criterion, asked), buttons in zip(criteria.items(), self.scores.values(), strict=True)
        ]
        advice = label("1 is the least, 5 the most.", css="soft")
        super().__init__("How good is this story?", sheet, [self.card, advice, row(*lines, css="fields")])

    def show_row(self, row: Mapping[str, str]) -> None:
        self.card.tell(row["story"])
        self.turning = True  # to show points is not to give them
        for criterion, buttons in self.scores.items():
            buttons.value = self.given.get((self.place, criterion))
        self.turning = False

    def press(self, criterion: str, score: int | None) -> None:
        if not self.turning and score is not None:
            self.notice.guarded(self.keep)(criterion, score)

    def keep(self, criterion: str, score: int) -> None:
        row = self.sheet[self.place]
        self.rate(row["prompt"], row["story"], score, criterion)
        self.given[self.place, criterion] = score
        if all((self.place, criterion) in self.given for criterion in self.scores):
            self.done("story")


class ComparisonForm(SheetForm):
    """Two stories, a button for each, and one for both."""

    def __init__(self, sheet, choose) -> None:
        self.choose, self.given = choose, {}  # row -> the button that was pressed
        self.better, self.equal = [button("⭐ This one is better") for _ in SIDES], button("Both are equally good")
        self.cards = [StoryCard(control) for control in self.better]
        super().__init__("Which story is better?", sheet, [row(*self.cards, css="pair"), row(self.equal)])
        for side, control in zip(SIDES, self.better, strict=True):
            self.notice.on_press(control, lambda side=side, control=control: self.keep(side, control))
        self.notice.on_press(self.equal, self.leave)

    def show_row(self, row: Mapping[str, str]) -> None:
        for side, card in zip(SIDES, self.cards, strict=True):
            card.entitle(f"{side.capitalize()} story")
            card.tell(row[side])
        self.show_given()

    def show_given(self) -> None:
        for control in (*self.better, self.equal):
            mark(control, "picked", self.given.get(self.place) is control)

    def keep(self, side: str, pressed: widgets.Button) -> None:
        row = self.sheet[self.place]
        other = SIDES[1 - SIDES.index(side)]
        self.choose(row["prompt"], row[side], row[other])
        self.note(pressed)

    def leave(self) -> None:
        """Equally good: nothing is kept, and a choice that was kept cannot be taken back so."""
        if self.given.get(self.place) in self.better:
            raise UserError("Your choice is kept already; press the other story to change it.")
        self.note(self.equal)

    def note(self, pressed: widgets.Button) -> None:
        self.given[self.place] = pressed
        self.show_given()
        self.done("pair")


def points(criterion: str) -> widgets.ToggleButtons:
    hints = [f"{criterion}: {score} of {SCORES[-1]}" for score in SCORES]
    return widgets.ToggleButtons(options=[(str(score), score) for score in SCORES], value=None, tooltips=hints)
