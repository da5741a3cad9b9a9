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
from storylib.prompts import emoji_prompt, prompt_of, wish_prompt
from storylib.runs import read_card

if TYPE_CHECKING:
    from storylib.generation import Story

SHIPPED_ADAPTER = DATA / "adapters" / "emoji"


class Storyteller:
    """A fine-tuned model that tells one story at a time, for what `prompt_for` takes of its corpus.

    safe: let no story through in which `storylib.gate` finds something unfit for children.
    Calling it raises UserError where the adapter or its base is missing (the next call looks again), and where no story
    came through the gate.
    """

    def __init__(self, adapter: str | Path, safe: bool) -> None:
        self.adapter, self.safe = Path(adapter), safe
        self.alone = Lock()

    def __call__(
        self,
        wanted: str | Sequence[str] | Mapping[str, str],
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
            prompt, language = prompt_for(wanted, card), card["recipe"]["data"].get("language", "en")
            hand_on = UntilUnfit(on_text, language) if on_text and self.safe else on_text
            tell = partial(generate, model, tokenizer, settings=settings, on_text=hand_on)
            if not self.safe:
                return tell([prompt], seeds=seed)[0]
            return tell_safely(tell, [prompt], seed, language)[0].checked()

    @cached_property
    def loaded(self) -> tuple:
        """Model, tokenizer and card of the run."""
        from storylib.models import load_finetuned  # torch takes seconds to load: not before it is needed

        return *load_finetuned(self.adapter), read_card(self.adapter / "run.json")


class UntilUnfit:
    """Hands sentences on until the first unfit one; what is told after that, in its place, is not streamed."""

    def __init__(self, on_text: Callable[[str], None], language: str = "en") -> None:
        self.on_text, self.language, self.told, self.fit = on_text, language, "", True

    def __call__(self, text: str) -> None:
        from storylib.metrics.safety import unsafe

        self.told += text
        self.fit = self.fit and not unsafe(self.told, self.language)
        if self.fit:
            self.on_text(text)


def storyteller(adapter: str | Path = SHIPPED_ADAPTER, safe: bool = True) -> Storyteller:
    """Tells bedtime stories for three emojis: `storyteller()("🦔🏰📚", seed=3)`; another adapter what it was taught."""
    return Storyteller(adapter, safe)


def wish_teller(adapter: str | Path, safe: bool = False) -> Storyteller:
    """Tells stories for wishes: `wish_teller("data/adapters/personal")({"character": "a shy fox", "tone": "warm"})`.

    The wishes are those of `storylib.prompts.wish_prompt`. By default they are a grown-up's, and no gate is in the way.
    """
    return Storyteller(adapter, safe)


def prompt_for(wanted: str | Sequence[str] | Mapping[str, str], card: Mapping) -> str:
    """The prompt of what is wanted from the model of a run: three emojis, wishes by name, or a request in words.

    Raises UserError for what the model was not taught to tell of.
    """
    recipe = card["recipe"]
    if recipe["corpus"] == "emoji":
        return emoji_prompt(three("".join(wanted)), card["emojis"], recipe["data"].get("names", True))
    return wish_prompt(**wanted) if isinstance(wanted, Mapping) else prompt_of(recipe["corpus"], wanted)
