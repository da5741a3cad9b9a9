"""Topics: coherence and matching by hand, stories of two plain topics found again, and the whole table of genres."""

import math
import random
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storylib.errors import UserError
from storylib.metrics import find_topics, sentiment_by_genre, top_words, topic_coherence
from storylib.metrics.sentiment import TOTAL, Vader
from storylib.metrics.topics import matched, npmi
from storylib.metrics.words import opinion_lexicon

BOOKS = Path(__file__).resolve().parents[2] / "shared" / "corpora" / "gutenberg"
ROYAL = "king queen castle crown princess throne".split()
NIGHT = "moon ghost dark shadow grave house".split()


def tales(count, seed, vocabularies=(ROYAL, NIGHT), size=12):
    """English stories, in turn of one vocabulary or the other."""
    rng = random.Random(seed)
    return [f"There was the {' and the '.join(rng.choices(vocabularies[i % 2], k=size))}." for i in range(count)]


def test_npmi_by_hand():
    # of four stories a is in three, b in two and c in one; a and b meet twice, a and c once, b and c never
    present = np.array([[1, 1, 0], [1, 1, 0], [1, 0, 1], [0, 0, 0]], dtype=bool)
    ab = math.log(0.5 / (0.75 * 0.5)) / -math.log(0.5)
    ac = math.log(0.25 / (0.75 * 0.25)) / -math.log(0.25)
    assert (ab, ac) == (pytest.approx(0.4150, abs=1e-4), pytest.approx(0.2075, abs=1e-4))
    assert npmi(present) == pytest.approx((ab + ac - 1) / 3)


@pytest.mark.parametrize(
    "present, value",
    [
        ([[1, 1], [0, 0]], 1),  # always together
        ([[1, 0], [0, 1]], -1),  # never
        ([[1, 1], [1, 0], [0, 1], [0, 0]], 0),  # by chance
        ([[1, 1], [1, 1]], 0),  # everywhere: nothing is learnt from it
    ],
)
def test_npmi_at_its_ends(present, value):
    assert npmi(np.array(present, dtype=bool)) == pytest.approx(value)


def test_matching_takes_the_pairs_that_are_nearest_all_together():
    first = np.array([[0.6, 0.4, 0.0], [0.8, 0.2, 0.0]])
    other = np.array([[0.7, 0.3, 0.0], [0.0, 0.1, 0.9]])
    # both are nearest to the same one; the first loses less by the other
    assert matched(first, other).tolist() == [1, 0]
    assert matched(first, first[::-1]).tolist() == [1, 0]


def test_topics_are_found_again_and_lined_up():
    found = find_topics({"data": tales(60, 1), "base": tales(60, 2)[::-1]}, count=2, words=6)
    for name in ("data", "base"):
        one, other = found[name].topics
        assert {frozenset(one.words), frozenset(other.words)} == {frozenset(ROYAL), frozenset(NIGHT)}
        assert one.share + other.share == pytest.approx(1) and one.share == pytest.approx(0.5, abs=0.05)
        assert list(one.weights) == sorted(one.weights, reverse=True) and sum(one.weights) <= 1
        assert one.coherence > 0.5 and found[name].coherence.low <= found[name].coherence.value
    for here, there in zip(found["data"].topics, found["base"].topics, strict=True):
        assert set(here.words) == set(there.words) and here.match is None and there.match > 0.7


def test_the_largest_topic_of_the_first_scenario_comes_first():
    stories = tales(20, 1, (NIGHT, NIGHT), size=24) + tales(20, 2, (ROYAL, ROYAL), size=12)
    found = find_topics({"data": stories}, count=2, words=6)["data"]
    assert set(found.topics[0].words) == set(NIGHT) and found.topics[0].share > 0.6
    for part in ("topics:2|words:6|", "|seed:0|", "form:lemma:", "npmi|stories:40|empty:0", "|jackknife:20"):
        assert part in found.signature


def test_words_are_lemmas_or_stems_and_stop_words_are_gone():
    stories = [f"{story} The wolves were crying." for story in tales(20, 1)] + tales(30, 2)
    lemmas, stems = (find_topics({"a": stories}, 2, 10, form=form)["a"] for form in ("lemma", "stem"))
    shown = {word for topic in lemmas.topics for word in topic.words}
    assert {"wolf", "cry", "castle"} <= shown and not shown & {"the", "was", "be", "wolves", "there"}
    assert "castl" in {word for topic in stems.topics for word in topic.words}


def test_a_seed_gives_the_same_topics():
    stories = {"a": tales(30, 3)}
    assert find_topics(stories, 3, 5, seed=7) == find_topics(stories, 3, 5, seed=7)
    assert "|seed:7|" in find_topics(stories, 3, 5, seed=7)["a"].signature


@settings(max_examples=8, deadline=None)
@given(st.permutations(tales(14, 5) + ["", "🦔"]))
def test_order_does_not_matter(shuffled):
    assert find_topics({"a": shuffled}, 2, 4) == find_topics({"a": sorted(shuffled)}, 2, 4)


def test_empty_stories_are_left_out_and_counted():
    stories = tales(20, 1)
    found, plain = find_topics({"a": [*stories, "", " "]}, 2, 5)["a"], find_topics({"a": stories}, 2, 5)["a"]
    assert found.topics == plain.topics and "|stories:20|empty:2|" in found.signature


def test_coherence_of_one_list_of_stories():
    score = topic_coherence(tales(40, 1), 2, 6)
    assert score == find_topics({"any": tales(40, 1)}, 2, 6)["any"].coherence and -1 <= score.low <= score.high <= 1


@pytest.mark.parametrize(
    "scenarios, options, error, message",
    [
        ({}, {}, UserError, "no scenarios"),
        ({"a": []}, {}, UserError, "no stories of a"),
        ({"a": ["", " "]}, {}, UserError, "none of the 2 stories of a has a word"),
        ({"a": [None]}, {}, TypeError, r"stories of a\[0\] must be a text"),
        ({"a": tales(1, 1)}, {}, UserError, "a: 5 topics need as many different stories, got 1"),
        ({"a": tales(1, 1) * 50}, {}, UserError, "got 1; ask for fewer"),
        ({"a": tales(1, 1) * 50}, {"count": 1}, UserError, "^0 words are in two stories or more"),
        ({"a": tales(9, 1)}, {}, UserError, "topics of 20 words need more stories"),
        ({"a": tales(9, 1)}, {"count": 0}, UserError, "a count of 1"),
        ({"a": tales(9, 1)}, {"words": 1}, UserError, "2 words each at least, got 5 and 1"),
        ({"a": tales(9, 1)}, {"form": "root"}, UserError, "form must be one of"),
        ({"a": ["Era uma vez uma menina que adorava a cor rosa e o vestido."]}, {}, UserError, "English stories only"),
        ({"a": tales(9, 1), "b": [*tales(4, 2), "A rabbit."]}, {"words": 6}, UserError, "b: fewer than 5 stories have"),
    ],
)
def test_bad_input(scenarios, options, error, message):
    with pytest.raises(error, match=message):
        find_topics(scenarios, **options)


@pytest.mark.slow
@pytest.mark.skipif(not BOOKS.exists(), reason="needs the raw books beside the repository")
def test_six_scenarios_of_two_genres_in_three_minutes():
    from storylib.data.genres import read_books, rows_of

    start = time.perf_counter()
    rows = [row for genre, book in read_books(BOOKS) for tale in book.tales for row in rows_of(genre, book, tale, 50)]
    texts = {genre: [row["response"] for row in rows if row["label"] == genre] for genre in ("horror", "fairy_tale")}
    rng = random.Random(0)
    told = {f"level {level}": {genre: rng.sample(texts[genre], 100) for genre in texts} for level in range(6)}
    stories = {name: [story for group in genres.values() for story in group] for name, genres in told.items()}
    feelings, words, found = (
        sentiment_by_genre(told, Vader()),
        top_words(stories, lexicon=opinion_lexicon("vader")),
        find_topics(stories),
    )
    assert time.perf_counter() - start < 180
    assert all(table[TOTAL].told + sum(table[TOTAL].left.values()) == 200 for table in feelings.ending.values())
    assert all(len(top.positive) == len(top.negative) == 30 for top in words.values())
    assert all(
        len(scenario.topics) == 5 and len(topic.words) == 20 for scenario in found.values() for topic in scenario.topics
    )
