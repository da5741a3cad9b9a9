"""Stories are the same for the same prompt and seed, end where they should, and stream what they say."""

from dataclasses import replace

import pytest
import torch

from storylib.config import GenerationSettings
from storylib.errors import UserError
from storylib.generation import SeededChoice, Sentences, choices, finish, generate, whole_sentences
from storylib.models import load_base

PROMPTS = [" fox\n", " hedgehog, castle, courage\n", " owl, sea\n", " fox\n"]
SETTINGS = GenerationSettings(max_new_tokens=12)


@pytest.fixture(scope="module")
def model(tiny_base):
    return load_base(str(tiny_base), four_bit=False)


def test_a_story_does_not_depend_on_its_batch(model, tokenizer):
    together = generate(model, tokenizer, PROMPTS, SETTINGS, [1, 2, 3, 4])
    for number, prompt in enumerate(PROMPTS):
        assert generate(model, tokenizer, [prompt], SETTINGS, number + 1) == [together[number]]
    assert together[0].text != together[3].text  # one prompt, two seeds


def test_greedy_ignores_the_seed(model, tokenizer):
    greedy = replace(SETTINGS, temperature=0)
    first, second = generate(model, tokenizer, [PROMPTS[0]] * 2, greedy, [1, 2])
    assert first.text == second.text


def test_seeded_choice_samples_from_the_softmax():
    scores = torch.log(torch.tensor([[0.5, 0.3, 0.15, 0.05]]))
    chooser = SeededChoice([7])
    draws = torch.stack([chooser(None, scores).argmax() for _ in range(20_000)])
    shares = torch.bincount(draws, minlength=4) / len(draws)
    assert torch.allclose(shares, scores.exp()[0], atol=0.015)  # four standard errors


def test_repeats_can_be_forbidden(model, tokenizer):
    scores = torch.zeros(1, 5)
    settings = replace(SETTINGS, temperature=0, no_repeat_ngram=2)
    said = torch.tensor([[3, 4, 1, 3]])  # 3 was followed by 4
    assert choices(settings, [0])(said, scores).isinf().tolist() == [[False, False, False, False, True]]
    penalised = choices(replace(SETTINGS, temperature=0, repetition_penalty=2.0), [0])(said, scores - 1)
    assert penalised.tolist() == [[-1, -2, -1, -2, -2]]


def test_ended_tells_eos_from_limit(tokenizer):
    story = tokenizer("The fox slept. The end", add_special_tokens=False).input_ids
    stopped = finish(tokenizer, "p", 0, [*story, tokenizer.eos_token_id, tokenizer.pad_token_id])
    assert (stopped.text, stopped.ended, stopped.tokens) == ("The fox slept. The end", "eos", len(story))
    cut = finish(tokenizer, "p", 0, story)
    assert (cut.text, cut.ended) == ("The fox slept.", "limit")


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("He ran. She", "He ran."),
        ('"Good night," said Owl. "Sleep well!" Then', '"Good night," said Owl. "Sleep well!"'),
        ("狐狸睡着了。然后", "狐狸睡着了。"),
        ("no end at all", "no end at all"),
        ("", ""),
    ],
)
def test_whole_sentences(text, kept):
    assert whole_sentences(text) == kept


def test_streamed_text_is_the_story(model, tokenizer):
    pieces = []
    streamed = generate(model, tokenizer, PROMPTS[:1], SETTINGS, 3, pieces.append)[0]
    assert "".join(pieces) == streamed.text
    assert streamed == generate(model, tokenizer, PROMPTS[:1], SETTINGS, 3)[0]


def test_stream_holds_back_half_sentences(tokenizer):
    pieces = []
    streamer = Sentences(tokenizer, pieces.append)
    for text in (" The fox ", "slept. The ow", "l sang", '. "Hi'):
        streamer.on_finalized_text(text)
    assert pieces == ["The fox slept.", " The owl sang."]
    streamer.show('The fox slept. The owl sang. "Hi')
    assert pieces[2:] == [' "Hi']


def test_mode_is_given_back(model, tokenizer):
    model.train()
    generate(model, tokenizer, PROMPTS[:1], SETTINGS, 0)
    assert model.training


def test_bad_requests(model, tokenizer):
    with pytest.raises(UserError, match="at least one"):
        generate(model, tokenizer, [], SETTINGS)
    with pytest.raises(UserError, match="got 2 and 1"):
        generate(model, tokenizer, PROMPTS[:2], SETTINGS, [1])
    with pytest.raises(UserError, match="window holds 128"):
        generate(model, tokenizer, [" fox" * 200], SETTINGS)
    with pytest.raises(ValueError, match="top_p"):
        GenerationSettings(top_p=0)
