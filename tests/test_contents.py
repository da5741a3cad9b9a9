"""Feelings by genre, words and topics of several systems, in one page."""

import json

import pytest

from storylib.contents import find_contents, scenarios_of, write_contents
from storylib.errors import UserError
from storylib.evaluation import Case, System
from storylib.generation import Story

CASES = [Case("sad\n", label="horror"), Case("glad\n", label="fairy_tale")]
GLAD, SAD = "They were happy and loved the wonderful king.", "The horrible ghost killed the poor sad man."


def told(**stories: list[str]) -> System:
    return System([Story(f"{prompt}\n", 0, text, "", 0) for prompt, texts in stories.items() for text in texts])


def test_feelings_and_words_by_system_and_genre(tmp_path):
    systems = {"one": told(sad=[SAD, SAD], glad=[GLAD]), "two": told(sad=[GLAD], glad=[GLAD, ""])}
    found = find_contents(scenarios_of(systems, CASES))
    ending = found.sentiment.ending
    assert (ending["one"]["horror"].negative, ending["one"]["fairy_tale"].positive) == (2, 1)
    assert ending["two"]["fairy_tale"].left["empty"] == 1 and ending["two"]["total"].positive == 2
    assert {word.word for word in found.words["two"].negative} == set()
    assert found.topics == {} and "no topics" in found.notes[0]  # two or three stories have none
    write_contents(tmp_path, found)
    page = (tmp_path / "contents.md").read_text()
    assert "| one | horror | 0 | 2 | 0 | 0.00 [0.00, 0.66] |" in page and "no topics" in page
    assert json.loads((tmp_path / "contents.json").read_text())["words"]["one"]["negative"]


def test_stories_that_cannot_be_read_are_named_and_leave_the_others_be(tmp_path):
    german = "Der kleine Fuchs ging durch den dunklen Wald und suchte seine Mutter, die er sehr vermisste."
    systems = {"one": told(sad=[SAD], glad=[GLAD]), "mute": told(sad=[""], glad=["…"]), "theirs": told(sad=[german])}
    found = find_contents(scenarios_of(systems, CASES))
    assert list(found.words) == list(found.sentiment.ending) == ["one"]
    assert found.notes[0] == "mute has no contents: its stories have no words"
    assert found.notes[1].startswith("theirs has no contents: horror stories of theirs: an English dictionary has")
    with pytest.raises(UserError, match="mute has no contents: its stories have no words; theirs has no contents"):
        find_contents(scenarios_of({name: systems[name] for name in ("mute", "theirs")}, CASES))


def test_prompt_without_a_genre():
    with pytest.raises(UserError, match="no genre is known of the prompt 'other"):
        scenarios_of({"one": told(other=[SAD])}, CASES)
