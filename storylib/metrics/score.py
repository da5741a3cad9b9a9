"""A value with its signature and its interval."""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from storylib.errors import UserError

RESAMPLES = 1000
SEED = 12345  # sacrebleu's own default


@dataclass(frozen=True)
class Score:
    """A value in the unit of its metric, and how it came about.

    >>> print(Score(18.52, "bleu|...", 16.9, 20.1))
    18.52 [16.90, 20.10]
    """

    value: float
    signature: str  # how it was computed; printed wherever the value is printed
    low: float | None = None  # 95 % interval
    high: float | None = None
    per_story: tuple[float, ...] = ()

    def __str__(self) -> str:
        interval = "" if self.low is None or self.high is None else f" [{self.low:.2f}, {self.high:.2f}]"
        return f"{self.value:.2f}{interval}"


def bootstrap_interval(
    statistic: Callable[[list[int]], float],
    units: Sequence[Sequence[int]],
    resamples: int = RESAMPLES,
    seed: int = SEED,
) -> tuple[float, float]:
    """The 95 % interval of `statistic` by the percentile bootstrap over clusters.

    statistic: the value from a list of story indices, in which an index may come several times.
    units: the story indices of each cluster. Stories of one prompt are not independent, so they are drawn together;
        `clusters` makes them.

    The same seed gives the same interval. Of a single cluster nothing can be learnt about others: low equals high.
    Raises UserError without clusters or resamples.
    Efron and Tibshirani 1993, An Introduction to the Bootstrap, chapter 13
    """
    if not units or resamples < 1:
        raise UserError(f"an interval needs clusters and resamples, got {len(units)} and {resamples}")
    draws = np.random.default_rng(seed).integers(len(units), size=(resamples, len(units)))
    values = [statistic([index for unit in draw for index in units[unit]]) for draw in draws]
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)


def clusters(keys: Sequence[Hashable]) -> list[list[int]]:
    """The indices that share a key, in order of first appearance.

    >>> clusters(["fox", "owl", "fox"])
    [[0, 2], [1]]
    """
    groups: dict[Hashable, list[int]] = {}
    for index, key in enumerate(keys):
        groups.setdefault(key, []).append(index)
    return list(groups.values())


def mean_score(per_story: Sequence[float], signature: str, units: Sequence[Sequence[int]] | None = None) -> Score:
    """The mean over stories with its bootstrap interval; each story is a cluster of its own unless `units` differs."""
    values = np.array(per_story, dtype=float)
    units = [[index] for index in range(len(values))] if units is None else units
    low, high = bootstrap_interval(lambda drawn: values[drawn].mean(), units)
    return Score(float(values.mean()), f"{signature}|{bootstrap_label(units)}", low, high, tuple(values.tolist()))


def bootstrap_label(units: Sequence[Sequence[int]]) -> str:
    """How the interval came about, for a signature."""
    return f"stories:{sum(map(len, units))}|clusters:{len(units)}|bootstrap:{RESAMPLES}|seed:{SEED}"


def check_stories(stories: Sequence[str], what: str = "stories") -> None:
    """Raises TypeError for a lone str and for members that are no str, UserError for an empty list."""
    if isinstance(stories, str):
        raise TypeError(f"{what} must be a list of texts, got one str; put it in a list: [{stories[:20]!r}]")
    if len(stories) == 0:
        raise UserError(f"no {what}: give at least one")
    for index, story in enumerate(stories):
        if not isinstance(story, str):
            raise TypeError(f"{what}[{index}] must be a text, got {story!r}")
