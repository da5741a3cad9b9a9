"""How long stories are, how many are none at all, and how to cut them to one length."""

from collections.abc import Sequence

from storylib.data.duplicates import WORD, words
from storylib.errors import UserError
from storylib.metrics.score import Score, check_stories, empty_label, mean_score, share_score

WORDS = "words:lower|unspaced:characters"  # what `words` does, for a signature


def length_in_words(stories: Sequence[str]) -> Score:
    """Mean number of words of a story, 0 for an empty one; the interval takes stories for independent.

    In scripts without spaces each character counts as a word, so compare within a language only.
    Raises UserError for no stories, TypeError for a str where a list is needed.
    """
    check_stories(stories)
    return mean_score([len(words(story)) for story in stories], f"length|{WORDS}|{empty_label(stories)}")


def empty_share(stories: Sequence[str]) -> Score:
    """Share, 0 to 1, of stories without any text, with Wilson's interval.

    Raises UserError for no stories, TypeError for a str where a list is needed.

    >>> print(empty_share(["A fox.", " ", "An owl.", ""]))
    0.50 [0.15, 0.85]
    """
    check_stories(stories)
    return share_score([not story.strip() for story in stories], "empty")


def cut_to(stories: Sequence[str], length: int) -> list[str]:
    """The stories of at least `length` words, each up to the end of that word; the shorter ones are left out.

    Measures of diversity grow or fall with length by themselves, so only stories of equal length compare.
    Raises UserError where none is long enough and for a length below 1.

    >>> cut_to(["One fox, two owls.", "A bee."], length=3)
    ['One fox, two']
    """
    if length < 1:
        raise UserError(f"length must be at least one word, got {length}")
    ends = [[match.end() for match in WORD.finditer(story)] for story in stories]
    if not any(len(found) >= length for found in ends):
        raise UserError(f"none of {len(stories)} stories has {length} words, the longest has {max(map(len, ends))}")
    return [story[: found[length - 1]] for story, found in zip(stories, ends, strict=True) if len(found) >= length]
