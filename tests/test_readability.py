"""Reading grades worked out by hand and by textstat, syllables, and words that children know."""

import math

import pytest

from storylib.errors import UserError
from storylib.metrics.readability import counts, easy_words, familiar, familiar_words, reading_grade, syllables

FOX = "The fox ran home. He was happy."  # 7 words, 8 syllables, 2 sentences, 23 letters


def test_grades_by_hand():
    assert reading_grade([FOX]).value == pytest.approx(0.39 * 7 / 2 + 11.8 * 8 / 7 - 15.59)
    assert reading_grade([FOX], "coleman-liau").value == pytest.approx(5.88 * 23 / 7 - 29.6 * 2 / 7 - 15.8)


def test_counts_are_textstats():
    # not its indices: that of Coleman and Liau weighs letters by 0.058 there, where they have 0.0588
    import textstat

    story = "An old hedgehog lived beside the river. Every evening she counted the stars over the quiet water."
    letters, _, told, ends = counts(story)
    assert (letters, told) == (textstat.letter_count(story), textstat.lexicon_count(story))
    assert ends == textstat.sentence_count(story)


def test_a_quotation_and_its_speaker_are_one_sentence():
    assert reading_grade(['"Come! Now!" said the fox.']).value > reading_grade(["Come! Now! Said the fox."]).value


@pytest.mark.parametrize(
    ("count", "words"),
    [
        (1, "fox smile whale while hole jumped whales breathe strength queen he I'd bushed lived friend the"),
        (2, "apple table wanted bushes lion quiet being flying lonely something action boxes houses hopeful people"),
        (3, "curious amusement hedgehog’s beautiful animal anything butterfly banana adventure"),
        (4, "education caterpillar watermelon everybody’s"),
    ],
)
def test_syllables(count, words):
    wrong = {word: syllables(word) for word in words.split() if syllables(word) != count}
    known_faults = {"hedgehog’s": 3, "everybody’s": 5}  # the e in the middle of a compound is heard
    assert {word: found for word, found in wrong.items() if word not in known_faults} == {}


def test_familiar_words_by_hand():
    score = familiar_words(["The fox hopped happily to the archipelago.", "One day Mila met Theodora."])
    assert score.per_story == (6 / 7, 1.0) and score.value == pytest.approx(13 / 14)  # names are left out
    assert familiar_words(["Mr Theodora"]).value == 0 and familiar_words(["…, Theodora"]).value == 1


@pytest.mark.parametrize("word", ["fox", "foxes", "stories", "happily", "baking", "hopped", "biggest", "it's", "12"])
def test_forms_are_familiar_with_their_word(word):
    assert familiar(word)


@pytest.mark.parametrize("word", ["archipelago", "veranda", "zzz", "bus-archipelago", "s"])
def test_unfamiliar(word):
    assert not familiar(word)


def test_the_list_is_textstats():
    from textstat.backend.utils import get_lang_easy_words

    assert easy_words() == get_lang_easy_words("en") - {""}


@pytest.mark.parametrize("metric", [reading_grade, familiar_words])
def test_what_has_no_grade_is_counted_not_zero(metric):
    score = metric([FOX, "", "…!", "从前有一只狐狸。"])
    assert score.value == metric([FOX]).value and "|left out:3|empty:1|" in score.signature
    assert [math.isnan(value) for value in score.per_story] == [False, True, True, True]
    with pytest.raises(UserError, match="none of 2 stories has an English word"):
        metric(["", "从前"])
    with pytest.raises(UserError, match="made for English, got language 'pt-BR'"):
        metric([FOX], language="pt-BR")
    with pytest.raises(UserError, match="no stories"):
        metric([])
    with pytest.raises(TypeError, match="got None"):
        metric([None])


def test_unknown_index():
    with pytest.raises(UserError, match="one of flesch-kincaid, coleman-liau, got 'smog'"):
        reading_grade([FOX], "smog")
