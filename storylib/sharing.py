"""Put a fine-tuned model or a corpus on the Hugging Face Hub; first say what would go there, and what is missing."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from huggingface_hub import CommitOperationAdd, DatasetCard, HfApi, ModelCard, get_token
from huggingface_hub.errors import HFValidationError, HTTPError
from huggingface_hub.utils import validate_repo_id

from storylib.errors import UserError
from storylib.hub import give_token, use_secret
from storylib.runs import flat, read_card
from storylib.runtime import where

KINDS = (".safetensors", ".json", ".jsonl", ".csv", ".jinja", ".txt", ".model")  # of files that are shared
REQUIRED = {  # of a card, by what it is of
    "model": ("license", "library_name", "pipeline_tag"),
    "dataset": ("license", "task_categories", "pretty_name"),
}


@dataclass(frozen=True)
class Upload:
    """What would be put on the Hub, and what keeps it from being complete."""

    folder: Path
    name: str  # user/name
    kind: str  # "model" or "dataset"
    card: str  # the text of README.md
    files: dict[str, int]  # path in the folder -> bytes, README.md not among them
    missing: list[str] = field(default_factory=list)  # what has to be put right first
    notes: list[str] = field(default_factory=list)  # what should be known

    def __str__(self) -> str:
        lines = [f"{self.kind} {self.name}, from {self.folder}:"]
        lines += [f"  {size:>13,}  {path}" for path, size in self.sizes().items()]
        lines += [f"missing: {what}" for what in self.missing] + [f"note: {what}" for what in self.notes]
        return "\n".join(lines)

    def sizes(self) -> dict[str, int]:
        return {"README.md": len(self.card.encode())} | self.files


def plan(folder: Path, name: str, licence: str = "") -> Upload:
    """What `push` would put on the Hub as "user/name"; nothing is asked of the network.

    folder: a run, an adapter, a model, or a corpus such as `prepare` writes. A card that lies there is taken as it is;
    a model without one gets the card of its run. licence: an identifier of the Hub, for a card that has none.
    Raises UserError for a folder that is nothing of the kind, and for a name that can be none.
    """
    folder = Path(folder).expanduser()
    check_name(name)
    kind, folder, text = find(folder, name, licence)
    files, left = files_of(folder)
    upload = Upload(folder, name, kind, text, files)
    upload.missing.extend([*card_faults(kind, text), *token_fault()])
    if kind == "model":
        upload.missing.extend(model_faults(folder))
    if left:
        upload.notes.append(f"left out, for it is no part of a {kind}: {', '.join(left)}")
    upload.notes.extend(private_paths(folder))
    return upload


def push(upload: Upload, private: bool = True, say: Callable[[str], None] = print) -> str:
    """Put it on the Hub in one commit; the address. A new repository can be seen by its owner alone if `private`.

    Raises UserError where anything is missing, and where the Hub refuses or can't be reached.
    """
    if upload.missing:
        raise UserError(f"not uploaded: {'; '.join(upload.missing)}")
    files = {"README.md": upload.card.encode()} | {path: upload.folder / path for path in upload.files}
    parts = [CommitOperationAdd(path_in_repo=path, path_or_fileobj=content) for path, content in files.items()]
    hub = HfApi()
    try:
        address = hub.create_repo(upload.name, repo_type=upload.kind, private=private, exist_ok=True)
        say(f"uploading {sum(upload.sizes().values()):,} bytes to {address} …")
        hub.create_commit(upload.name, parts, commit_message="Upload by storylib", repo_type=upload.kind)
    except (HTTPError, OSError) as error:
        raise UserError(f"not uploaded to {upload.name}: {refusal(error)}") from error
    return str(address)


def refusal(error: Exception) -> str:
    """What the Hub said, on one line, and what to do."""
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status in (401, 403):
        return f"the Hub refuses the token; it needs leave to write to that name: make one, then {give_token(where())}"
    if status is None:
        return f"huggingface.co can't be reached ({type(error).__name__}); check the network"
    return f"the Hub says {status}: {(str(error).strip().splitlines() or [''])[0]}"


def check_name(name: str) -> None:
    try:
        validate_repo_id(name)
    except HFValidationError as error:
        raise UserError(f"{name!r} can be no name on the Hub; give one such as ana/bedtime-stories") from error
    if name.count("/") != 1:
        raise UserError(f"{name!r} has no user in it; give a name such as ana/bedtime-stories")


def find(folder: Path, name: str, licence: str) -> tuple[str, Path, str]:
    """The kind of a folder, where what is to be shared lies, and the text of its card."""
    if is_corpus(folder):
        page = folder / "README.md"
        return "dataset", folder, page.read_text(encoding="utf-8") if page.exists() else ""
    if not (folder / "run.json").exists():
        raise UserError(f"{folder} is neither a run, an adapter, a model nor a corpus; name a folder with a run.json")
    from storylib.cards import model_card  # torch takes seconds to load
    from storylib.facts import gather

    facts = gather(folder)
    if facts.result is None:
        raise UserError(f"{folder} has no adapter yet: let the run end, then push it")
    page = facts.result / "README.md"
    card = ModelCard.load(page) if page.exists() else model_card(facts, name, licence)
    if licence and not card.data.to_dict().get("license"):
        card.data.license = licence
    return "model", facts.result, str(card)


def is_corpus(folder: Path) -> bool:
    """Whether it has a training split, or folders such as levels or languages that have one."""
    return any(path.suffix in (".jsonl", ".csv") for path in [*folder.glob("train.*"), *folder.glob("*/train.*")])


def files_of(folder: Path) -> tuple[dict[str, int], list[str]]:
    """Files to share with their sizes, and the names of those that are not: hidden ones, pickles, pictures."""
    shared, left = {}, []
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        name = path.relative_to(folder).as_posix()
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if path.suffix in KINDS and not hidden:
            shared[name] = path.stat().st_size
        elif name != "README.md":
            left.append(name)
    return shared, left


def card_faults(kind: str, text: str) -> list[str]:
    """What a card lacks."""
    if not text:
        return ["README.md, the card: write one, or prepare the corpus with storylib"]
    try:
        front = (ModelCard if kind == "model" else DatasetCard)(text).data.to_dict()
    except ValueError as error:
        return [f"a card that can be read ({str(error).strip().splitlines()[0]})"]
    advice = {"license": ", such as --licence cc0-1.0"}
    return [f"{key} in the card{advice.get(key, '')}" for key in REQUIRED[kind] if not front.get(key)]


def model_faults(folder: Path) -> list[str]:
    """What keeps others from opening it."""
    if not list(folder.glob("*.safetensors")):
        return ["weights in safetensors"]
    if (folder / "config.json").exists():
        return []
    from storylib.models import base_of, resolve

    base = base_of(folder)
    if Path(resolve(base)).is_dir():
        merge = f"python -m storylib merge {folder} --out FOLDER"
        return [f"a base that others have: {base} is a folder here; merge the adapter into it ({merge}), and push that"]
    return []


def token_fault() -> list[str]:
    use_secret(where())
    return [] if get_token() else [f"a token of the Hub: {give_token(where())}"]


def private_paths(folder: Path) -> list[str]:
    """A note on folders of this machine that the run's card names."""
    page = folder / "run.json"
    values = flat(read_card(page)["recipe"]).values() if page.exists() else ()
    paths = [str(value) for value in values if isinstance(value, str) and Path(value).expanduser().is_absolute()]
    return [f"run.json and the card show paths of this machine: {', '.join(paths)}"] if paths else []
