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

    def open(self, recipe: Recipe, hashes: Mapping[str, str], resume: bool) -> None:
        """Start the run, or go on with it; UserError rather than touch what another run left here."""
        card = describe(recipe, hashes)
        if self.adapter.exists():
            raise UserError(f"{self.folder} already holds a finished run; choose another folder with --out")
        if not self.card.exists():
            if self.folder.exists() and any(self.folder.iterdir()):
                raise UserError(f"{self.folder} is not empty and holds no run; choose another folder with --out")
            self.folder.mkdir(parents=True, exist_ok=True)
            write_text(self.card, json.dumps(card, indent=2, ensure_ascii=False))
            return
        if not resume:
            raise UserError(f"{self.folder} holds an unfinished run; go on with --resume, or choose another --out")
        before = json.loads(self.card.read_text(encoding="utf-8"))
        changed = [key for key in ("recipe", "hashes") if before[key] != card[key]]
        if changed:
            raise UserError(f"{self.folder} was begun with other {' and '.join(changed)}; choose another --out")

    def last_checkpoint(self) -> Path | None:
        """The newest checkpoint that was saved whole: `trainer_state.json` is the last file of one."""
        whole = [state.parent for state in self.checkpoints.glob("checkpoint-*/trainer_state.json")]
        return max(whole, key=lambda folder: int(folder.name.split("-")[1]), default=None)


def describe(recipe: Recipe, hashes: Mapping[str, str]) -> dict:
    """What is needed to run it again: recipe with seeds, hashes of data and base, versions."""
    versions = {"python": platform.python_version()} | {name: version(name) for name in PACKAGES}
    # Through JSON, so that it compares equal to what is read back.
    return json.loads(json.dumps({"recipe": asdict(recipe), "hashes": dict(hashes), "versions": versions}))


def text_hash(texts: list[str]) -> str:
    """sha256 over texts, each closed by a NUL."""
    digest = hashlib.sha256()
    for text in texts:
        digest.update(text.encode() + b"\0")
    return digest.hexdigest()
