"""What the emoji picker knows without any control: the emojis by slot, search, surprise, ages, and keeping a story."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Protocol

from storylib.data.sentences import sentences
from storylib.emoji import name, vocabulary
from storylib.errors import UserError
from storylib.files import write_text

SLOTS = {"Who?": "roles", "Where?": "places", "What about?": "themes"}  # question -> kind in the vocabulary
MARKUP = re.compile(r"([\\`*_\[\]<>#&|])")  # what Markdown takes for more than text


class Told(Protocol):
    """What a tell function gives back; `storylib.generation.Story` is one."""

    prompt: str
    seed: int
    text: str
    ended: str


@dataclass(frozen=True)
class Length:
    """How long a story may become."""

    name: str
    tokens: int  # new ones; four words of English take about five

    @property
    def words(self) -> int:
        return self.tokens * 4 // 5 // 10 * 10

    @property
    def label(self) -> str:
        return f"{self.name} (up to {self.words} words)"


@dataclass(frozen=True)
class Age:
    """What suits a child of some age, in plain words; a rule of thumb, not a measured norm."""

    name: str
    length: Length
    sentence: int  # words; longer ones on average are hard to follow

    @property
    def advice(self) -> str:
        words = f"a story of up to {self.length.words} words, in sentences of about {self.sentence} words or fewer"
        return f"For a child of {self.name}: {words}."


TINY, SHORT, LONG = Length("Tiny", 75), Length("Short", 150), Length("Long", 300)
LENGTHS = (TINY, SHORT, LONG)
AGES = (
    Age("2 years", TINY, 7),
    Age("3 to 4 years", SHORT, 9),
    Age("5 to 7 years", SHORT, 12),
    Age("8 years or more", LONG, 16),
)
USUAL_AGE = AGES[1]  # the one that the shipped storyteller learnt its stories for


def groups() -> dict[str, dict[str, str]]:
    """The emojis to choose from by slot: question -> emoji -> name."""
    return {question: vocabulary()[kind] for question, kind in SLOTS.items()}


def search(text: str) -> dict[str, list[str]]:
    """The emojis of each slot whose name, or another word for it, has a word that begins with `text`.

    An emoji finds itself. Nothing to look for finds everything.

    >>> search("bun")["Who?"], search("🏰")["Where?"]
    (['🐰'], ['🏰'])
    """
    wanted = " ".join(text.lower().split())
    return {
        question: [emoji for emoji, word in emojis.items() if wanted in emoji or begins(wanted, word)]
        for question, emojis in groups().items()
    }


def begins(wanted: str, word: str) -> bool:
    """Whether a word of an emoji's name, or of the forms by which stories tell of it, begins so."""
    return any(f" {form.lower()}".find(f" {wanted}") >= 0 for form in (word, *vocabulary()["forms"].get(word, ())))


def surprise(random: Random) -> list[str]:
    """An emoji for each slot.

    >>> surprise(Random(1)) == surprise(Random(1))
    True
    """
    return [random.choice(list(emojis)) for emojis in groups().values()]


def complete(chosen: Mapping[str, str]) -> list[str]:
    """The three emojis in the order of the slots. Raises UserError that asks for those that are missing."""
    if missing := [question for question in SLOTS if not chosen.get(question)]:
        asked = " and ".join(f"“{question}”" for question in missing)
        raise UserError(f"Choose an emoji for {asked} first, or press Surprise me.")
    return [chosen[question] for question in SLOTS]


def about(story: Told, age: Age) -> str:
    """How long a finished story is and whether it suits the age, in a plain sentence or two.

    >>> from types import SimpleNamespace
    >>> about(SimpleNamespace(text="A fox sat. It slept.", ended="eos"), USUAL_AGE)
    '5 words, about 2 in a sentence: easy to follow at 3 to 4 years.'
    """
    words, told = len(story.text.split()), sentences(story.text, "en")
    mean = words / max(1, len(told))
    fits = "easy to follow at" if mean <= age.sentence else "long sentences for"
    cut = " It reached the length you chose and ends early." if story.ended == "limit" else ""
    return f"{words} words, about {mean:.0f} in a sentence: {fits} {age.name}.{cut}"


def keep(story: Told, emojis: Sequence[str], folder: Path) -> Path:
    """Write a story as Markdown, named after its emojis, and say where; an earlier file is never overwritten.

    Whatever the story holds is text there, never markup. Raises UserError where nothing can be written.
    """
    names = [name(emoji) for emoji in emojis]
    title = f"# {''.join(emojis)} {', '.join(names)}"
    made = f"*Written by a machine (seed {story.seed}). Read it yourself before you read it to a child.*"
    stem = re.sub(r"[^\w-]+", "-", "-".join(names)).strip("-")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        path = free_path(folder, stem)
        write_text(path, "\n\n".join([title, as_text(story.text), made]) + "\n")
    except OSError as error:
        raise UserError(f"The story cannot be kept in {folder} ({error.strerror}); choose another folder.") from error
    return path


def as_text(text: str) -> str:
    """Markdown that shows `text` as it stands.

    >>> print(as_text("<b>1 * 2</b>"))
    \\<b\\>1 \\* 2\\</b\\>
    """
    return MARKUP.sub(r"\\\1", text)


def free_path(folder: Path, stem: str) -> Path:
    """The first of stem.md, stem-2.md, … that does not exist."""
    number, path = 1, folder / f"{stem}.md"
    while path.exists():
        number += 1
        path = folder / f"{stem}-{number}.md"
    return path
