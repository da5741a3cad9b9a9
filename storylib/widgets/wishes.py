"""The wishes form: a reader's wishes, two stories for them side by side, and which of the two is better."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import ipywidgets as widgets

from storylib.data.words import read_list
from storylib.errors import UserError
from storylib.picking import Told
from storylib.widgets.background import OneAtATime
from storylib.widgets.controls import (
    DISLIKED,
    LIKED,
    LIKING,
    Form,
    Notice,
    StoryCard,
    button,
    label,
    row,
    stack,
)

if TYPE_CHECKING:
    from storylib.feedback import FeedbackStore

NAMES = ("First", "Second")
ANY = ("any", "")  # label and value of a wish that is left open


def wishes_form(
    tell: Callable[..., Told], *, store: FeedbackStore, rater: str = "reader", system: str = "", tokens: int = 300
) -> WishesForm:
    """A form for a reader's wishes, which shows two stories that `tell` makes of them, and keeps what the reader says.

    tell: called in a thread of its own as `tell(wishes, seed=…, max_new_tokens=…, on_text=…)`, where `wishes` holds
        those arguments of `storylib.prompts.wish_prompt` that are not empty.
    store: where likes (5 or 1 by the criterion "liked") and choices go. tokens: at most so many for a story.
    """
    return WishesForm(tell, store, rater, system, tokens)


def choice(title: str, kind: str) -> widgets.Dropdown:
    return widgets.Dropdown(description=title, options=[ANY, *((name, name) for name in read_list("wishes")[kind])])


class Controls:
    """Everything that the form shows."""

    def __init__(self) -> None:
        self.wishes = {
            "premise": widgets.Text(description="What happens first", placeholder="A fox finds a key."),
            "character": widgets.Text(description="Character", placeholder="a shy fox"),
            "traits": choice("Trait", "traits"),
            "setting": widgets.Text(description="Setting", placeholder="a castle by the sea"),
            "plot": choice("Plot", "plots"),
            "tone": choice("Tone", "tones"),
            "arc": choice("Arc", "arcs"),
        }
        self.seed = widgets.BoundedIntText(description="Story number", min=0, max=2**31 - 2)
        self.tell = button("Tell me two stories", "main")
        self.notice = Notice()
        self.likes = [button("👍 I like it") for _ in NAMES]
        self.dislikes = [button("👎 Not for me") for _ in NAMES]
        self.better = [button("⭐ This one is better") for _ in NAMES]
        self.cards = [StoryCard(*three) for three in zip(self.better, self.likes, self.dislikes, strict=True)]

    def all(self) -> list[widgets.Widget]:
        return [
            stack(label("A story as you wish it", "h1"), label("Leave open what you have no wish for.", css="soft")),
            row(*self.wishes.values(), self.seed, css="fields"),
            row(self.tell),
            self.notice,
            row(*self.cards, css="pair"),
        ]


class WishesForm(Form):
    """The wiring of the form; `told` holds the last two stories, or fewer while they are being told."""

    def __init__(self, tell, store, rater: str, system: str, tokens: int) -> None:
        self.teller, self.store, self.rater, self.system, self.tokens = tell, store, rater, system, tokens
        self.told: list[Told] = []
        self.controls = Controls()
        self.job = OneAtATime(self.controls.notice.say, self.finished)
        super().__init__(self.controls.all())
        self.wire()

    def wire(self) -> None:
        ours = self.controls
        presses = {ours.tell: self.tell}
        for place in range(len(NAMES)):
            presses[ours.likes[place]] = lambda place=place: self.rate(place, LIKED)
            presses[ours.dislikes[place]] = lambda place=place: self.rate(place, DISLIKED)
            presses[ours.better[place]] = lambda place=place: self.choose(place)
        for control, press in presses.items():
            ours.notice.on_press(control, press)
        self.finished()

    def tell(self) -> None:
        wishes = {wish: " ".join(control.value.split()) for wish, control in self.controls.wishes.items()}
        wishes, seed = {wish: text for wish, text in wishes.items() if text}, self.controls.seed.value
        if not self.job.start(lambda: self.write(wishes, seed)):
            raise UserError("Two stories at a time: the last ones are still being told.")

    def write(self, wishes: dict[str, str], seed: int) -> None:
        """The job: one story after the other, with two seeds that follow each other."""
        ours = self.controls
        self.told, ours.tell.disabled = [], True
        for place, (name, card) in enumerate(zip(NAMES, ours.cards, strict=True)):
            ours.notice.say(f"The {name.lower()} story is being written …")
            for coming in ours.cards[place:]:
                coming.enable(False)
                coming.tell("")
            sentences: list[str] = []

            def on_text(text: str, card=card, sentences=sentences) -> None:
                sentences.append(text)
                card.tell("".join(sentences))

            story = self.teller(wishes, seed=seed + place, max_new_tokens=self.tokens, on_text=on_text)
            card.tell(story.text, f"{len(story.text.split())} words")
            self.told.append(story)
        ours.seed.value = seed + len(NAMES)
        ours.notice.say("Both stories are ready. Which one is better?")

    def finished(self) -> None:
        self.controls.tell.disabled = False
        for place, card in enumerate(self.controls.cards):
            card.entitle(f"{NAMES[place]} story")
            card.enable(len(self.told) == len(NAMES))
            if len(self.told) < len(NAMES):
                card.tell("")  # half a pair: a story that was refused may be in it

    def both(self) -> list[Told]:
        if len(self.told) < len(NAMES):
            raise UserError("There are no two finished stories yet.")
        return self.told

    def rate(self, place: int, score: int) -> None:
        story = self.both()[place]
        self.store.rate(story.prompt, story.text, score, LIKING, self.rater, self.system)
        liked = "that you like it" if score == LIKED else "that it is not for you"
        self.controls.notice.say(f"Thank you: of the {NAMES[place].lower()} story it is noted {liked}.")

    def choose(self, place: int) -> None:
        chosen, rejected = self.both()[place], self.both()[1 - place]
        self.store.choose(chosen.prompt, chosen.text, rejected.text, self.rater)
        kept = self.store.counts()["choices"]
        self.controls.notice.say(
            f"Thank you: the {NAMES[place].lower()} story is noted as the better one ({kept} so far)."
        )
