"""Who tells the stories that are scored, and for which prompts."""

import json
import shutil
from dataclasses import replace

import datasets
import pytest

from storylib import config, data, evaluation
from storylib.errors import UserError
from storylib.evaluation import all_models, as_lines, cases, held_out_texts, models_told, read_told
from storylib.training import finetune


def test_rows_are_grouped_by_prompt():
    found = cases(data.load("emoji", level="easy")["test"])
    assert len(found) == 12 and {len(case.references) for case in found} == {5}
    assert found[0].prompt == "👧🏻🏫👭 girl, school, friendship\n"
    assert found[0].concepts == ("girl", "school", "friendship")


def test_a_genre_is_a_case_with_a_label():
    found = cases(data.load("genres")["test"])
    assert {case.label for case in found} == {"horror", "fairy_tale"} and not any(case.concepts for case in found)


@pytest.fixture
def taught(tiny_recipe, rows, tmp_path):
    return finetune(tiny_recipe, tmp_path / "mine", rows).run


def test_base_and_tuned_tell_for_the_same_prompts_and_seeds(tiny_recipe, taught, monkeypatch):
    test = data.load("emoji")["test"].select([0, 1, 5, 6, 10, 11])
    monkeypatch.setattr(evaluation.data, "load", lambda *args, **options: {"test": test})
    told = models_told(tiny_recipe, {"mine": taught.adapter}, seeds=2, say=lambda text: None)
    assert list(told) == ["untuned base", "mine"]
    base, mine = ([(s.prompt, s.seed) for s in system.stories] for system in told.values())
    assert base == mine and len(base) == 6 and len(set(base)) == 6
    assert told["mine"].likelihood["en"].tokens == told["untuned base"].likelihood["en"].tokens
    assert told["mine"].likelihood["en"].nats != told["untuned base"].likelihood["en"].nats


def test_whole_model_is_told_apart_from_the_base_it_came_from(tiny_recipe, rows, tmp_path, monkeypatch):
    recipe = replace(tiny_recipe, lora=None, four_bit=False)
    run = finetune(recipe, tmp_path / "whole", rows).run
    monkeypatch.setattr(evaluation.data, "load", lambda *args, **options: {"test": rows["test"]})
    told = models_told(recipe, all_models([("", run.folder)]), seeds=1, say=lambda text: None)
    assert list(told) == ["untuned base", "fine-tuned"]
    assert told["fine-tuned"].likelihood["en"].nats != told["untuned base"].likelihood["en"].nats


def test_language_job_reads_the_same_stories_in_each_language():
    recipe = config.recipe("language/zh-cpu")
    found = held_out_texts(recipe, data.load(recipe.corpus, **recipe.data)["test"])
    assert set(found) == {"en", "zh", "pt", "ja"} and {len(texts) for texts, _ in found.values()} == {25}
    assert "的" in "".join(found["zh"][0]) and " the " in "".join(found["en"][0])


def test_models_are_found_in_adapters_runs_and_levels(taught, tmp_path):
    assert all_models([("", taught.adapter)]) == all_models([("", taught.folder)]) == {"fine-tuned": taught.adapter}
    assert all_models([("", tmp_path)]) == {"mine": taught.adapter}  # a folder of runs
    other = tmp_path / "other"
    other.symlink_to(taught.folder)
    assert all_models([("", taught.adapter), ("", other)]) == {"mine": taught.adapter, "other": other / "adapter"}


def test_models_that_are_not_there_or_of_one_name(taught, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="no fine-tuned model in .*empty"):
        all_models([("", tmp_path / "empty")])
    with pytest.raises(UserError, match="two systems are called a"):
        all_models([("a", taught.folder), ("a", taught.adapter)])


def test_stories_of_anybody_are_read(tmp_path):
    plain = tmp_path / "theirs.csv"
    plain.write_text('prompt,story\n"a","Once, a fox."\n"b",""\n', encoding="utf-8")
    told = read_told(plain, "theirs")["theirs"].stories
    assert [(story.prompt, story.text, story.ended) for story in told] == [("a", "Once, a fox.", ""), ("b", "", "")]


def test_what_is_written_is_read_again(tmp_path):
    rows = [{"system": name, "prompt": "p", "text": f"A {name}.", "ended": "eos", "seed": 3} for name in ("fox", "owl")]
    path = tmp_path / "told.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    told = read_told(path, "unused")
    assert list(told) == ["fox", "owl"] and told["owl"].stories[0].seed == 3
    path.write_text(as_lines(told))
    assert read_told(path, "unused") == told


def test_seeds_as_spreadsheets_write_them_and_values_of_the_wrong_kind(tmp_path):
    path = tmp_path / "told.jsonl"
    path.write_text('{"text": "Once.", "seed": "1.0", "prompt": "a"}\n')
    assert read_told(path, "theirs")["theirs"].stories[0].seed == 1
    for row, said in (
        ({"seed": "one"}, "seed that is no whole number: 'one'"),
        ({"prompt": [{}]}, "prompt that is no text"),
    ):
        path.write_text(json.dumps({"text": "Once."} | row) + "\n")
        with pytest.raises(UserError, match=f"row 1 of .* has a {said}"):
            read_told(path, "theirs")


@pytest.mark.parametrize("row", [{"prompt": "a"}, {"text": None}, {"text": 3}])
def test_row_without_a_story(row, tmp_path):
    path = tmp_path / "told.jsonl"
    path.write_text('{"text": "Once."}\n' + json.dumps(row) + "\n")
    with pytest.raises(UserError, match="row 2 of .* has no story"):
        read_told(path, "theirs")


def test_base_is_named_where_there_are_two(tiny_recipe, taught, rows, tmp_path, tiny_base, monkeypatch):
    shutil.copytree(tiny_base, tmp_path / "twin")
    twin = finetune(replace(tiny_recipe, base=str(tmp_path / "twin")), tmp_path / "runs" / "second", rows).run
    test = datasets.Dataset.from_list([dict(rows["test"][0])])
    monkeypatch.setattr(evaluation.data, "load", lambda *args, **options: {"test": test})
    models = {"one": taught.adapter, "two": twin.adapter}
    told = models_told(tiny_recipe, models, seeds=1, say=lambda text: None)
    assert list(told) == [f"untuned {tiny_base}", f"untuned {tmp_path / 'twin'}", "one", "two"]
