"""How much of a story is copied from what the model was trained on."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from storylib.data.duplicates import WORD, words
from storylib.errors import UserError
from storylib.metrics.length import WORDS
from storylib.metrics.repetition import check_some, ngrams
from storylib.metrics.score import Score, Tally, check_stories, empty_label, share, tally_score


@dataclass(frozen=True)
class Passage:
    """A run of words that a story and a training text have in common."""

    text: str  # as the story has it
    words: int
    story: int  # index of the story
    source: int  # index of the first training text with it


@dataclass(frozen=True)
class CopiedShare(Score):
    """The share of copied runs, and the longest copied passage; None where no run is copied."""

    longest: Passage | None = None


def copied_share(stories: Sequence[str], training: Iterable[str], n: int = 8) -> CopiedShare:
    """Share, 0 to 1, of runs of n words that are in a training text word for word, case and punctuation aside; pooled
    over all stories. Set it beside the share of stories that a person wrote for the same prompts: some runs, such as
    "once upon a time there was a little", are nobody's.

    training: texts, or anything that gives one after the other; they are read once and not kept. Memory is that of the
        stories' own runs, about 0.2 KB each, and of one training text, whatever the size of the training set.
    n: eight words are long in scripts with spaces; characters of scripts without them are words here: take 16.

    A story shorter than n words has no runs and a share of 0, and is counted as `short` in the signature. `per_story`
    holds each story's own share. The interval takes stories for independent.
    Raises UserError for no stories or training texts, for n below 1 and where no story has n words; TypeError for a str
    where a list is needed and for anything that is no text.

    >>> copied_share(["The old owl saw a red fox!"], ["A bee.", "He saw a red fox there."], n=3).longest
    Passage(text='saw a red fox', words=4, story=0, source=1)
    """
    check_stories(stories)
    told = [words(story) for story in stories]
    grams = [ngrams(tokens, n) for tokens in told]
    check_some(grams, n)
    places: dict[tuple, list[tuple[int, int]]] = {}  # run -> the stories and the words where it begins
    for story, found in enumerate(grams):
        for start, gram in enumerate(found):
            places.setdefault(gram, []).append((story, start))
    copied, best, read = set(), None, 0
    for source, tokens in enumerate(training_words(training)):
        read += 1
        if hits := places.keys() & zip(*(tokens[start:] for start in range(n)), strict=False):
            copied |= hits
            best = longer_match(told, places, tokens, n, source, best)
    if not read:
        raise UserError("no training texts: give at least one")
    tally = Tally(np.array([(sum(gram in copied for gram in found), len(found)) for found in grams]), share)
    short = sum(not found for found in grams)
    signature = f"copied|n:{n}|{WORDS}|pooled:yes|training:{read}|short:{short}|{empty_label(stories)}"
    score = tally_score(tally, signature)
    longest = best and passage(stories[best.story], best)
    return CopiedShare(score.value, score.signature, score.low, score.high, score.per_story, longest)


@dataclass(frozen=True)
class Match:
    """Where a common run of words is: in which story from which word on, and in which training text."""

    words: int
    story: int
    start: int
    source: int


def longer_match(told, places, tokens: list[str], n: int, source: int, best: Match | None) -> Match | None:
    """The longest run of words that this training text has in common with a story, if longer than `best`."""
    for begin, gram in enumerate(ngrams(tokens, n)):
        for story, start in places.get(gram, ()):
            longer = best.words + 1 if best else n
            if tokens[begin : begin + longer] == told[story][start : start + longer] and len(tokens) >= begin + longer:
                best = Match(common_start(tokens[begin:], told[story][start:]), story, start, source)
    return best


def common_start(one: Sequence[str], other: Sequence[str]) -> int:
    """How many members the two have in common before they part."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((index for index, (a, b) in pairs if a != b), min(len(one), len(other)))


def passage(story: str, match: Match) -> Passage:
    """The matched words as the story has them."""
    spans = [found.span() for found in WORD.finditer(story)]
    first, last = spans[match.start], spans[match.start + match.words - 1]
    return Passage(story[first[0] : last[1]], match.words, match.story, match.source)


def training_words(training: Iterable[str]) -> Iterator[list[str]]:
    """The words of one training text after the other."""
    if isinstance(training, str):
        raise TypeError(f"training must be a list of texts, got one str; put it in a list: [{training[:20]!r}]")
    for index, text in enumerate(training):
        if not isinstance(text, str):
            raise TypeError(f"training[{index}] must be a text, got {text!r}")
        yield words(text)
