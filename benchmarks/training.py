"""Useful tokens per second of fine-tuning: ours beside what one would run instead, as ratios in one run.

    python benchmarks/training.py [--steps 30] [--rounds 3] [--out FILE.json]

All four teach the same base (NF4) the same stories with the same LoRA, batch size, optimizer and precision:

    2023 recipe   SFTTrainer as QLoRA tutorials set it: rows in any order, padded to the longest, loss on all text
    TRL defaults  SFTTrainer with nothing said but what makes the runs alike
    bare loop     forward, backward, step over the very batches of ours, and nothing else: the limit
    storylib      what `python -m storylib finetune emoji` runs between its evaluations, its log of each step included

Useful tokens are those that are not padding. The systems take turns, so that a busy machine slows all of them, and the
ratio is taken within each round; its median counts.
"""

import json
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import torch
import typer
from datasets import Dataset
from transformers import TrainerCallback
from trl import SFTConfig, SFTTrainer

from storylib import config, data
from storylib.callbacks import LogSteps
from storylib.files import write_text
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


def run_trainer(trainer, steps: int) -> float:
    trainable_in_fp32(trainer.model)  # TRL makes adapters of a 4-bit base bf16, ten times as slow on many a CPU
    clock = Clock(trainer, steps)
    trainer.train()
    return clock.tokens / clock.seconds


def new_model() -> torch.nn.Module:
    torch.manual_seed(RECIPE.train.seed)
    return attach_lora(load_base(RECIPE.base), replace(RECIPE.lora, names=False))


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


def recipe_2023(rows: Dataset, tokenizer, steps: int, folder: str) -> float:
    texts = rows.map(lambda row: {"text": row["prompt"] + row["completion"]}, remove_columns=rows.column_names)
    args = alike(folder, steps, logging_steps=25, max_grad_norm=0.3, lr_scheduler_type="constant", packing=False)
    return run_trainer(SFTTrainer(new_model(), args, train_dataset=texts, processing_class=tokenizer), steps)


def trl_defaults(rows: Dataset, tokenizer, steps: int, folder: str) -> float:
    args = alike(folder, steps)
    return run_trainer(SFTTrainer(new_model(), args, train_dataset=rows, processing_class=tokenizer), steps)


def ours(rows: Dataset, tokenizer, steps: int, folder: str) -> float:
    return run_trainer(our_trainer(rows, tokenizer, steps, folder), steps)


def our_trainer(rows: Dataset, tokenizer, steps: int, folder: str):
    epochs = (steps + 1) * RECIPE.train.effective_batch / len(rows)
    recipe = replace(RECIPE, train=replace(RECIPE.train, epochs=epochs, evaluations=1))
    run = Run(Path(folder))
    trainer = story_trainer(recipe, run, new_model(), tokenizer, rows, rows.select(range(1)))
    trainer.add_callback(LogSteps(run))
    return trainer


def bare_loop(rows: Dataset, tokenizer, steps: int, folder: str) -> float:
    trainer = our_trainer(rows, tokenizer, steps, folder)
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
    return tokens / (time.perf_counter() - started)


SYSTEMS: dict[str, Callable[[Dataset, object, int, str], float]] = {
    "2023 recipe": recipe_2023,
    "TRL defaults": trl_defaults,
    "bare loop": bare_loop,
    "storylib": ours,
}


def main(
    steps: Annotated[
        int, typer.Option(min=WARM_UP + 1, help="Steps of each system in a round, warm-up included.")
    ] = 30,
    rounds: Annotated[int, typer.Option(min=1)] = 3,
    out: Annotated[Path, typer.Option()] = Path("runs/benchmark-training.json"),
) -> None:
    tokenizer = load_tokenizer(RECIPE.base)
    rows = data.load(RECIPE.corpus, **RECIPE.data)["train"].select_columns(["prompt", "completion"])
    speeds: dict[str, list[float]] = {system: [] for system in SYSTEMS}
    for _ in range(rounds):
        for system, run in SYSTEMS.items():
            with tempfile.TemporaryDirectory() as folder:
                speeds[system].append(run(rows, tokenizer, steps, folder))
            print(f"{system}: {speeds[system][-1]:.0f} useful tokens/s", flush=True)
    ratios = {
        system: statistics.median(mine / other for mine, other in zip(speeds["storylib"], others, strict=True))
        for system, others in speeds.items()
    }
    for system, ratio in ratios.items():
        print(f"storylib / {system}: {ratio:.2f}")
    out.parent.mkdir(parents=True, exist_ok=True)
    write_text(out, json.dumps({"tokens_per_second": speeds, "ratios": ratios, "steps": steps}, indent=2))


if __name__ == "__main__":
    typer.run(main)
