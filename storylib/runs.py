"""The folder of one run: where it lies, what it holds, and whether it may be written to."""

import hashlib
import json
import platform
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

from filelock import FileLock, Timeout

from storylib.config import Recipe
from storylib.errors import UserError
from storylib.files import write_text

PACKAGES = ("torch", "transformers", "peft", "trl", "bitsandbytes", "datasets", "tokenizers")


def runs_folder(root: Path = Path("/")) -> Path:
    """Where runs outlive a hosted session: on Colab in Drive if it is mounted, on Kaggle in its working folder.

    Anywhere else it is ./runs. `root` stands in for the machine's file system.
    """
    drive, kaggle = root / "content/drive/MyDrive", root / "kaggle/working"
    if drive.is_dir():
        return drive / "storylib/runs"
    return kaggle / "runs" if kaggle.is_dir() else Path("runs")


class Run:
    """`run.json` (recipe, versions, hashes), `log.jsonl`, `samples.jsonl`, `checkpoints/`; at the end `adapter/`.

    A run that trains all weights ends with a whole `model/` instead.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.card = folder / "run.json"
        self.log = folder / "log.jsonl"
        self.samples = folder / "samples.jsonl"
        self.checkpoints = folder / "checkpoints"
        self.adapter = folder / "adapter"
        self.model = folder / "model"

    @property
    def result(self) -> Path | None:
        """What was trained, once it is whole: the adapter or the model."""
        return next((path for path in (self.adapter, self.model) if path.exists()), None)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Keep other runs out of the folder until the block ends; UserError where one is at work in it."""
        lock = lock_of(self.folder)
        try:
            lock.acquire(blocking=False)
        except Timeout as error:
            raise UserError(f"another run is at work in {self.folder}; let it end, or choose another --out") from error
        try:
            yield
        finally:
            lock.release()

    def check(self, card: Mapping) -> None:
        """UserError where the folder holds anything but the run that `card` describes; nothing is written."""
        if self.card.exists():
            if other := changes(read_card(self.card), card):
                raise UserError(f"{self.folder} holds a run with {other}; choose another folder with --out")
        elif self.folder.exists() and any(not path.name.startswith(".") for path in self.folder.iterdir()):
            raise UserError(f"{self.folder} is not empty and holds no run; choose another folder with --out")

    def finished(self, card: Mapping, say: Callable[[str], None] = print) -> bool:
        """Whether the folder holds the run that `card` describes, to its end, which is said; UserError as `check`."""
        self.check(card)
        if self.result:
            say(f"{self.folder} holds this very run, finished; to train anew choose another folder, or remove it")
        return self.result is not None

    def start(self, card: Mapping) -> None:
        """Make the folder and write the card; what a kill left half-written is removed."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for part in self.folder.glob(".*.part"):
            shutil.rmtree(part) if part.is_dir() else part.unlink()
        if not self.card.exists():
            write_text(self.card, json.dumps(card, indent=2, ensure_ascii=False))


def lock_of(path: Path) -> FileLock:
    """A lock on a file or folder among the processes of this machine.

    It is in the machine's temporary folder: there it ends with its process, however that ends, and a folder in Drive
    could not be locked.
    """
    name = hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:16]
    return FileLock(Path(tempfile.gettempdir()) / f"storylib-{name}.lock", mode=0o666)


def changes(before: Mapping, now: Mapping) -> str:
    """What sets the run of one card apart from that of another, in words; nothing where it is the same run.

    >>> changes({"recipe": {"train": {"epochs": 1}}, "hashes": {}}, {"recipe": {"train": {"epochs": 2}}, "hashes": {}})
    'train.epochs 1 instead of 2'
    """
    before, now = ({kind: flat(card.get(kind, {})) for kind in ("recipe", "hashes")} for card in (before, now))
    other = {
        kind: [key for key in before[kind] | now[kind] if before[kind].get(key) != now[kind].get(key)] for kind in now
    }
    settings = [f"{key} {before['recipe'].get(key)} instead of {now['recipe'].get(key)}" for key in other["recipe"]]
    return ", ".join([f"other {what}" for what in other["hashes"]] + settings)


def flat(settings: Mapping, inside: str = "") -> dict[str, object]:
    """Nested settings under dotted names.

    >>> flat({"train": {"epochs": 1}})
    {'train.epochs': 1}
    """
    names = {}
    for key, value in settings.items():
        names |= flat(value, f"{inside}{key}.") if isinstance(value, Mapping) else {inside + key: value}
    return names


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


def text_hash(texts: Iterable[str]) -> str:
    """sha256 over texts, each closed by a NUL."""
    digest = hashlib.sha256()
    for text in texts:
        digest.update(text.encode() + b"\0")
    return digest.hexdigest()
