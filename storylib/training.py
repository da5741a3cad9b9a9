"""Run one recipe; return its log as plain numbers."""

import errno
import json
import math
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from datasets import Dataset, DatasetDict
from peft import PeftModel
from safetensors import SafetensorError
from tqdm.auto import tqdm
from transformers import PreTrainedTokenizerBase, ProgressCallback, TrainerCallback
from trl import SFTConfig, SFTTrainer

from storylib import data
from storylib.config import GenerationSettings, Recipe
from storylib.errors import UserError
from storylib.files import atomic_folder
from storylib.generation import generate
from storylib.models import attach_lora, load_base, load_tokenizer, trainable_in_fp32, weights_hash
from storylib.runs import Run, text_hash
from storylib.runtime import compute_dtype

LOGGED = ("loss", "grad_norm", "learning_rate", "eval_loss")


class Interrupted(KeyboardInterrupt):
    """Training was stopped from the keyboard; its state is kept."""


@dataclass(frozen=True)
class Trained:
    """A finished run: where it lies, and its log, one dict per step or evaluation."""

    run: Run
    log: list[dict[str, float]]


class LogSteps(TrainerCallback):
    """Appends each step's numbers to the run's log, moves the progress bar, stops at the first that is not finite."""

    def __init__(self, run: Run) -> None:
        self.run = run

    def on_train_begin(self, args, state, control, **kwargs) -> None:
        kept = [row for row in read_log(self.run) if row["step"] <= state.global_step]
        self.run.log.write_text("".join(json.dumps(row) + "\n" for row in kept), encoding="utf-8")
        self.bar = tqdm(total=state.max_steps, initial=state.global_step, unit="step", desc="fine-tuning")
        self.time, self.tokens = time.monotonic(), None

    def on_log(self, args, state, control, logs, **kwargs) -> None:
        row = {"step": state.global_step, "epoch": round(logs.get("epoch", 0), 4)}
        row |= {key: logs[key] for key in LOGGED if key in logs}
        if "loss" in row:
            row |= self.speed(logs["num_tokens"])
            self.bar.set_postfix(loss=f"{row['loss']:.2f}")
            self.bar.update(state.global_step - self.bar.n)
        if len(row) > 2:
            with self.run.log.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
        for key in ("loss", "grad_norm"):
            if not math.isfinite(row.get(key, 0.0)):
                raise UserError(
                    f"{key} is {row[key]} at step {state.global_step}: training stopped, nothing more was saved; "
                    f"try a lower learning rate than {args.learning_rate:g}"
                )

    def speed(self, tokens: float) -> dict[str, float]:
        """Tokens per second since the last step, padding not counted."""
        now, seconds, new = time.monotonic(), time.monotonic() - self.time, tokens - (self.tokens or 0)
        first, self.time, self.tokens = self.tokens is None, now, tokens
        return {} if first and tokens > new else {"tokens_per_second": round(new / seconds, 1)}

    def on_evaluate(self, args, state, control, **kwargs) -> None:
        self.time = time.monotonic()  # the next step is timed without the evaluation

    def on_train_end(self, args, state, control, **kwargs) -> None:
        self.bar.close()


class TellSamples(TrainerCallback):
    """Tells the same few stories before the first step and at each evaluation, so that learning can be read."""

    def __init__(self, run: Run, tokenizer, prompts: list[str], settings: GenerationSettings, seed: int) -> None:
        self.run, self.tokenizer, self.prompts, self.settings, self.seed = run, tokenizer, prompts, settings, seed

    def on_train_begin(self, args, state, control, model, **kwargs) -> None:
        if state.global_step == 0:
            self.tell(0, model)

    def on_evaluate(self, args, state, control, model, **kwargs) -> None:
        self.tell(state.global_step, model)

    def tell(self, step: int, model) -> None:
        stories = generate(model, self.tokenizer, self.prompts, self.settings, self.seed)
        with self.run.samples.open("a", encoding="utf-8") as file:
            for story in stories:
                file.write(json.dumps({"step": step} | asdict(story), ensure_ascii=False) + "\n")


class StopAtStepEnd(TrainerCallback):
    """Ctrl-C lets the running step end and saves a checkpoint; a second one stops at once."""

    stopped = False

    def on_train_begin(self, args, state, control, **kwargs) -> None:
        self.before = signal.signal(signal.SIGINT, self.stop)

    def stop(self, *_) -> None:
        self.stopped = True
        signal.signal(signal.SIGINT, self.before)

    def on_step_end(self, args, state, control, **kwargs) -> None:
        if self.stopped:
            control.should_save = control.should_training_stop = True

    def on_train_end(self, args, state, control, **kwargs) -> None:
        signal.signal(signal.SIGINT, self.before)


def finetune(
    recipe: Recipe,
    out: Path,
    dataset: DatasetDict | None = None,
    resume: bool = False,
    samples: int = 3,
) -> Trained:
    """Teach `recipe.base` the stories of `dataset` (by default the recipe's own corpus) in folder `out`.

    The adapter, in PEFT's format, lies in `out/adapter` only once it is whole. Raises UserError for a folder that holds
    another run, rows without a story, or a loss that is not finite, and Interrupted after Ctrl-C.
    """
    run = Run(Path(out))
    dataset = dataset or data.load(recipe.corpus, **recipe.data)
    tokenizer = load_tokenizer(recipe.base)
    train = fitting(dataset["train"], tokenizer, recipe.train.window)
    hashes = {"data": text_hash([*train["prompt"], *train["completion"]]), "base": weights_hash(recipe.base)}
    run.open(recipe, hashes, resume)
    torch.manual_seed(recipe.train.seed)
    model = attach_lora(load_base(recipe.base, recipe.four_bit), recipe.lora)
    trainer = story_trainer(recipe, run, model, tokenizer, train, dataset["test"])
    prompts = list(dict.fromkeys(dataset["test"]["prompt"]))[:samples]
    stop = StopAtStepEnd()
    trainer.add_callback(LogSteps(run))
    if prompts:
        trainer.add_callback(TellSamples(run, tokenizer, prompts, recipe.generate, recipe.train.seed))
    trainer.add_callback(stop)
    last = run.last_checkpoint()
    with full_disk_named(run.folder):
        trainer.train(resume_from_checkpoint=str(last) if last else None)
    if stop.stopped:
        raise Interrupted(f"stopped at step {trainer.state.global_step}; its state is kept in {run.checkpoints}")
    with full_disk_named(run.folder):
        save_adapter(run, model, tokenizer, recipe.base)
    return Trained(run, read_log(run))


@contextmanager
def full_disk_named(folder: Path) -> Iterator[None]:
    """Say that the disk is full where torch and safetensors only say that writing failed."""
    try:
        yield
    except (RuntimeError, SafetensorError) as error:
        if shutil.disk_usage(folder).free < 2**20:
            raise OSError(
                errno.ENOSPC, f"no space left on the disk; free some and go on with --resume: {folder}"
            ) from error
        raise


def fitting(rows: Dataset, tokenizer: PreTrainedTokenizerBase, window: int) -> Dataset:
    """The prompt and completion of the rows; UserError where more than 0.5 % would be cut by the window."""
    if len(rows) == 0:
        raise UserError("the training split has no rows")
    texts = [prompt + story for prompt, story in zip(rows["prompt"], rows["completion"], strict=True)]
    lengths = [len(ids) + 1 for ids in tokenizer(texts).input_ids]  # and EOS
    cut = sum(length > window for length in lengths)
    if cut > 0.005 * len(rows):
        raise UserError(
            f"{cut} of {len(rows)} rows are longer than the window of {window} tokens; split or shorten them"
        )
    return rows.select_columns(["prompt", "completion"])


def story_trainer(recipe: Recipe, run: Run, model: PeftModel, tokenizer, train: Dataset, test: Dataset) -> SFTTrainer:
    """TRL's trainer with loss on the story only, EOS learnt, and precision by machine."""
    settings = recipe.train
    steps = math.ceil(math.ceil(len(train) / settings.effective_batch) * settings.epochs)
    every = max(1, math.ceil(steps / settings.evaluations))
    args = SFTConfig(
        output_dir=str(run.checkpoints),
        num_train_epochs=settings.epochs,
        per_device_train_batch_size=settings.batch_size,
        per_device_eval_batch_size=settings.batch_size,
        gradient_accumulation_steps=settings.accumulate,
        learning_rate=settings.learning_rate,
        lr_scheduler_type=settings.schedule,
        warmup_steps=round(settings.warmup * steps),
        weight_decay=settings.weight_decay,
        max_grad_norm=settings.max_grad_norm,
        optim=settings.optimizer,
        max_length=settings.window,
        train_sampling_strategy="group_by_length",
        completion_only_loss=True,
        bf16=compute_dtype() == torch.bfloat16,
        fp16=compute_dtype() == torch.float16,
        gradient_checkpointing=torch.cuda.is_available(),
        gradient_checkpointing_kwargs={"use_reentrant": False},
        eval_strategy="steps",
        eval_steps=every,
        save_strategy="steps",
        save_steps=every,
        save_total_limit=2,
        logging_steps=1,
        logging_nan_inf_filter=False,  # it would replace a NaN by the running mean
        report_to="none",
        dataloader_pin_memory=torch.cuda.is_available(),
        seed=settings.seed,
    )
    trainer = SFTTrainer(
        model,
        args,
        train_dataset=train,
        eval_dataset=test.select_columns(train.column_names),
        processing_class=tokenizer,
    )
    trainer.remove_callback(ProgressCallback)
    trainable_in_fp32(model)  # the trainer has cast them to bf16
    return trainer


def save_adapter(run: Run, model: PeftModel, tokenizer, base: str) -> None:
    """The adapter, tokenizer and run card in one folder that is moved into place when it is whole."""
    broken = [name for name, p in model.named_parameters() if p.requires_grad and not torch.isfinite(p).all()]
    if broken:
        raise UserError(f"{len(broken)} adapter weights are not finite, the first is {broken[0]}; nothing was saved")
    model.peft_config["default"].base_model_name_or_path = base
    with atomic_folder(run.adapter) as part:
        model.save_pretrained(part, save_embedding_layers=False)
        tokenizer.save_pretrained(part)
        (part / "run.json").write_bytes(run.card.read_bytes())
        (part / "README.md").unlink(missing_ok=True)


def read_log(run: Run) -> list[dict[str, float]]:
    """The rows of the run's log so far."""
    if not run.log.exists():
        return []
    return [json.loads(line) for line in run.log.read_text(encoding="utf-8").splitlines()]
