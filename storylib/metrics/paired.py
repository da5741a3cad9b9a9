"""Two systems on the same prompts: how far apart they are, and whether chance explains it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from storylib.errors import UserError
from storylib.metrics.overlap import TALLIES
from storylib.metrics.references import shared_clusters
from storylib.metrics.score import RESAMPLES, SEED, Score, Tally, bootstrap_interval, bootstrap_label

TRIALS = 10_000  # sacrebleu's own default
ALPHA = 0.05  # p from which on nobody can tell


@dataclass(frozen=True)
class Difference(Score):
    """A system's value less its baseline's.

    >>> print(Difference(6.1, "bleu|...", 2.0, 9.1, p=0.004))
    +6.10 [2.00, 9.10] p=0.004
    """

    p: float = 1.0  # chance of so large a difference between systems that are alike

    def __str__(self) -> str:
        return f"{'+' if self.value > 0 else ''}{super().__str__()} p={self.p:.3g}"

    @property
    def verdict(self) -> str:
        """Whether the system's value is "higher" or "lower" than its baseline's, or we "can't tell"."""
        return "can't tell" if self.p >= ALPHA else "higher" if self.value > 0 else "lower"


def paired_test(
    metric: Callable,
    hypotheses: Sequence[str],
    baseline: Sequence[str],
    references: Sequence[Sequence[str]],
    test: str = "ar",
    **options,
) -> Difference:
    """How much more a system's stories overlap with their references than a baseline's do: overlap, not quality.

    metric: `bleu`, `chrf` or `rouge`; `options` go to it. baseline: the other system's stories on the same prompts, in
    the same order. Stories that share references count as one, as in the metric's own interval.
    Raises UserError for another metric or test and for unequal lengths, and what the metric raises.
    """
    if metric not in TALLIES:
        known = ", ".join(function.__name__ for function in TALLIES)
        raise UserError(f"metric must be one of {known}, got {getattr(metric, '__name__', metric)!r}")
    system, signature = TALLIES[metric](hypotheses, references, **options)
    other, _ = TALLIES[metric](baseline, references, **options)
    return difference(system, other, shared_clusters(hypotheses, references), signature, test)


def difference(
    system: Tally, baseline: Tally, units: Sequence[Sequence[int]], signature: str, test: str = "ar"
) -> Difference:
    """`system` less `baseline`, two tallies over the same prompts in the same order, for any metric that adds up.

    test: sacrebleu's name for what p comes from. "ar", approximate randomisation, swaps the two systems' stories by
        chance (Riezler and Maxwell 2005, https://aclanthology.org/W05-0908); "bs", the paired bootstrap, draws the
        prompts again (Koehn 2004, https://aclanthology.org/W04-3250).
    units: the story indices of each cluster, swapped or drawn together: to take stories of one prompt for independent
        makes chance look like a finding.

    The interval is the paired bootstrap's; `per_story` holds the difference of each pair. A trial that does as much as
    the systems did speaks for chance. sacrebleu takes it for evidence, and so can tell a system from itself.
    Raises UserError for unequal lengths, no clusters and an unknown test.
    """
    tests = {"ar": randomised, "bs": resampled}
    if test not in tests:
        raise UserError(f"test must be one of {', '.join(tests)}, got {test!r}")
    if len(system) != len(baseline):
        raise UserError(f"a paired test needs as many stories of each system, got {len(system)} and {len(baseline)}")
    low, high = bootstrap_interval(lambda drawn: system.of(drawn) - baseline.of(drawn), units)
    found = system.of() - baseline.of()
    by_chance = tests[test](by_cluster(system, units), by_cluster(baseline, units))
    p = (np.sum(by_chance >= abs(found) - 1e-9) + 1) / (len(by_chance) + 1)
    pairs = tuple(np.subtract(system.per_story, baseline.per_story).tolist())
    label = f"{signature}|test:{test}|trials:{len(by_chance)}|{bootstrap_label(units)}"
    return Difference(float(found), label, low, high, pairs, float(p))


def by_cluster(tally: Tally, units: Sequence[Sequence[int]]) -> Tally:
    """The same, a cluster for each story."""
    return Tally(np.array([tally.rows[list(unit)].sum(axis=0) for unit in units]), tally.value)


def randomised(system: Tally, baseline: Tally) -> np.ndarray:
    """Sizes of the difference (TRIALS,) when it is left to chance which system told which story."""
    swapped = np.random.default_rng(SEED).integers(2, size=(TRIALS, len(system)), dtype=bool)
    one = swapped @ baseline.rows + ~swapped @ system.rows  # (TRIALS, counts)
    other = ~swapped @ baseline.rows + swapped @ system.rows
    return np.array([abs(system.value(a) - system.value(b)) for a, b in zip(one, other, strict=True)])


def resampled(system: Tally, baseline: Tally) -> np.ndarray:
    """Sizes of the difference (RESAMPLES,) among stories drawn again, less their mean."""
    draws = np.random.default_rng(SEED).choice(len(system), size=(RESAMPLES, len(system)))
    sizes = np.array([abs(system.of(drawn) - baseline.of(drawn)) for drawn in draws])
    return sizes - sizes.mean()
