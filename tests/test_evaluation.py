"""The score table: whose stories are compared with what."""

import json

import pytest

from storylib import data, evaluation
from storylib.evaluation import Case, cases, compare, score_scale, score_stories, write_scores
from storylib.generation import Story
from storylib.training import finetune


@pytest.fixture(scope="module")
def easy_cases():
    return cases(data.load("emoji", level="easy")["test"])


def test_rows_are_grouped_by_prompt(easy_cases):
    assert len(easy_cases) == 12 and {len(case.references) for case in easy_cases} == {5}
    assert easy_cases[0].prompt == "👧🏻🏫👭 girl, school, friendship\n"
    assert easy_cases[0].concepts == ("girl", "school", "friendship")


def test_scale_is_the_documented_one(easy_cases):
    floor, ceiling = score_scale(easy_cases)
    assert floor["BLEU story"].value == pytest.approx(11.0, abs=0.1)
    assert floor["BLEU corpus"].value == pytest.approx(11.7, abs=0.2)
    assert ceiling["BLEU corpus"].value == pytest.approx(29.0, abs=0.1)
    assert ceiling["BLEU story"].value == pytest.approx(28.2, abs=0.1)
    assert floor["concepts named"].value < 1 < 2.9 < ceiling["concepts named"].value


def test_a_story_is_scored_against_its_own_prompt():
    asked = [
        Case("a\n", ("fox", "sea", "hope"), ("The fox swam in the sea.", "A fox had hope.")),
        Case("b\n", ("owl", "moon", "sleep"), ("The owl flew to the moon.", "An owl went to bed.")),
    ]
    told = [Story("b\n", 0, "The owl flew to the moon.", "eos", 7), Story("a\n", 0, "Nothing at all.", "limit", 4)]
    scores = score_stories(told, asked)
    assert scores["BLEU story"].per_story[0] == pytest.approx(100)
    assert scores["concepts named"].per_story == (2, 0)
    assert scores["stopped by itself"].value == 0.5


def test_base_and_tuned_are_compared_and_written(tiny_recipe, rows, tmp_path, monkeypatch):
    adapter = finetune(tiny_recipe, tmp_path / "run", rows).run.adapter
    test = data.load("emoji")["test"].select([0, 1, 5, 6, 10, 11])
    monkeypatch.setattr(evaluation.data, "load", lambda *args, **options: {"test": test})
    result = compare(tiny_recipe, adapter, seeds=2)
    assert {system: len(told) for system, told in result.stories.items()} == {"untuned base": 6, "fine-tuned": 6}
    assert list(result.table) == ["floor", "untuned base", "fine-tuned", "ceiling"]
    write_scores(tmp_path / "scores.json", result.table, {"job": "emoji"})
    saved = json.loads((tmp_path / "scores.json").read_text())["scores"]["fine-tuned"]
    assert all({"value", "low", "high", "signature"} <= set(score) for score in saved.values())
