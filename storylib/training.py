"""Run one recipe; return its log as plain numbers."""

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from datasets import Dataset, DatasetDict
from peft import PeftModel
from transformers import PreTrainedModel, PreTrainedTokenizerBase, Trainer

from storylib import data
from storylib.batching import memory_named, with_smaller_batches
from storylib.callbacks import LogSteps, SaveByTime, StopAtStepEnd, TellSamples
from storylib.checkpoints import full_disk_named, newest_whole, refuse_broken, step_of
from storylib.config import Recipe, TrainSettings
from storylib.embeddings import corpus_tokens, renew, tokens_to_learn
from storylib.errors import UserError
from storylib.files import atomic_folder, read_log, trim_log
from storylib.models import attach_lora, load_base, load_tokenizer, weights_hash
from storylib.parallel import as_main_says, processes, shared_out
from storylib.prompts import known_emojis
from storylib.runs import Run, describe, text_hash
from storylib.runtime import machine, sharded
from storylib.sizes import check_room
from storylib.trainer import story_trainer
from storylib.window import fit

HELD_OUT = 500  # stories that the held-out loss is taken on, at most


class Interrupted(KeyboardInterrupt):
    """Training was stopped from the keyboard; its state is kept."""


@dataclass(frozen=True)
class Trained:
    """A finished run: where it lies, and its log, one dict per step or evaluation."""

    run: Run
    log: list[dict[str, float]]


def finetune(
    recipe: Recipe,
    out: Path,
    dataset: DatasetDict | None = None,
    samples: int = 3,
    minutes: float = 10.0,
    say: Callable[[str], None] = print,
) -> Trained:
    """Teach `recipe.base` the stories of `dataset` (by default the recipe's own corpus) in folder `out`.

    What was trained lies in `out/adapter`, in PEFT's format, or in `out/model` where all weights were, only once it is
    whole. `samples` prompts are told before, during and after. A checkpoint is kept at each evaluation and every few
    `minutes`. A call that was cut off, made again, goes on from there and ends as if nothing had happened; a finished
    run is returned as it is.

    Raises UserError for a recipe that this machine has no room for, a folder that holds another run or has one at work
    in it, rows that don't fit the window, or a loss that is not finite; OSError for a full disk; Interrupted after
    Ctrl-C.
    """
    run, state = Run(Path(out)), processes()
    say = state.on_main_process(say)
    dataset = dataset or data.load(recipe.corpus, **recipe.data)
    if not run.result:
        check_machine(recipe, say)
    tokenizer = load_tokenizer(recipe.base)
    with state.main_process_first():
        train, held_out = rows_of(dataset, tokenizer, recipe.train.window, say)
    texts = (text for rows in (train, held_out) for column in ("prompt", "completion") for text in rows[column])
    emojis = known_emojis(dataset["train"])
    card = describe(recipe, {"data": text_hash(texts), "base": weights_hash(recipe.base)}, emojis)
    with run.alone() if state.is_main_process else nullcontext():
        if run.finished(card, say):
            return Trained(run, read_log(run.log))

        def attempt(settings: TrainSettings) -> None:
            torch.manual_seed(recipe.train.seed)
            model = load_model(recipe, tokenizer, emojis, train)
            begin(run, card)
            trainer = story_trainer(replace(recipe, train=settings), run, model, tokenizer, train, held_out)
            trainer.add_callback(LogSteps(run))
            if prompts := list(dict.fromkeys(held_out["prompt"]))[:samples]:
                trainer.add_callback(TellSamples(run, tokenizer, prompts, recipe.generate, recipe.train.seed))
            with full_disk_named(run.folder):
                train_on(trainer, run, minutes, say)
                save(run, model, tokenizer, recipe.base, gathered(trainer))

        if state.num_processes > 1:  # memory may run out in one of them, and the others would wait for it
            with memory_named(shared_out(recipe.train, state.num_processes)):
                attempt(recipe.train)
        else:
            with_smaller_batches(attempt, recipe.train, say)
    return Trained(run, read_log(run.log))


def check_machine(recipe: Recipe, say: Callable[[str], None]) -> None:
    """Say what this machine is and what training takes on it; UserError where the recipe clearly does not fit."""
    here = machine()
    if not sharded():  # what each of several GPUs takes is not estimated
        say(check_room(recipe, here))
    if here.gpus > 1 and processes().num_processes == 1:
        launch = "accelerate launch --config_file configs/ddp_two_t4.yaml -m storylib finetune"
        say(f"one of {here.gpus} GPUs is used; for two: {launch} {recipe.name}")


def begin(run: Run, card: Mapping) -> None:
    """Start the run in the main process; the others wait, or would remove what it is just writing."""
    if processes().is_main_process:
        run.start(card)
    processes().wait_for_everyone()


def rows_of(dataset: DatasetDict, tokenizer, window: int, say: Callable[[str], None]) -> tuple[Dataset, Dataset]:
    """Rows to train on and rows to take the held-out loss on, within the window; UserError where there are none."""
    held_out = "validation" if "validation" in dataset else "test"
    for split in ("train", held_out):
        if not len(dataset.get(split, ())):
            raise UserError(f"the {split} split of the corpus has no rows; give it some stories")
    train, note = fit(dataset["train"], tokenizer, window)
    if note:
        say(note)
    rows = dataset[held_out]
    return train, fit(rows.select(range(0, len(rows), -(-len(rows) // HELD_OUT))), tokenizer, window)[0]


def load_model(
    recipe: Recipe, tokenizer: PreTrainedTokenizerBase, emojis: Mapping[str, str], rows: Dataset
) -> PreTrainedModel:
    """The base with new adapters; whole and in fp32, all of it to be trained, by a recipe without LoRA."""
    whole = recipe.lora is None
    model = load_base(recipe.base, recipe.four_bit, dtype=torch.float32 if whole else None)
    if recipe.train.renew_embeddings:
        renew(model, corpus_tokens(tokenizer, rows))
    if whole:
        return model
    return attach_lora(model, recipe.lora, tokens_to_learn(recipe.lora.embeddings, tokenizer, emojis, rows))


def train_on(trainer: Trainer, run: Run, minutes: float = 10.0, say: Callable[[str], None] = print) -> None:
    """Train from the run's last whole checkpoint, or from the start; Interrupted after Ctrl-C, with one saved."""
    main = processes().is_main_process
    last = as_main_says(newest_whole(run.checkpoints, say) if main else None)
    done = step_of(last) if last else 0
    if main:
        trim_log(run.log, done)
        trim_log(run.samples, done if last else -1)
    if last:
        say(f"going on from step {done}")
    with StopAtStepEnd() as stop:
        for callback in (stop, SaveByTime(minutes)):
            trainer.add_callback(callback)
        trainer.train(resume_from_checkpoint=str(last) if last else None)
    if stop.stopped:
        raise Interrupted(f"stopped at step {trainer.state.global_step}; its state is kept in {run.checkpoints}")


def gathered(trainer: Trainer) -> dict[str, torch.Tensor] | None:
    """The whole weights, in the main process, of a model whose parts lie in several; None for any other."""
    return trainer.accelerator.get_state_dict(trainer.model) if sharded() else None


def save(
    run: Run,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    base: str,
    weights: dict[str, torch.Tensor] | None = None,
) -> None:
    """What was trained, in `run.adapter` or `run.model`; UserError where a weight is not finite.

    Weights, tokenizer and card are written by the main process, in a folder that is moved into place when it is whole.
    """
    refuse_broken(model, "at the end")
    if processes().is_main_process:
        adapter = isinstance(model, PeftModel)
        with atomic_folder(run.adapter if adapter else run.model) as part:
            if adapter:
                model.peft_config["default"].base_model_name_or_path = base
                model.save_pretrained(part, state_dict=weights, save_embedding_layers=False)
                (part / "README.md").unlink(missing_ok=True)  # PEFT's blank form
            else:
                model.save_pretrained(part, state_dict=weights)
            tokenizer.save_pretrained(part)
            (part / "run.json").write_bytes(run.card.read_bytes())
    processes().wait_for_everyone()
