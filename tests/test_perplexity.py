"""Likelihood against a plain double loop, closed forms and the formula of `evaluate`."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import Metaspace
from torch.nn import functional as F
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

from storylib import config, data
from storylib.errors import UserError
from storylib.metrics.as_evaluate import as_metric
from storylib.models import attach_lora
from storylib.perplexity import batches, log_losses, perplexity, tokenised, windows
from storylib.prompts import joined
from storylib.trainer import as_tokens

STORIES = [
    "A fox sat in the garden. She saw a rainbow and smiled.",
    "Good night.",
    "The owl was in a tree, and the bee sang on the sand. 🦔 Então dormiram. 从前有一只狐狸。",
    "He was brave.",
]
PROMPTS = [" fox, garden, hope\n", "", "Once upon a time", " bear, castle, courage\n"]


@pytest.fixture(scope="module")
def model(tiny_base):
    """Random weights, three times as large, so that its guesses differ."""
    model = AutoModelForCausalLM.from_pretrained(tiny_base, dtype=torch.float32)
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(3)
    return model.eval()


@torch.no_grad()
def double_loop(model, ids, start, window=None, stride=None):
    """Each token's own loss in its own forward pass, from the tokens of its window in front of it."""
    total = 0.0
    for place in range(start, len(ids)):
        begin = 0
        while window is not None and place >= begin + window:
            begin += stride
        logits = model(torch.tensor([ids[begin:place]])).logits[0, -1]
        total -= F.log_softmax(logits.double(), dim=-1)[ids[place]].item()
    return total


def own_tokens(tokenizer, text):
    return [tokenizer.bos_token_id, *tokenizer(text, add_special_tokens=False).input_ids]


@pytest.mark.parametrize("batch_tokens", [1, 64, 10_000])
def test_equal_to_a_double_loop(model, tokenizer, batch_tokens):
    rows = [own_tokens(tokenizer, story) for story in STORIES]
    nats = [double_loop(model, ids, 1) for ids in rows]
    tokens = [len(ids) - 1 for ids in rows]
    found = perplexity(model, tokenizer, STORIES, batch_tokens=batch_tokens)
    assert found.nats == pytest.approx(nats, rel=1e-5) and found.tokens == tuple(tokens)
    assert found.perplexity == pytest.approx(math.exp(sum(nats) / sum(tokens)), rel=1e-5)
    own = [math.exp(a / b) for a, b in zip(nats, tokens, strict=True)]
    assert found.per_story == pytest.approx(own, rel=1e-5)
    assert found.mean_story_perplexity == pytest.approx(sum(own) / len(own), rel=1e-5)
    bits = sum(nats) / math.log(2)
    assert found.bits_per_byte == pytest.approx(bits / sum(len(text.encode()) for text in STORIES), rel=1e-5)
    assert found.bits_per_character == pytest.approx(bits / sum(map(len, STORIES)), rel=1e-5)


def test_only_the_story_is_scored_after_its_prompt(model, tokenizer):
    nats = []
    for prompt, story in zip(PROMPTS, STORIES, strict=True):
        ids, start = own_tokens(tokenizer, prompt + story), len(own_tokens(tokenizer, prompt))
        nats.append(double_loop(model, ids, start))
    found = perplexity(model, tokenizer, STORIES, PROMPTS)
    assert found.nats == pytest.approx(nats, rel=1e-5)
    assert found.bytes == tuple(len(story.encode()) for story in STORIES)  # the story's alone
    assert "prompts:unscored" in found.signature
    assert found.nats[1] == pytest.approx(perplexity(model, tokenizer, STORIES).nats[1], rel=1e-6)  # no prompt there
    assert found.nats[0] != pytest.approx(perplexity(model, tokenizer, STORIES).nats[0], rel=1e-3)


@pytest.mark.parametrize("prompt, story", [*zip(PROMPTS, STORIES, strict=True)])
def test_prompt_and_story_part_where_they_do_in_training(tokenizer, prompt, story, tiny_base, tmp_path):
    """By TRL's own tokenising of a prompt-completion row, and by ours."""
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    row = Dataset.from_list([{"prompt": prompt, "completion": story}])
    args = SFTConfig(output_dir=str(tmp_path), use_cpu=True, bf16=False, report_to="none", max_length=None)
    trainer = SFTTrainer(str(tiny_base), args, train_dataset=row, processing_class=tokenizer)
    learnt = trainer.train_dataset[0]
    assert {key: learnt[key] for key in ("input_ids", "labels")} == as_tokens(row, tokenizer)[0]
    ((ids, start),) = tokenised(tokenizer, [story], [prompt])
    assert learnt["input_ids"] == [*ids, tokenizer.eos_token_id]
    assert [label != -100 for label in learnt["labels"]] == [place >= start for place in range(len(ids) + 1)]


@pytest.mark.parametrize("code", ["zh", "ja"])
def test_prompt_has_its_own_tokens_where_it_would_merge_with_the_story(tokenizer, code):
    rows = data.load("languages", language=code)["train"]
    merging = 0
    for prompt, story in zip(rows["prompt"], rows["completion"], strict=True):
        alone, rest = own_tokens(tokenizer, prompt), tokenizer(story, add_special_tokens=False).input_ids
        merging += own_tokens(tokenizer, prompt + story)[: len(alone)] != alone
        assert tokenised(tokenizer, [story], [prompt]) == [([*alone, *rest], len(alone))]
    assert merging > 40
    learnt = as_tokens(rows, tokenizer)
    for row, prompt, story in zip(learnt, rows["prompt"], rows["completion"], strict=True):
        told = [label for label in row["labels"] if label != -100]
        assert told.pop() == tokenizer.eos_token_id and tokenizer.decode(told) == story
        assert row["input_ids"][: -len(told) - 1] == tokenizer(prompt).input_ids


def test_space_that_a_tokenizer_puts_in_front_of_any_text_is_not_told():
    """As Llama's does: "▁" for a space, one in front of each text."""
    words = ["<s>", "</s>", "▁", "。", "“", "。“", "狐", "<unk>"]
    merges = [("。", "“")]
    model = Tokenizer(BPE({word: place for place, word in enumerate(words)}, merges, unk_token="<unk>"))
    model.pre_tokenizer = Metaspace(split=False)
    llama = PreTrainedTokenizerFast(tokenizer_object=model, bos_token="<s>", eos_token="</s>")
    assert llama("狐。“狐").input_ids == [2, 6, 5, 6]
    assert joined(llama, ["狐。"], ["“狐"]) == [([2, 6, 3, 4, 6], 3)]


@pytest.mark.parametrize("window, stride", [(8, 4), (8, 1), (8, 7), (16, None), (2, 1), (128, None)])
def test_long_texts_slide(model, tokenizer, window, stride):
    ids = own_tokens(tokenizer, STORIES[0])
    found = perplexity(model, tokenizer, STORIES[:2], window=window, stride=stride)
    assert found.nats[0] == pytest.approx(double_loop(model, ids, 1, window, stride or window // 2), rel=1e-5)
    assert found.tokens[0] == len(ids) - 1
    cut = sum(len(own_tokens(tokenizer, text)) > window for text in STORIES[:2])
    assert f"window:{window}|stride:{stride or window // 2}|cut:{cut}" in found.signature


def test_long_prompts_slide_too(model, tokenizer):
    ids, start = own_tokens(tokenizer, STORIES[2] + STORIES[0]), len(own_tokens(tokenizer, STORIES[2]))
    assert start > 2 * 8
    found = perplexity(model, tokenizer, [STORIES[0]], [STORIES[2]], window=8, stride=3)
    assert found.nats[0] == pytest.approx(double_loop(model, ids, start, 8, 3), rel=1e-5)


def test_text_longer_than_the_models_window(model, tokenizer):
    long = " ".join(STORIES[:1] * 12)
    assert len(own_tokens(tokenizer, long)) > 128
    found = perplexity(model, tokenizer, [long])
    assert math.isfinite(found.perplexity) and "window:128|stride:64|cut:1|" in found.signature


@pytest.mark.parametrize("length", range(1, 30))
@pytest.mark.parametrize("start", [1, 5])
def test_windows_score_each_token_once(length, start):
    scored = []
    for piece, first in windows((list(range(length)), start), window=6, stride=2):
        assert 1 <= first < len(piece) <= 6 and piece == list(range(piece[0], piece[-1] + 1))
        scored += piece[first:]
    assert scored == list(range(start, length))


def test_reference_protocol_is_the_formula_of_evaluate(model, tokenizer):
    """Batches of 16 in the order given, padded on the right, `add_start_token`, mean of exp of each mean loss."""
    texts = [story for story in STORIES for _ in range(5)]
    encoded = tokenizer(texts, add_special_tokens=False, padding=True, padding_side="right", return_tensors="pt")
    found = []
    for start in range(0, len(texts), 16):
        ids, mask = encoded.input_ids[start : start + 16], encoded.attention_mask[start : start + 16]
        ids = torch.cat([torch.full((len(ids), 1), tokenizer.bos_token_id), ids], dim=1)
        mask = torch.cat([torch.ones(len(mask), 1, dtype=torch.int64), mask], dim=1)
        with torch.no_grad():
            logits = model(ids, attention_mask=mask).logits
        losses = F.cross_entropy(logits[:, :-1].transpose(1, 2), ids[:, 1:], reduction="none")
        found += torch.exp((losses * mask[:, 1:]).sum(1) / mask[:, 1:].sum(1)).tolist()
    ours = perplexity(model, tokenizer, texts)
    assert ours.per_story == pytest.approx(found, rel=1e-4)  # evaluate's sums are in fp32
    assert ours.mean_story_perplexity == pytest.approx(np.mean(found), rel=1e-5)
    assert ours.mean_story_perplexity != pytest.approx(ours.perplexity, rel=0.01)


def test_a_model_that_knows_nothing(model, tokenizer, tiny_base):
    even = AutoModelForCausalLM.from_pretrained(tiny_base, dtype=torch.float32)
    torch.nn.init.zeros_(even.lm_head.weight)  # tied: every token is equally likely
    found = perplexity(even, tokenizer, STORIES)
    assert found.perplexity == found.mean_story_perplexity == pytest.approx(len(tokenizer), rel=1e-5)
    scores = found.scores()
    assert scores["perplexity"].low == pytest.approx(scores["perplexity"].high)
    assert scores["bits per byte"].low < found.bits_per_byte < scores["bits per byte"].high
    assert all(score.signature.startswith(name) for name, score in scores.items())


def test_order_does_not_matter(model, tokenizer):
    forth, back = perplexity(model, tokenizer, STORIES), perplexity(model, tokenizer, STORIES[::-1])
    assert forth.per_story == pytest.approx(back.per_story[::-1], rel=1e-6)
    assert forth.bits_per_byte == pytest.approx(back.bits_per_byte, rel=1e-6)


def test_like_lengths_go_together_and_fit_the_budget():
    lengths = [5, 90, 7, 6, 88, 5, 200]
    found = list(batches(lengths, 180))
    assert sorted(index for batch in found for index in batch) == list(range(7))
    assert found[0] == [6]  # larger than the budget: alone
    assert all(len(batch) == 1 or len(batch) * max(lengths[i] for i in batch) <= 180 for batch in found)
    assert {1, 4} in map(set, found)


def test_empty_texts_are_counted(model, tokenizer):
    texts = [STORIES[0], "", STORIES[1]]
    found, told = perplexity(model, tokenizer, texts), perplexity(model, tokenizer, texts[::2])
    assert math.isnan(found.per_story[1]) and found.tokens[1] == 0 and found.signature.endswith("empty:1")
    for name in ("perplexity", "mean_story_perplexity", "bits_per_byte", "bits_per_character"):
        assert getattr(found, name) == pytest.approx(getattr(told, name), rel=1e-6)
    after = perplexity(model, tokenizer, texts, ["A fox.", "An owl.", ""])
    assert after.tokens[1] == 0 and len(after.scores()["perplexity"].per_story) == 2


def test_an_adapter_counts_and_the_model_is_left_as_it_was(tiny_base, tokenizer):
    base = AutoModelForCausalLM.from_pretrained(tiny_base, dtype=torch.float32)
    plain = perplexity(base, tokenizer, STORIES).nats
    tuned = attach_lora(base, replace(config.LoraSettings(rank=4, alpha=8), dropout=0.5))
    tuned.train()
    assert perplexity(tuned, tokenizer, STORIES).nats == pytest.approx(plain, rel=1e-5)  # dropout is off, B is zero
    assert tuned.training and all(p.grad is None for p in tuned.parameters())
    with torch.no_grad():
        for name, weight in tuned.named_parameters():
            weight.add_(0.1 if "lora_B" in name else 0)
    assert perplexity(tuned, tokenizer, STORIES).nats != pytest.approx(plain, rel=1e-3)
    loss = tuned(torch.tensor([[0, 5, 6]]), labels=torch.tensor([[0, 5, 6]])).loss
    loss.backward()  # nothing of inference mode is left


def test_no_more_logits_than_the_budget_are_kept(model, tokenizer, monkeypatch):
    seen, forward = [], model.forward

    def watched(*args, **kwargs):
        output = forward(*args, **kwargs)
        seen.append(output.logits.shape[0] * output.logits.shape[1])
        return output

    monkeypatch.setattr(model, "forward", watched)
    perplexity(model, tokenizer, STORIES * 10, batch_tokens=100)
    assert max(seen) <= 100 and len(seen) > 4
    seen.clear()
    perplexity(model, tokenizer, STORIES[1:2], [STORIES[2]])
    assert seen == [len(tokenizer(STORIES[1], add_special_tokens=False).input_ids)]  # none of the prompt's


def test_a_tokenizer_without_bos_starts_with_eos(model, tokenizer, monkeypatch):
    monkeypatch.setattr(type(tokenizer), "bos_token_id", None, raising=False)
    assert tokenised(tokenizer, ["A fox."])[0][0][0] == tokenizer.eos_token_id
    monkeypatch.setattr(type(tokenizer), "eos_token_id", None, raising=False)
    with pytest.raises(UserError, match="neither a BOS nor an EOS"):
        tokenised(tokenizer, ["A fox."])


def test_as_an_evaluate_metric(model, tokenizer):
    metric = as_metric(perplexity, model=model, tokenizer=tokenizer)
    found, expected = metric.compute(predictions=STORIES), perplexity(model, tokenizer, STORIES)
    assert found["perplexity"] == pytest.approx(expected.perplexity)
    assert found["bits_per_byte_low"] < found["bits_per_byte"] < found["bits_per_byte_high"]
    after = metric.compute(predictions=STORIES, prompts=PROMPTS)
    assert after["mean_story_perplexity"] == pytest.approx(
        perplexity(model, tokenizer, STORIES, PROMPTS).mean_story_perplexity
    )


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_broken_weights_are_no_score(tiny_base, tokenizer, value):
    broken = AutoModelForCausalLM.from_pretrained(tiny_base, dtype=torch.float32)
    with torch.no_grad():
        broken.model.norm.weight[0] = value
    with pytest.raises(UserError, match=r"texts\[0\] is .*4 of 4 are not finite"):
        perplexity(broken, tokenizer, STORIES)


@pytest.mark.parametrize(
    "texts, options, error, message",
    [
        ([], {}, UserError, "no texts"),
        (["", ""], {}, UserError, "all 2 texts are empty"),
        ("a fox", {}, TypeError, "put it in a list"),
        (["a fox", None], {}, TypeError, r"texts\[1\] must be a text, got None"),
        (["a fox"], {"prompts": ["a", "b"]}, UserError, "got 1 texts and 2 prompts"),
        (["a fox"], {"prompts": "a"}, TypeError, "prompts must be a list"),
        (["a fox"], {"prompts": [None]}, TypeError, r"prompts\[0\]"),
        (["a fox"], {"window": 129}, UserError, "window must be 2 to 128 tokens, .* got 129"),
        (["a fox"], {"window": 0}, UserError, "got 0"),
        (["a fox"], {"window": 8, "stride": 8}, UserError, "stride must be 1 to 7 tokens, .* got 8"),
        (["a fox"], {"stride": 0}, UserError, "got 0"),
    ],
)
def test_bad_input(model, tokenizer, texts, options, error, message):
    with pytest.raises(error, match=message):
        perplexity(model, tokenizer, texts, **options)


def test_losses_of_rows_are_in_the_order_given(model):
    rows = [([0, 5, 6, 7], 1), ([0, 9], 1), ([0, 5, 6, 7, 8, 9], 3)]
    expected = [double_loop(model, ids, start) for ids, start in rows]
    assert log_losses(model, rows) == pytest.approx(expected, rel=1e-5)
