"""A rubric that asks no model: five things that can be counted, weighted and added up, each shown beside the sum.

It is no judge. A dull story of the right words that ends in time scores well, and a fine one may not.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from storylib.data.duplicates import words
from storylib.data.sentences import SENTENCE_END, base
from storylib.errors import UserError
from storylib.metrics.coverage import concept_coverage
from storylib.metrics.readability import reading_grade
from storylib.metrics.repetition import ngrams
from storylib.metrics.score import Score, check_stories, clusters, empty_label, mean_score, singles
from storylib.metrics.stopping import ENDS

RUN = 4  # words that count as repeated
EASY, HARD = 3.0, 9.0  # grades of a US school: 1 up to the one, 0 from the other on


@dataclass(frozen=True, kw_only=True)
class Weights:
    """How much each part counts; what cannot be measured is left out, and the others share its weight."""

    coverage: float = 0.3
    completeness: float = 0.25
    repetition: float = 0.25
    readability: float = 0.1
    likelihood: float = 0.1

    def __post_init__(self) -> None:
        if not all(0 <= weight < math.inf for weight in asdict(self).values()) or not any(asdict(self).values()):
            raise UserError(f"weights must be 0 or more, and one of them above 0, got {self}")


@dataclass(frozen=True)
class Rubric:
    """The weighted mean and its parts, all from 0 to 1."""

    total: Score
    parts: dict[str, Score]

    def scores(self) -> dict[str, Score]:
        return {"rubric": self.total} | {f"rubric {name}": score for name, score in self.parts.items()}


def rubric(
    stories: Sequence[str],
    concepts: Sequence[Sequence[str]] | None = None,
    forms: Mapping[str, Sequence[str]] | None = None,
    ended: Sequence[str] | None = None,
    perplexities: Sequence[float] | None = None,
    language: str = "en",
    weights: Weights = Weights(),  # noqa: B008 - frozen
) -> Rubric:
    """How good stories are as far as can be counted; a rubric, not a judge.

    coverage: the share of its `concepts` that a story names, as `concept_coverage` finds them by `forms`.
    completeness: 1 where the last sentence is whole and, if `ended` is given, the model stopped by itself ("eos").
    repetition: 1 less the share of runs of four words that the story has said before.
    readability: 1 up to grade 3 by Flesch and Kincaid, 0 from grade 9 on, a line between; English only.
    likelihood: 1 / perplexity, the mean probability of a token under the base. `perplexities` are those of the stories
        under it, `storylib.perplexity.perplexity(...).per_story`. What repeats itself is likely, too.

    An empty story has 0 in each part, and is counted in the signature. The intervals draw the stories of the same
    concepts together. Raises UserError for no stories, lists of unequal lengths, and a perplexity that is NaN or below
    1 of a story that is not empty; TypeError for a str where a list is needed.

    >>> found = rubric(["The fox slept."], concepts=[["fox", "sea"]])
    >>> {name: round(score.value, 2) for name, score in found.scores().items() if name != "rubric readability"}
    {'rubric': 0.83, 'rubric coverage': 0.5, 'rubric completeness': 1.0, 'rubric repetition': 1.0}
    """
    check_stories(stories)
    check_lengths(stories, ended=ended, perplexities=perplexities)
    told = [bool(story.strip()) for story in stories]
    parts = {
        "coverage": coverage(stories, concepts, forms or {}) if concepts is not None else None,
        "completeness": complete(stories, ended),
        "repetition": [unrepeated(story) for story in stories],
        "readability": easy(stories) if base(language) == "en" and any(map(words, stories)) else None,
        "likelihood": likely(stories, perplexities) if perplexities is not None else None,
    }
    values = {name: found for name, found in parts.items() if found is not None}
    values = {name: [value * full for value, full in zip(found, told, strict=True)] for name, found in values.items()}
    units = singles(len(stories)) if concepts is None else clusters([tuple(wanted) for wanted in concepts])
    shares = normalised(weights, values)
    totals = [sum(shares[name] * values[name][index] for name in values) for index in range(len(stories))]
    label = ",".join(f"{name}={share:.3g}" for name, share in shares.items())
    signature = f"rubric|no judge|weights:{label}|{empty_label(stories)}"
    scores = {name: mean_score(found, f"rubric:{name}|{empty_label(stories)}", units) for name, found in values.items()}
    return Rubric(mean_score(totals, signature, units), scores)


def check_lengths(stories: Sequence[str], **columns: Sequence | None) -> None:
    for name, column in columns.items():
        if column is not None and len(column) != len(stories):
            raise UserError(f"{name} must have one for each story, got {len(column)} for {len(stories)} stories")


def normalised(weights: Weights, values: Mapping[str, object]) -> dict[str, float]:
    """The weights of what was measured, with a sum of 1."""
    kept = {name: weight for name, weight in asdict(weights).items() if name in values}
    if not any(kept.values()):
        raise UserError(f"all that was measured has weight 0: {', '.join(kept)}; hand in more, or weigh otherwise")
    return {name: weight / sum(kept.values()) for name, weight in kept.items()}


def coverage(stories: Sequence[str], concepts: Sequence[Sequence[str]], forms: Mapping) -> list[float]:
    named = concept_coverage(stories, concepts, forms).per_story
    return [count / len(set(wanted)) for count, wanted in zip(named, concepts, strict=True)]


def complete(stories: Sequence[str], ended: Sequence[str] | None) -> list[float]:
    if ended is not None and (unknown := sorted(set(map(str, ended)) - set(ENDS))):
        raise UserError(f"a story ended by {' or '.join(ENDS)}, got {', '.join(map(repr, unknown))}")
    stopped = [True] * len(stories) if ended is None else [end == "eos" for end in ended]
    return [float(by_itself and whole(story)) for story, by_itself in zip(stories, stopped, strict=True)]


def whole(story: str) -> bool:
    """Whether the text ends where a sentence does.

    >>> whole('"Good night," said the owl. '), whole('"Good night!"'), whole("The owl said")
    (True, True, False)
    """
    text = story.strip()
    ends = [match.end() for match in SENTENCE_END.finditer(text)]
    return bool(ends) and ends[-1] == len(text)


def unrepeated(story: str) -> float:
    grams = ngrams(words(story), RUN)
    return len(set(grams)) / len(grams) if grams else 1.0


def easy(stories: Sequence[str]) -> list[float]:
    """0 for a story without an English word."""
    grades = reading_grade(stories).per_story
    return [0.0 if math.isnan(grade) else min(1.0, max(0.0, (HARD - grade) / (HARD - EASY))) for grade in grades]


def likely(stories: Sequence[str], perplexities: Sequence[float]) -> list[float]:
    for index, (story, value) in enumerate(zip(stories, perplexities, strict=True)):
        if story.strip() and not (isinstance(value, float | int) and value >= 1):
            raise UserError(f"perplexities[{index}] is {value!r}, and none is below 1: score the stories again")
    pairs = zip(stories, perplexities, strict=True)
    return [1 / value if story.strip() else 0.0 for story, value in pairs]
