"""Fine-tuning: what is learnt, what is left alone, what stops it."""

import errno
import json
import os
import shutil
from dataclasses import replace
from types import SimpleNamespace

import datasets
import peft
import pytest
import torch
from conftest import said
from safetensors import SafetensorError
from tokenizers import Tokenizer
from tokenizers.processors import ByteLevel
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast
from trl import SFTTrainer

from storylib import checkpoints, config, trainer, training
from storylib.callbacks import OVERFLOWS, LogSteps
from storylib.checkpoints import fault, full_disk_named, saved, step_of
from storylib.errors import UserError
from storylib.generation import generate
from storylib.models import attach_lora, load_adapter, load_base, load_finetuned, load_tokenizer
from storylib.runs import Run
from storylib.runtime import T4, machine
from storylib.trainer import LengthGrouped, StoryTrainer, story_trainer
from storylib.training import finetune
from storylib.window import fit


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


def test_end_is_learnt_where_the_pad_can_be_no_other_token(tiny_recipe, rows, tokenizer, tmp_path):
    """As GPT-2's tokenizer: one special token for everything, and none in front of a text."""
    backend = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    backend.post_processor = ByteLevel(trim_offsets=False)
    end = tokenizer.eos_token
    PreTrainedTokenizerFast(tokenizer_object=backend, bos_token=end, eos_token=end, unk_token=end).save_pretrained(
        tmp_path / "base"
    )
    torch.manual_seed(0)
    shape = {"n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 64, "bos_token_id": 1, "eos_token_id": 1}
    shape |= {"resid_pdrop": 0, "embd_pdrop": 0, "attn_pdrop": 0}  # so that each beginning learns it by heart
    GPT2LMHeadModel(GPT2Config(vocab_size=len(tokenizer), **shape)).save_pretrained(tmp_path / "base")
    gpt2 = load_tokenizer(str(tmp_path / "base"))
    assert gpt2.pad_token_id == gpt2.eos_token_id and gpt2("A fox").input_ids[0] != gpt2.eos_token_id
    recipe = replace(
        tiny_recipe,
        base=str(tmp_path / "base"),
        lora=None,
        four_bit=False,
        train=replace(tiny_recipe.train, batch_size=4, epochs=80, evaluations=1),
        generate=config.GenerationSettings(max_new_tokens=30, temperature=0),
    )
    plain = rows["train"].select_columns(["prompt", "completion"])
    of_rows = story_trainer(recipe, Run(tmp_path), load_base(recipe.base, four_bit=False), gpt2, plain, plain)
    batch = next(iter(of_rows.get_train_dataloader()))
    for mask, labels in zip(batch["attention_mask"], batch["labels"], strict=True):
        assert labels[mask == 1][-1] == gpt2.eos_token_id and (labels[mask == 0] == -100).all()
    assert not batch["attention_mask"].all()  # there is padding
    model, gpt2 = load_finetuned(finetune(recipe, tmp_path / "run", rows, samples=0).run.result)
    stories = generate(model, gpt2, plain["prompt"], recipe.generate)
    assert [(story.text, story.ended) for story in stories] == [(told, "eos") for told in plain["completion"]]


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
    recipe = replace(tiny_recipe, lora=replace(tiny_recipe.lora, embeddings="names"))
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


def test_every_token_of_the_corpus_learns_an_embedding_and_no_other(tiny_recipe, rows, tiny_base, tokenizer, tmp_path):
    told = {"prompt": "从前，", "completion": "有一只狐狸。"}
    rows["train"] = datasets.Dataset.from_list([told] * 2)
    recipe = replace(tiny_recipe, lora=replace(tiny_recipe.lora, embeddings="corpus"))
    model, _ = load_adapter(finetune(recipe, tmp_path / "run", rows).run.adapter)
    before, after = load_base(str(tiny_base)).get_input_embeddings().weight, model.get_input_embeddings().weight
    changed = set((before != after).any(dim=1).nonzero().flatten().tolist())
    assert changed == {token for text in told.values() for token in tokenizer(text, add_special_tokens=False).input_ids}


def test_run_writes_what_is_needed_to_do_it_again(tiny_recipe, rows, tmp_path):
    trained = finetune(tiny_recipe, tmp_path / "run", rows)
    card = json.loads((trained.run.adapter / "run.json").read_text())
    assert card["recipe"]["train"]["seed"] == 17 and len(card["hashes"]["data"]) == 64 and "trl" in card["versions"]
    steps = [row for row in trained.log if "loss" in row]
    assert [row["step"] for row in steps] == [1, 2, 3, 4]
    assert {"grad_norm", "learning_rate"} <= set(steps[0]) and all(row["tokens_per_second"] > 0 for row in steps)
    samples = [json.loads(line) for line in trained.run.samples.read_text().splitlines()]
    assert [sample["step"] for sample in samples] == [0, 2, 4]


def test_last_step_is_evaluated_whatever_its_number(tiny_recipe, rows, tmp_path):
    recipe = replace(tiny_recipe, train=replace(tiny_recipe.train, epochs=1.25))
    trained = finetune(recipe, tmp_path / "run", rows)
    assert [row["step"] for row in trained.log if "eval_loss" in row] == [3, 5]
    samples = [json.loads(line) for line in trained.run.samples.read_text().splitlines()]
    assert [sample["step"] for sample in samples] == [0, 3, 5]


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
        training.save(Run(tmp_path), attach_lora(load_base(tiny_recipe.base), tiny_recipe.lora), None, "a base")
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


def test_diverging_run_keeps_the_checkpoint_before(tiny_recipe, rows, tmp_path, monkeypatch):
    step = StoryTrainer.training_step

    def diverge(self, *args, **kwargs):
        loss = step(self, *args, **kwargs)
        return loss * float("nan") if self.state.global_step == 3 else loss

    monkeypatch.setattr(StoryTrainer, "training_step", diverge)
    with pytest.raises(UserError, match=r"loss is nan at step 4: training stopped.*lower learning rate than 0\.01"):
        finetune(tiny_recipe, tmp_path, rows)
    assert not Run(tmp_path).result
    (kept,) = saved(tmp_path / "checkpoints")
    assert step_of(kept) == 2 and fault(kept) is None


def test_learning_rate_that_diverges(tiny_recipe, rows, tmp_path):
    wild = replace(tiny_recipe, train=replace(tiny_recipe.train, learning_rate=1e30, warmup=0))
    with pytest.raises(UserError, match=r"(loss|grad_norm) is (nan|inf) at step 2.*lower learning rate than 1e\+30"):
        finetune(wild, tmp_path, rows)
    assert not Run(tmp_path).result


def test_weights_that_are_not_finite_are_never_saved(tiny_recipe, rows, tmp_path, monkeypatch):
    def overflow(self, args, state, control, model, **kwargs):
        if state.global_step == 3:
            next(p for p in model.parameters() if p.requires_grad).data[0] = float("inf")

    monkeypatch.setattr(LogSteps, "on_step_end", overflow)
    with pytest.raises(UserError, match="1 weights are not finite after step 4|is nan at step 4"):
        finetune(tiny_recipe, tmp_path, rows)
    assert [step_of(kept) for kept in saved(tmp_path / "checkpoints")] == [2]
    with pytest.raises(UserError, match="not finite after step 4"):
        model = torch.nn.Linear(2, 2)
        model.weight.data[0, 0] = float("inf")
        checkpoints.refuse_broken(model, "after step 4")


def test_overflow_in_fp16_is_left_to_the_scaler_but_not_for_ever(tmp_path):
    class State:
        global_step, max_steps, is_world_process_zero = 1, 2, True

    class Arguments:
        fp16, learning_rate = True, 1e-4

    log = LogSteps(Run(tmp_path))
    log.on_train_begin(Arguments, State, None, SimpleNamespace(config=SimpleNamespace(vocab_size=4096)))
    log.on_step_begin(Arguments, State, None)
    overflow, fine = ({"loss": 2.0, "grad_norm": norm, "num_tokens": 10} for norm in (float("inf"), 1.0))
    for _ in range(OVERFLOWS):
        log.on_log(Arguments, State, None, overflow)
    log.on_log(Arguments, State, None, fine)
    for _ in range(OVERFLOWS):
        log.on_log(Arguments, State, None, overflow)
    with pytest.raises(UserError, match="grad_norm is inf"):
        log.on_log(Arguments, State, None, overflow)
    Arguments.fp16 = False
    with pytest.raises(UserError, match="grad_norm is inf"):
        log.refuse_broken({"step": 1, "grad_norm": float("inf")}, Arguments)


def test_loss_that_says_nothing_was_learnt(tmp_path):
    class Arguments:
        fp16, learning_rate = False, 1e-4

    class State:
        global_step, max_steps, is_world_process_zero = 0, 2, True

    log = LogSteps(Run(tmp_path))
    log.on_train_begin(Arguments, State, None, SimpleNamespace(config=SimpleNamespace(vocab_size=4096)))
    log.refuse_broken({"step": 1, "loss": 12.0, "grad_norm": 300.0, "eval_loss": 0.01}, Arguments)
    for broken in ({"loss": 0.0}, {"loss": 17.0}, {"eval_loss": 0.0}, {"eval_loss": 16.7}):  # guessing: ln 4096 = 8.3
        with pytest.raises(UserError, match=rf"{next(iter(broken))} is {next(iter(broken.values())):g} at step 1"):
            log.refuse_broken({"step": 1} | broken, Arguments)


def test_full_disk_is_named(tmp_path, monkeypatch):
    with (
        pytest.raises(OSError, match="the disk is full; free some and give the same command again"),
        full_disk_named("."),
    ):
        raise SafetensorError("IoError(Os { code: 28 }) No space left on device (os error 28)")
    with pytest.raises(OSError, match="the disk is full"), full_disk_named("."):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    with pytest.raises(RuntimeError, match="another"), full_disk_named("."):
        raise RuntimeError("another")


def test_full_disk_keeps_the_checkpoint_before_and_goes_on_when_there_is_room(tiny_recipe, rows, tmp_path, monkeypatch):
    whole = finetune(tiny_recipe, tmp_path / "whole", rows)
    save_scheduler = torch.save

    def full(content, path, **kwargs):
        if "checkpoint-4" in str(path):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        save_scheduler(content, path, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", full)
        with pytest.raises(OSError, match="the disk is full"):
            finetune(tiny_recipe, tmp_path / "run", rows)
    assert [path.name for path in (tmp_path / "run" / "checkpoints").iterdir()] == ["checkpoint-2"]
    resumed = finetune(tiny_recipe, tmp_path / "run", rows)
    assert losses(resumed) == losses(whole)


def test_recipe_that_does_not_fit_ends_before_anything_is_loaded(rows, tmp_path, monkeypatch):
    monkeypatch.setattr(training, "machine", lambda: replace(T4, free_memory=8 * 2**30))
    monkeypatch.setattr(training, "load_tokenizer", pytest.fail)
    whole = replace(config.recipe("genre/falcon-7b"), four_bit=False)
    with pytest.raises(
        UserError, match="falcon-7b does not fit Tesla T4: .* are free .*; it fits with four_bit=[Tt]rue"
    ):
        finetune(whole, tmp_path / "run", rows)
    monkeypatch.setattr(training, "machine", lambda: replace(T4, name="P100", capability=(6, 0), lowest=(7, 0)))
    with pytest.raises(UserError, match=r"P100 has compute capability 6\.0"):
        finetune(config.recipe("genre/falcon-7b"), tmp_path / "run", rows)
    assert not (tmp_path / "run").exists()


def test_one_of_two_gpus_trains_and_the_way_to_use_both_is_named(tiny_recipe, rows, tmp_path, monkeypatch):
    two = replace(machine(), gpus=2)
    monkeypatch.setattr(training, "machine", lambda: two)
    finished = trainer.SFTConfig.__post_init__

    def sees_two(args):
        finished(args)
        args._n_gpu = 2

    monkeypatch.setattr(trainer.SFTConfig, "__post_init__", sees_two)
    told = []
    assert losses(finetune(tiny_recipe, tmp_path, rows, say=told.append))
    assert str(two) in told[0] and "float32" in told[0] and "training takes" in told[0]
    assert told[1] == (
        "one of 2 GPUs is used; for two: accelerate launch --config_file configs/ddp_two_t4.yaml "
        "-m storylib finetune emoji/cpu"
    )


def test_empty_splits_are_named(tiny_recipe, rows, tmp_path):
    for split in ("train", "test"):
        empty = datasets.DatasetDict(rows | {split: rows[split].select([])})
        with pytest.raises(UserError, match=f"the {split} split of the corpus has no rows"):
            finetune(tiny_recipe, tmp_path / "run", empty)
    assert not (tmp_path / "run").exists()


def test_held_out_rows_are_those_of_validation_where_there_are_some(tiny_recipe, rows, tokenizer):
    rows["validation"] = rows["train"].select([2])
    train, held_out = training.rows_of(rows, tokenizer, 64, print)
    assert held_out.to_list() == [{key: rows["train"][2][key] for key in ("prompt", "completion")}]
    many = datasets.DatasetDict(rows | {"validation": datasets.concatenate_datasets([rows["train"]] * 300)})
    assert 300 < len(training.rows_of(many, tokenizer, 64, print)[1]) <= training.HELD_OUT


def test_long_stories_end_behind_the_last_sentence_that_fits(tokenizer):
    story = "A fox sat down. " + '"Come! Now!" she said. ' + "Then they ran and ran and ran."
    long = {"prompt": " fox\n", "completion": story}
    short = {"prompt": " fox\n", "completion": "A fox."}

    def length(text):
        return len(tokenizer(" fox\n" + text).input_ids) + 1  # and EOS

    def fitted(window):
        rows, note = fit(datasets.Dataset.from_list([long, short]), tokenizer, window)
        assert all(length(row["completion"]) <= window and row["prompt"] == " fox\n" for row in rows)
        return rows["completion"][0], note

    assert fitted(length(story)) == (story, "")
    one_less = length(story) - 1
    assert fitted(one_less) == (
        'A fox sat down. "Come! Now!" she said.',
        f"1 of 2 stories end early, behind a sentence, to fit {one_less} tokens",
    )
    assert fitted(length('A fox sat down. "Come! Now!" she said.') - 1)[0] == "A fox sat down."


def test_cut_stories_still_end_with_eos(tiny_recipe, tokenizer, tmp_path):
    row = {"prompt": " fox\n", "completion": "A fox sat. " * 30}
    train, _ = fit(datasets.Dataset.from_list([row]), tokenizer, 64)
    model = attach_lora(load_base(tiny_recipe.base), tiny_recipe.lora)
    (ids,) = story_trainer(tiny_recipe, Run(tmp_path), model, tokenizer, train, train).train_dataset["input_ids"]
    assert 55 < len(ids) <= 64 and ids[-1] == tokenizer.eos_token_id


def test_rows_without_room_for_a_sentence_are_left_out_and_counted(tokenizer):
    wordy = {"prompt": " fox" * 40, "completion": "A fox."}
    endless = {"prompt": " fox\n", "completion": "and the fox ran " * 40}
    short = {"prompt": " fox\n", "completion": "A fox."}
    rows, note = fit(datasets.Dataset.from_list([wordy, *[short] * 400, endless]), tokenizer, 32)
    assert rows.to_list() == [short] * 400 and note == "2 rows left out: no room for a sentence of story"
    with pytest.raises(UserError, match="2 of 200 rows have no room for a sentence of story in a window of 32 tokens"):
        fit(datasets.Dataset.from_list([wordy, *[short] * 198, endless]), tokenizer, 32)


def test_sentences_end_as_their_language_has_it(tokenizer):
    row = {"prompt": "狐狸\n", "completion": "从前有一只狐狸。" * 9, "language": "zh"}
    rows, _ = fit(datasets.Dataset.from_list([row]), tokenizer, 64)
    story = rows["completion"][0]
    assert 0 < len(story) < len(row["completion"]) and set(story.split("。")) == {"从前有一只狐狸", ""}


def test_held_out_loss_is_per_token_however_it_is_batched(tiny_recipe, rows, tokenizer, tmp_path):
    model = attach_lora(load_base(tiny_recipe.base), tiny_recipe.lora)
    train = rows["train"].select_columns(["prompt", "completion"])
    scores = []
    for size in (1, 3, 4):
        recipe = replace(tiny_recipe, train=replace(tiny_recipe.train, batch_size=size))
        scores.append(story_trainer(recipe, Run(tmp_path), model, tokenizer, train, train).evaluate()["eval_loss"])
    nats = tokens = 0
    for row in train:
        start, text = len(tokenizer(row["prompt"]).input_ids), row["prompt"] + row["completion"]
        ids = torch.tensor([[*tokenizer(text).input_ids, tokenizer.eos_token_id]])
        with torch.no_grad():
            logits = model.eval()(input_ids=ids[:, :-1]).logits[0, start - 1 :]  # (story tokens, V)
        nats += torch.nn.functional.cross_entropy(logits, ids[0, start:], reduction="sum").item()
        tokens += ids.shape[1] - start
    assert scores == pytest.approx([nats / tokens] * 3, rel=1e-5)


def test_memory_that_runs_out_halves_the_batch_and_keeps_the_steps(tiny_recipe, rows, tmp_path, monkeypatch, capsys):
    recipe = replace(tiny_recipe, train=replace(tiny_recipe.train, batch_size=4, epochs=3, evaluations=3))
    whole = finetune(recipe, tmp_path / "whole", rows)
    step = StoryTrainer.training_step

    def narrow(self, model, inputs, *args, **kwargs):
        if self.state.global_step == 1 and len(inputs["input_ids"]) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return step(self, model, inputs, *args, **kwargs)

    monkeypatch.setattr(StoryTrainer, "training_step", narrow)
    narrowed = finetune(recipe, tmp_path / "narrow", rows)
    assert losses(narrowed) == pytest.approx(losses(whole), rel=1e-5)
    assert said(capsys) == [
        "out of memory: going on with 2 stories at a time and 2 times per step, so that a step still sees 4",
        "going on from step 1",
    ]


def test_run_that_was_narrowed_goes_on_with_the_batches_it_is_given(tiny_recipe, rows, tmp_path, monkeypatch):
    """As in a session on a larger GPU than the one before."""
    recipe = replace(tiny_recipe, train=replace(tiny_recipe.train, batch_size=4, epochs=3, evaluations=3))
    whole = finetune(recipe, tmp_path / "whole", rows)
    step, passes = StoryTrainer.training_step, []

    def narrow_and_cut_off(self, model, inputs, *args, **kwargs):
        if self.state.global_step == 2:
            raise KeyboardInterrupt
        if len(inputs["input_ids"]) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return step(self, model, inputs, *args, **kwargs)

    def counted(self, model, inputs, *args, **kwargs):
        passes.append(len(inputs["input_ids"]))
        return step(self, model, inputs, *args, **kwargs)

    monkeypatch.setattr(StoryTrainer, "training_step", narrow_and_cut_off)
    with pytest.raises(KeyboardInterrupt):
        finetune(recipe, tmp_path / "run", rows)
    monkeypatch.setattr(StoryTrainer, "training_step", counted)
    assert losses(finetune(recipe, tmp_path / "run", rows)) == pytest.approx(losses(whole), rel=1e-5)
    assert passes == [4]


def test_memory_that_runs_out_in_one_of_several_processes_names_what_to_change(
    tiny_recipe, rows, tmp_path, monkeypatch
):
    def full(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    monkeypatch.setattr(StoryTrainer, "training_step", full)
    alone = training.processes()
    shared = SimpleNamespace(num_processes=2, is_main_process=True)
    for name in ("on_main_process", "main_process_first", "wait_for_everyone"):
        setattr(shared, name, getattr(alone, name))
    monkeypatch.setattr(training, "processes", lambda: shared)
    recipe = replace(tiny_recipe, train=replace(tiny_recipe.train, batch_size=4))
    with pytest.raises(UserError, match=r"with 2 stories of up to 64 tokens at a time; make train\.batch_size, "):
        finetune(recipe, tmp_path / "run", rows)


def test_epoch_has_its_own_order_where_a_run_goes_on(tiny_recipe, rows, tokenizer, tmp_path):
    model = attach_lora(load_base(tiny_recipe.base), tiny_recipe.lora)
    trainer = story_trainer(tiny_recipe, Run(tmp_path), model, tokenizer, rows["train"], rows["test"])
    trainer.get_train_dataloader()
    assert trainer.epochs.order.epoch == 0
    trainer.state.global_step = 6  # of four in an epoch
    trainer.callback_handler.on_epoch_begin(trainer.args, trainer.state, trainer.control)
    assert trainer.epochs.order.epoch == 1


def test_loss_and_gradients_are_those_of_trl(tiny_recipe, rows, tokenizer, tmp_path):
    model = attach_lora(load_base(tiny_recipe.base), tiny_recipe.lora)
    recipe = replace(tiny_recipe, train=replace(tiny_recipe.train, batch_size=4))
    plain = rows["train"].select_columns(["prompt", "completion"])
    trainer = story_trainer(recipe, Run(tmp_path), model, tokenizer, plain, plain)
    batch = next(iter(trainer.get_train_dataloader()))
    for items in (None, torch.tensor(50)):
        found = []
        for loss_of in (trainer.compute_loss, SFTTrainer.compute_loss.__get__(trainer)):
            loss = loss_of(model, dict(batch), num_items_in_batch=items)
            grads = torch.autograd.grad(loss, [p for p in model.parameters() if p.requires_grad])
            found.append((loss.detach(), torch.cat([grad.flatten() for grad in grads])))
        torch.testing.assert_close(found[0], found[1])
