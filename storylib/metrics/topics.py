"""What a system's stories are about: LDA topics, lined up between scenarios. English only.

Blei, Ng and Jordan 2003, https://jmlr.org/papers/v3/blei03a.html
"""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING

import numpy as np

from storylib.errors import UserError
from storylib.metrics.score import GROUPS, Score, jackknife_interval
from storylib.metrics.words import Told, check_form, checked, form_label, lemma, stem

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

COUNT, WORDS = 5, 20
ITERATIONS = 20
LEAST, MOST = 2, 0.5  # a word must be in two stories, and in no more than half of them
CONTENT = {"bottom", "cry", "fill", "fire", "front", "mill", "system"}  # on scikit-learn's list of stop words, too


@dataclass(frozen=True)
class Topic:
    words: tuple[str, ...]  # the likeliest first
    weights: tuple[float, ...]  # the probability of each in the topic
    share: float  # of the words of the scenario's stories
    coherence: float  # NPMI of its words, -1 to 1
    match: float | None  # likeness, 0 to 1, to the topic of the same number in the first scenario; None in that one


@dataclass(frozen=True)
class Topics:
    """The topics of one scenario: number 1 is the largest of the first scenario, and what is most like it in others."""

    topics: tuple[Topic, ...]
    coherence: Score  # mean NPMI of the topics

    @property
    def signature(self) -> str:
        return self.coherence.signature


def find_topics(
    scenarios: Mapping[str, Sequence[str]], count: int = COUNT, words: int = WORDS, seed: int = 0, form: str = "lemma"
) -> dict[str, Topics]:
    """LDA topics of each scenario's stories, a model for each over the words of all, so that topics can be matched.

    scenarios: name -> stories; the topics of the others are paired with those of the first by their distributions over
        words, all at once (the Hungarian method on the Jensen-Shannon distance).
    count: topics of each scenario. words: of each topic. form: "lemma", or "stem" for Porter stems.

    Stop words are left out, and words in a single story or in more than half of all. The coherence of a topic is the
    mean NPMI of all pairs of its words in the scenario's own stories; its interval leaves stories out and keeps the
    topics. The order of stories does not matter; another seed may give other topics.
    Raises UserError for no scenarios, fewer different stories than topics in one of them, fewer than `words` words to
    choose from, a count below 1, words below 2, another form, and stories of which most are not in English; the others
    of them and the empty ones are left out and counted in the signature.
    """
    if count < 1 or words < 2:
        raise UserError(f"topics need a count of 1 and 2 words each at least, got {count} and {words}")
    check_form(form)
    told = {name: Told(stories, f"stories of {name}") for name, stories in checked(scenarios).items()}
    for name, scenario in told.items():
        if (different := len(set(scenario.stories))) < count:
            raise UserError(f"{name}: {count} topics need as many different stories, got {different}; ask for fewer")
    bags = {name: sorted_bags(scenario, form) for name, scenario in told.items()}
    vocabulary = shared_vocabulary([bag for found in bags.values() for bag in found], words)
    found, first = {}, None
    for name, scenario in told.items():
        counted = count_matrix(bags[name], vocabulary)  # (stories, vocabulary)
        if np.count_nonzero(counted.getnnz(axis=1)) < count:
            raise UserError(f"{name}: fewer than {count} stories have a word in common with others; give more stories")
        distributions, shares = fit(counted, count, seed)
        order = np.argsort(-shares, kind="stable") if first is None else matched(first, distributions)
        distributions, shares = distributions[order], shares[order]
        sizes = f"topics:{count}|words:{words}|vocabulary:{len(vocabulary)}|iterations:{ITERATIONS}|seed:{seed}"
        signature = f"lda|scikit-learn-{version('scikit-learn')}|{sizes}|{form_label(form)}|npmi|{scenario.label}"
        found[name] = described(distributions, shares, first, counted, vocabulary, words, signature)
        first = distributions if first is None else first
    return found


def topic_coherence(
    stories: Sequence[str], count: int = COUNT, words: int = WORDS, seed: int = 0, form: str = "lemma"
) -> Score:
    """Mean NPMI, -1 to 1, of the LDA topics of these stories; see `find_topics` for its arguments and errors."""
    return find_topics({"stories": stories}, count, words, seed, form)["stories"].coherence


def npmi(present: np.ndarray) -> float:
    """Mean normalised pointwise mutual information of all pairs of words, -1 to 1: 1 for words that are always in the
    same stories, 0 for words that have nothing to do with each other, -1 for words that are never together.

    present: (stories, words), whether a word is in a story. A pair in all stories tells nothing and counts 0.
    Bouma 2009; Lau, Newman and Baldwin 2014, https://aclanthology.org/E14-1056
    """
    together = present.T.astype(float) @ present / len(present)  # (words, words)
    alone = np.diag(together)
    upper = np.triu_indices(len(alone), 1)
    both, chance = together[upper], np.outer(alone, alone)[upper]
    met = (both > 0) & (both < 1)
    values = np.where(both > 0, 0.0, -1.0)
    values[met] = np.log(both[met] / chance[met]) / -np.log(both[met])
    return float(values.mean())


def sorted_bags(told: Told, form: str) -> list[Counter[str]]:
    """The words of each story without stop words. LDA begins by chance, so stories get an order that only depends on
    what they are, and has nothing to do with what they say."""
    from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

    normal, stop = (lemma if form == "lemma" else stem), ENGLISH_STOP_WORDS - CONTENT
    pairs = zip(told.stories, told.words, strict=True)
    ordered = sorted(pairs, key=lambda pair: hashlib.sha256(pair[0].encode()).digest())
    return [
        Counter(normal(word) for word in words if len(word) > 2 and word not in stop and lemma(word) not in stop)
        for _, words in ordered
    ]


def shared_vocabulary(bags: Sequence[Mapping[str, int]], words: int) -> list[str]:
    """Words in at least two stories and in at most half of all, in alphabetical order."""
    stories = Counter(word for bag in bags for word in bag)
    kept = sorted(word for word, count in stories.items() if LEAST <= count <= MOST * len(bags))
    if len(kept) < words:
        raise UserError(
            f"{len(kept)} words are in two stories or more, and in no more than half of {len(bags)}; topics of {words} "
            "words need more stories, or more different ones"
        )
    return kept


def count_matrix(bags: Sequence[Counter[str]], vocabulary: Sequence[str]) -> "csr_matrix":
    """How often each story has each word: (stories, vocabulary), sparse."""
    from sklearn.feature_extraction.text import CountVectorizer

    return CountVectorizer(analyzer=Counter.elements, vocabulary=vocabulary).transform(bags)


def fit(counted: "csr_matrix", count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """The topics' distributions over words (topics, vocabulary), and the share of each in all words (topics,)."""
    from sklearn.decomposition import LatentDirichletAllocation

    model = LatentDirichletAllocation(count, max_iter=ITERATIONS, learning_method="batch", random_state=seed)
    per_story = model.fit_transform(counted)  # (stories, topics)
    lengths = np.asarray(counted.sum(axis=1)).ravel()
    return model.components_ / model.components_.sum(axis=1, keepdims=True), lengths @ per_story / lengths.sum()


def matched(first: np.ndarray, distributions: np.ndarray) -> np.ndarray:
    """For each topic of `first` the index of its own among `distributions`, so that all pairs together are nearest."""
    from scipy.optimize import linear_sum_assignment
    from scipy.spatial.distance import cdist

    return linear_sum_assignment(cdist(first, distributions, "jensenshannon"))[1]


def described(distributions, shares, first, counted, vocabulary, words: int, signature: str) -> Topics:
    """The topics in words. counted: (stories, vocabulary), how often a story has a word."""
    from scipy.spatial.distance import jensenshannon

    tops = np.argsort(-distributions, axis=1, kind="stable")[:, :words]  # (topics, words)
    present = counted[:, tops.ravel()].toarray().reshape(-1, *tops.shape) > 0  # (stories, topics, words)

    def coherences(stories: Sequence[np.ndarray]) -> list[float]:
        return [npmi(of_topic) for of_topic in np.swapaxes(stories, 0, 1)]

    # a bootstrap would take words apart that are seldom together, and so push the value out of its interval
    low, high = jackknife_interval(lambda kept: np.mean(coherences(kept)), list(present))
    each = coherences(present)
    coherence = Score(float(np.mean(each)), f"{signature}|jackknife:{GROUPS}", max(-1.0, low), min(1.0, high))
    found = [
        Topic(
            tuple(vocabulary[word] for word in top),
            tuple(distributions[place][top].tolist()),
            float(shares[place]),
            each[place],
            None if first is None else 1 - float(jensenshannon(first[place], distributions[place], 2)),
        )
        for place, top in enumerate(tops)
    ]
    return Topics(tuple(found), coherence)
