"""How much a story says again, and how long it is."""

import re
from collections.abc import Sequence

import numpy as np

from storylib.errors import UserError
from storylib.metrics.score import Score, bootstrap_interval, bootstrap_label, check_stories, mean_score

WORD = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*")  # "don't" and "merry-go-round" are one word


def words(text: str) -> list[str]:
    """The words of `text` in lower case without punctuation, for languages that put spaces between words.

    >>> words('"Don’t go," said the Owl.')
    ['don’t', 'go', 'said', 'the', 'owl']
    """
    return WORD.findall(text.lower())


def repeated_ngrams(stories: Sequence[str], n: int = 4) -> Score:
    """Share, 0 to 1, of runs of n words that the same story has said before; pooled over all stories.

    A story shorter than n words has no runs; if all are, the share is 0. `per_story` holds each story's own share.
    The interval takes stories for independent.
    Raises UserError for no stories and for n below 1, TypeError for a str where a list is needed.
    This is seq-rep-n of Welleck and others 2020, https://arxiv.org/abs/1908.04319

    >>> repeated_ngrams(["a b a b a"], n=2).value   # ab, ba, ab, ba: two of four
    0.5
    """
    check_stories(stories)
    if n < 1:
        raise UserError(f"n must be at least 1, got {n}")
    counts = np.array([repeated_and_all(words(story), n) for story in stories])  # (stories, 2)
    units = [[index] for index in range(len(stories))]
    low, high = bootstrap_interval(lambda drawn: share(*counts[drawn].sum(axis=0)), units)
    signature = f"repeated|n:{n}|words:lower|pooled:yes|{bootstrap_label(units)}"
    return Score(share(*counts.sum(axis=0)), signature, low, high, tuple(share(*row) for row in counts))


def length_in_words(stories: Sequence[str]) -> Score:
    """Mean number of words of a story; the interval takes stories for independent.

    Raises UserError for no stories, TypeError for a str where a list is needed.
    """
    check_stories(stories)
    return mean_score([len(words(story)) for story in stories], "length|unit:words")


def repeated_and_all(tokens: Sequence[str], n: int) -> tuple[int, int]:
    grams = [tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1)]
    return len(grams) - len(set(grams)), len(grams)


def share(part: int, whole: int) -> float:
    return float(part / whole) if whole else 0.0
