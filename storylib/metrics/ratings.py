"""What people's ratings say: means and win rates with intervals, and how far the raters agree."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from statistics import mean

import krippendorff
import numpy as np

from storylib.metrics.score import (
    Score,
    Tally,
    bootstrap_interval,
    bootstrap_label,
    clusters,
    mean_score,
    share,
    tally_score,
)

ANSWERS = ("left", "tie", "right")


@dataclass(frozen=True)
class Rating:
    """A rater's score of one story by one criterion."""

    item: str  # what was rated: a story for a prompt
    prompt: str
    systems: tuple[str, ...]  # who told it; several where they told the same
    rater: str
    criterion: str
    score: int


@dataclass(frozen=True)
class Choice:
    """Which of two stories of a prompt a rater likes better."""

    item: str  # what was compared
    prompt: str
    left: tuple[str, ...]  # the systems that told the story on the left
    right: tuple[str, ...]
    rater: str
    answer: str  # one of ANSWERS


@dataclass(frozen=True)
class Agreement:
    """Krippendorff's alpha, or the case in which there is none."""

    score: Score | None
    case: str = ""

    def __str__(self) -> str:
        return self.case if self.score is None else str(self.score)


@dataclass(frozen=True)
class Summary:
    """All figures of a sheet."""

    means: dict[str, dict[str, Score]]  # system -> criterion -> mean rating
    wins: dict[tuple[str, str], Score]  # (system, other) -> share of the pairs won
    left: Score | None  # how often the left was preferred
    agreement: dict[str, Agreement]  # criterion, or "better" of pairs -> alpha


def summarise(ratings: Sequence[Rating], choices: Sequence[Choice] = ()) -> Summary:
    """Every figure that the answers allow."""
    agreed = rating_agreement(ratings) | ({"better": choice_agreement(choices)} if choices else {})
    return Summary(rating_means(ratings), win_rates(choices), left_share(choices), agreed)


def rating_means(ratings: Sequence[Rating]) -> dict[str, dict[str, Score]]:
    """System -> criterion -> mean rating, each story counting once however many rated it.

    The interval draws prompts, not raters: it tells of other stories by these raters.
    """
    systems = sorted({system for rating in ratings for system in rating.systems})
    criteria = list(dict.fromkeys(rating.criterion for rating in ratings))
    table: dict[str, dict[str, Score]] = {system: {} for system in systems}
    for system, criterion in product(systems, criteria):
        chosen = [rating for rating in ratings if rating.criterion == criterion and system in rating.systems]
        if chosen:
            stories = by_item(chosen)
            means = [mean(rating.score for rating in story) for story in stories]
            units = clusters([story[0].prompt for story in stories])
            table[system][criterion] = mean_score(means, f"mean rating|{raters_label(chosen)}", units)
    return table


def win_rates(choices: Sequence[Choice]) -> dict[tuple[str, str], Score]:
    """(system, other) in alphabetical order -> share of their pairs that the system wins; a tie is half a win.

    Each pair of stories counts once however many compared it.
    """
    won: dict[tuple[str, str], list[tuple[Choice, float]]] = {}
    for choice in choices:
        for left, right in product(choice.left, choice.right):
            if left != right:
                place = ANSWERS.index(choice.answer) / 2  # 0: left, 1: right
                points = 1 - place if left < right else place
                won.setdefault((min(left, right), max(left, right)), []).append((choice, points))
    rates = {}
    for systems, told in sorted(won.items()):
        pairs = clusters([choice.item for choice, _ in told])
        points = [mean(told[index][1] for index in pair) for pair in pairs]
        units = clusters([told[pair[0]][0].prompt for pair in pairs])
        signature = f"win rate|ties:half|{raters_label([choice for choice, _ in told])}"
        rates[systems] = mean_score(points, signature, units)
    return rates


def left_share(choices: Sequence[Choice]) -> Score | None:
    """How often the story on the left was preferred, of the answers that preferred one; None where all are ties.

    Systems stand on the left as often as on the right, so raters without a bias have 0.5 within the interval.
    """
    decided = [choice for choice in choices if choice.answer != "tie"]
    if not decided:
        return None
    pairs = by_item(decided)
    rows = np.array([(sum(choice.answer == "left" for choice in pair), len(pair)) for pair in pairs], dtype=float)
    units = clusters([pair[0].prompt for pair in pairs])
    return tally_score(Tally(rows, share), f"left preferred|ties:out|{raters_label(decided)}", units)


def rating_agreement(ratings: Sequence[Rating]) -> dict[str, Agreement]:
    """Criterion -> how far the raters agree on it."""
    criteria = list(dict.fromkeys(rating.criterion for rating in ratings))
    by_criterion = {name: [rating for rating in ratings if rating.criterion == name] for name in criteria}
    return {name: agreement(chosen, [rating.score for rating in chosen]) for name, chosen in by_criterion.items()}


def choice_agreement(choices: Sequence[Choice]) -> Agreement:
    """How far the raters agree on which story is better, a tie lying between left and right."""
    return agreement(choices, [ANSWERS.index(choice.answer) for choice in choices])


def agreement(judged: Sequence[Rating] | Sequence[Choice], values: Sequence[int]) -> Agreement:
    """Krippendorff's alpha of ordinal values: 1 is agreement, 0 what chance would give, below 0 systematic opposition.

    judged: one answer of a rater per item, and `values` their values. Items that one rater alone judged say nothing
    about agreement and are left out. The interval draws prompts; a draw in which all values are equal has no
    disagreement and counts as 1.
    Krippendorff 2011, https://repository.upenn.edu/handle/20.500.14332/2089
    """
    if not judged:
        return Agreement(None, "no ratings")
    if len({answer.rater for answer in judged}) == 1:
        return Agreement(None, "one rater")
    shared = [item for item in clusters([answer.item for answer in judged]) if len(item) > 1]
    if not shared:
        return Agreement(None, "no story was judged by two raters")
    domain = sorted({values[index] for item in shared for index in item})
    if len(domain) == 1:
        return Agreement(None, "all answers are equal")
    counts = np.array([[sum(values[index] == value for index in item) for value in domain] for item in shared])
    units = clusters([judged[item[0]].prompt for item in shared])

    def alpha(drawn: Sequence[int] | slice) -> float:
        chosen = counts[drawn]
        if np.count_nonzero(chosen.any(axis=0)) == 1:
            return 1.0
        return float(krippendorff.alpha(value_counts=chosen, level_of_measurement="ordinal"))

    told = [judged[index] for item in shared for index in item]
    signature = f"alpha|ordinal|{raters_label(told)}|{bootstrap_label(units)}"
    return Agreement(Score(alpha(slice(None)), signature, *bootstrap_interval(alpha, units)))


def by_item(judged: Sequence) -> list[list]:
    """The answers about each story or pair together."""
    return [[judged[index] for index in item] for item in clusters([answer.item for answer in judged])]


def raters_label(judged: Sequence[Rating] | Sequence[Choice]) -> str:
    """How many gave how many answers, for a signature."""
    return f"raters:{len({answer.rater for answer in judged})}|answers:{len(judged)}"
