"""What a story for children should not hold, where it was found, and how many stories hold it."""

import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import regex

from storylib.data.content_filter import lists
from storylib.data.sentences import base, sentence_ends
from storylib.data.words import forms, read_list
from storylib.errors import UserError
from storylib.metrics.score import Score, check_stories, empty_label, share_score

TOKEN = regex.compile(
    r"[\p{L}\p{M}\p{N}]+(?:['’][\p{L}\p{M}]+)*|[^\s\p{L}\p{M}\p{N}-]"
)  # words, and marks that part them
INNOCENT = "innocent"
UNREADABLE = ("unreadable", "another script")  # category and term of a story as a whole
ADULT = {  # category here: those of adult.json
    "sex": ("sexual violence", "sexual content"),
    "slurs": ("slurs",),
    "crude language": ("strong language",),
}
SCRIPTS = {
    "en": r"\p{Latin}",
    "pt": r"\p{Latin}",
    "zh": r"\p{Han}",
    "ja": r"[\p{Han}\p{Hiragana}\p{Katakana}ー]",
}


@dataclass(frozen=True)
class Find:
    """Something unfit for children, and where it stands."""

    category: str
    term: str  # as the list has it
    start: int  # story[start:end] is what was found
    end: int
    sentence: str

    def __str__(self) -> str:
        return f"{self.category}: {self.term!r} in {self.sentence!r}"


@dataclass(frozen=True)
class UnsafeShare(Score):
    """A share of stories, and what was found in each of them."""

    finds: tuple[tuple[Find, ...], ...] = ()

    @property
    def by_category(self) -> dict[str, int]:
        """How many stories hold something of each category, the most frequent first; a story counts in each once."""
        return dict(Counter(name for found in self.finds for name in {find.category for find in found}).most_common())


def unsafe_share(stories: Sequence[str], language: str = "en") -> UnsafeShare:
    """Share, 0 to 1, of stories in which `unsafe` finds something, with Wilson's interval. Empty stories are counted in
    the signature; there is nothing in them to find.

    Raises UserError for no stories and a language without lists, TypeError for a str where a list is needed.

    >>> score = unsafe_share(["The fox slept.", "The wolf had a gun."])
    >>> score.value, score.by_category
    (0.5, {'weapons': 1})
    """
    check_stories(stories)
    finds = tuple(tuple(unsafe(story, language)) for story in stories)
    score = share_score([bool(found) for found in finds], f"unsafe|lists:{base(language)}|{empty_label(stories)}")
    return UnsafeShare(score.value, score.signature, score.low, score.high, score.per_story, finds)


def unsafe(story: str, language: str = "en") -> list[Find]:
    """Words and phrases that a story for children should not hold, by the lists of data/word_lists/unsafe.json.

    language: en, pt, zh or ja; a code such as pt-BR will do. In en and pt whole words and phrases count, in zh and ja
        strings wherever they stand. The longest match decides, and some are innocent: a killer whale is no killer.

    A story most of whose letters are of another script is found as a whole: the lists can say nothing of it.
    It is spelling that is looked at: what is cruel in innocent words passes, and a fable's dead leaf may be found.
    Raises UserError for a language without lists, TypeError for what is no text.

    >>> [(find.category, find.term, find.start) for find in unsafe("The killer whale smiled. Then he was killed.")]
    [('violence', 'killed', 37)]
    """
    check_stories([story])
    code = base(language)
    if code not in SCRIPTS:
        raise UserError(f"no lists of unsafe words for {language!r}; there are {', '.join(SCRIPTS)}")
    if not readable(story, code):
        return [Find(*UNREADABLE, 0, len(story), story)]
    found = find_words(story, code) if code in ("en", "pt") else find_strings(story, code)
    found = [match for match in found if match[0] != INNOCENT]
    ends = [*sentence_ends(story, code), len(story)] if found else []
    return [Find(*match, sentence_at(story, match[2], ends)) for match in found]


def readable(story: str, language: str) -> bool:
    """Whether at least half of the letters are of the language's script, or there are none."""
    letters = len(regex.findall(r"\p{L}", story))
    return 2 * len(regex.findall(SCRIPTS[language], story)) >= letters


def find_words(story: str, language: str) -> list[tuple[str, str, int, int]]:
    """Category, term, start and end of what is listed, innocent ones too: at each word the longest phrase."""
    table, longest = phrases(language)
    tokens = [(plain(match[0]), *match.span()) for match in TOKEN.finditer(story)]
    found, place = [], 0
    while place < len(tokens):
        for length in range(min(longest, len(tokens) - place), 0, -1):
            phrase = tuple(word for word, _, _ in tokens[place : place + length])
            if phrase in table:
                found.append((table[phrase], " ".join(phrase), tokens[place][1], tokens[place + length - 1][2]))
                place += length - 1
                break
        place += 1
    return found


def plain(word: str) -> str:
    """The word in small letters and without what belongs to no word of a list: full width, a possessive."""
    return unicodedata.normalize("NFKC", word).casefold().replace("’", "'").removesuffix("'s")


def find_strings(story: str, language: str) -> list[tuple[str, str, int, int]]:
    """The same in a script without spaces."""
    pattern, table = strings(language)
    return [(table[match[0]], match[0], *match.span()) for match in pattern.finditer(story)]


@cache
def phrases(language: str) -> tuple[dict[tuple[str, ...], str], int]:
    """The category of each phrase, as a tuple of words, and the number of words in the longest."""
    table = {tuple(phrase.replace("_", " ").split()): name for phrase, name in listed(language).items()}
    return table, max(map(len, table))


@cache
def strings(language: str) -> tuple[regex.Pattern, dict[str, str]]:
    """A pattern of all strings, the longest first, and the category of each."""
    table = listed(language)
    return regex.compile("|".join(map(regex.escape, sorted(table, key=len, reverse=True)))), table


def listed(language: str) -> dict[str, str]:
    """The category of each listed term of a language; of a term in several, the last one."""
    own = dict(read_list("unsafe")[language])
    everyday = forms(own.pop("everyday", ""))
    table = {term: name for name, patterns in own.items() for term in forms(patterns)}
    if language == "en":
        adult = {
            name: frozenset().union(*(part for why in whys for part in lists()[why])) for name, whys in ADULT.items()
        }
        table = {term: name for name, terms in adult.items() for term in terms - everyday} | table
    return table


def sentence_at(story: str, place: int, ends: Sequence[int]) -> str:
    """The sentence that holds this offset."""
    start = max((end for end in ends if end <= place), default=0)
    return story[start : min(end for end in ends if end > place)].strip()
