"""Learning from feedback: the reference is the adapter as it was, and a reader's taste is learnt."""

import json
import random
import re
import signal
from dataclasses import replace
from itertools import combinations
from statistics import median

import peft
import pytest
import torch
from datasets import Dataset

from storylib import config, data, metrics, preference, training
from storylib.errors import UserError
from storylib.feedback import FeedbackStore
from storylib.files import DATA
from storylib.generation import generate
from storylib.metrics.score import clusters, mean_score
from storylib.models import attach_lora, load_adapter, load_base, load_tokenizer, weights_hash
from storylib.preference import (
    PreferenceSettings,
    adapter_weights,
    finetune_from_feedback,
    load_trainable,
    pair_trainer,
)
from storylib.prompts import story_prompt
from storylib.runs import Run
from storylib.training import Interrupted

SHIPPED = DATA / "adapters" / "emoji"
SETTINGS = PreferenceSettings(epochs=2, batch_size=2, evaluations=2)
TOKENS = (300, 301, 500)
with_and_without_tokens = pytest.mark.parametrize("adapter", [TOKENS, ()], ids=["tokens", "none"], indirect=True)
ANIMALS = ("hedgehog", "fox", "owl", "bee", "cat", "dog")


@pytest.fixture
def pairs() -> Dataset:
    """Six prompts with two stories each, of which the shorter is preferred."""
    long = "The {0} sat in the garden. It saw a rainbow and smiled. Then it went to bed."
    told = [(story_prompt([animal, "garden", "hope"]), f"A {animal} slept.", long.format(animal)) for animal in ANIMALS]
    return Dataset.from_list([dict(zip(("prompt", "chosen", "rejected"), row, strict=True)) for row in told])


@pytest.fixture
def adapter(request, tiny_recipe, tokenizer, tmp_path):
    """An adapter of the tiny base that is far from it; some tokens, or those asked for, have their own embeddings."""
    torch.manual_seed(1)
    model = attach_lora(load_base(tiny_recipe.base), tiny_recipe.lora, getattr(request, "param", TOKENS))
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data += 0.1 * torch.randn_like(parameter)
    run = Run(tmp_path / "taught")
    run.start({"emojis": {"🦊": "fox"}, "hashes": {"base": weights_hash(tiny_recipe.base)}, "recipe": {}})
    training.save(run, model, tokenizer, tiny_recipe.base)
    return run.adapter


def trainer_of(adapter, recipe, tokenizer, pairs, folder):
    model = load_trainable(adapter, recipe)
    return pair_trainer(recipe, SETTINGS, Run(folder), model, tokenizer, pairs, pairs)


@with_and_without_tokens
def test_learning_begins_at_the_adapter_itself(adapter, tiny_recipe, tokenizer, pairs, tmp_path):
    recipe = replace(tiny_recipe, train=replace(tiny_recipe.train, batch_size=8))
    trainer = trainer_of(adapter, recipe, tokenizer, pairs, tmp_path / "run")
    saved = {name: weight for name, weight in adapter_weights(load_trainable(adapter, recipe)).items()}
    for name in ("default", "ref"):
        now = adapter_weights(trainer.model, name)
        assert now.keys() == saved.keys()
        assert all(weight.dtype == torch.float32 and torch.equal(weight, saved[key]) for key, weight in now.items())
    learning = [name for name, p in trainer.model.named_parameters() if p.requires_grad]
    assert learning and not any("ref" in name for name in learning)
    batch = next(iter(trainer.get_train_dataloader()))
    trainer.model.train()
    loss = trainer.compute_loss(trainer.model, batch)
    rewards = trainer._metrics["train"]
    assert rewards["rewards/chosen"] == rewards["rewards/rejected"] == rewards["rewards/margins"] == [0.0]
    assert loss.item() == torch.tensor(2.0).log().item()
    loss.backward()
    gradients = {name for name, p in trainer.model.named_parameters() if p.grad is not None}
    assert gradients == set(learning)


@with_and_without_tokens
def test_reward_is_the_adapters_own_likelihood(adapter, tiny_recipe, tokenizer, pairs, tmp_path):
    """Against plain log-probabilities of the opened adapter: prompt not counted, end of story counted."""
    trainer = trainer_of(adapter, tiny_recipe, tokenizer, pairs, tmp_path / "run")
    batch = next(iter(trainer.get_train_dataloader()))
    reference = torch.cat(trainer.compute_ref_log_probs(trainer.model, batch))
    plain = peft.PeftModel.from_pretrained(load_base(tiny_recipe.base), adapter)
    for row, expected in zip(batch["input_ids"], reference, strict=True):
        ids = row[row != tokenizer.pad_token_id]
        assert ids[0] == tokenizer.bos_token_id and ids[-1] == tokenizer.eos_token_id
        prompt = tokenizer(tokenizer.decode(ids, skip_special_tokens=True).split("\n")[0] + "\n").input_ids
        with torch.no_grad():
            told = plain(input_ids=ids[None]).logits[0, :-1].log_softmax(-1)  # (T-1, V)
        own = told[torch.arange(len(ids) - 1), ids[1:]][len(prompt) - 1 :].sum()
        assert own.item() == pytest.approx(expected.item(), abs=1e-3)


@with_and_without_tokens
def test_run_leaves_an_adapter_that_opens_anywhere(adapter, tiny_recipe, pairs, tmp_path):
    before = weights_hash(str(adapter))
    trained = finetune_from_feedback(tiny_recipe, adapter, pairs, tmp_path / "run", settings=SETTINGS)
    assert weights_hash(str(adapter)) == before
    assert {path.name for path in trained.run.adapter.iterdir()} == {
        "adapter_config.json", "adapter_model.safetensors", "run.json",
        "chat_template.jinja", "tokenizer.json", "tokenizer_config.json",
    }  # fmt: skip
    anywhere = peft.AutoPeftModelForCausalLM.from_pretrained(trained.run.adapter)
    assert list(anywhere.peft_config) == ["default"]
    old = peft.AutoPeftModelForCausalLM.from_pretrained(adapter).state_dict()
    moved = [name for name, weight in anywhere.state_dict().items() if not torch.equal(weight, old[name])]
    assert any("lora_B" in name for name in moved) and all("lora" in name or "delta" in name for name in moved)
    model, tokenizer = load_adapter(trained.run.adapter)
    assert generate(model, tokenizer, pairs["prompt"][:1], tiny_recipe.generate)
    card = json.loads((trained.run.adapter / "run.json").read_text())
    assert card["emojis"] == {"🦊": "fox"} and card["hashes"]["adapter"] == before
    assert card["recipe"]["preference"]["beta"] == 0.1


def test_log_and_samples_are_kept(adapter, tiny_recipe, pairs, tmp_path):
    trained = finetune_from_feedback(tiny_recipe, adapter, pairs, tmp_path / "run", settings=SETTINGS)
    losses = {row["step"]: row["loss"] for row in trained.log if "loss" in row}
    assert list(losses) == [1, 2, 3, 4, 5, 6] and losses[1] == pytest.approx(0.693147, abs=1e-6)  # warm-up begins at 0
    margins = [row["rewards/margins"] for row in trained.log if "rewards/margins" in row]
    assert margins[0] == 0 and margins[-1] > 0 and len(margins) == 6
    assert [row["step"] for row in trained.log if "eval_rewards/accuracies" in row] == [3, 6]
    samples = [json.loads(line) for line in trained.run.samples.read_text().splitlines()]
    assert [sample["step"] for sample in samples] == [0, 3, 6]


def test_finished_run_is_returned_as_it_is(tiny_recipe, adapter, pairs, tmp_path):
    said = []
    first = finetune_from_feedback(tiny_recipe, adapter, pairs, tmp_path / "run", settings=SETTINGS, say=said.append)
    before = first.run.adapter.stat().st_mtime_ns
    again = finetune_from_feedback(tiny_recipe, adapter, pairs, tmp_path / "run", settings=SETTINGS, say=said.append)
    assert said[1] == "5 pairs to learn from, 1 held out" and "finished" in said[-1]
    assert again.log == first.log and again.run.adapter.stat().st_mtime_ns == before


def test_samples_in_between_change_no_loss(adapter, tiny_recipe, pairs, tmp_path):
    runs = [
        finetune_from_feedback(tiny_recipe, adapter, pairs, tmp_path / str(samples), settings=SETTINGS, samples=samples)
        for samples in (1, 0)
    ]
    logs = [[row["loss"] for row in run.log if "loss" in row] for run in runs]
    assert logs[0] == logs[1]


def test_interrupted_and_resumed_equals_uninterrupted(adapter, tiny_recipe, pairs, tmp_path, monkeypatch):
    whole = finetune_from_feedback(tiny_recipe, adapter, pairs, tmp_path / "whole", settings=SETTINGS)
    log_step = preference.LogRewards.on_log

    def interrupt_in_step_5(self, args, state, control, logs, **kwargs):
        log_step(self, args, state, control, logs, **kwargs)
        if state.global_step == 4 and "loss" in logs:
            signal.raise_signal(signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(preference.LogRewards, "on_log", interrupt_in_step_5)
        with pytest.raises(Interrupted, match="stopped at step 5"):
            finetune_from_feedback(tiny_recipe, adapter, pairs, tmp_path / "cut", settings=SETTINGS)
    with pytest.raises(UserError, match="preference.beta 0.1 instead of 0.2"):
        other = replace(SETTINGS, beta=0.2)
        finetune_from_feedback(tiny_recipe, adapter, pairs, tmp_path / "cut", settings=other)
    with pytest.raises(UserError, match="holds a run with other data"):
        fewer = pairs.select(range(5))
        finetune_from_feedback(tiny_recipe, adapter, fewer, tmp_path / "cut", settings=SETTINGS)
    resumed = finetune_from_feedback(tiny_recipe, adapter, pairs, tmp_path / "cut", settings=SETTINGS)
    for key in ("loss", "rewards/margins"):
        logs = [[(row["step"], row[key]) for row in run.log if key in row] for run in (whole, resumed)]
        assert logs[0] == logs[1]
    weights = [(run.run.adapter / "adapter_model.safetensors").read_bytes() for run in (whole, resumed)]
    assert weights[0] == weights[1]


def test_epoch_has_its_own_order_where_a_run_goes_on(adapter, tiny_recipe, tokenizer, pairs, tmp_path):
    trainer = trainer_of(adapter, tiny_recipe, tokenizer, pairs, tmp_path / "run")
    trainer.get_train_dataloader()
    trainer.state.global_step = 4  # of three in an epoch
    trainer.callback_handler.on_epoch_begin(trainer.args, trainer.state, trainer.control)
    assert trainer.epochs.order.epoch == 1


def test_memory_that_runs_out_names_what_to_change(adapter, tiny_recipe, pairs, tmp_path, monkeypatch):
    estimated = []
    monkeypatch.setattr(preference, "check_machine", lambda recipe, say: estimated.append(recipe.train.batch_size))

    def full(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    monkeypatch.setattr(preference.PairTrainer, "training_step", full)
    with pytest.raises(UserError, match="out of memory with 2 stories of up to 64 tokens at a time"):
        finetune_from_feedback(tiny_recipe, adapter, pairs, tmp_path / "run", settings=SETTINGS)
    assert estimated == [2]  # a pair, although the recipe takes one story at a time


def test_too_little_feedback_stops_before_any_folder_is_made(adapter, tiny_recipe, pairs, tmp_path):
    with pytest.raises(UserError, match="no store of feedback at .*none.sqlite"):
        finetune_from_feedback(tiny_recipe, adapter, tmp_path / "none.sqlite", tmp_path / "run")
    store = FeedbackStore(tmp_path / "feedback.sqlite")
    store.choose("a prompt", "A", "B", "Ana")
    with pytest.raises(UserError, match="1 pairs of stories .* 20 are needed"):
        finetune_from_feedback(tiny_recipe, adapter, store.path, tmp_path / "run")
    with pytest.raises(UserError, match="got 1 pairs of 1"):
        finetune_from_feedback(tiny_recipe, adapter, pairs.select([0]), tmp_path / "run")
    with pytest.raises(UserError, match="rejected missing"):
        finetune_from_feedback(tiny_recipe, adapter, pairs.remove_columns("rejected"), tmp_path / "run")
    assert not (tmp_path / "run").exists() and not (tmp_path / "none.sqlite").exists()


def test_pairs_too_long_are_counted_and_prompts_stay_together(tokenizer, pairs):
    again = Dataset.from_list([*pairs, *pairs])
    train, held_out, notes = preference.split(again, tokenizer, window=64, held_out=0.4)
    assert (len(train), len(held_out), notes) == (8, 4, "")
    assert not set(train["prompt"]) & set(held_out["prompt"])
    long = Dataset.from_list([*pairs, {"prompt": "p\n", "chosen": "A story. " * 50, "rejected": "B"}])
    train, held_out, notes = preference.split(long, tokenizer, window=64, held_out=0.1)
    assert (len(train), len(held_out), notes) == (5, 1, "1 pairs left out: longer than 64 tokens")


def test_adapter_of_another_base(adapter, tiny_recipe, pairs, tmp_path):
    other = replace(tiny_recipe, base=config.EMBEDDED_BASE)
    with pytest.raises(UserError, match="is an adapter of .*tiny; the base of emoji/cpu is data/base"):
        finetune_from_feedback(other, adapter, pairs, tmp_path / "run")
    with pytest.raises(UserError, match="adapter_config.json is missing"):
        finetune_from_feedback(tiny_recipe, tmp_path, pairs, tmp_path / "run")
    (adapter / "adapter_model.safetensors").write_bytes(b"cut")
    with pytest.raises(UserError, match="damaged or cut off"):
        finetune_from_feedback(tiny_recipe, adapter, pairs, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_adapter_of_another_tokenizer(adapter, tiny_recipe, tokenizer, pairs, tmp_path):
    other = load_tokenizer(str(adapter))
    other.add_tokens(["<moon>"])
    other.save_pretrained(adapter)
    with pytest.raises(UserError, match="trained with another tokenizer than that of .*tiny"):
        finetune_from_feedback(tiny_recipe, adapter, pairs, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_what_fsdp_cannot_deal_out_is_refused(adapter, tiny_recipe, pairs, tmp_path, monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    with pytest.raises(UserError, match="an adapter and its reference: launch configs/ddp_two_t4.yaml"):
        finetune_from_feedback(tiny_recipe, adapter, pairs, tmp_path / "run")
    with pytest.raises(UserError, match="a base in 4 bits: set four_bit=False"):
        load_base(tiny_recipe.base)


def test_pairs_have_the_tokens_of_finetune(adapter, tiny_recipe, tokenizer, tmp_path):
    """A prompt whose full stop is one token with the quotation mark that the story begins with."""
    told = {"prompt": "狐狸很倔。", "chosen": "“我不睡！”", "rejected": "它睡了。"}
    trainer = trainer_of(adapter, tiny_recipe, tokenizer, Dataset.from_list([told] * 2), tmp_path / "run")
    row = trainer.train_dataset[0]
    assert row["prompt_ids"] == tokenizer(told["prompt"]).input_ids
    for end in ("chosen", "rejected"):
        ids = row[f"{end}_ids"]
        assert ids.pop() == tokenizer.eos_token_id and tokenizer.decode(ids) == told[end]


def test_settings_are_checked():
    with pytest.raises(UserError, match="beta, learning_rate and epochs must be above 0"):
        PreferenceSettings(beta=0)
    with pytest.raises(UserError, match="held_out must be above 0 and at most 0.5, got 0.9"):
        PreferenceSettings(held_out=0.9)


def shorter(story: str) -> int:
    return -len(story.split())


def at_night(story: str) -> int:
    return bool(re.search(r"\b(night|moon|stars?|dark)\b", story.lower()))


@pytest.fixture(scope="module")
def readings():
    """Four stories each for fifty training prompts, ten each for the test prompts, all by the shipped adapter."""
    recipe = config.recipe("emoji/cpu")
    corpus = data.load(recipe.corpus, **recipe.data)
    model, tokenizer = load_adapter(SHIPPED)
    asked = random.Random(0).sample(sorted(set(corpus["train"]["prompt"])), 50)
    compared = [generate(model, tokenizer, asked, recipe.generate, seed) for seed in range(4)]
    prompts = 10 * sorted(set(corpus["test"]["prompt"]))
    return list(zip(*compared, strict=True)), prompts, told_by(SHIPPED, prompts)


def told_by(adapter, prompts):
    model, tokenizer = load_adapter(adapter)
    seeds = [place // len(set(prompts)) for place in range(len(prompts))]
    return generate(model, tokenizer, prompts, config.recipe("emoji/cpu").generate, seeds)


@pytest.mark.slow
@pytest.mark.parametrize("taste", [shorter, at_night])
def test_a_readers_taste_is_learnt(taste, readings, tmp_path):
    """A scripted reader makes eighty choices; on other prompts the share of stories to its taste then rises."""
    compared, prompts, before = readings
    ordered = [sorted(stories, key=lambda story: taste(story.text)) for stories in compared]
    pairs = [pair for stories in ordered for pair in combinations(stories, 2)]
    told_apart = [(worse, better) for worse, better in pairs if taste(worse.text) < taste(better.text)]
    store = FeedbackStore(tmp_path / "feedback.sqlite")
    for worse, better in random.Random(0).sample(told_apart, 80):
        store.choose(better.prompt, better.text, worse.text, "scripted")
    trained = finetune_from_feedback(config.recipe("emoji/cpu"), SHIPPED, store.path, tmp_path / "run")
    after = told_by(trained.run.adapter, prompts)
    usual = median(taste(story.text) for story in before)
    liked = [[taste(story.text) > usual for story in told] for told in (before, after)]
    start, end = (mean_score(hits, "share", clusters(prompts)) for hits in liked)
    rise = mean_score([one - other for other, one in zip(*liked, strict=True)], "rise", clusters(prompts))
    print(f"\n{taste.__name__}: {store.counts()['choices']} choices; share {start}, then {end}; rise {rise}")
    for told in (before, after):
        texts = [story.text for story in told]
        ended = metrics.stopped_share([story.ended for story in told])
        print(f"words {metrics.length_in_words(texts)}, stopped {ended}, repeated {metrics.repeated_ngrams(texts)}")
    assert end.low > start.value and rise.low > 0
