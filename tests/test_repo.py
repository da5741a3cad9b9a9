"""Promises about the repository itself."""

import json
import re
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest
from safetensors import safe_open

from storylib import config
from storylib.emoji import vocabulary
from storylib.files import DATA
from storylib.models import base_of
from storylib.runs import flat, read_card

ROOT = DATA.parent
HEAVY = ("torch", "transformers", "datasets", "matplotlib", "pandas")


@pytest.mark.parametrize("module", ["", ".config", ".emoji", ".prompts", ".errors", ".files", ".runtime", ".metrics"])
def test_light_modules_load_nothing_heavy(module):
    heavy = [name for name in HEAVY if not (module == ".metrics" and name == "pandas")]
    code = f"import sys, storylib{module}; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.strip() == "[]", done.stderr


def test_nothing_that_trains_imports_what_shows():
    shows = {"__main__", "plots", "widgets", "reports", "run_report", "demo", "live"}
    imports = re.compile(
        rf"^\s*(from storylib import .*|from storylib\.|import storylib\.)\b({'|'.join(shows)})\b", re.M
    )
    for path in (ROOT / "storylib").rglob("*.py"):
        if path.relative_to(ROOT / "storylib").parts[0].removesuffix(".py") not in shows:
            assert not imports.search(path.read_text(encoding="utf-8")), path


def test_base_model_is_small_and_whole():
    folder = DATA / "base_model"
    assert sum(file.stat().st_size for file in folder.iterdir()) <= 24e6
    with safe_open(folder / "model.safetensors", "np") as weights:
        assert weights.keys()
    assert json.loads((folder / "config.json").read_text())["dtype"] == "bfloat16"


@pytest.mark.parametrize("folder", sorted((DATA / "adapters").iterdir()), ids=lambda folder: folder.name)
def test_shipped_adapters_are_whole_and_made_by_the_recipes_of_today(folder):
    card = read_card(folder / "run.json")
    made_by, today = flat(card["recipe"]), flat(json.loads(json.dumps(asdict(config.recipe(card["recipe"]["name"])))))
    made_by.pop("generate.batch_size")  # it makes no other story
    assert {key: today.get(key) for key in made_by} == made_by
    assert base_of(folder) == config.EMBEDDED_BASE  # its weights are those that were trained on
    assert (folder / "README.md").read_text(encoding="utf-8").startswith("---\nlicense: cc0-1.0\n")
    assert sum(file.stat().st_size for file in folder.iterdir()) <= 6e6


def test_each_emoji_is_one_token_and_no_script_is_unknown(tokenizer):
    for kind in ("roles", "places", "themes"):
        for emoji in vocabulary()[kind]:
            assert len(tokenizer(emoji, add_special_tokens=False).input_ids) == 1, emoji
    for text in ("Era uma vez uma raposa, à noite.", "从前有一只狐狸。", "むかし、きつねがいました。", "🦕 ᚠ"):
        assert tokenizer.decode(tokenizer(text, add_special_tokens=False).input_ids) == text


def test_shipped_emoji_stories_load_with_datasets_alone():
    load = "datasets.load_dataset('data/emoji_stories', 'easy')"
    code = f"import datasets; d = {load}; print(len(d['train']), len(d['test']))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.split() == ["785", "60"], done.stderr


def test_every_module_has_a_docstring():
    for path in sorted(Path(ROOT / "storylib").rglob("*.py")):
        assert path.read_text(encoding="utf-8").startswith('"""'), path
