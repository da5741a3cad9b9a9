"""How different from each other a system's stories are, all cut to one length.

Every measure here depends on how long the stories are and on how many, so compare systems by as many stories of the
same prompts, cut alike; the signature says how many were too short and left out. Intervals come from the jackknife.
Shaib and others 2024, https://arxiv.org/abs/2403.00553
"""

import gzip
import hashlib
import math
import zlib
from collections import Counter
from collections.abc import Callable, Sequence

from sacrebleu.metrics.bleu import BLEU

from storylib.data.duplicates import words
from storylib.errors import UserError
from storylib.metrics.length import WORDS, cut_to
from storylib.metrics.repetition import ngrams
from storylib.metrics.score import GROUPS, Score, check_stories, empty_label, jackknife_interval

LENGTH = 50  # words; a bedtime story of the shipped ones has 80 to 125
ORDERS = (1, 2, 3, 4)  # words in a run, as in BLEU


def distinct_n(stories: Sequence[str], n: int = 2, length: int = LENGTH) -> Score:
    """Distinct-n: share, 0 to 1, of runs of n words that differ, pooled over all stories; 1 means
    that nothing is said twice.

    Raises UserError for no stories, for none of `length` words and for n outside 1 to `length`; TypeError for a str
    where a list is needed.
    Li and others 2016, https://aclanthology.org/N16-1014

    >>> distinct_n(["a b a b", "A B."], n=2, length=4).value   # ab, ba, ab; the second is too short
    0.6666666666666666
    """
    if n > length:
        raise UserError(f"n must be at most the length of {length} words, got {n}")
    kept = [ngrams(words(story), n) for story in equally_long(stories, length)]
    signature = f"distinct|n:{n}|{WORDS}|pooled:yes|{size_label(stories, kept, length)}"
    return jackknife_score(distinct, kept, signature, top=1.0)


def self_bleu(stories: Sequence[str], length: int = LENGTH) -> Score:
    """Self-BLEU in points, 0 to 100: the mean BLEU of each story with all the others as its references. 100 means that
    every run of up to four words is in another story, too.

    Raises UserError for fewer than two stories of `length` words; TypeError for a str where a list is needed.
    Zhu and others 2018, https://arxiv.org/abs/1802.01886
    """
    told = [words(story) for story in equally_long(stories, length)]
    if len(told) < 2:
        raise UserError(f"Self-BLEU needs two stories of {length} words to compare, got one of {len(stories)}")
    kept = [[Counter(ngrams(tokens, n)) for n in ORDERS] for tokens in told]
    signature = f"self-bleu|{WORDS}|orders:1-4|smooth:exp|average:story|{size_label(stories, kept, length)}"
    return jackknife_score(mean_self_bleu, kept, signature, top=100.0)


def compression_ratio(stories: Sequence[str], length: int = LENGTH) -> Score:
    """How many times smaller gzip makes the stories together: the higher, the more they repeat each other and
    themselves.

    They are sorted first: gzip looks back no further than 32 KB, so their order would change the figure.
    Raises UserError for no stories and for none of `length` words; TypeError for a str where a list is needed.
    """
    kept = equally_long(stories, length)
    signature = f"compression|gzip:9|zlib:{zlib.ZLIB_RUNTIME_VERSION}|unit:bytes|order:sorted"
    return jackknife_score(compressed, kept, f"{signature}|{size_label(stories, kept, length)}")


def equally_long(stories: Sequence[str], length: int) -> list[str]:
    """The stories cut to `length` words, in an order that has nothing to do with that in which they came."""
    check_stories(stories)
    return sorted(cut_to(stories, length), key=lambda story: hashlib.sha256(story.encode()).digest())


def size_label(stories: Sequence[str], kept: Sequence, length: int) -> str:
    left = len(stories) - len(kept)
    return f"length:{length}|stories:{len(kept)}|left out:{left}|{empty_label(stories)}|jackknife:{GROUPS}"


def jackknife_score(measure: Callable[[list], float], kept: list, signature: str, top: float = math.inf) -> Score:
    """A measure of all stories together, between 0 and `top`, with its interval."""
    low, high = jackknife_interval(measure, kept)
    return Score(measure(kept), signature, max(0.0, low), min(top, high))


def distinct(grams: Sequence[Sequence[tuple]]) -> float:
    every = [gram for story in grams for gram in story]
    return len(set(every)) / len(every)


def mean_self_bleu(counts: Sequence[Sequence[Counter]]) -> float:
    """From how often each story says each run, by order; 0 of a single story, which nothing repeats.

    What BLEU needs of all the other stories is how often one of them says a run at most. So the two largest counts of
    each run serve all stories, where taking each against all others would take the square of their number.
    """
    most: dict[tuple, tuple[int, int]] = {}  # the largest count of a run in one story, and the second largest
    for gram, count in (pair for orders in counts for order in orders for pair in order.items()):
        first, second = most.get(gram, (0, 0))
        most[gram] = (count, first) if count > first else (first, max(second, count))
    scores = []
    for orders in counts:
        # where the largest count is its own, the others have the second
        common = [sum(min(count, most[gram][count == most[gram][0]]) for gram, count in n.items()) for n in orders]
        total = [order.total() for order in orders]
        scores.append(BLEU.compute_bleu(common, total, total[0], total[0], smooth_method="exp").score)
    return sum(scores) / len(scores)


def compressed(stories: Sequence[str]) -> float:
    text = "\n".join(sorted(stories)).encode()
    return len(text) / len(gzip.compress(text, 9, mtime=0))
