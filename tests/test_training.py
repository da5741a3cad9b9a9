"""Fine-tuning: what is learnt, what is left alone, what is kept when it ends early."""

import errno
import json
import os
import shutil
import signal
from dataclasses import replace

import peft
import pytest
import torch
from safetensors import SafetensorError

from storylib import training
from storylib.errors import UserError
from storylib.files import trim_log
from storylib.models import attach_lora, load_adapter, load_base
from storylib.runs import Run, describe
from storylib.training import Interrupted, LengthGrouped, finetune, story_trainer


def losses(trained) -> list[float]:
    return [row["loss"] for row in trained.log if "loss" in row]


def test_loss_is_on_the_story_and_its_end_only(tiny_recipe, rows, tokenizer, tmp_path):
    model = attach_lora(load_base(tiny_recipe.base), tiny_recipe.lora)
    recipe = replace(tiny_recipe, train=replace(tiny_recipe.train, batch_size=4))
    plain = rows["train"].select_columns(["prompt", "completion"])
    trainer = story_trainer(recipe, Run(tmp_path), model, tokenizer, plain, plain)
    assert all(p.dtype == torch.float32 for p in trainer.model.parameters() if p.requires_grad)  # not TRL's bf16
    batch = next(iter(trainer.get_train_dataloader()))
    stories = {row["prompt"]: row["completion"] for row in rows["train"]}
    for ids, labels in zip(batch["input_ids"], batch["labels"], strict=True):
        learnt = labels[labels != -100]
        prompt = tokenizer.decode(ids[labels == -100], skip_special_tokens=True)
        assert learnt[-1] == tokenizer.eos_token_id
        assert tokenizer.decode(learnt[:-1]) == stories[prompt]
        assert ids[0] == tokenizer.bos_token_id
    assert tokenizer.pad_token_id != tokenizer.eos_token_id


def test_adapter_moves_and_base_does_not(tiny_recipe, rows, tiny_base, tmp_path):
    trained = finetune(tiny_recipe, tmp_path / "run", rows)
    fresh = load_base(str(tiny_base), four_bit=False)
    adapted = peft.AutoPeftModelForCausalLM.from_pretrained(trained.run.adapter)
    moved = [p for name, p in adapted.named_parameters() if "lora_B" in name]  # lora_B begins at zero
    assert moved and all(p.abs().max() > 0 for p in moved)
    kept = adapted.get_base_model().state_dict()
    for name, weight in fresh.state_dict().items():
        assert torch.equal(weight, kept.get(name, kept.get(name.replace(".weight", ".base_layer.weight"))))
    assert adapted.peft_config["default"].r == 4


def test_names_learn_embeddings_of_their_own_in_and_out(tiny_recipe, rows, tiny_base, tokenizer, tmp_path):
    named = {"role": ["🦔", "🦊", "🦉", "🐝"], "role_name": ["hedgehog", "fox", "owl", "bee"]}
    for column, cells in named.items():
        rows["train"] = rows["train"].add_column(column, cells)
    recipe = replace(tiny_recipe, lora=replace(tiny_recipe.lora, names=True))
    trained = finetune(recipe, tmp_path / "run", rows)
    model, _ = load_adapter(trained.run.adapter)
    before, after = load_base(str(tiny_base)).get_input_embeddings().weight, model.get_input_embeddings().weight
    changed = set((before != after).any(dim=1).nonzero().flatten().tolist())
    words = tokenizer(["🦔", " hedgehog", " fox", " owl", " bee"], add_special_tokens=False).input_ids
    assert {token for (token,) in words} <= changed and len(changed) <= 8
    row = rows["test"][0]
    ids = tokenizer(row["prompt"] + row["completion"], return_tensors="pt").input_ids
    ids = torch.cat([ids, torch.tensor([[tokenizer.eos_token_id]])], dim=1)
    start = len(tokenizer(row["prompt"]).input_ids)
    with torch.no_grad():
        logits = model(input_ids=ids[:, :-1]).logits  # (1, T-1, V): the learnt embeddings are in the head too
    loss = torch.nn.functional.cross_entropy(logits[0, start - 1 :], ids[0, start:])
    assert loss.item() == pytest.approx(
        [entry for entry in trained.log if "eval_loss" in entry][-1]["eval_loss"], abs=1e-4
    )


def test_run_writes_what_is_needed_to_do_it_again(tiny_recipe, rows, tmp_path):
    trained = finetune(tiny_recipe, tmp_path / "run", rows)
    card = json.loads((trained.run.adapter / "run.json").read_text())
    assert card["recipe"]["train"]["seed"] == 17 and len(card["hashes"]["data"]) == 64 and "trl" in card["versions"]
    steps = [row for row in trained.log if "loss" in row]
    assert [row["step"] for row in steps] == [1, 2, 3, 4]
    assert {"grad_norm", "learning_rate"} <= set(steps[0]) and all(row["tokens_per_second"] > 0 for row in steps)
    samples = [json.loads(line) for line in trained.run.samples.read_text().splitlines()]
    assert [sample["step"] for sample in samples] == [0, 2, 4]


def test_samples_in_between_change_no_loss(tiny_recipe, rows, tmp_path):
    with_samples = finetune(tiny_recipe, tmp_path / "with", rows, samples=1)
    without = finetune(tiny_recipe, tmp_path / "without", rows, samples=0)
    assert losses(with_samples) == losses(without)


def test_batches_are_of_like_lengths_and_each_epochs_own():
    sampler = LengthGrouped([8 * (row % 4) for row in range(16)], batch_size=4, seed=1)
    first = list(sampler)
    assert sorted(first) == list(range(16)) and first == list(sampler)
    assert all(len({row % 4 for row in first[start : start + 4]}) == 1 for start in range(0, 16, 4))
    sampler.set_epoch(1)
    assert list(sampler) != first


def test_rows_left_over_are_not_always_the_longest():
    sampler = LengthGrouped(list(range(0, 72, 8)), batch_size=4, seed=1)
    last = set()
    for epoch in range(10):
        sampler.set_epoch(epoch)
        assert sorted(sampler) == list(range(9))
        last.add(list(sampler)[-1])
    assert len(last) > 3


def test_full_disk_leaves_no_half_adapter(tiny_recipe, rows, tmp_path, monkeypatch):
    def full(self, folder, **kwargs):
        (folder / "adapter_config.json").write_text("{}")
        if folder.name.startswith(".adapter"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(peft.PeftModel, "save_pretrained", full)
    with pytest.raises(OSError, match="No space left"):
        training.save_adapter(
            Run(tmp_path), attach_lora(load_base(tiny_recipe.base), tiny_recipe.lora), None, tiny_recipe.base
        )
    assert list(tmp_path.iterdir()) == []


def test_broken_base_leaves_no_run_behind(tiny_recipe, rows, tmp_path):
    broken = tmp_path / "base"
    shutil.copytree(tiny_recipe.base, broken)
    (broken / "model.safetensors").write_bytes(b"cut")
    with pytest.raises(UserError, match="damaged or cut off"):
        finetune(replace(tiny_recipe, base=str(broken)), tmp_path / "run", rows)
    assert not (tmp_path / "run").exists()


def test_targets_that_match_no_layer(tiny_recipe):
    with pytest.raises(UserError, match="match no layer"):
        attach_lora(load_base(tiny_recipe.base), replace(tiny_recipe.lora, targets=("query_key_value",)))
