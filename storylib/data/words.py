"""Words of a text, counted fast, and the word lists that ship with the project."""

import json
import re
import string
from collections import Counter
from functools import cache, lru_cache

from storylib.files import DATA

MARKS = "\n" + "".join(mark for mark in string.punctuation if mark not in "'-")
APART = bytes.maketrans(MARKS.encode(), b" " * len(MARKS))
CHOICE = re.compile(r"\(([^()]*)\)")


@lru_cache(maxsize=4)  # the content filter and the extractor of wishes ask for the same texts, one after the other
def count_words(text: str) -> Counter[str]:
    """How often each word occurs, in small letters; contractions and what has a hyphen count as one word.

    >>> count_words("Don't run! Don't, re-think.")
    Counter({"don't": 2, 'run': 1, 're-think': 1})
    """
    return Counter(text.lower().replace("—", " ").encode().translate(APART).decode().split())


def expand(pattern: str) -> list[str]:
    """The words that a pattern stands for.

    >>> expand("mov(e|ing)(|s)")
    ['move', 'moves', 'moving', 'movings']
    """
    if not (choice := CHOICE.search(pattern)):
        return [pattern]
    return [
        word
        for part in choice[1].split("|")
        for word in expand(pattern[: choice.start()] + part + pattern[choice.end() :])
    ]


def forms(patterns: str) -> frozenset[str]:
    """All words of a list of patterns with spaces between."""
    return frozenset(word for pattern in patterns.split() for word in expand(pattern))


@cache
def read_list(name: str) -> dict:
    """The word list data/word_lists/{name}.json as it stands."""
    return json.loads((DATA / "word_lists" / f"{name}.json").read_text(encoding="utf-8"))
