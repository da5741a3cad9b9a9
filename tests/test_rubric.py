"""Each part by hand, their sum by the weights, and what cannot be measured left out, never 0."""

import math
from dataclasses import asdict, replace

import pytest

from storylib.errors import UserError
from storylib.metrics.readability import reading_grade
from storylib.metrics.rubric import EASY, HARD, Weights, rubric, unrepeated, whole

STORIES = ["The fox ran home. The fox ran home.", "An owl sat and", ""]
CONCEPTS = [["fox", "home"], ["owl", "sea"], ["bee", "hope"]]


def test_parts_and_total_by_hand():
    found = rubric(STORIES, CONCEPTS, {}, ["eos", "limit", "eos"], [4.0, 2.0, math.nan])
    values = {name: score.per_story for name, score in found.parts.items()}
    # 5 runs of four words: the fox ran home / fox ran home the / … / the fox ran home, four of them different
    assert values["coverage"] == (1, 0.5, 0) and values["completeness"] == (1, 0, 0)
    assert values["repetition"] == (0.8, 1, 0) and values["likelihood"] == (0.25, 0.5, 0)
    assert values["readability"] == (1, 1, 0)  # an empty story has nothing of anything
    total = (0.3 * 1 + 0.25 * 1 + 0.25 * 0.8 + 0.1 * 1 + 0.1 * 0.25, 0.3 * 0.5 + 0.25 + 0.1 + 0.1 * 0.5, 0)
    assert found.total.per_story == pytest.approx(total) and found.total.value == pytest.approx(sum(total) / 3)
    assert found.total.low <= found.total.value <= found.total.high
    assert (
        found.total.signature.startswith("rubric|no judge|weights:coverage=0.3,") and "empty:1" in found.total.signature
    )
    assert list(found.scores()) == ["rubric", *(f"rubric {name}" for name in asdict(Weights()))]


def test_what_is_not_handed_in_is_left_out():
    found = rubric(STORIES[:1], language="zh")
    assert list(found.parts) == ["completeness", "repetition"]
    assert found.total.value == pytest.approx(0.5 * 1 + 0.5 * 0.8)  # they share all the weight
    assert "weights:completeness=0.5,repetition=0.5" in found.total.signature
    with pytest.raises(UserError, match="weight 0: completeness, repetition"):
        rubric(STORIES, language="pt", weights=Weights(completeness=0, repetition=0))


def test_hard_stories_are_less_readable():
    hard = "The considerable interdependence of archipelagos necessitates extraordinary administrative cooperation."
    grade = reading_grade([hard]).value
    assert grade > HARD and rubric([hard]).parts["readability"].value == 0
    middling = "An old hedgehog lived beside the river and counted the stars."
    grade = reading_grade([middling]).value
    assert EASY < grade < HARD
    assert rubric([middling]).parts["readability"].value == pytest.approx((HARD - grade) / (HARD - EASY))


@pytest.mark.parametrize(
    "story", ["He slept.", "“Good night!”", "「おやすみ。」", "睡了。", "He slept… ", "“Night,” he said.\n"]
)
def test_whole(story):
    assert whole(story)


@pytest.mark.parametrize("story", ["", "He slept. Then", "睡了，", "Mr. Fox and"])
def test_not_whole(story):
    assert not whole(story)


def test_repeating_never_helps():
    assert unrepeated("a b c d a b c d") == 4 / 5 and unrepeated("a b") == 1
    once = "The fox ran over the hill."
    assert rubric([once * 3]).total.value < rubric([once]).total.value


def test_weights():
    only = replace(Weights(**dict.fromkeys(asdict(Weights()), 0.0) | {"coverage": 2.0}))
    assert rubric(STORIES, CONCEPTS, weights=only).total.value == pytest.approx(0.5)
    for bad in ({"coverage": -1}, {"likelihood": math.nan}, dict.fromkeys(asdict(Weights()), 0)):
        with pytest.raises(UserError, match="weights must be 0 or more"):
            Weights(**bad)


def test_bad_requests():
    with pytest.raises(UserError, match="no stories"):
        rubric([])
    with pytest.raises(TypeError, match="got None"):
        rubric([None])
    with pytest.raises(UserError, match="ended must have one for each story, got 1 for 3"):
        rubric(STORIES, ended=["eos"])
    with pytest.raises(UserError, match="got 'stop'"):
        rubric(STORIES[:1], ended=["stop"])
    with pytest.raises(UserError, match="each story needs its concepts"):
        rubric(STORIES, CONCEPTS[:2])
    for value in (math.nan, 0.5, None):
        with pytest.raises(UserError, match=rf"perplexities\[1\] is {value!r}"):
            rubric(STORIES, perplexities=[2.0, value, math.nan])
    assert rubric(["", " "]).total.value == 0


def test_it_stands_beside_other_metrics():
    from storylib.metrics.as_evaluate import as_metric

    found = as_metric(rubric, language="en").compute(predictions=STORIES)
    assert found["rubric"] == pytest.approx(rubric(STORIES).total.value) and "rubric_completeness" in found
