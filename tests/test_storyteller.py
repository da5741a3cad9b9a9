"""Tell functions: the shipped model when it is first asked for, through the gate."""

from types import SimpleNamespace

import pytest

from storylib import generation
from storylib.errors import UserError
from storylib.gate import STEP
from storylib.storyteller import storyteller, wish_teller


@pytest.fixture(scope="module")
def tell():
    return storyteller()


def test_the_shipped_model_tells_the_same_story_for_a_seed_and_streams_it(tell):
    streamed = []
    story = tell("🦔🏰📚", seed=3, max_new_tokens=60, on_text=streamed.append)
    again = tell(["🦔", "🏰", "📚"], seed=3, max_new_tokens=60)
    assert story.prompt == "🦔🏰📚 hedgehog, castle, learning\n" and story.seed == 3
    assert story == again and "".join(streamed) == story.text and len(streamed) > 1
    assert story.tokens <= 60


def test_an_adapter_that_is_missing_is_said_and_looked_for_again(tmp_path):
    absent = storyteller(tmp_path / "none")
    for _ in range(2):
        with pytest.raises(UserError, match="no adapter in"):
            absent("🦔🏰📚")


@pytest.fixture
def scripted(monkeypatch):
    """Makes `generate` tell given texts one after the other; what it was asked is noted."""

    def script(teller, *texts, corpus="emoji"):
        asked, left = [], list(texts)

        def generate(model, tokenizer, prompts, settings, seeds, on_text):
            asked.append((prompts[0], seeds, settings.max_new_tokens))
            text = left.pop(0)
            if on_text:
                for sentence in text.split("|"):
                    on_text(sentence)
            seed = seeds if isinstance(seeds, int) else seeds[0]
            return [SimpleNamespace(prompt=prompts[0], seed=seed, text=text.replace("|", ""))]

        monkeypatch.setattr(generation, "generate", generate)
        recipe = {"corpus": corpus, "generate": {}, "data": {}}
        teller.loaded = (None, None, {"emojis": {}, "recipe": recipe})
        return asked

    return script


def test_an_unfit_story_is_told_again_and_its_unfit_sentences_are_never_streamed(scripted):
    teller, streamed = storyteller(), []
    asked = scripted(teller, "A fox sat. |He drank whiskey. |He slept.", "A fox slept.")
    story = teller("🦊🏰📚", seed=2, on_text=streamed.append)
    assert story.text == "A fox slept." and [seeds for _, seeds, _ in asked] == [[2], [2 + STEP]]
    assert streamed == ["A fox sat. "]


def test_what_never_becomes_fit_is_an_error(scripted):
    teller = storyteller()
    scripted(teller, *["He drank whiskey."] * 5)
    with pytest.raises(UserError, match="no story fit for children in 5 tries"):
        teller("🦊🏰📚")


def test_wishes_are_a_grown_ups_unless_said_otherwise(scripted):
    teller = wish_teller("runs/none")
    asked = scripted(teller, "He drank whiskey.", corpus="personal")
    assert teller({"character": "a fox"}, seed=4, max_new_tokens=9).text == "He drank whiskey."
    assert asked == [("Character: a fox\nStory:\n", 4, 9)]
