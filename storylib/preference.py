"""Teach an adapter what readers prefer, by direct preference optimisation (Rafailov et al. 2023, arXiv 2305.18290)."""

import math
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from datasets import Dataset
from peft import PeftModel, get_peft_model_state_dict, set_peft_model_state_dict
from peft.utils import SAFETENSORS_WEIGHTS_NAME
from safetensors.torch import load_file
from torch.utils.data import Sampler
from transformers import PreTrainedTokenizerBase, PrinterCallback
from trl import DPOConfig, DPOTrainer

from storylib.batching import memory_named
from storylib.callbacks import LogSteps, TellSamples, append
from storylib.checkpoints import full_disk_named
from storylib.config import Recipe, TrainSettings
from storylib.data.splitting import share
from storylib.errors import UserError
from storylib.feedback import COLUMNS, FeedbackStore, as_pairs
from storylib.files import read_log
from storylib.models import (
    base_of,
    check_tokenizer,
    load_base,
    load_tokenizer,
    resolve,
    trainable_in_fp32,
    weights_hash,
)
from storylib.parallel import processes
from storylib.runs import Run, describe, read_card, text_hash
from storylib.runtime import sharded
from storylib.trainer import SameOrder, arguments, one_gpu
from storylib.training import Trained, begin, check_machine, save, train_on
from storylib.window import story_lengths, story_rows


@dataclass(frozen=True, kw_only=True)
class PreferenceSettings:
    """How readers' preferences are learnt; what is not here is as in the recipe that taught the adapter."""

    beta: float = 0.1  # how dear it is to leave the adapter as it was; higher keeps nearer to it
    learning_rate: float = 0.1  # of the recipe's
    epochs: float = 2.0
    batch_size: int = 4  # pairs per optimizer step: readers give few, and few steps teach little
    warmup: float = 0.1  # share of the steps
    held_out: float = 0.1  # share of the prompts whose pairs are kept for evaluation
    evaluations: int = 3  # how often, about, the held-out loss and the samples are taken

    def __post_init__(self) -> None:
        if min(self.beta, self.learning_rate, self.epochs) <= 0 or min(self.batch_size, self.evaluations) < 1:
            raise UserError(f"beta, learning_rate and epochs must be above 0 and sizes at least 1, got {self}")
        if not 0 < self.held_out <= 0.5:
            raise UserError(f"held_out must be above 0 and at most 0.5, got {self.held_out}")


class PairTrainer(SameOrder, DPOTrainer):
    """TRL's trainer, with batches in an order that a resumed run keeps and the tokens of `finetune`."""

    def _prepare_dataset(self, dataset: Dataset, processing_class: PreTrainedTokenizerBase, *_) -> Dataset:
        def tokenise(batch: dict[str, list]) -> dict[str, list]:
            columns: dict[str, list] = {}
            for end in ("chosen", "rejected"):
                rows = story_rows(processing_class, batch["prompt"], batch[end])
                columns["prompt_ids"] = [ids[:start] for ids, start in rows]
                columns[f"{end}_ids"] = [ids[start:] for ids, start in rows]
            return columns

        return dataset.map(tokenise, batched=True)

    def _get_train_sampler(self, train_dataset: Dataset | None = None) -> Sampler[int]:
        rows = train_dataset or self.train_dataset
        columns = (rows["prompt_ids"], rows["chosen_ids"], rows["rejected_ids"])
        lengths = [len(prompt) + max(len(one), len(other)) for prompt, one, other in zip(*columns, strict=True)]
        return self.in_order(lengths)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: PeftModel | None = None) -> None:
        super()._load_from_checkpoint(resume_from_checkpoint, model)
        # transformers before 5.23 reads the reference alone where it finds it, and the policy would begin anew
        weights = load_file(Path(resume_from_checkpoint) / SAFETENSORS_WEIGHTS_NAME)
        set_peft_model_state_dict(model or self.model, weights, adapter_name="default")


class LogRewards(LogSteps):
    """Also logs how far, in nats times beta, the chosen stories are ahead, and how often they are."""

    def on_log(self, args, state, control, logs, **kwargs) -> None:
        super().on_log(args, state, control, logs, **kwargs)
        wanted = ("rewards/margins", "rewards/accuracies")
        row = {key: value for key, value in logs.items() if key.removeprefix("eval_") in wanted}
        if row and state.is_world_process_zero:
            append(self.run.log, {"step": state.global_step} | row)


def finetune_from_feedback(
    recipe: Recipe,
    adapter: Path,
    feedback: FeedbackStore | Dataset | str | Path,
    out: Path,
    settings: PreferenceSettings | None = None,
    samples: int = 3,
    minutes: float = 10.0,
    say: Callable[[str], None] = print,
) -> Trained:
    """Teach `adapter`, which `recipe` trained, what readers prefer; the new adapter lies in `out/adapter`.

    feedback: a store, its path, or rows of prompt, chosen and rejected. The adapter as it was is the reference that
    the new one is held to; its own folder is left as it is. Samples, checkpoints and going on are those of `finetune`.
    Raises UserError for too little feedback, an adapter of another base, a folder that holds another run or has one at
    work in it, or a loss that is not finite; OSError for a full disk; Interrupted after Ctrl-C.
    """
    if sharded():
        raise UserError("FSDP cannot deal out an adapter and its reference: launch configs/ddp_two_t4.yaml")
    run, adapter, settings = Run(Path(out)), Path(adapter), settings or PreferenceSettings()
    state = processes()
    say = state.on_main_process(say)
    taught, pairs = check_adapter(adapter, recipe), as_pairs(feedback)
    each = pair_settings(recipe, settings)
    in_stories = replace(recipe, train=replace(each, batch_size=2 * each.batch_size))
    if not run.result:
        check_machine(in_stories, say)
    tokenizer = load_tokenizer(recipe.base)
    check_tokenizer(adapter, tokenizer, recipe.base)
    train, held_out, note = split(pairs, tokenizer, recipe.train.window, settings.held_out)
    texts = (text for column in COLUMNS for text in pairs[column])
    hashes = {"data": text_hash(texts), "base": weights_hash(recipe.base), "adapter": weights_hash(str(adapter))}
    card = describe(recipe, hashes, taught.get("emojis", {}))
    card["recipe"]["preference"] = asdict(settings)
    with run.alone() if state.is_main_process else nullcontext():
        if run.finished(card, say):
            return Trained(run, read_log(run.log))
        say(f"{len(train)} pairs to learn from, {len(held_out)} held out" + (f"; {note}" if note else ""))
        with memory_named(in_stories.train):
            torch.manual_seed(recipe.train.seed)
            model = load_trainable(adapter, recipe)
            begin(run, card)
            trainer = pair_trainer(recipe, settings, run, model, tokenizer, train, held_out)
            trainer.add_callback(LogRewards(run))
            if prompts := list(dict.fromkeys(held_out["prompt"]))[:samples]:
                trainer.add_callback(TellSamples(run, tokenizer, prompts, recipe.generate, recipe.train.seed))
            with full_disk_named(run.folder):
                train_on(trainer, run, minutes, say)
                model.delete_adapter("ref")
                save(run, model, tokenizer, recipe.base)
    return Trained(run, read_log(run.log))


def check_adapter(folder: Path, recipe: Recipe) -> Mapping:
    """The run card of an adapter, or {} where it has none; UserError where it is not whole or of another base."""
    base = base_of(folder)
    if resolve(base) != resolve(recipe.base):
        advice = f"the base of {recipe.name} is {recipe.base}; name the adapter's own recipe"
        raise UserError(f"{folder} is an adapter of {base}; {advice}")
    return read_card(folder / "run.json") if (folder / "run.json").exists() else {}


def load_trainable(folder: Path, recipe: Recipe) -> PeftModel:
    """An adapter on its base, ready to learn on."""
    model = PeftModel.from_pretrained(load_base(recipe.base, recipe.four_bit), folder, is_trainable=True)
    if not hasattr(model.get_output_embeddings(), "bias"):
        model.get_output_embeddings().bias = None  # TRL asks a tied head for it, and PEFT's wrapper hides it
    trainable_in_fp32(model)
    return model


def split(
    pairs: Dataset, tokenizer: PreTrainedTokenizerBase, window: int, held_out: float
) -> tuple[Dataset, Dataset, str]:
    """Pairs to train on, pairs of the `held_out` share of the prompts, and a note that counts what was left out.

    Raises UserError where fewer than two prompts are left.
    """
    chosen, rejected = (story_lengths(tokenizer, pairs["prompt"], pairs[end]) for end in ("chosen", "rejected"))
    fits = [place for place, both in enumerate(zip(chosen, rejected, strict=True)) if max(both) <= window]
    long = f"{len(pairs) - len(fits)} pairs left out: longer than {window} tokens" if len(fits) < len(pairs) else ""
    notes = "; ".join(note for note in (pairs.info.description, long) if note)
    pairs = pairs.select(fits)
    prompts = sorted(set(pairs["prompt"]), key=share)
    if len(prompts) < 2:
        found = f"{len(pairs)} pairs of {len(prompts)}" + (f" ({notes})" if notes else "")
        raise UserError(f"pairs of two prompts are needed, one to learn from and one to hold out; got {found}")
    kept = set(prompts[: max(1, round(held_out * len(prompts)))])
    places = range(len(pairs)), pairs["prompt"]
    train = pairs.select([place for place, prompt in zip(*places, strict=True) if prompt not in kept])
    return train, pairs.select([place for place, prompt in zip(*places, strict=True) if prompt in kept]), notes


def pair_settings(recipe: Recipe, settings: PreferenceSettings) -> TrainSettings:
    """The recipe's settings as each process takes them for pairs; their sizes count pairs."""
    among = processes().num_processes
    per_pass = max(1, min(settings.batch_size // among, recipe.train.batch_size // 2))  # two stories each
    return replace(
        recipe.train,
        batch_size=per_pass,
        accumulate=math.ceil(settings.batch_size / (per_pass * among)),
        learning_rate=settings.learning_rate * recipe.train.learning_rate,
        epochs=settings.epochs,
        warmup=settings.warmup,
        evaluations=settings.evaluations,
    )


def pair_trainer(
    recipe: Recipe, settings: PreferenceSettings, run: Run, model: PeftModel, tokenizer, train: Dataset, test: Dataset
) -> PairTrainer:
    """A trainer whose policy and reference are both the adapter as it was loaded."""
    args = DPOConfig(beta=settings.beta, **arguments(run, pair_settings(recipe, settings), len(train)))
    one_gpu(args)
    weights = {name: weight.detach().to("cpu", copy=True) for name, weight in adapter_weights(model).items()}
    trainer = PairTrainer(model, args=args, train_dataset=train, eval_dataset=test, processing_class=tokenizer)
    trainer.remove_callback(PrinterCallback)
    # The trainer has made the reference, a second adapter "ref", without the tokens' own embeddings, and has rounded
    # the policy to bf16: both are given the adapter as it was, and learning begins at a margin of exactly 0.
    trainable_in_fp32(model)
    for name in ("default", "ref"):
        set_peft_model_state_dict(model, dict(weights), adapter_name=name)  # PEFT 0.20 takes out what it has read
    return trainer


def adapter_weights(model: PeftModel, name: str = "default") -> dict[str, torch.Tensor]:
    """The weights of one of a model's adapters, the tokens' own embeddings included."""
    return get_peft_model_state_dict(model, adapter_name=name, save_embedding_layers=False)
