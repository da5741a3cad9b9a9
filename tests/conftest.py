"""A base small enough to train in a test, with the shipped tokenizer."""

from storylib.runtime import quiet

quiet()  # before the libraries it quietens

import sys
from dataclasses import replace
from pathlib import Path

import datasets
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from storylib import __main__, config
from storylib.models import load_tokenizer
from storylib.prompts import story_prompt

STORIES = [
    ("hedgehog", "castle", "courage", "A hedgehog lived in a castle. He was brave."),
    ("fox", "garden", "hope", "A fox sat in the garden. She saw a rainbow and smiled."),
    ("owl", "forest", "sleep", "The owl was in a tree. It went to bed."),
    ("bee", "beach", "music", "A bee sang on the sand. The sea sang too."),
]


@pytest.fixture(scope="session")
def tokenizer():
    return load_tokenizer(config.EMBEDDED_BASE)


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory, tokenizer) -> Path:
    """A two-layer Llama with random weights, saved as a base."""
    folder = tmp_path_factory.mktemp("base") / "tiny"
    torch.manual_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=64,
            intermediate_size=128,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=128,
            tie_word_embeddings=True,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def rows() -> datasets.DatasetDict:
    """Four stories to train on and one to hold out."""
    told = [{"prompt": story_prompt(names), "completion": story} for *names, story in STORIES]
    return datasets.DatasetDict(train=datasets.Dataset.from_list(told), test=datasets.Dataset.from_list(told[:1]))


@pytest.fixture
def tiny_recipe(tiny_base) -> config.Recipe:
    """Four steps of one story each, in 4 bits."""
    return replace(
        config.recipe("emoji/cpu"),
        base=str(tiny_base),
        lora=config.LoraSettings(rank=4, alpha=8),
        train=config.TrainSettings(epochs=1, batch_size=1, learning_rate=1e-2, evaluations=2, window=64),
        generate=config.GenerationSettings(max_new_tokens=8),
    )


def said(capsys) -> list[str]:
    """The lines that runs have printed, but for those on the machine they are on."""
    return [line for line in capsys.readouterr().out.splitlines() if "; training takes " not in line]


@pytest.fixture
def command(monkeypatch, capsys):
    """Runs the command line in this process: (exit code, standard output, standard error)."""

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["storylib", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            __main__.main()
        out, err = capsys.readouterr()
        return end.value.code or 0, out, err

    return call
