"""Does the model stop by itself?"""

from collections.abc import Sequence

from storylib.errors import UserError
from storylib.metrics.score import Score, check_stories, share_score

ENDS = ("eos", "limit")


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
    return share_score([end == "eos" for end in ended], "stopped")
