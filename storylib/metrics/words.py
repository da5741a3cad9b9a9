"""Which opinion words a system's stories use most, and which more than the others' do. English only.

Words are grouped by their lemma, and the lexicon is asked for words as they stand. To stem the lexicon, as is often
done, makes `woman` a negative word, since `womanizer` is one; `form="stem"` shows it.
"""

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib.metadata import version
from pathlib import Path

import numpy as np

from storylib.data import duplicates
from storylib.errors import UserError
from storylib.metrics.score import Score, Tally, check_stories, share, tally_score

FORMS = ("lemma", "stem")
MOST = 30
PRIOR = 500  # words that the prior of the log-odds weighs
STANDS_OUT = 3.3  # z; of 60 words shown, beyond 1.96 there are some by chance alone
KNOWN = 0.6  # share of words that English has: from 0.69 in Gutenberg's tales in dialect, up to 0.50 in Portuguese ones
SHORT = 10  # words; of fewer no language can be told
ENGLISH, EMPTY, OTHER = "English", "empty", "other language"  # what a story may be


@dataclass(frozen=True)
class Lexicon:
    """Words that speak well or ill of something; one that is in both lists says nothing."""

    name: str  # for signatures
    positive: frozenset[str]
    negative: frozenset[str]

    def sign(self, word: str) -> int:
        """1, -1, or 0 for a word that is no opinion."""
        return (word in self.positive) - (word in self.negative)


@dataclass(frozen=True)
class OpinionWord:
    word: str  # stands in the lexicon; of `form="stem"`, its stem does
    count: int
    stories: int  # that it occurs in
    log_odds: float | None  # against all other scenarios, as z; None where there are no others

    @property
    def stands_out(self) -> bool:
        """Whether the scenario uses the word more than the others do, by more than chance explains."""
        return self.log_odds is not None and self.log_odds > STANDS_OUT


@dataclass(frozen=True)
class TopWords:
    """The most frequent opinion words of one scenario, the first most often."""

    positive: tuple[OpinionWord, ...]
    negative: tuple[OpinionWord, ...]
    signature: str


def top_words(
    scenarios: Mapping[str, Sequence[str]], most: int = MOST, lexicon: Lexicon | None = None, form: str = "lemma"
) -> dict[str, TopWords]:
    """The most frequent positive and negative words of each scenario's stories, fewer where it has no more.

    scenarios: name -> stories. Beside each count stands how much more the scenario uses the word than all the others
        together (`log_odds`).
    lexicon: by default what `opinion_lexicon` finds. form: "lemma", or "stem" (Porter's) for stories and lexicon.

    Raises UserError for no scenarios, one without a word, another form, `most` below 1, and stories of which most are
    not in English; the others of them and the empty ones are left out and counted in the signature.
    """
    if most < 1:
        raise UserError(f"most must be at least 1 word, got {most}")
    lexicon = lexicon or opinion_lexicon()
    signed = signed_form(lexicon, form)
    told = {name: Told(stories, f"stories of {name}") for name, stories in checked(scenarios).items()}
    counts = {name: Counter(signed(word)[0] for story in told[name].words for word in story) for name in told}
    signs = dict(signed(word) for scenario in told.values() for story in scenario.words for word in story)
    pooled = sum(counts.values(), Counter())
    found = {}
    for name, scenario in told.items():
        stories = Counter(form for story in scenario.words for form in {signed(word)[0] for word in story})
        odds = log_odds(counts[name], pooled - counts[name], pooled) if len(told) > 1 else {}
        ranked = sorted(counts[name].items(), key=lambda pair: (-pair[1], pair[0]))
        positive, negative = (
            [OpinionWord(word, n, stories[word], odds.get(word)) for word, n in ranked if signs[word] == sign][:most]
            for sign in (1, -1)
        )
        against = f"log-odds:dirichlet|prior:{PRIOR}|against:{len(told) - 1}" if odds else "log-odds:no"
        signature = f"top words|{lexicon.name}|{form_label(form)}|most:{most}|{against}|{scenario.label}"
        found[name] = TopWords(tuple(positive), tuple(negative), signature)
    return found


def opinion_balance(stories: Sequence[str], lexicon: Lexicon | None = None, form: str = "lemma") -> Score:
    """Share, 0 to 1, of positive words among the positive and negative ones, pooled over all stories; the interval
    takes stories for independent.

    Raises UserError where no word is an opinion, and what `top_words` raises.
    """
    lexicon = lexicon or opinion_lexicon()
    signed, told = signed_form(lexicon, form), Told(stories)
    signs = [[signed(word)[1] for word in story] for story in told.words]
    rows = np.array([(found.count(1), found.count(1) + found.count(-1)) for found in signs])
    if not rows[:, 1].any():
        raise UserError(f"none of {len(rows)} stories has a word of {lexicon.name}")
    return tally_score(Tally(rows, share), f"opinion balance|{lexicon.name}|{form_label(form)}|pooled:yes|{told.label}")


def log_odds(counts: Mapping[str, int], others: Mapping[str, int], background: Mapping[str, int]) -> dict[str, float]:
    """How much more often each word of `background` is in `counts` than in `others`: the log-odds ratio with an
    informative Dirichlet prior, over its standard deviation. Positive where `counts` has more.

    background: counts of every word that may occur, as a rule those of both together; as a prior it weighs 500 words,
        shared out as it has them. So a rare word needs more than luck to stand out. Words are taken for independent,
        which those of one story are not: z ranks words better than it tests them.
    Monroe, Colaresi and Quinn 2008, https://doi.org/10.1093/pan/mpn018

    >>> odds = log_odds({"king": 8, "the": 92}, {"king": 2, "the": 98}, {"king": 10, "the": 190})
    >>> round(odds["king"], 3), round(odds["the"], 3)
    (0.814, -3.565)
    """
    one, other, every = (sum(found.values()) for found in (counts, others, background))
    found = {}
    for word, count in background.items():
        if count == every:  # the only word there is
            return {word: 0.0}
        prior = PRIOR * count / every
        here, there = counts.get(word, 0) + prior, others.get(word, 0) + prior
        odds = math.log(here / (one + PRIOR - here)) - math.log(there / (other + PRIOR - there))
        found[word] = odds / math.sqrt(1 / here + 1 / there)
    return found


def opinion_lexicon(source: str | Path | None = None) -> Lexicon:
    """A list of positive and negative English words.

    source: "hu-liu" for Hu and Liu's (2004), which nltk reads where it has been downloaded; "vader" for the one that
        comes with vaderSentiment (Hutto and Gilbert 2014), emoticons aside; or a folder with positive-words.txt and
        negative-words.txt as Hu and Liu give them away. None takes nltk's if it is on this machine, else VADER's: the
        name in the signature says which, and figures of two lexicons do not compare.
    Raises UserError for a source that is not there.
    """
    if source == "vader":
        return vader_lexicon()
    if source in (None, "hu-liu"):
        try:
            return hu_liu_lexicon()
        except LookupError:
            if source is None:
                return vader_lexicon()
            raise UserError(
                "nltk has no opinion lexicon on this machine; get it with python -m nltk.downloader opinion_lexicon, "
                "or take 'vader'"
            ) from None
    return folder_lexicon(Path(source).expanduser())


def hu_liu_lexicon() -> Lexicon:
    from nltk.corpus import opinion_lexicon  # looks for its files when asked for a word

    return named_lexicon("hu-liu", opinion_lexicon.positive(), opinion_lexicon.negative())


@cache
def vader_lexicon() -> Lexicon:
    from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

    valence = {word: value for word, value in SentimentIntensityAnalyzer().lexicon.items() if word.isalpha()}
    positive, negative = ([word for word in valence if valence[word] * sign > 0] for sign in (1, -1))
    return named_lexicon(f"vader-{version('vaderSentiment')}", positive, negative)


def folder_lexicon(folder: Path) -> Lexicon:
    lists = []
    for name in ("positive-words.txt", "negative-words.txt"):
        if not (folder / name).is_file():
            raise UserError(f"there is no {folder / name}; give a folder with both lists, or 'hu-liu' or 'vader'")
        text = (folder / name).read_text(encoding="latin-1")
        lists.append([word for line in text.splitlines() if (word := line.strip()) and not word.startswith(";")])
    return named_lexicon(folder.name, *lists)


def named_lexicon(name: str, positive: Sequence[str], negative: Sequence[str]) -> Lexicon:
    sizes = f"{len(positive)}+{len(negative)}"
    return Lexicon(f"lexicon:{name}:{sizes}", frozenset(positive), frozenset(negative))


def signed_form(lexicon: Lexicon, form: str) -> Callable[[str], tuple[str, int]]:
    """A function from a word to the form under which it is counted, and its sign in the lexicon."""
    check_form(form)
    if form == "stem":
        stems = Lexicon(lexicon.name, frozenset(map(stem, lexicon.positive)), frozenset(map(stem, lexicon.negative)))
        return cache(lambda word: (stem(word), stems.sign(stem(word))))

    def signed(word: str) -> tuple[str, int]:
        own, of_lemma = lexicon.sign(word), lexicon.sign(lemma(word))
        # a word whose lemma says something else, or nothing, stands for itself: `better` is not `good`
        return (word, own) if own and own != of_lemma else (lemma(word), of_lemma)

    return cache(signed)


@lru_cache(maxsize=2**16)
def lemma(word: str) -> str:
    """
    >>> lemma("women"), lemma("womanizer"), lemma("king’s")
    ('woman', 'womanizer', 'king')
    """
    from simplemma import lemmatize

    return lemmatize(word.replace("’", "'"), "en").lower()


@lru_cache(maxsize=2**16)
def stem(word: str) -> str:
    """
    >>> stem("women"), stem("womanizer")
    ('women', 'woman')
    """
    return porter().stem(word.replace("’", "'"))


@cache
def porter():
    from nltk.stem import PorterStemmer

    return PorterStemmer()


def check_form(form: str) -> None:
    if form not in FORMS:
        raise UserError(f"form must be one of {', '.join(FORMS)}, got {form!r}")


def form_label(form: str) -> str:
    library = {"lemma": "simplemma", "stem": "nltk"}[form]
    return f"form:{form}:{library}-{version(library)}"


class Told:
    """The stories of a scenario that are in English, and how many are not."""

    def __init__(self, stories: Sequence[str], name: str = "stories") -> None:
        """Raises UserError for stories without a word, and what `kinds` raises."""
        found = kinds(stories, name)
        self.stories = [story for story, kind in zip(stories, found, strict=True) if kind == ENGLISH]
        if not self.stories:
            raise UserError(f"none of the {len(stories)} {name} has a word")
        self.words = [duplicates.words(story) for story in self.stories]
        left = "|".join(f"{kind}:{found.count(kind)}" for kind in (EMPTY, OTHER))
        self.label = f"stories:{len(self.stories)}|{left}"


def kinds(stories: Sequence[str], name: str = "stories") -> list[str]:
    """Of each story whether it is in English, in another language, or empty, which is without a word.

    English is what has mostly words that simplemma's English dictionary knows. Of a story of fewer than ten words
    that cannot be told; it is taken for English where the others are.
    Raises UserError where most stories, or most of their words, are not English; TypeError for a str where a list is
    needed and for anything that is no text.
    """
    check_stories(stories, name)
    told = [duplicates.words(story) for story in stories]
    found = [kind(words) for words in told]
    every = [word for words in told for word in words]
    if every and (2 * found.count(OTHER) > len(found) - found.count(EMPTY) or known_share(every) < KNOWN):
        raise UserError(
            f"{name}: an English dictionary has {known_share(every):.0%} of the words; opinions, lemmas and topics are "
            "for English stories only"
        )
    return found


def kind(words: Sequence[str]) -> str:
    if not words:
        return EMPTY
    return OTHER if len(words) >= SHORT and known_share(words) < KNOWN else ENGLISH


def known_share(words: Sequence[str]) -> float:
    return sum(map(known, words)) / len(words)


@lru_cache(maxsize=2**16)
def known(word: str) -> bool:
    from simplemma import is_known

    return is_known(word.replace("’", "'"), "en")


def checked(scenarios: Mapping[str, Sequence[str]]) -> Mapping[str, Sequence[str]]:
    """Raises TypeError for what is no mapping, UserError for an empty one."""
    if not isinstance(scenarios, Mapping):
        given = type(scenarios).__name__
        raise TypeError(f"scenarios must map a name to stories, such as {{'base': […]}}, got a {given}")
    if not scenarios:
        raise UserError("no scenarios: give at least one, such as {'base': stories}")
    return scenarios
