"""The emoji picker: three slots, groups of buttons, a story that is written before the reader's eyes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

import ipywidgets as widgets

from storylib import picking
from storylib.emoji import name
from storylib.errors import UserError
from storylib.picking import AGES, LENGTHS, USUAL_AGE, Told
from storylib.widgets.background import OneAtATime
from storylib.widgets.controls import (
    DISLIKED,
    LIKED,
    LIKING,
    Form,
    Notice,
    StoryCard,
    button,
    html,
    label,
    mark,
    row,
    show,
    stack,
    styled,
)

if TYPE_CHECKING:
    from storylib.feedback import FeedbackStore

EMPTY = "❔"
MACHINE = "A machine writes these stories. Read each one yourself before you read it to a child."
NUMBERS = "Another story number tells another story, the same number the same one again."
FOLDED, UNFOLDED = "⚙️ Settings ▾", "⚙️ Settings ▴"


def emoji_picker(
    tell: Callable[..., Told],
    *,
    store: FeedbackStore | None = None,
    folder: str | Path = "stories",
    rater: str = "reader",
    system: str = "",
    surprise_seed: int | None = None,
) -> EmojiPicker:
    """A form that has three emojis chosen and shows the story that `tell` makes of them.

    tell: called in a thread of its own as `tell(emojis, seed=…, max_new_tokens=…, on_text=…)` with three emojis; it may
        hand sentences to `on_text` while it writes. Its errors are shown as sentences, and the form stays usable.
    store: where 👍 and 👎 go, as 5 and 1 by the criterion "liked", of `rater` and `system`; without a store there are
        no such buttons.
    folder: where "Keep" writes Markdown files.
    surprise_seed: makes the surprises the same each time.
    """
    return EmojiPicker(tell, store, Path(folder), rater, system, Random(surprise_seed))


class Controls:
    """Everything that the picker shows."""

    def __init__(self) -> None:
        self.slots = {question: button(f"{EMPTY}\n{question}") for question in picking.SLOTS}
        self.search = styled("search", widget=widgets.Text(description="Search", placeholder="rabbit, sea, music …"))
        self.surprise, self.clear = button("🎲 Surprise me"), button("Clear")
        self.emojis = {
            emoji: button(f"{emoji}\n{word}") for group in picking.groups().values() for emoji, word in group.items()
        }
        self.groups = {
            question: stack(label(question, "h2"), row(*(self.emojis[emoji] for emoji in group), css="emojis"))
            for question, group in picking.groups().items()
        }
        self.tell, self.unfold = button("Tell me a story", "main"), button(FOLDED)
        self.age = widgets.Dropdown(description="Age of the child", options=[(age.name, age) for age in AGES])
        self.length = widgets.Dropdown(description="Length", options=[(length.label, length) for length in LENGTHS])
        self.seed = widgets.BoundedIntText(description="Story number", min=0, max=2**31 - 1)
        self.advice = label(css="soft")
        self.settings = stack(row(self.age, self.length, self.seed, css="fields"), self.advice, css="settings")
        self.notice = Notice()
        self.again, self.keep = button("🔁 Again"), button("💾 Keep")
        self.like, self.dislike = button("👍 I like it"), button("👎 Not for me")
        self.card = StoryCard(self.again, self.keep, self.like, self.dislike)

    def all(self) -> list[widgets.Widget]:
        """From top to bottom, which is the order of the Tab key too."""
        return [
            stack(label("Three emojis, one bedtime story", "h1"), label(MACHINE, css="soft")),
            row(*self.slots.values(), css="slots"),
            row(self.search, self.surprise, self.clear),
            *self.groups.values(),
            self.notice,
            row(self.tell, self.unfold),
            self.settings,
            self.card,
        ]


class EmojiPicker(Form):
    """The wiring of the picker: what is chosen, what is open, and which story was told last."""

    def __init__(self, tell, store, folder: Path, rater: str, system: str, random: Random) -> None:
        self.teller, self.store, self.folder = tell, store, folder
        self.rater, self.system, self.random = rater, system, random
        self.chosen: dict[str, str] = {}  # question -> emoji
        self.shown: str | None = next(iter(picking.SLOTS))  # the question whose emojis are shown
        self.first = True  # no story was told yet
        self.told: tuple[list[str], Told] | None = None  # the last story with its emojis
        self.controls = Controls()
        self.job = OneAtATime(self.failed, self.finished)
        super().__init__(self.controls.all())
        self.wire()

    def wire(self) -> None:
        ours = self.controls
        presses = {ours.surprise: self.surprise, ours.clear: self.clear, ours.unfold: self.unfold}
        presses |= {ours.tell: self.tell, ours.again: self.again, ours.keep: self.keep}
        presses |= {ours.like: lambda: self.rate(LIKED), ours.dislike: lambda: self.rate(DISLIKED)}
        presses |= {slot: lambda question=question: self.turn_to(question) for question, slot in ours.slots.items()}
        for question, group in picking.groups().items():
            presses |= {ours.emojis[emoji]: lambda q=question, e=emoji: self.pick(q, e) for emoji in group}
        for control, press in presses.items():
            ours.notice.on_press(control, press)
        ours.search.observe(lambda _: self.look_up(), "value")
        ours.age.observe(lambda _: self.take_age(), "value")
        show(ours.settings, False)
        show(ours.card, False)
        for control in (ours.like, ours.dislike):
            show(control, self.store is not None)
        ours.age.value = USUAL_AGE
        self.take_age()
        self.refresh()

    # -- choosing ------------------------------------------------------------------------------------------------------

    def pick(self, question: str, emoji: str) -> None:
        """Put an emoji into its slot, or take it out again, and go on to the next empty slot."""
        if self.chosen.get(question) == emoji:
            del self.chosen[question]
        else:
            self.chosen[question] = emoji
        self.shown = question if question not in self.chosen else self.next_empty() or question
        self.controls.search.value = ""
        self.controls.notice.say("" if self.next_empty() else "All three are chosen: press “Tell me a story”.")
        self.refresh()

    def next_empty(self) -> str | None:
        return next((question for question in picking.SLOTS if question not in self.chosen), None)

    def turn_to(self, question: str) -> None:
        self.shown = question
        self.controls.search.value = ""
        self.refresh()

    def surprise(self) -> None:
        self.chosen = dict(zip(picking.SLOTS, picking.surprise(self.random), strict=True))
        self.shown, self.controls.search.value = None, ""
        self.controls.notice.say("A surprise: press “Tell me a story”.")
        self.refresh()

    def clear(self) -> None:
        self.chosen, self.shown = {}, next(iter(picking.SLOTS))
        self.controls.search.value = ""
        self.controls.notice.say("")
        self.refresh()

    def look_up(self) -> None:
        wanted = self.controls.search.value.strip()
        nothing = f"No emoji here is called “{wanted}”. Try an animal, a place or a feeling."
        self.controls.notice.say("" if any(picking.search(wanted).values()) else nothing)
        self.refresh()

    def refresh(self) -> None:
        """Bring the slots and the emojis on show in line with what is chosen, open and searched for."""
        ours, wanted = self.controls, self.controls.search.value.strip()
        found = picking.search(wanted)
        for question, slot in ours.slots.items():
            emoji = self.chosen.get(question)
            slot.description = f"{emoji}\n{question} {name(emoji)}" if emoji else f"{EMPTY}\n{question}"
            mark(slot, "picked", bool(emoji))
            mark(slot, "open", question == self.shown and not wanted)
            show(ours.groups[question], bool(found[question]) if wanted else question == self.shown)
        for question, group in picking.groups().items():
            for emoji, word in group.items():
                picked = self.chosen.get(question) == emoji
                ours.emojis[emoji].description = f"{emoji}\n{'✓ ' * picked}{word}"
                mark(ours.emojis[emoji], "picked", picked)
                show(ours.emojis[emoji], emoji in found[question])

    # -- settings ------------------------------------------------------------------------------------------------------

    def unfold(self) -> None:
        folded = "storylib-hidden" in self.controls.settings._dom_classes
        show(self.controls.settings, folded)
        self.controls.unfold.description = UNFOLDED if folded else FOLDED

    def take_age(self) -> None:
        age = self.controls.age.value
        self.controls.length.value = age.length
        self.controls.advice.value = html(f"{age.advice} {NUMBERS}", css="soft")

    # -- telling -------------------------------------------------------------------------------------------------------

    def tell(self) -> None:
        emojis = picking.complete(self.chosen)
        settings = {"seed": self.controls.seed.value, "max_new_tokens": self.controls.length.value.tokens}
        if not self.job.start(lambda: self.write(emojis, settings)):
            raise UserError("One story at a time: the last one is still being told.")

    def again(self) -> None:
        """The same emojis, another story."""
        self.chosen = dict(zip(picking.SLOTS, self.told[0], strict=True)) if self.told else self.chosen
        self.controls.seed.value += 1
        self.tell()

    def write(self, emojis: list[str], settings: dict[str, int]) -> None:
        """The job: have the story told, and show it as it grows."""
        ours = self.controls
        first, self.first, self.told, self.shown, sentences = self.first, False, None, None, []
        self.refresh()
        ours.notice.say("The story is being written …" + " The first one takes longest." * first)
        ours.tell.disabled = True
        ours.card.enable(False)
        ours.card.entitle(", ".join(map(name, emojis)), emojis)
        ours.card.tell("")
        show(ours.card, True)

        def on_text(text: str) -> None:
            sentences.append(text)
            ours.card.tell("".join(sentences))

        story = self.teller(emojis, on_text=on_text, **settings)
        if not story.text.strip():
            raise UserError("The storyteller found no words this time; press Tell me a story again.")
        ours.card.tell(story.text, picking.about(story, ours.age.value))
        self.told = (emojis, story)
        ours.notice.say("Your story is ready.")

    def failed(self, why: str) -> None:
        self.controls.card.tell("")  # half a story may be one that was refused
        show(self.controls.card, False)
        self.controls.notice.say(why)

    def finished(self) -> None:
        self.controls.tell.disabled = False
        self.controls.card.enable(self.told is not None)

    # -- the story that was told ---------------------------------------------------------------------------------------

    def last(self) -> tuple[list[str], Told]:
        if not self.told:
            raise UserError("There is no finished story yet.")
        return self.told

    def keep(self) -> None:
        emojis, story = self.last()
        self.controls.notice.say(f"Kept in {picking.keep(story, emojis, self.folder)}.")

    def rate(self, score: int) -> None:
        _, story = self.last()
        self.store.rate(story.prompt, story.text, score, LIKING, self.rater, self.system)
        liked = "that you like it" if score == LIKED else "that it is not for you"
        self.controls.notice.say(f"Thank you: it is noted {liked}.")
