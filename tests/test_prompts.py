"""What a reader asks for in words becomes the prompt that a model was taught."""

import pytest

from storylib.errors import UserError
from storylib.prompts import genre_prompt, prompt_of, wish_prompt


@pytest.mark.parametrize("request_", ["horror", "Write me a HORROR story", "a horror tale"])
def test_genre_by_its_name(request_):
    assert prompt_of("genres", request_) == genre_prompt("horror")


@pytest.mark.parametrize("request_", ["a western", "a horror fairy tale"])
def test_other_genres_or_two(request_):
    with pytest.raises(UserError, match="one of fairy tale or horror story"):
        prompt_of("genres", request_)


def test_wishes_in_any_order_and_case():
    asked = prompt_of("personal", "Tone: warm; character: a shy fox ; At 7:30: a knock")
    assert asked == wish_prompt("At 7:30: a knock", character="a shy fox", tone="warm")


def test_unknown_wish_is_named():
    with pytest.raises(UserError, match="no wish 'colour'; there are premise, character"):
        prompt_of("personal", "colour: red")


@pytest.mark.parametrize("corpus", ["genres", "personal", "languages"])
def test_nothing_asked_for(corpus):
    with pytest.raises(UserError, match="nothing is asked for"):
        prompt_of(corpus, "  ")
