"""How hard English stories are to read: sentence and word length, and words that children know.

textstat's own Flesch-Kincaid downloads a dictionary of pronunciations and fails offline, so syllables are counted here:
right for 99.2 % of the running words of the shipped English stories (CMUdict's count), 95.6 % by hyphenation.
"""

import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from storylib.data.duplicates import words
from storylib.data.sentences import base, sentences
from storylib.errors import UserError
from storylib.metrics.safety import readable
from storylib.metrics.score import Score, check_stories, empty_label, mean_score

SILENT = re.compile(  # e of "smile", "lonely", "jumped" and "whales", not of "apple", "wanted" and "bushes"
    r"(?<=[^aeiouy])(?:(?<![^aeiouyl]l)e(?:$|(?=(?:ly|ful|fully|less|ment|ments|where|thing|times?|body|one)$))"
    r"|(?<![td])(?<![^aeiouyl]l)ed$|(?<![sxzcg])(?<![sc]h)(?<![^aeiouyl]l)es$)"
)
NUCLEUS = re.compile(r"[aeiouy](?=ing)|(?<![tscgx])i(?=[ao]|et)|[aeiouy]+")  # be-ing, li-on but ac-tion, qui-et
NAME = re.compile(r"(?<=[a-z,;] )[A-Z][\w’'-]*[a-z]")  # a capital inside a sentence
DOUBLED = re.compile(r"([^aeiou])\1$")

INDICES: dict[str, Callable[[int, int, int, int], float]] = {  # from letters, syllables, words and sentences
    "flesch-kincaid": lambda letters, syllables, words, ends: 0.39 * words / ends + 11.8 * syllables / words - 15.59,
    "coleman-liau": lambda letters, syllables, words, ends: 5.88 * letters / words - 29.6 * ends / words - 15.8,
}


def reading_grade(stories: Sequence[str], index: str = "flesch-kincaid", language: str = "en") -> Score:
    """Mean grade of a US school whose pupils read the stories with ease; below 1 for the first years and before.

    index: "flesch-kincaid", by syllables (Kincaid and others 1975), or "coleman-liau", by letters (1975). They measure
        length of sentences and words, nothing else: a nonsense story can be easy to read.

    Stories without a word, and those in another script, have no grade: `per_story` holds NaN for them, and the
    signature counts them. Raises UserError for no stories, none with a grade, another index and another language than
    English, for which the formulas were made; TypeError for a str where a list is needed.

    >>> round(reading_grade(["The fox ran home. He was happy."]).value, 2)   # 7 words of 8 syllables, 2 sentences
    -0.74
    """
    if index not in INDICES:
        raise UserError(f"index must be one of {', '.join(INDICES)}, got {index!r}")
    grades = [INDICES[index](*counts(story)) if english(story) else math.nan for story in check(stories, language)]
    return mean_of_graded(stories, grades, f"grade|{index}|syllables:rules|sentences:rules")


def familiar_words(stories: Sequence[str], language: str = "en") -> Score:
    """Mean share, 0 to 1, of a story's words that four in five pupils of the fourth grade know (Dale and Chall 1948).

    The list of 2,940 words is textstat's. Forms such as "hopped" and "happily" count with their word; names, which are
    words with a capital inside a sentence, don't count at all. Left out and raised is as in `reading_grade`.

    >>> familiar_words(["The fox met Mila. The fox hopped to Mila's veranda."]).value   # seven of eight
    0.875
    """
    shares = [share_familiar(story) if english(story) else math.nan for story in check(stories, language)]
    return mean_of_graded(stories, shares, "familiar|list:dale-chall|forms:rules|names:out")


def check(stories: Sequence[str], language: str) -> Sequence[str]:
    check_stories(stories)
    if base(language) != "en":
        raise UserError(f"readability is measured by formulas made for English, got language {language!r}")
    return stories


def english(story: str) -> bool:
    """Whether there is a word to grade, in Latin letters."""
    return bool(words(story)) and readable(story, "en")


def mean_of_graded(stories: Sequence[str], values: Sequence[float], signature: str) -> Score:
    """The mean over the values that are none of NaN."""
    kept = [value for value in values if not math.isnan(value)]
    if not kept:
        raise UserError(f"none of {len(stories)} stories has an English word to grade")
    left = f"left out:{len(stories) - len(kept)}|{empty_label(stories)}"
    return replace(mean_score(kept, f"{signature}|{left}"), per_story=tuple(values))


def counts(story: str) -> tuple[int, int, int, int]:
    """Letters, syllables, words and sentences."""
    told = words(story)
    letters = sum(character.isalnum() for word in told for character in word)
    return letters, sum(map(syllables, told)), len(told), len(sentences(story, "en"))


def syllables(word: str) -> int:
    """Syllables of an English word, at least one, by its spelling.

    >>> [syllables(word) for word in ("smile", "apple", "lion", "jumped", "wanted", "hedgehog’s")]
    [1, 2, 2, 1, 2, 3]
    """
    spoken = re.sub(r"['’]\w*$", "", word.lower()).replace("qu", "q")
    return max(1, len(NUCLEUS.findall(SILENT.sub("", spoken))))


def share_familiar(story: str) -> float:
    """Share of the words; 1 where there are names alone."""
    names = {name.lower() for name in NAME.findall(story)}
    told = [word for word in map(bare, words(story)) if word not in names]
    return sum(familiar(word) for word in told) / len(told) if told else 1.0


def bare(word: str) -> str:
    return word.replace("’", "'").removesuffix("'s")


def familiar(word: str) -> bool:
    """Whether the word, or each part of one with hyphens, is listed or a form of what is; numbers are."""
    parts = [word] if word in easy_words() else word.split("-")
    return all(part.isdigit() or not easy_words().isdisjoint(roots(part)) for part in parts)


def roots(word: str) -> Iterator[str]:
    """The word, and what it may be a regular form of.

    >>> "hop" in roots("hopped") and "happy" in roots("happily") and "bake" in roots("baking")
    True
    """
    yield word
    for ending in ("s", "es", "ed", "d", "ing", "er", "est", "ly", "r", "st"):
        stem = word.removesuffix(ending)
        if stem != word and len(stem) > 1:
            yield from (stem, stem + "e")
            if stem.endswith("i"):
                yield stem[:-1] + "y"
            if DOUBLED.search(stem):
                yield stem[:-1]


@cache
def easy_words() -> frozenset[str]:
    """The list in textstat's folder; to import textstat itself takes seconds."""
    folder = Path(find_spec("textstat").origin).parent
    return frozenset((folder / "resources" / "en" / "easy_words.txt").read_text(encoding="utf-8").split())
