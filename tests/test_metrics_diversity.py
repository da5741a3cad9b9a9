"""Diversity and copying: closed forms, other implementations, and promises that hold for any stories."""

import gzip
import itertools
import random
import time
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sacrebleu.metrics.bleu import BLEU

from storylib.errors import UserError
from storylib.metrics import compression_ratio, copied_share, distinct_n, self_bleu
from storylib.metrics.length import cut_to, words
from storylib.metrics.score import bootstrap_interval, jackknife_interval

# Equal lengths


def test_stories_are_cut_after_that_word():
    stories = ["“One,” two three. Four", "One two", "", "狐狸来了。好"]
    assert cut_to(stories, 3) == ["“One,” two three", "狐狸来"]
    assert cut_to(stories, 4) == ["“One,” two three. Four", "狐狸来了"]


@pytest.mark.parametrize("stories, length, message", [(["a b"], 3, "longest has 2"), (["a b"], 0, "at least one word")])
def test_no_story_is_long_enough(stories, length, message):
    with pytest.raises(UserError, match=message):
        cut_to(stories, length)


# Diversity


@pytest.mark.parametrize(
    "stories, n, length, value",
    [
        (["a b a b"], 2, 4, 2 / 3),  # ab ba ab
        (["a b c d", "A, b. C! D"], 2, 4, 3 / 6),
        (["a b c d e e e e", "e f g h"], 1, 4, 8 / 8),  # what stands after the fourth word is not seen
        (["a a a"] * 5, 1, 3, 1 / 15),
        (["a b c", "x"], 3, 3, 1.0),
    ],
)
def test_distinct_n(stories, n, length, value):
    score = distinct_n(stories, n, length)
    assert score.value == pytest.approx(value) and 0 <= score.low <= score.value <= score.high <= 1
    kept = len(cut_to(stories, length))
    assert f"distinct|n:{n}|" in score.signature and f"|length:{length}|stories:{kept}|" in score.signature


def test_what_is_left_out_is_counted():
    signature = distinct_n(["a b c d", "a", "", " "], length=4).signature
    assert "|stories:1|left out:3|empty:2|" in signature


def tales(count, seed, size=12):
    rng = random.Random(seed)
    vocabulary = "the a fox owl sea tree ran sat saw sang home blue and to in".split()
    return [" ".join(rng.choices(vocabulary, k=size)) for _ in range(count)]


def test_self_bleu_is_sacrebleus_of_each_story_against_all_others():
    stories = [*tales(6, 1), tales(1, 2)[0].replace("the", "fox"), "too short"]
    texts = [" ".join(words(story)[:10]) for story in stories[:-1]]
    metric = BLEU(tokenize="none")
    expected = [
        metric.corpus_score([text], [[other] for k, other in enumerate(texts) if k != i]).score
        for i, text in enumerate(texts)
    ]
    score = self_bleu(stories, length=10)
    assert score.value == pytest.approx(sum(expected) / 7) and score.low < score.value < score.high
    assert "|length:10|stories:7|left out:1|" in score.signature


def test_self_bleu_of_extremes():
    assert self_bleu(["a b c d e"] * 3, length=5).value == pytest.approx(100)
    assert self_bleu(["a b c d e", "f g h i j"], length=5).value == 0
    with pytest.raises(UserError, match="two stories of 5 words to compare, got one of 2"):
        self_bleu(["a b c d e", "f g h"], length=5)


def test_compression_ratio_is_gzips():
    stories = ["The fox ran home, and the owl slept.", "The fox ran home, and the bee sang."]
    text = b"The fox ran home, and the bee\nThe fox ran home, and the owl"
    assert compression_ratio(stories, length=7).value == len(text) / len(gzip.compress(text, 9))
    assert compression_ratio(["the sea " * 25] * 10).value > 3 * compression_ratio(tales(10, 1, 50)).value


DIVERSITY = [
    (lambda stories: distinct_n(stories, 2, length=8), 1),
    (lambda stories: self_bleu(stories, length=8), -1),
    (lambda stories: compression_ratio(stories, length=8), -1),
]
measures = pytest.mark.parametrize("measure, sign", DIVERSITY, ids=["distinct", "self-bleu", "compression"])
seeds = st.integers(0, 10**6)


@measures
@settings(max_examples=25, deadline=None, derandomize=True)
@given(seed=seeds, size=st.integers(2, 30))
def test_order_of_stories_does_not_matter(measure, sign, seed, size):
    stories = tales(size, seed)
    shuffled = random.Random(seed).sample(stories, size)
    one, other = measure(stories), measure(shuffled)
    assert (one.value, one.low, one.high) == pytest.approx((other.value, other.low, other.high))


@measures
@settings(max_examples=40, deadline=None, derandomize=True)
@given(seed=seeds, size=st.integers(2, 20), copies=st.integers(1, 5))
def test_duplicates_never_raise_diversity(measure, sign, seed, size, copies):
    stories = tales(size, seed)
    again = random.Random(seed).choices(stories, k=copies)
    assert sign * measure(stories + again).value <= sign * measure(stories).value + 1e-9


@measures
@settings(max_examples=25, deadline=None, derandomize=True)
@given(seed=seeds, size=st.integers(2, 30))
def test_interval_holds_its_value(measure, sign, seed, size):
    score = measure(tales(size, seed))
    assert 0 <= score.low <= score.value <= score.high


def test_all_stories_equal_and_a_single_one():
    for measure in (distinct_n, compression_ratio):
        for stories in (["a fox ran " * 20] * 10, ["a fox ran " * 20]):
            score = measure(stories)
            assert score.low <= score.value <= score.high and score.value > 0
    alone = distinct_n(["a fox ran " * 20])
    assert alone.low == alone.value == alone.high


def coverage(interval, truth, samples):
    return np.mean([low <= truth <= high for low, high in map(interval, samples)])


def test_jackknife_covers_what_the_bootstrap_misses():
    """95 % intervals hold the figure that samples of this size have, on average; the bootstrap's are far too low."""
    rng = np.random.default_rng(0)
    world = [rng.zipf(1.5, 20).tolist() for _ in range(4000)]

    def distinct(sample):
        every = [word for story in sample for word in story]
        return len(set(every)) / len(every)

    def draw():
        return [world[index] for index in rng.choice(len(world), 40, replace=False)]

    truth = np.mean([distinct(draw()) for _ in range(500)])
    samples = [draw() for _ in range(200)]
    assert 0.9 <= coverage(lambda sample: jackknife_interval(distinct, sample), truth, samples) <= 1
    units = [[index] for index in range(40)]
    resampled = [
        bootstrap_interval(lambda drawn, told=sample: distinct([told[i] for i in drawn]), units, resamples=100)
        for sample in samples[:20]
    ]
    assert all(high < truth for _, high in resampled)


def test_bootstrap_of_a_mean_covers():
    rng = np.random.default_rng(0)
    units = [[index] for index in range(40)]
    samples = [rng.exponential(size=40) for _ in range(200)]
    held = coverage(lambda told: bootstrap_interval(lambda drawn: told[drawn].mean(), units, 200), 1.0, samples)
    assert 0.88 <= held <= 0.99


def test_jackknife_of_a_mean_is_its_standard_error():
    values = [1.0, 2.0, 4.0, 9.0]
    low, high = jackknife_interval(lambda told: sum(told) / len(told), values)
    assert (high - low) / 2 == pytest.approx(1.959964 * np.std(values, ddof=1) / 2)  # root of four stories


@pytest.mark.parametrize("measure", [distinct_n, self_bleu, compression_ratio])
def test_diversity_refuses(measure):
    with pytest.raises(UserError, match="at least one"):
        measure([])
    with pytest.raises(UserError, match="none of 2 stories has 50 words, the longest has 2"):
        measure(["", "a fox"])
    with pytest.raises(TypeError, match="put it in a list"):
        measure("a fox")
    with pytest.raises(TypeError, match=r"\[1\] must be a text, got None"):
        measure(["a fox", None])


@pytest.mark.parametrize("n", [0, 51])
def test_distinct_n_refuses(n):
    with pytest.raises(UserError, match=f"got {n}"):
        distinct_n(["a " * 60], n)


# Copying

TRAINING = [
    "A bee sang.",
    "Once there was a red fox, who ran to the sea and swam.",
    "The red fox, who ran to the hill.",
]


def test_copied_share_by_hand():
    stories = ["My red fox, who ran TO the sea! He slept.", "An owl saw a bee.", "A bee"]
    score = copied_share(stories, TRAINING, n=3)
    # of eight runs of three words five, from "red fox who" to "to the sea"; of three none; of none none
    assert score.per_story == (5 / 8, 0, 0) and score.value == 5 / 11
    assert score.longest.text == "red fox, who ran TO the sea" and score.longest.words == 7
    assert (score.longest.story, score.longest.source) == (0, 1)
    assert "|n:3|" in score.signature and "|training:3|short:1|empty:0|" in score.signature


def test_the_first_of_the_longest_passages_is_named():
    passage = copied_share(
        ["He saw the red fox, who ran to the hill and to the sea and swam."], TRAINING * 2, n=3
    ).longest
    assert (passage.text, passage.words, passage.source) == ("the red fox, who ran to the hill", 8, 2)


def test_nothing_copied_has_no_passage():
    score = copied_share(["An owl sat in a tree and read a book."], TRAINING)
    assert score.value == 0 and score.longest is None and score.low == score.high == 0


def test_a_training_story_is_all_copied():
    score = copied_share([TRAINING[1]], iter(TRAINING))
    assert score.value == 1 and score.longest.text == TRAINING[1][:-1]


def test_eight_words_by_default():
    assert copied_share(["red fox who ran to the sea"] + [" ".join("abcdefgh")], TRAINING).value == 0
    assert copied_share(["red fox who ran to the sea and"], TRAINING).value == 1


def test_chinese_is_compared_by_character():
    score = copied_share(["他说：从前有一只狐狸！"], ["从前，有一只狐狸。"], n=4)
    assert score.longest.text == "从前有一只狐狸" and score.value == 4 / 6


@settings(max_examples=40, deadline=None, derandomize=True)
@given(seed=seeds)
def test_longest_passage_is_that_of_every_pair_compared(seed):
    stories, training = tales(4, seed, 15), tales(6, seed + 1, 15)
    score = copied_share(stories, training, n=2)

    def pairs(text):
        return list(itertools.pairwise(text.split()))

    grams = {gram for text in training for gram in pairs(text)}
    runs = [pairs(story) for story in stories]
    assert score.per_story == tuple(sum(gram in grams for gram in run) / 14 for run in runs)
    longest = max(
        (size for size in range(1, 16) for story in stories for start in range(16 - size) for text in training
         if f" {' '.join(story.split()[start : start + size])} " in f" {text} "),
        default=0,
    )  # fmt: skip
    assert (score.longest.words if score.longest else 1) == max(longest, 1)


def test_training_set_is_streamed():
    """Memory is that of the stories, not of the training set."""
    stories, base = tales(50, 1, 60), tales(1000, 2, 100)

    def peak(copies):
        tracemalloc.start()
        copied_share(stories, (text for _ in range(copies) for text in base))
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most

    once = peak(1)
    assert peak(8) < 1.1 * once < 3e6
    start = time.perf_counter()
    copied_share(stories, base * 4)  # 400,000 words
    assert time.perf_counter() - start < 10  # a second on an idle machine


@pytest.mark.parametrize(
    "stories, training, n, error, message",
    [
        ([], TRAINING, 8, UserError, "no stories"),
        (["a fox"], TRAINING, 0, UserError, "n must be at least 1, got 0"),
        (["a fox", ""], TRAINING, 3, UserError, "no run of 3 words in 2 stories"),
        (["a fox"], [], 2, UserError, "no training texts"),
        ("a fox", TRAINING, 2, TypeError, "put it in a list"),
        (["a fox"], "a fox", 2, TypeError, "training must be a list"),
        (["a fox"], ["a fox", None], 2, TypeError, r"training\[1\] must be a text, got None"),
        ([None], TRAINING, 2, TypeError, "None"),
    ],
)
def test_copied_share_refuses(stories, training, n, error, message):
    with pytest.raises(error, match=message):
        copied_share(stories, training, n)
