"""Does the model stop by itself?"""

import math
from collections.abc import Sequence

from storylib.errors import UserError
from storylib.metrics.score import Score, check_stories

ENDS = ("eos", "limit")
Z = 1.959964  # standard normal quantile of a 95 % interval


def stopped_share(ended: Sequence[str]) -> Score:
    """Share, 0 to 1, of stories that the model ended itself ("eos") rather than the token limit ("limit").

    The interval is Wilson's (1927), which stays within 0 and 1 and is wide for few stories; it takes stories for
    independent. Raises UserError for no stories and for other values, TypeError for a str where a list is needed.

    >>> print(stopped_share(["eos", "eos", "limit", "eos"]))
    0.75 [0.30, 0.95]
    """
    check_stories(ended, "ends")
    if unknown := sorted(set(ended) - set(ENDS)):
        raise UserError(f"a story ended by {' or '.join(ENDS)}, got {', '.join(map(repr, unknown))}")
    stopped = tuple(float(end == "eos") for end in ended)
    low, high = wilson_interval(int(sum(stopped)), len(stopped))
    return Score(sum(stopped) / len(stopped), f"stopped|interval:wilson|stories:{len(stopped)}", low, high, stopped)


def wilson_interval(hits: int, trials: int) -> tuple[float, float]:
    """The 95 % interval of a share of `hits` in `trials`, both ends between 0 and 1."""
    share, spread = hits / trials, Z**2 / trials
    middle = (share + spread / 2) / (1 + spread)
    half = math.sqrt(share * (1 - share) * spread + spread**2 / 4) / (1 + spread)
    return max(0.0, middle - half), min(1.0, middle + half)
