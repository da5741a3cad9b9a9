"""The folder of one run: what it holds, and whether it may be written to."""

import hashlib
import json
import platform
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

from storylib.config import Recipe
from storylib.errors import UserError
from storylib.files import write_text

PACKAGES = ("torch", "transformers", "peft", "trl", "bitsandbytes", "datasets", "tokenizers")


class Run:
    """`run.json` (recipe, versions, hashes), `log.jsonl`, `samples.jsonl`, `checkpoints/`; at the end `adapter/`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.card = folder / "run.json"
        self.log = folder / "log.jsonl"
        self.samples = folder / "samples.jsonl"
        self.checkpoints = folder / "checkpoints"
        self.adapter = folder / "adapter"

    def check(self, card: Mapping, resume: bool) -> None:
        """UserError where the run that `card` describes must not start or cannot go on here; nothing is written."""
        if self.adapter.exists():
            raise UserError(f"{self.folder} already holds a finished run; choose another folder with --out")
        if not self.card.exists():
            if self.folder.exists() and any(self.folder.iterdir()):
                raise UserError(f"{self.folder} is not empty and holds no run; choose another folder with --out")
            if resume:
                raise UserError(f"{self.folder} holds no run to go on with; leave --resume out, or name its folder")
        elif not resume:
            raise UserError(f"{self.folder} holds an unfinished run; go on with --resume, or choose another --out")
        elif changed := [key for key in ("recipe", "hashes") if read_card(self.card)[key] != card[key]]:
            raise UserError(f"{self.folder} was begun with other {' and '.join(changed)}; choose another --out")

    def start(self, card: Mapping) -> None:
        """Make the folder and write the card."""
        self.folder.mkdir(parents=True, exist_ok=True)
        write_text(self.card, json.dumps(card, indent=2, ensure_ascii=False))

    def last_checkpoint(self) -> Path | None:
        """The newest checkpoint that was saved whole: `trainer_state.json` is the last file of one."""
        states = [path for path in self.checkpoints.glob("checkpoint-*/trainer_state.json") if is_json(path)]
        return max((path.parent for path in states), key=lambda path: int(path.name.split("-")[1]), default=None)


def describe(recipe: Recipe, hashes: Mapping[str, str], emojis: Mapping[str, str]) -> dict:
    """What is needed to run it again (recipe with seeds, hashes, versions), and the emojis it learnt."""
    versions = {"python": platform.python_version()} | {name: version(name) for name in PACKAGES}
    card = {"recipe": asdict(recipe), "hashes": dict(hashes), "versions": versions, "emojis": dict(emojis)}
    return json.loads(json.dumps(card))  # so that it compares equal to what is read back


def read_card(path: Path) -> dict:
    """A run's card; UserError where it is damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path} is damaged ({error}); choose another --out") from error


def is_json(path: Path) -> bool:
    try:
        return bool(json.loads(path.read_text(encoding="utf-8")))
    except ValueError:
        return False


def text_hash(texts: list[str]) -> str:
    """sha256 over texts, each closed by a NUL."""
    digest = hashlib.sha256()
    for text in texts:
        digest.update(text.encode() + b"\0")
    return digest.hexdigest()
