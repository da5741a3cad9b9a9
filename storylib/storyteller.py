"""Functions that tell a story, for widgets and pages: the model is loaded when the first story is asked for.

Each is called as `tell(wanted, seed=…, max_new_tokens=…, on_text=…)` and gives a `storylib.generation.Story`. Whatever
is called the same way can stand in its place: another model, a gate around one, a script in a test.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

from storylib.config import GenerationSettings
from storylib.emoji import three
from storylib.files import DATA
from storylib.prompts import emoji_prompt, wish_prompt
from storylib.runs import read_card

if TYPE_CHECKING:
    from storylib.generation import Story

SHIPPED_ADAPTER = DATA / "adapters" / "emoji"


class Storyteller:
    """A fine-tuned model that tells one story at a time; `prompt_for` makes its prompt of what is wanted and its card.

    safe: let no story through in which `storylib.gate` finds something unfit for children.
    Calling it raises UserError where the adapter or its base is missing (the next call looks again), and where no story
    came through the gate.
    """

    def __init__(self, adapter: str | Path, prompt_for: Callable[[object, Mapping], str], safe: bool) -> None:
        self.adapter, self.prompt_for, self.safe = Path(adapter), prompt_for, safe
        self.alone = Lock()

    def __call__(
        self,
        wanted: Sequence[str] | Mapping[str, str],
        *,
        seed: int = 0,
        max_new_tokens: int | None = None,
        on_text: Callable[[str], None] | None = None,
    ) -> Story:
        """A story for what is wanted; `on_text` is given its sentences as they are written.

        max_new_tokens: by default as many as in the recipe of the adapter. With the gate the story that is returned may
        be another than the one that was begun: show it in place of the sentences.
        """
        with self.alone:  # two pages may share a model, and generation puts it into another mode for a while
            model, tokenizer, card = self.loaded
            from storylib.gate import tell_safely
            from storylib.generation import generate

            length = {"max_new_tokens": max_new_tokens} if max_new_tokens else {}
            settings = GenerationSettings(**card["recipe"]["generate"] | length)
            prompt = self.prompt_for(wanted, card)
            hand_on = UntilUnfit(on_text) if on_text and self.safe else on_text
            tell = partial(generate, model, tokenizer, settings=settings, on_text=hand_on)
            return tell_safely(tell, [prompt], seed)[0].checked() if self.safe else tell([prompt], seeds=seed)[0]

    @cached_property
    def loaded(self) -> tuple:
        """Model, tokenizer and card of the run."""
        from storylib.models import load_finetuned  # torch takes seconds to load: not before it is needed

        return *load_finetuned(self.adapter), read_card(self.adapter / "run.json")


class UntilUnfit:
    """Hands sentences on until the first unfit one; what is told after that, in its place, is not streamed."""

    def __init__(self, on_text: Callable[[str], None]) -> None:
        self.on_text, self.told, self.fit = on_text, "", True

    def __call__(self, text: str) -> None:
        from storylib.metrics.safety import unsafe

        self.told += text
        self.fit = self.fit and not unsafe(self.told)
        if self.fit:
            self.on_text(text)


def storyteller(adapter: str | Path = SHIPPED_ADAPTER, safe: bool = True) -> Storyteller:
    """Tells bedtime stories for three emojis: `storyteller()("🦔🏰📚", seed=3)`."""
    return Storyteller(adapter, prompt_of_emojis, safe)


def wish_teller(adapter: str | Path, safe: bool = False) -> Storyteller:
    """Tells stories for wishes: `wish_teller("runs/personal-cpu/adapter")({"character": "a shy fox", "tone": "warm"})`.

    The wishes are those of `storylib.prompts.wish_prompt`. By default they are a grown-up's, and no gate is in the way.
    """
    return Storyteller(adapter, lambda wishes, card: wish_prompt(**wishes), safe)


def prompt_of_emojis(emojis: str | Sequence[str], card: Mapping) -> str:
    return emoji_prompt(three("".join(emojis)), card["emojis"], card["recipe"]["data"].get("names", True))
