"""Run one recipe; return its log as plain numbers."""

import errno
import math
import random
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from datasets import Dataset, DatasetDict
from peft import PeftModel
from safetensors import SafetensorError
from torch.utils.data import Sampler, SequentialSampler
from transformers import PreTrainedTokenizerBase, PrinterCallback
from trl import SFTConfig, SFTTrainer

from storylib import data
from storylib.callbacks import LogSteps, StopAtStepEnd, TellSamples
from storylib.config import Recipe
from storylib.errors import UserError
from storylib.files import atomic_folder, read_log, trim_log
from storylib.models import attach_lora, load_base, load_tokenizer, trainable_in_fp32, weights_hash
from storylib.prompts import known_emojis
from storylib.runs import Run, describe, text_hash
from storylib.runtime import compute_dtype, device


class Interrupted(KeyboardInterrupt):
    """Training was stopped from the keyboard; its state is kept."""


@dataclass(frozen=True)
class Trained:
    """A finished run: where it lies, and its log, one dict per step or evaluation."""

    run: Run
    log: list[dict[str, float]]


class LengthGrouped(Sampler[int]):
    """Each epoch's own shuffle, with rows of like lengths in one batch; the same again for the same seed and epoch.

    The trainer's own length grouping draws from the global generator, so a run that is resumed within an epoch would go
    on in another order.
    """

    def __init__(self, lengths: Sequence[int], batch_size: int, seed: int) -> None:
        self.lengths, self.batch_size, self.seed, self.epoch = lengths, batch_size, seed, 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[int]:
        rng = random.Random(f"{self.seed}-{self.epoch}")
        shuffled = rng.sample(range(len(self)), len(self))
        cut = len(self) % self.batch_size  # the small last batch: any rows, or it would always be the longest story
        rows = sorted(shuffled[cut:], key=lambda row: self.lengths[row] // 8)  # tokens; shuffled within a length
        batches = [rows[start : start + self.batch_size] for start in range(0, len(rows), self.batch_size)]
        rng.shuffle(batches)
        return iter([row for batch in batches for row in batch] + shuffled[:cut])


class StoryTrainer(SFTTrainer):
    """TRL's trainer, with batches of like lengths in an order that a resumed run keeps."""

    def _get_train_sampler(self, train_dataset: Dataset | None = None) -> Sampler[int]:
        lengths = [len(ids) for ids in (train_dataset or self.train_dataset)["input_ids"]]
        together = self.args.train_batch_size * self.args.gradient_accumulation_steps
        return LengthGrouped(lengths, together, self.args.seed)

    def _get_eval_sampler(self, eval_dataset: Dataset) -> Sampler[int]:
        return SequentialSampler(eval_dataset)


def finetune(
    recipe: Recipe,
    out: Path,
    dataset: DatasetDict | None = None,
    resume: bool = False,
    samples: int = 3,
) -> Trained:
    """Teach `recipe.base` the stories of `dataset` (by default the recipe's own corpus) in folder `out`.

    The adapter, in PEFT's format, lies in `out/adapter` only once it is whole. `samples` prompts are told before,
    during and after. Raises UserError for a folder that holds another run, rows that don't fit the window, or a loss
    that is not finite; OSError for a full disk; Interrupted after Ctrl-C.
    """
    run = Run(Path(out))
    dataset = dataset or data.load(recipe.corpus, **recipe.data)
    tokenizer = load_tokenizer(recipe.base)
    train = fitting(dataset["train"], tokenizer, recipe.train.window)
    hashes = {"data": text_hash([*train["prompt"], *train["completion"]]), "base": weights_hash(recipe.base)}
    emojis = known_emojis(dataset["train"])
    card = describe(recipe, hashes, emojis)
    run.check(card, resume)
    torch.manual_seed(recipe.train.seed)
    tokens = name_tokens(tokenizer, emojis) if recipe.lora.names else []
    model = attach_lora(load_base(recipe.base, recipe.four_bit), recipe.lora, tokens)
    run.start(card)
    trainer = story_trainer(recipe, run, model, tokenizer, train, dataset["test"])
    trainer.add_callback(LogSteps(run))
    if prompts := list(dict.fromkeys(dataset["test"]["prompt"]))[:samples]:
        trainer.add_callback(TellSamples(run, tokenizer, prompts, recipe.generate, recipe.train.seed))
    with full_disk_named(run.folder):
        train_on(trainer, run)
        save_adapter(run, model, tokenizer, recipe.base)
    return Trained(run, read_log(run.log))


def train_on(trainer: SFTTrainer, run: Run) -> None:
    """Train from the run's last checkpoint, or from the start; Interrupted after Ctrl-C, with a checkpoint saved."""
    last = run.last_checkpoint()
    done = int(last.name.split("-")[1]) if last else 0
    trim_log(run.log, done)
    trim_log(run.samples, done if last else -1)
    with StopAtStepEnd() as stop:
        trainer.add_callback(stop)
        trainer.train(resume_from_checkpoint=str(last) if last else None)
    if stop.stopped:
        raise Interrupted(f"stopped at step {trainer.state.global_step}; its state is kept in {run.checkpoints}")


@contextmanager
def full_disk_named(folder: Path) -> Iterator[None]:
    """Say that the disk is full where torch and safetensors only say that writing failed."""
    try:
        yield
    except (RuntimeError, SafetensorError) as error:
        if "os error 28" in str(error) or shutil.disk_usage(folder).free < 2**20:
            raise OSError(errno.ENOSPC, f"the disk is full; free some and go on with --resume in {folder}") from error
        raise


def name_tokens(tokenizer: PreTrainedTokenizerBase, emojis: Mapping[str, str]) -> list[int]:
    """The emojis and the words of their names that are one token each, which a base may hardly have seen.

    A piece such as "ing" stays as it is: other words need it.
    """
    words = [f" {word}" for name in emojis.values() for word in name.split()]
    ids = tokenizer([*emojis, *words], add_special_tokens=False).input_ids
    return sorted({tokens[0] for tokens in ids if len(tokens) == 1})


def fitting(rows: Dataset, tokenizer: PreTrainedTokenizerBase, window: int) -> Dataset:
    """The prompt and completion of the rows; UserError where more than 0.5 % would be cut by the window."""
    if len(rows) == 0:
        raise UserError("the training split has no rows")
    texts = [prompt + story for prompt, story in zip(rows["prompt"], rows["completion"], strict=True)]
    lengths = [len(ids) + 1 for ids in tokenizer(texts).input_ids]  # and EOS
    cut = sum(length > window for length in lengths)
    if cut > 0.005 * len(rows):
        raise UserError(f"{cut} of {len(rows)} rows are longer than the window of {window} tokens; shorten them")
    return rows.select_columns(["prompt", "completion"])


def story_trainer(recipe: Recipe, run: Run, model: PeftModel, tokenizer, train: Dataset, test: Dataset) -> StoryTrainer:
    """A trainer with loss on the story only, EOS learnt, and precision by machine."""
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
        completion_only_loss=True,
        use_cpu=device().type == "cpu",
        bf16=compute_dtype() == torch.bfloat16,
        fp16=compute_dtype() == torch.float16,
        gradient_checkpointing=device().type == "cuda",
        gradient_checkpointing_kwargs={"use_reentrant": False},
        eval_strategy="steps",
        eval_steps=every,
        save_strategy="steps",
        save_steps=every,
        save_total_limit=2,
        logging_steps=1,
        logging_nan_inf_filter=False,  # it would replace a NaN by the running mean
        report_to="none",
        disable_tqdm=True,  # LogSteps has the one progress bar
        dataloader_pin_memory=device().type == "cuda",
        seed=settings.seed,
    )
    held_out = test.select_columns(train.column_names)
    trainer = StoryTrainer(model, args, train_dataset=train, eval_dataset=held_out, processing_class=tokenizer)
    trainer.remove_callback(PrinterCallback)
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
        (part / "README.md").unlink(missing_ok=True)  # PEFT's blank form
