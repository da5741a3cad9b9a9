"""How much a story says again."""

from collections.abc import Sequence

import numpy as np

from storylib.data.duplicates import words
from storylib.errors import UserError
from storylib.metrics.length import WORDS, cut_to
from storylib.metrics.score import Score, Tally, check_stories, empty_label, share, tally_score


def repeated_ngrams(stories: Sequence[str], n: int = 4, length: int | None = None) -> Score:
    """Share, 0 to 1, of runs of n words that the same story has said before; pooled over all stories.

    length: cut each story to that many words and leave out those that have fewer, to compare systems whose stories are
        not equally long; None takes them whole, and then a long story has more to repeat.

    A story shorter than n words has no runs and a share of 0, and is counted as `short` in the signature. `per_story`
    holds each story's own share. The interval takes stories for independent.
    Raises UserError for no stories, for n below 1, and where no story has n words or `length` words; TypeError for a
    str where a list is needed.
    This is seq-rep-n of Welleck and others 2020, https://arxiv.org/abs/1908.04319

    >>> repeated_ngrams(["a b a b a"], n=2).value   # ab, ba, ab, ba: two of four
    0.5
    """
    check_stories(stories)
    kept = stories if length is None else cut_to(stories, length)
    grams = [ngrams(words(story), n) for story in kept]
    check_some(grams, n)
    tally = Tally(np.array([(len(found) - len(set(found)), len(found)) for found in grams]), share)
    size = f"length:{length or 'all'}|left out:{len(stories) - len(kept)}|short:{sum(not found for found in grams)}"
    return tally_score(tally, f"repeated|n:{n}|{WORDS}|pooled:yes|{size}|{empty_label(stories)}")


def ngrams(tokens: Sequence[str], n: int) -> list[tuple[str, ...]]:
    """All runs of n tokens, in order. Raises UserError for n below 1.

    >>> ngrams(["a", "b", "c"], 2)
    [('a', 'b'), ('b', 'c')]
    """
    if n < 1:
        raise UserError(f"n must be at least 1, got {n}")
    return list(zip(*(tokens[start:] for start in range(n)), strict=False))


def check_some(grams: Sequence[Sequence], n: int) -> None:
    """Raises UserError where no story has n words: there is nothing to take a share of."""
    if not any(grams):
        raise UserError(f"no run of {n} words in {len(grams)} stories: every story is shorter")
