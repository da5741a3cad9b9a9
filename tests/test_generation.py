"""Stories are the same for the same prompt and seed, end where they should, and stream what they say."""

import copy
from dataclasses import replace

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import (
    FalconConfig,
    FalconForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    MistralConfig,
    MistralForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from storylib import decoding
from storylib.choosing import Choice
from storylib.config import GenerationSettings
from storylib.errors import UserError
from storylib.generation import Sentences, draft, finish, generate, stories, whole_sentences, write_batches
from storylib.models import load_base

PROMPTS = [" fox\n", " hedgehog, castle, courage\n", " owl, sea\n", " fox\n"]
SETTINGS = GenerationSettings(max_new_tokens=12)
GREEDY = replace(SETTINGS, temperature=0)
MANY = [f"{' and'.join([' fox'] * (1 + number % 7))} {number}\n" for number in range(16)]
SHAPE = {"num_hidden_layers": 2, "hidden_size": 32, "num_attention_heads": 4, "max_position_embeddings": 128}


@pytest.fixture(scope="module")
def model(tiny_base):
    return load_base(str(tiny_base), four_bit=False)


def test_a_story_does_not_depend_on_its_batch(model, tokenizer):
    together = generate(model, tokenizer, PROMPTS, SETTINGS, [1, 2, 3, 4])
    for number, prompt in enumerate(PROMPTS):
        assert generate(model, tokenizer, [prompt], SETTINGS, number + 1) == [together[number]]
    assert together[0].text != together[3].text  # one prompt, two seeds


def test_greedy_ignores_the_seed(model, tokenizer):
    first, second = generate(model, tokenizer, [PROMPTS[0]] * 2, GREEDY, [1, 2])
    assert first.text == second.text


@pytest.fixture(scope="module")
def wild(model):
    """The same with weights so large that no two stories are alike, and none repeats one token."""
    return louder(copy.deepcopy(model))


def louder(model):
    model.tie_weights = lambda: None
    model.lm_head.weight = torch.nn.Parameter(torch.randn_like(model.lm_head.weight))
    with torch.no_grad():
        for weight in model.parameters():
            weight *= 8 if weight.dim() == 2 else 1
    return model.eval()


def by_transformers(model, tokenizer, prompts, settings, seeds) -> list[list[int]]:
    """The new tokens that `model.generate` would write, prompt after prompt, each by itself."""
    drafts = [draft(model, tokenizer, prompt, seed, settings) for prompt, seed in zip(prompts, seeds, strict=True)]
    alone = replace(settings, batch_size=1)
    return [one.story for one in write_batches(model, iter(drafts), alone, tokenizer.eos_token_id, None)]


def in_slots(model, tokenizer, prompts, settings, seeds) -> list[list[int]]:
    drafts = [draft(model, tokenizer, prompt, seed, settings) for prompt, seed in zip(prompts, seeds, strict=True)]
    assert decoding.has_slots(model)
    assert len(list(decoding.write(model, iter(drafts), settings, tokenizer.eos_token_id))) == len(prompts)
    return [one.story for one in drafts]


@pytest.mark.parametrize("temperature", [0, 0.7])
def test_slots_write_what_transformers_writes(wild, tokenizer, temperature):
    settings = replace(SETTINGS, temperature=temperature, max_new_tokens=20)
    alone = by_transformers(wild, tokenizer, MANY, settings, range(16))
    for batch_size in (5, 32):
        assert in_slots(wild, tokenizer, MANY, replace(settings, batch_size=batch_size), range(16)) == alone
    assert len({tuple(told) for told in alone}) > 12  # it takes different stories to tell them apart


@pytest.fixture(scope="module")
def ending(model, tokenizer):
    """An end token that the stories of the tiny model come to sooner or later, and some never."""
    told = by_transformers(model, tokenizer, MANY, replace(SETTINGS, max_new_tokens=20), range(16))
    lengths = {token: {story.index(token) if token in story else 20 for story in told} for token in sum(told, [])}
    return max(lengths, key=lambda token: len(lengths[token]))


def test_who_ends_makes_room_for_the_next(model, tokenizer, ending):
    settings = replace(SETTINGS, max_new_tokens=20, batch_size=4)
    tokenizer = Ending(tokenizer, ending)
    alone = by_transformers(model, tokenizer, MANY, settings, range(16))
    assert len({len(story) for story in alone}) > 4 and any(story[-1] == ending for story in alone)
    assert in_slots(model, tokenizer, MANY, settings, range(16)) == alone


class Ending:
    """A tokenizer with another end token."""

    def __init__(self, tokenizer, eos: int) -> None:
        self.tokenizer, self.eos_token_id = tokenizer, eos

    def __call__(self, text):
        return self.tokenizer(text)


ARCHITECTURES = {
    "gpt2": lambda size: GPT2LMHeadModel(GPT2Config(vocab_size=size, n_layer=2, n_embd=32, n_head=4, n_positions=128)),
    "qwen2, one head for keys": lambda size: Qwen2ForCausalLM(
        Qwen2Config(vocab_size=size, intermediate_size=64, num_key_value_heads=1, **SHAPE)
    ),
    "mistral, that sees 8 tokens": lambda size: MistralForCausalLM(
        MistralConfig(vocab_size=size, intermediate_size=64, num_key_value_heads=2, sliding_window=8, **SHAPE)
    ),
    "falcon": lambda size: FalconForCausalLM(
        FalconConfig(vocab_size=size, alibi=False, multi_query=True, parallel_attn=True, **SHAPE)
    ),
}


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_other_architectures_write_the_same(tokenizer, name):
    torch.manual_seed(1)
    model = louder(ARCHITECTURES[name](len(tokenizer)))
    settings = replace(SETTINGS, batch_size=3, max_new_tokens=20)
    for how in (settings, replace(settings, temperature=0, repetition_penalty=1.3, no_repeat_ngram=3)):
        alone = by_transformers(model, tokenizer, MANY[:8], how, range(8))
        assert in_slots(model, tokenizer, MANY[:8], how, range(8)) == alone
        assert len({tuple(told) for told in alone}) > 5


def test_models_of_other_kinds_are_left_to_transformers(tokenizer):
    falcon = FalconForCausalLM(FalconConfig(vocab_size=len(tokenizer), alibi=True, **SHAPE)).eval()
    assert not decoding.has_slots(falcon)
    together = generate(falcon, tokenizer, PROMPTS, SETTINGS, [1, 2, 3, 4])
    assert [generate(falcon, tokenizer, [p], SETTINGS, n + 1)[0] for n, p in enumerate(PROMPTS)] == together


def test_merged_adapter_writes_the_same(tiny_base, tokenizer):
    torch.manual_seed(2)
    model = get_peft_model(
        load_base(str(tiny_base), four_bit=False), LoraConfig(target_modules="all-linear", init_lora_weights=False)
    ).eval()
    unmerged = generate(model, tokenizer, MANY, GREEDY)
    with model.disable_adapter():
        assert generate(model, tokenizer, MANY, GREEDY) != unmerged
    model.merge_adapter()
    assert generate(model, tokenizer, MANY, GREEDY) == unmerged


def test_a_story_ends_with_the_window(model, tokenizer):
    long, short = " fox" * 120, " fox"
    left = 128 - len(tokenizer(long).input_ids)
    told = generate(model, tokenizer, [short, long], replace(GREEDY, max_new_tokens=20))
    assert [(story.tokens, story.ended) for story in told] == [(20, "limit"), (left, "limit")]


def test_prompts_are_taken_when_there_is_room(model, tokenizer):
    taken = []

    def asked():
        for number in range(20):
            taken.append(number)
            yield draft(model, tokenizer, MANY[number % len(MANY)], number, SETTINGS, number)

    told = stories(model, tokenizer, asked(), replace(SETTINGS, batch_size=4))
    first, _ = next(told)
    assert len(taken) == 4
    assert sorted([first, *(number for number, _ in told)]) == list(range(20))


def test_choice_samples_from_the_softmax():
    scores = torch.log(torch.tensor([[0.5, 0.3, 0.15, 0.05]]))
    choice, generator = Choice(GenerationSettings(temperature=1, top_p=1, top_k=0)), torch.Generator().manual_seed(7)
    draws = torch.cat([choice(None, scores, [generator]) for _ in range(20_000)])
    shares = torch.bincount(draws, minlength=4) / len(draws)
    assert torch.allclose(shares, scores.exp()[0], atol=0.015)  # four standard errors


@pytest.mark.parametrize(
    ("settings", "left"),
    [
        ({"top_k": 0, "top_p": 1}, [0, 1, 2, 3]),
        ({"top_k": 2, "top_p": 1}, [0, 1]),
        ({"top_k": 0, "top_p": 0.75}, [0, 1]),  # 0.5 is too little, 0.8 enough
        ({"top_k": 3, "top_p": 0.8}, [0, 1]),  # of 0.95: 0.53 and 0.32
        ({"top_k": 0, "top_p": 1e-9}, [0]),
        ({"temperature": 0}, [0]),
    ],
)
def test_what_the_settings_leave(settings, left):
    scores = torch.log(torch.tensor([[0.05, 0.3, 0.15, 0.5]]))
    kept, tokens = Choice(replace(GenerationSettings(temperature=1), **settings)).left(None, scores)
    assert tokens[0][kept[0] > -torch.inf].tolist() == [[3, 1, 2, 0][place] for place in left]


def test_repeats_can_be_forbidden():
    said, generator = torch.tensor([[3, 4, 1, 3], [-1, -1, 2, 2]]), torch.Generator()
    choice = Choice(replace(GREEDY, no_repeat_ngram=2))
    scores = torch.tensor([[0.0, 1, 2, 3, 4], [0, 1, 4, 3, 2]])
    assert choice(said, scores, [generator] * 2).tolist() == [3, 3]  # 3 was followed by 4, and 2 by 2
    penalised = Choice(replace(GREEDY, repetition_penalty=2.0))
    assert penalised(said, scores, [generator] * 2).tolist() == [2, 3]  # 4 and 3 are halved; then 2


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
    with pytest.raises(UserError, match="one story at a time"):
        generate(model, tokenizer, PROMPTS[:2], SETTINGS, on_text=print)
    with pytest.raises(ValueError, match="top_p"):
        GenerationSettings(top_p=0)
