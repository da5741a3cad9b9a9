"""Is a text for adults only? Words from data/word_lists/adult.json decide; what they cannot see is said below."""

from collections.abc import Mapping
from functools import cache

from storylib.data.words import forms, read_list

REASONS = ("sexual violence", "sexual content", "slurs")  # asked in this order; "strong language" comes last
LIMIT = 3  # different mild words; one strong word is enough
SWEARING = 0.01  # of all words, and at least three of them


def adult_reason(words: Mapping[str, int]) -> str:
    """Why a text with these words (as `words.count_words` counts them) is for adults; "" when it is not.

    A strong word is enough, or three different mild ones of a kind; "strong language" is one swear word in a hundred.
    Only whole words count: a cockpit, Scunthorpe and a grape are none. Nothing is understood: innocent words that
    describe an adult scene pass, as do violence and drugs, which are not looked for.

    >>> from storylib.data.words import count_words
    >>> adult_reason(count_words("The grapes of Scunthorpe, said the therapist in the cockpit, are nude."))
    ''
    >>> adult_reason(count_words("There was porn, and a lot of it: nude, topless people."))
    'sexual content'
    """
    found = listed() & words.keys()
    if not found:
        return ""
    for reason in REASONS:
        strong, mild = lists()[reason]
        if found & strong or len(found & mild) >= LIMIT:
            return reason
    swearing = sum(words[word] for word in found & lists()["strong language"][0])
    return "strong language" if swearing >= LIMIT and swearing >= SWEARING * sum(words.values()) else ""


@cache
def lists() -> dict[str, tuple[frozenset[str], ...]]:
    """The forms of the strong and of the mild words for each reason."""
    found = read_list("adult")
    pairs = {reason: (forms(found[reason]["strong"]), forms(found[reason]["mild"])) for reason in REASONS}
    return pairs | {"strong language": (forms(found["strong language"]["counted"]),)}


@cache
def listed() -> frozenset[str]:
    return frozenset().union(*(part for parts in lists().values() for part in parts))
