"""What is shown of tokens is what the trainer and the sampler work with."""

import re

import pytest

from storylib import config
from storylib.config import GenerationSettings
from storylib.errors import UserError
from storylib.models import attach_lora, load_base
from storylib.runs import Run
from storylib.tokens import costs, next_tokens, pieces, trained_on
from storylib.trainer import story_trainer

PLAIN = GenerationSettings(temperature=1.0, top_p=1.0, top_k=0)


@pytest.fixture(scope="module")
def base():
    return load_base(config.EMBEDDED_BASE, four_bit=False)


def test_the_view_of_what_is_trained_on_is_the_trainers(tiny_recipe, rows, tokenizer, tmp_path):
    model = attach_lora(load_base(tiny_recipe.base), tiny_recipe.lora)
    trainer = story_trainer(tiny_recipe, Run(tmp_path), model, tokenizer, rows["train"], rows["test"])
    for row, seen in zip(rows["train"], trainer.train_dataset, strict=True):
        view = trained_on(tokenizer, row["prompt"], row["completion"])
        ids = [token for piece in view.pieces for token in piece.ids]
        learnt = [token for piece in view.pieces for token in piece.ids if piece.role != "prompt"]
        assert ids == list(seen["input_ids"])
        assert learnt == [label for label in seen["labels"] if label != -100]
        assert view.pieces[-1].role == "end" and learnt[-1] == tokenizer.eos_token_id


def test_plain_view_of_what_is_trained_on(tokenizer):
    assert str(trained_on(tokenizer, "fox\n", "A fox slept.")) == "<s>fox\n[A fox slept.]<</s>>"


@pytest.mark.parametrize("text", ["The fox.", "🦔🏰📚 é", "从前有一只狐狸。", "むかし", "🦕ᚠ", "👨‍👩‍👦‍👦", ""])
def test_pieces_are_the_text_and_its_tokens(tokenizer, text):
    found = pieces(tokenizer, text)
    assert "".join(piece.text for piece in found.pieces) == text and "\ufffd" not in str(found)
    assert [token for piece in found.pieces for token in piece.ids] == tokenizer(
        text, add_special_tokens=False
    ).input_ids


def test_a_character_that_falls_apart_stays_one_piece(tokenizer):
    (rune,) = pieces(tokenizer, "ᚠ").pieces
    assert rune.text == "ᚠ" and len(rune.ids) == 3 and pieces(tokenizer, "ᚠ").tokens == 3  # three bytes


def test_markup_in_a_text_is_shown_not_run(tokenizer):
    page = pieces(tokenizer, "<script>alert(1)</script>")._repr_html_()
    assert "<script" not in page and "&lt;" in page and not re.search("<(?!/?(?:div|span)[ >])", page)


def test_costs_are_counted_from_the_first_language(tokenizer):
    english, chinese = costs(tokenizer, {"en": ["The fox."], "zh": ["狐狸"]})
    number = len(tokenizer("The fox.", add_special_tokens=False).input_ids)
    assert (english["characters"], english["bytes"], english["tokens"]) == (8, 8, number)
    assert english["tokens, first = 1"] == "1.00" and (chinese["characters"], chinese["bytes"]) == (2, 6)


def test_next_tokens(base, tokenizer):
    prompt = "Once upon a time, there was a little"
    odds = next_tokens(base, tokenizer, prompt, PLAIN, most=len(tokenizer))
    likeliest = list(odds)
    assert sum(odds.values()) == pytest.approx(1, abs=1e-3) and odds["·girl"] == max(odds.values())
    top = next_tokens(base, tokenizer, prompt, GenerationSettings(temperature=1.0, top_p=1.0, top_k=3))
    assert list(top) == likeliest[:3] and sum(top.values()) == pytest.approx(1)
    ratio = odds[likeliest[0]] / odds[likeliest[1]]
    cold = next_tokens(base, tokenizer, prompt, GenerationSettings(temperature=0.5, top_p=1.0, top_k=0))
    assert cold[likeliest[0]] / cold[likeliest[1]] == pytest.approx(ratio**2, rel=1e-3)
    assert next_tokens(base, tokenizer, prompt, GenerationSettings(temperature=0)) == {likeliest[0]: 1.0}
    with pytest.raises(UserError, match="at least 1, got 0"):
        next_tokens(base, tokenizer, prompt, PLAIN, most=0)
