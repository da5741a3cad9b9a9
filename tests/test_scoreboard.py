"""The table: which measures a system has, what is better, and what is written."""

import json

import pytest

from storylib import data
from storylib.errors import UserError
from storylib.evaluation import Case, System, cases
from storylib.generation import Story
from storylib.metrics import Difference, Score
from storylib.scoreboard import (
    as_markdown,
    read_board,
    score_scale,
    score_systems,
    shortlist,
    shown,
    verdict,
    verdicts,
    versus,
    write_board,
)

ASKED = [
    Case("a\n", ("The fox swam in the sea.", "A fox had hope."), ("fox", "sea", "hope")),
    Case("b\n", ("The owl flew to the moon.", "An owl went to bed."), ("owl", "moon", "sleep")),
]


def told(*texts: str, prompts=("a\n", "b\n"), ended="eos") -> System:
    return System([Story(prompts[n % len(prompts)], n, text, ended, 9) for n, text in enumerate(texts)])


@pytest.fixture(scope="module")
def scale():
    return score_scale(cases(data.load("emoji", level="easy")["test"]))


def test_scale_is_the_documented_one(scale):
    floor, ceiling = scale
    assert floor["BLEU story"].value == pytest.approx(11.0, abs=0.1)
    assert floor["BLEU corpus"].value == pytest.approx(11.7, abs=0.2)
    assert ceiling["BLEU corpus"].value == pytest.approx(29.0, abs=0.1)
    assert ceiling["BLEU story"].value == pytest.approx(28.2, abs=0.1)
    assert floor["concepts named"].value < 1 < 2.9 < ceiling["concepts named"].value
    assert all(floor[name].value < ceiling[name].value for name in floor)


def test_a_story_is_scored_against_its_own_prompt():
    swapped = System(list(reversed(told("Nothing at all.", "The owl flew to the moon.").stories)))
    scores = score_systems({"it": swapped}, ASKED).table["it"]
    assert scores["BLEU story"].per_story[0] == pytest.approx(100)
    assert scores["concepts named"].per_story == (2, 0)
    assert scores["stopped by itself"].value == 1


def test_copies_of_the_training_stories_are_found():
    told_whole = "Once there was a fox who swam in the deep blue sea."  # 12 words, 5 runs of 8
    scores = score_systems({"it": told(told_whole, "A short one.")}, ASKED, training=[told_whole]).table["it"]
    assert scores["copied 8-grams"].value == 1.0
    assert "copied 8-grams" not in score_systems({"it": told(told_whole)}, ASKED).table["it"]


def test_foreign_prompts_are_scored_as_texts_alone_and_said():
    board = score_systems({"theirs": told("The fox swam in the sea.", prompts=("x",), ended="")}, ASKED)
    assert "BLEU story" not in board.table["theirs"] and "stopped by itself" not in board.table["theirs"]
    assert board.table["theirs"]["words"].value == 6
    assert any("theirs" in note and "prompts" in note for note in board.notes)


def test_what_cannot_be_taken_is_named_and_never_nought():
    board = score_systems({"it": told("A fox.", "")}, ASKED)
    assert "Self-BLEU" not in board.table["it"] and "repeated 4-grams" not in board.table["it"]
    assert any("it: no Self-BLEU: none of 2 stories has 50 words" in note for note in board.notes)
    assert board.table["it"]["empty stories"].value == 0.5


def test_what_only_english_has_is_left_out_of_other_languages():
    chinese = System([Story("x", 0, "从前有一只狐狸，它住在森林里。", "eos", 9)])
    english = told("The man was drunk and shot the dog.", "A fox sat down.")
    in_chinese = score_systems({"it": chinese}, [], language="zh").table["it"]
    in_english = score_systems({"it": english}, ASKED).table["it"]
    assert in_english.keys() - in_chinese.keys() >= {"positive endings", "reading grade", "familiar words"}
    assert in_english["unfit for children"].value == 0.5 and in_chinese["unfit for children"].value == 0
    assert 0 < in_english["rubric"].value < 1


def test_no_overlap_where_the_prompt_leaves_all_open():
    open_cases = [Case("Write me a horror story\n", ("A ghost came.", "The house burnt."), label="horror")]
    board = score_systems({"it": told("A ghost came.", prompts=("Write me a horror story\n",))}, open_cases)
    assert "BLEU story" not in board.table["it"] and list(board.table) == ["it"]


def test_no_systems():
    with pytest.raises(UserError, match="no systems"):
        score_systems({}, ASKED)


def test_board_is_written_and_read(tmp_path):
    board = score_systems({"one": told("The fox swam in the sea.", "An owl.")}, ASKED)
    write_board(tmp_path / "scores", board, {"job": "emoji/cpu"})
    table, prompts = read_board(tmp_path / "scores")
    assert table["one"].keys() == board.table["one"].keys() and prompts == {"one": ["a\n", "b\n"]}
    assert table["one"]["words"].value == board.table["one"]["words"].value
    saved = json.loads((tmp_path / "scores" / "scores.json").read_text())
    assert saved["job"] == "emoji/cpu" and saved["notes"] == board.notes
    page = (tmp_path / "scores" / "scores.md").read_text()
    assert "| words |" in page and board.table["one"]["words"].signature in page


@pytest.mark.parametrize("text", ["", "[]", '{"scores": {"one": {"words": 3}}, "prompts": {}}'])
def test_damaged_scores(text, tmp_path):
    (tmp_path / "scores.json").write_text(text)
    with pytest.raises(UserError, match="damaged"):
        read_board(tmp_path)


def test_missing_scores(tmp_path):
    with pytest.raises(UserError, match="no scores.json"):
        read_board(tmp_path)


def test_better_worse_or_cannot_tell():
    many = tuple(f"{n}\n" for n in range(40))
    asked = [Case(prompt, ("A fox.", "An owl."), ("fox",)) for prompt in many]
    names = told(*["The fox ran over the hill and far away."] * 40, prompts=many)
    names_not = told(*["The cow sat on the hill and far away."] * 40, prompts=many, ended="limit")
    half = told(*["The fox ran over the hill and far away.", "A cow."] * 20, prompts=many)
    board = score_systems({"none": names_not, "all": names, "again": names_not, "half": half}, asked)
    found = verdicts(board)
    assert found["all against none"]["concepts named"] == found["all against none"]["stopped by itself"] == "better"
    assert found["half against none"]["words"] == "lower"
    assert set(found["again against none"].values()) == {"can't tell"}
    prompts = {name: [story.prompt for story in system.stories] for name, system in board.systems.items()}
    assert verdict("concepts named", versus(board.table, prompts, "none", "all")["concepts named"]) == "worse"


def test_two_prompts_are_compared_story_by_story_and_the_answer_says_so():
    prompts = ("a\n", "b\n") * 10
    systems = {
        "cows": told(*["A cow."] * 20, prompts=prompts),
        "whose": told(*["A fox.", "An owl."] * 10, prompts=prompts),
    }
    board = score_systems(systems, ASKED)
    asked = {name: list(prompts) for name in systems}
    gap = versus(board.table, asked, "whose", "cows")["concepts named"]
    assert gap.p < 0.001 and "|these prompts:2|" in gap.signature and "|clusters:20|" in gap.signature
    six = tuple(f"{n}\n" for n in range(6)) * 2  # as many prompts as can tell by themselves: 2 of 64 outcomes
    table = {
        name: {"words": Score(value, "words", per_story=(value,) * 12)} for name, value in (("one", 3.0), ("two", 4.0))
    }
    gap = versus(table, dict.fromkeys(table, list(six)), "two", "one")["words"]
    assert gap.p == pytest.approx(2 / 64, abs=0.01) and "|clusters:6|" in gap.signature


def test_nothing_is_compared_over_other_prompts():
    board = score_systems(
        {"one": told("A fox.", "An owl."), "two": told("An owl.", "A fox.", prompts=("b\n", "a\n"))}, ASKED
    )
    assert verdicts(board) == {"two against one": {}}
    with pytest.raises(UserError, match="no system 'three'; there are floor, one, two, ceiling"):
        versus(board.table, {}, "one", "three")


def test_likelihood_counts_as_better_when_it_is_lower():
    assert verdict("perplexity, zh", Difference(-3.0, "", p=0.01)) == "better"
    assert verdict("bits per byte", Difference(3.0, "", p=0.01)) == "worse"


def test_cells_and_picture():
    assert shown("stopped by itself", Score(1.0, "")) == "100.0 %"
    assert shown("BLEU story", Score(20.61, "", 18.0, 23.04)) == "20.6 [18.0, 23.0]"
    table = {"base": {name: Score(1.0, "s") for name in ("words", "chrF", "perplexity", "BLEU story")}}
    assert list(shortlist(table)["base"]) == ["words", "BLEU story"]
    assert as_markdown(table).splitlines()[2] == "| words | 1.00 |"
