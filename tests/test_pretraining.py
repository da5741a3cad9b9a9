"""The making of the base: word prompts, batches, the optimiser, held-out quality, and going on after a kill."""

import json
import math
import random
from dataclasses import replace

import pytest
import torch

from storylib.config import PretrainConfig
from storylib.errors import UserError
from storylib.pretraining import (
    StoryRows,
    WordPrompter,
    bits_per_byte,
    learning_rate_factor,
    new_model,
    orthogonalise,
    pretrain,
)

STORIES = [
    "Once upon a time, a dog found a bone. The dog was happy with the bone.",
    "Once upon a time, a cat saw a kite. Lily ran after the kite with the cat.",
    "Once upon a time, there was a frog. He sat on a leaf.",
]
TINY = PretrainConfig(
    hidden=32, feed_forward=64, layers=1, heads=2, window=64, steps=8, batch_tokens=64, warmup=2,
    evaluate_every=4, checkpoint_every=3, compile=False,
)  # fmt: skip


def test_words_are_the_storys_own_in_its_order():
    prompter = WordPrompter(STORIES)
    for seed in range(20):
        words = prompter.pick(1, random.Random(seed))
        assert len(set(words)) == 3 and words == sorted(words, key=STORIES[1].index)
        assert "upon" not in words and "Lily" not in words  # in every story; a name
    assert len({tuple(prompter.pick(1, random.Random(seed))) for seed in range(20)}) > 1
    assert WordPrompter(["A fox. Be."]).pick(0, random.Random(0)) == ["fox"]


def test_prompt_is_not_scored_and_named_words_weigh_more(tokenizer):
    rows = StoryRows(STORIES, tokenizer, replace(TINY, prompted=1.0, named_weight=3.0))
    ids, weights = rows.row(0, random.Random(1))
    line = tokenizer.decode(ids[1:]).split("\n")[0]
    for token, weight in zip(ids, weights, strict=True):
        if weight == 3.0:
            assert tokenizer.decode(token).strip() in line
    end = ids.index(tokenizer("\n", add_special_tokens=False).input_ids[0])
    assert set(weights[: end + 1]) == {0.0} and 3.0 in weights and weights[-1] > 0
    assert ids[0] == tokenizer.bos_token_id and ids[-1] == tokenizer.eos_token_id


def test_every_story_once_an_epoch_and_other_words_in_the_next(tokenizer):
    rows = StoryRows(STORIES * 5, tokenizer, replace(TINY, prompted=0.0))
    seen = sorted(tuple(ids[1:-1]) for batch in rows.batches(0) for ids, _ in batch)
    assert seen == sorted(tuple(tokenizer(story, add_special_tokens=False).input_ids) for story in STORIES * 5)
    prompted = StoryRows(STORIES * 5, tokenizer, replace(TINY, prompted=1.0))
    assert prompted.batches(0) == prompted.batches(0) != prompted.batches(1)


def test_orthogonalised_singular_values_are_near_one():
    torch.manual_seed(0)
    for shape in ((16, 48), (48, 16)):
        values = torch.linalg.svdvals(orthogonalise(torch.randn(shape)))
        assert 0.6 < values.min() and values.max() < 1.3


def test_rates_warm_up_hold_and_fall_to_zero():
    config = PretrainConfig(steps=100, warmup=10, decay=0.5)
    assert [learning_rate_factor(step, config) for step in (0, 9, 40, 50, 75)] == [0.1, 1.0, 1.0, 1.0, 0.5]
    assert 0 < learning_rate_factor(99, config) < 0.03


def test_bits_per_byte_of_a_model_that_knows_nothing(tokenizer):
    model = new_model(tokenizer, TINY)
    torch.nn.init.zeros_(model.lm_head.weight)  # tied: every token is equally likely
    stories = ["A fox.", "Good night, said the owl."]
    tokens = [tokenizer(story, add_special_tokens=False).input_ids for story in stories]
    bits = math.log2(len(tokenizer)) * sum(map(len, tokens)) / sum(len(story.encode()) for story in stories)
    assert bits_per_byte(model, tokenizer, stories) == pytest.approx(bits, rel=1e-5)
    cut = math.log2(len(tokenizer)) * 4 / sum(len(tokenizer.decode(ids[:2]).encode()) for ids in tokens)
    assert bits_per_byte(model, tokenizer, stories, window=2) == pytest.approx(cut, rel=1e-5)


def test_killed_and_gone_on_with_gives_the_same_curve(tokenizer, tmp_path):
    logs = {name: [] for name in ("whole", "cut")}
    pretrain(STORIES, STORIES[:1], tokenizer, TINY, tmp_path / "whole")

    def die(entry):
        if entry["step"] == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pretrain(STORIES, STORIES[:1], tokenizer, TINY, tmp_path / "cut", log=die)
    pretrain(STORIES, STORIES[:1], tokenizer, TINY, tmp_path / "cut")
    with pytest.raises(UserError, match="other settings or stories"):
        pretrain(STORIES[:2], STORIES[:1], tokenizer, TINY, tmp_path / "cut")
    for name in logs:
        rows = [json.loads(line) for line in (tmp_path / name / "log.jsonl").read_text().splitlines()]
        logs[name] = [{key: row[key] for key in row if key != "tokens_per_second"} for row in rows]
    assert logs["whole"] == logs["cut"] and len(logs["whole"]) == 8
