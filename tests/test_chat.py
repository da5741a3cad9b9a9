"""A plain message to the shipped model is the prompt that it was taught."""

import jinja2
import pytest

from storylib.config import EMBEDDED_BASE
from storylib.files import DATA
from storylib.models import load_tokenizer
from storylib.prompts import story_prompt


@pytest.mark.parametrize("folder", [EMBEDDED_BASE, str(DATA / "adapters" / "emoji")])
@pytest.mark.parametrize(
    "prompt", [story_prompt(["fox", "sea"], ["🦊"]), story_prompt(["fox"]), story_prompt([], ["🦊"])]
)
def test_the_last_message_is_the_prompt(folder, prompt):
    tokenizer = load_tokenizer(folder)
    chat = [
        {"role": "system", "content": "You tell stories."},
        {"role": "user", "content": "🐰 rabbit"},
        {"role": "assistant", "content": "A rabbit hopped."},
        {"role": "user", "content": f" {prompt} \n"},
    ]
    ids = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_dict=True)["input_ids"]
    assert ids == tokenizer(prompt).input_ids


def test_a_told_story_ends_with_eos(tokenizer):
    chat = [{"role": "user", "content": "🦊 fox"}, {"role": "assistant", "content": "A fox slept."}]
    assert tokenizer.apply_chat_template(chat, tokenize=False) == "<s>🦊 fox\nA fox slept.</s>"


def test_no_message_of_a_user(tokenizer):
    with pytest.raises(jinja2.TemplateError, match="needs the message of a user"):
        tokenizer.apply_chat_template([{"role": "system", "content": "Hello."}])


def test_it_is_saved_with_the_tokenizer(tokenizer, tmp_path):
    tokenizer.save_pretrained(tmp_path)
    shipped = [DATA / folder / "chat_template.jinja" for folder in ("base_model", "adapters/emoji")]
    assert {path.read_text() for path in shipped} == {(tmp_path / "chat_template.jinja").read_text()}
