"""Useful tokens per second of fine-tuning: ours beside what one would run instead.

All four teach the same base (NF4) the same stories with the same LoRA, batch size, optimizer and precision:

    2023 recipe   SFTTrainer as QLoRA tutorials set it: rows in any order, padded to the longest, loss on all text
    TRL defaults  SFTTrainer with nothing said but what makes the runs alike
    bare loop     forward, backward, step over the very batches of ours, and nothing else: the limit
    storylib      what `python -m storylib finetune emoji` runs between its evaluations, its log of each step included

Useful tokens are those that are not padding; the clock starts after a few steps.
"""

import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from datasets import Dataset
from transformers import PrinterCallback, TrainerCallback
from trl import SFTConfig, SFTTrainer

from benchmarks.runner import LIMIT, OURS, Row, Size, TimedItself, row, take_turns
from storylib import config, data
from storylib.callbacks import LogSteps
from storylib.models import attach_lora, load_base, load_tokenizer, trainable_in_fp32
from storylib.runs import Run
from storylib.runtime import device
from storylib.trainer import story_trainer

WARM_UP = 4  # steps before the clock starts
RECIPE = config.recipe("emoji")


class Clock(TrainerCallback):
    """Seconds and useful tokens from the end of the warm-up to the end of the last step."""

    def __init__(self, trainer, steps: int) -> None:
        self.steps, self.tokens, self.done = steps, 0, 0
        inner = trainer.compute_loss

        def counted(model, inputs, **kwargs):
            self.tokens += int(inputs["attention_mask"].sum()) if self.done >= WARM_UP else 0
            return inner(model, inputs, **kwargs)

        trainer.compute_loss = counted
        trainer.add_callback(self)

    def on_step_end(self, args, state, control, **kwargs) -> None:
        self.done += 1
        if self.done == WARM_UP:
            self.started = time.perf_counter()
        if self.done == self.steps:
            self.seconds = time.perf_counter() - self.started
            control.should_training_stop, control.should_evaluate, control.should_save = True, False, False


def run_trainer(trainer, steps: int) -> tuple[float, float]:
    trainable_in_fp32(trainer.model)  # TRL makes adapters of a 4-bit base bf16, ten times as slow on many a CPU
    trainer.remove_callback(PrinterCallback)
    clock = Clock(trainer, steps)
    trainer.train()
    return clock.tokens, clock.seconds


def new_model() -> torch.nn.Module:
    torch.manual_seed(RECIPE.train.seed)
    return attach_lora(load_base(RECIPE.base), replace(RECIPE.lora, embeddings="none"))


def alike(folder: str, steps: int, **settings) -> SFTConfig:
    """What makes two runs comparable; all else as `settings` or TRL has it."""
    return SFTConfig(
        output_dir=folder,
        max_steps=steps,
        per_device_train_batch_size=RECIPE.train.batch_size,
        learning_rate=RECIPE.train.learning_rate,
        bf16=False,  # TRL's default; where a CPU emulates bf16 it would be slower still
        use_cpu=device().type == "cpu",
        report_to="none",
        save_strategy="no",
        disable_tqdm=True,
        seed=RECIPE.train.seed,
        **settings,
    )


def recipe_2023(taught: Dataset, tokenizer, steps: int, folder: str) -> tuple[float, float]:
    texts = taught.map(lambda one: {"text": one["prompt"] + one["completion"]}, remove_columns=taught.column_names)
    args = alike(folder, steps, logging_steps=25, max_grad_norm=0.3, lr_scheduler_type="constant", packing=False)
    return run_trainer(SFTTrainer(new_model(), args, train_dataset=texts, processing_class=tokenizer), steps)


def trl_defaults(taught: Dataset, tokenizer, steps: int, folder: str) -> tuple[float, float]:
    args = alike(folder, steps)
    return run_trainer(SFTTrainer(new_model(), args, train_dataset=taught, processing_class=tokenizer), steps)


def ours(taught: Dataset, tokenizer, steps: int, folder: str) -> tuple[float, float]:
    return run_trainer(our_trainer(taught, tokenizer, steps, folder), steps)


def our_trainer(taught: Dataset, tokenizer, steps: int, folder: str):
    epochs = (steps + 1) * RECIPE.train.effective_batch / len(taught)
    recipe = replace(RECIPE, train=replace(RECIPE.train, epochs=epochs, evaluations=1))
    run = Run(Path(folder))
    trainer = story_trainer(recipe, run, new_model(), tokenizer, taught, taught.select(range(1)))
    trainer.add_callback(LogSteps(run))
    return trainer


def bare_loop(taught: Dataset, tokenizer, steps: int, folder: str) -> tuple[float, float]:
    trainer = our_trainer(taught, tokenizer, steps, folder)
    model = trainer.model.train()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=RECIPE.train.learning_rate)
    batches = iter(trainer.get_train_dataloader())
    tokens = 0
    for step in range(steps):
        if step == WARM_UP:
            started = time.perf_counter()
        batch = next(batches)
        hidden = model.get_base_model().model(batch["input_ids"], attention_mask=batch["attention_mask"])[
            0
        ]  # (B, T, H)
        labels = batch["labels"][:, 1:]  # (B, T-1)
        story = labels != -100
        logits = model.get_output_embeddings()(hidden[:, :-1][story])  # (story tokens, V)
        torch.nn.functional.cross_entropy(logits, labels[story]).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        tokens += int(batch["attention_mask"].sum()) if step >= WARM_UP else 0
    return tokens, time.perf_counter() - started


SYSTEMS: dict[str, Callable[[Dataset, object, int, str], tuple[float, float]]] = {
    OURS: ours,
    "2023 recipe": recipe_2023,
    "TRL defaults": trl_defaults,
    LIMIT: bare_loop,
}


def rows(size: Size) -> list[Row]:
    tokenizer = load_tokenizer(RECIPE.base)
    taught = data.load(RECIPE.corpus, **RECIPE.data)["train"].select_columns(["prompt", "completion"])

    def in_folder(run) -> tuple[float, float]:
        with tempfile.TemporaryDirectory() as folder:
            return run(taught, tokenizer, size.steps, folder)

    systems = {name: TimedItself(partial(in_folder, run)) for name, run in SYSTEMS.items()}
    speeds = take_turns(systems, size.rounds)
    return [
        row("finetune vs 2023 recipe", "useful tokens/s", speeds, "2023 recipe"),
        row("finetune vs TRL defaults", "useful tokens/s", speeds, "TRL defaults"),
    ]
