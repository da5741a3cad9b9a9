"""The trap of padding with EOS, made on purpose: what a model learns of ends when its padding hides them."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from datasets import DatasetDict
from transformers import DataCollatorForLanguageModeling, PreTrainedModel, PreTrainedTokenizerBase

from storylib import metrics
from storylib.config import Recipe
from storylib.errors import UserError
from storylib.generation import Story
from storylib.metrics import Score
from storylib.models import attach_lora, load_base, load_tokenizer
from storylib.runs import Run
from storylib.trainer import story_trainer
from storylib.training import rows_of


@dataclass(frozen=True)
class Padded:
    """A model that was taught with one kind of padding."""

    pad: str
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase


def collator(tokenizer: PreTrainedTokenizerBase) -> DataCollatorForLanguageModeling:
    """How the tutorials of 2023 made batches: the whole text is learnt, and a label is left out where the id is that
    of the padding. With pad = EOS that leaves out every end."""
    return DataCollatorForLanguageModeling(tokenizer, mlm=False)


def batch_of(tokenizer: PreTrainedTokenizerBase, rows: Sequence[dict]) -> dict[str, torch.Tensor]:
    """`input_ids`, `attention_mask` and `labels` (B, T) of rows with `prompt` and `completion`."""
    texts = [row["prompt"] + row["completion"] + tokenizer.eos_token for row in rows]
    return dict(collator(tokenizer)([{"input_ids": ids} for ids in tokenizer(texts).input_ids]))


def label_rows(base: str, pad: str, texts: Sequence[str]) -> list[dict[str, object]]:
    """For a table: the tokens of a small batch with this padding, and those that are trained on."""
    tokenizer = with_pad(load_tokenizer(base), pad)
    batch = batch_of(tokenizer, [{"prompt": "", "completion": text} for text in texts])
    rows = []
    for ids, labels in zip(batch["input_ids"].tolist(), batch["labels"].tolist(), strict=True):
        signs = tokenizer.convert_ids_to_tokens(ids)
        learnt = [sign if label == token else "-" for sign, token, label in zip(signs, ids, labels, strict=True)]
        rows.append({"pad": pad, "read": visible(signs), "trained on": visible(learnt)})
    return rows


def visible(signs: Sequence[str]) -> str:
    return " ".join(signs).replace("Ġ", "·")  # how byte-level tokenizers write a space


def ending_scores(stories: Sequence[Story]) -> dict[str, Score]:
    """Whether stories come to an end, and how long they are."""
    return {
        "stopped by itself": metrics.stopped_share([story.ended for story in stories]),
        "words": metrics.length_in_words([story.text for story in stories]),
    }


def with_pad(tokenizer: PreTrainedTokenizerBase, pad: str) -> PreTrainedTokenizerBase:
    """The tokenizer padding with EOS ("eos"), or with a token of its own ("own")."""
    if pad not in ("own", "eos"):
        raise UserError(f"pad is 'own' or 'eos', got {pad!r}")
    if pad == "eos":
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def untaught(recipe: Recipe) -> Padded:
    """The recipe's base as it is, to compare with."""
    return Padded("own", load_base(recipe.base, recipe.four_bit).eval(), load_tokenizer(recipe.base))


def train_padded(recipe: Recipe, pad: str, dataset: DatasetDict) -> Padded:
    """Teach the recipe's base with this padding, all else alike; nothing is kept but the model.

    Raises UserError for another `pad` than "own" and "eos".
    """
    tokenizer = with_pad(load_tokenizer(recipe.base), pad)
    torch.manual_seed(recipe.train.seed)
    model = attach_lora(load_base(recipe.base, recipe.four_bit), recipe.lora)
    train, held_out = rows_of(dataset, tokenizer, recipe.train.window, say=lambda text: None)
    make = collator(tokenizer)
    with tempfile.TemporaryDirectory() as folder:
        trainer = story_trainer(recipe, Run(Path(folder)), model, tokenizer, train, held_out)
        trainer.data_collator = lambda rows: make([{"input_ids": row["input_ids"]} for row in rows])
        trainer.train()
    return Padded(pad, model.eval(), tokenizer)
