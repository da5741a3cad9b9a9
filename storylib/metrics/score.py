"""A value with its signature and its interval."""

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from storylib.errors import UserError

RESAMPLES = 1000
SEED = 12345  # sacrebleu's own default
GROUPS = 20  # of a jackknife
Z = 1.959964  # standard normal quantile of a 95 % interval


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


@dataclass(frozen=True)
class Tally:
    """What adds up over stories, and the value that a sum of it has: stories are scored once and drawn many times."""

    rows: np.ndarray  # (stories, counts)
    value: Callable[[np.ndarray], float]  # from a sum of rows (counts,)

    def __len__(self) -> int:
        return len(self.rows)

    def of(self, stories: Sequence[int] | slice = slice(None)) -> float:
        """The value of these stories together, by default of all; one that comes twice counts twice."""
        return self.value(self.rows[stories].sum(axis=0))

    @property
    def per_story(self) -> tuple[float, ...]:
        return tuple(float(self.value(row)) for row in self.rows)


def share(counts: np.ndarray) -> float:
    """part / whole of a pair of counts; 0 of nothing."""
    part, whole = counts
    return float(part / whole) if whole else 0.0


def mean_tally(per_story: Sequence[float]) -> Tally:
    """The tally of a mean over stories."""
    return Tally(np.array([(value, 1) for value in per_story], dtype=float), share)


def tally_score(tally: Tally, signature: str, units: Sequence[Sequence[int]] | None = None) -> Score:
    """The value of all stories with its bootstrap interval; each story is its own cluster unless `units` differs."""
    units = singles(len(tally)) if units is None else units
    low, high = bootstrap_interval(tally.of, units)
    return Score(float(tally.of()), f"{signature}|{bootstrap_label(units)}", low, high, tally.per_story)


def mean_score(per_story: Sequence[float], signature: str, units: Sequence[Sequence[int]] | None = None) -> Score:
    """The mean over stories with its bootstrap interval; each story is a cluster of its own unless `units` differs."""
    return tally_score(mean_tally(per_story), signature, units)


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


def jackknife_interval(statistic: Callable[[list], float], stories: list, groups: int = GROUPS) -> tuple[float, float]:
    """The 95 % interval of `statistic` by the jackknife: what becomes of it when a group of stories is left out.

    For what the bootstrap gets wrong: a story drawn twice repeats itself, so a measure of diversity falls.

    statistic: the value from stories, in whatever form it takes them. stories: in an order that has nothing to do with
    what they say; it is cut into groups. Of a single story nothing can be learnt: low equals high.
    Shao and Wu 1989, https://doi.org/10.1214/aos/1176347263
    """
    value, count = statistic(stories), min(groups, len(stories))
    if count < 2:
        return value, value
    cuts = [len(stories) * group // count for group in range(count + 1)]
    left = [statistic(stories[:start] + stories[end:]) for start, end in zip(cuts, cuts[1:], strict=False)]
    half = Z * math.sqrt((count - 1) * np.var(left))
    return value - half, value + half


def wilson_interval(hits: int, trials: int) -> tuple[float, float]:
    """The 95 % interval of a share of `hits` in `trials`, both ends between 0 and 1."""
    share, spread = hits / trials, Z**2 / trials
    middle = (share + spread / 2) / (1 + spread)
    half = math.sqrt(share * (1 - share) * spread + spread**2 / 4) / (1 + spread)
    return max(0.0, middle - half), min(1.0, middle + half)


def share_score(flags: Sequence[bool], signature: str) -> Score:
    """The share of stories of which something is true, with Wilson's interval; it takes stories for independent."""
    low, high = wilson_interval(sum(flags), len(flags))
    signature = f"{signature}|interval:wilson|stories:{len(flags)}"
    return Score(sum(flags) / len(flags), signature, low, high, tuple(map(float, flags)))


def clusters(keys: Sequence[Hashable]) -> list[list[int]]:
    """The indices that share a key, in order of first appearance.

    >>> clusters(["fox", "owl", "fox"])
    [[0, 2], [1]]
    """
    groups: dict[Hashable, list[int]] = {}
    for index, key in enumerate(keys):
        groups.setdefault(key, []).append(index)
    return list(groups.values())


def singles(count: int) -> list[list[int]]:
    """Each of so many stories as a cluster of its own."""
    return [[index] for index in range(count)]


def bootstrap_label(units: Sequence[Sequence[int]]) -> str:
    """How the interval came about, for a signature."""
    return f"stories:{sum(map(len, units))}|clusters:{len(units)}|bootstrap:{RESAMPLES}|seed:{SEED}"


def empty_label(stories: Sequence[str]) -> str:
    """How many of the stories have no text, for a signature."""
    return f"empty:{sum(not story.strip() for story in stories)}"


def check_stories(stories: Sequence[str], what: str = "stories") -> None:
    """Raises TypeError for a lone str and for members that are no str, UserError for an empty list."""
    if isinstance(stories, str):
        raise TypeError(f"{what} must be a list of texts, got one str; put it in a list: [{stories[:20]!r}]")
    if len(stories) == 0:
        raise UserError(f"no {what}: give at least one")
    for index, story in enumerate(stories):
        if not isinstance(story, str):
            raise TypeError(f"{what}[{index}] must be a text, got {story!r}")
