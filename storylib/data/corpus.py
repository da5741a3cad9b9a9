"""A corpus as a folder: a JSONL file for each split and the card that says what they are."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from storylib.data.reading import stream_rows
from storylib.errors import UserError
from storylib.files import atomic_folder

if TYPE_CHECKING:
    import datasets
    import pyarrow

SPLITS = ("train", "validation", "test")
SIZES = {1_000: "n<1K", 10_000: "1K<n<10K", 100_000: "10K<n<100K", 1_000_000: "100K<n<1M", 10_000_000: "1M<n<10M"}
CHUNK = 1000  # rows turned into an Arrow table at a time


@dataclass(frozen=True, kw_only=True)
class Card:
    """What a reader of the data set has to know; `README.md` is made of it."""

    title: str
    summary: str  # a paragraph or two: what a row is, what it is for
    languages: list[str]  # codes such as "en"; none where nobody knows
    licence: str  # an identifier of the Hub, such as "cc0-1.0"; or a sentence, and the Hub shows "other"
    source: str  # where the texts come from
    made: str  # what was done to them
    columns: dict[str, str]  # what each column holds
    tags: list[str]


@dataclass(frozen=True)
class Report:
    """What a preparation gave: rows by split, and a counted note for each thing it left out or repaired."""

    rows: dict[str, int]
    notes: list[str]


def write_corpus(out: Path, splits: Mapping[str, Iterable[Mapping[str, object]]], card: Card) -> dict[str, int]:
    """Write `{split}.jsonl` for each split, one row at a time, and `README.md`; the rows in each split.

    The folder appears whole or not at all. Raises UserError when `out` exists, a split has no rows, or an `id` comes
    twice; ValueError for a row whose columns are not those of the card.
    """
    out = new_folder(out)
    rows, ids = {}, set()
    with atomic_folder(out) as part:
        for split, found in splits.items():
            rows[split] = write_split(part / f"{split}.jsonl", found, card, ids)
            if not rows[split]:
                raise UserError(f"the {split} split would be empty; give more texts, or a larger share to {split}")
        (part / "README.md").write_text(page(card, rows), encoding="utf-8")
    return rows


def new_folder(out: str | Path) -> Path:
    """The path of a folder to be made. Raises UserError when there is something already."""
    out = Path(out).expanduser()
    if out.exists():
        raise UserError(f"{out} exists already; choose another folder, or remove it first")
    return out


def write_split(path: Path, rows: Iterable[Mapping[str, object]], card: Card, ids: set[int]) -> int:
    """The number of rows written. `ids` gains the hashes of theirs: of 300,000 ids the texts would weigh more."""
    count = 0
    with path.open("w", encoding="utf-8", newline="\n") as file:
        for count, row in enumerate(rows, start=1):
            if row.keys() != card.columns.keys():
                raise ValueError(f"row {count} of {path.stem} has {', '.join(row)}; the card {', '.join(card.columns)}")
            if "id" in row:
                if (key := hash(str(row["id"]))) in ids:
                    raise UserError(f"the id {row['id']!r} comes twice, again in row {count} of {path.stem}")
                ids.add(key)
            file.write(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n")
    return count


def page(card: Card, rows: Mapping[str, int]) -> str:
    """The text of `README.md`: front matter by which `datasets` and the Hub find the splits, then prose."""
    from huggingface_hub import DatasetCardData

    known = " " not in card.licence  # an identifier rather than a sentence
    total = sum(rows.values())
    front = DatasetCardData(
        license=card.licence.lower() if known else "other",
        language=card.languages or None,
        task_categories=["text-generation"],
        pretty_name=card.title,
        size_categories=[next((size for bound, size in SIZES.items() if total < bound), "n>10M")],
        tags=card.tags,
        configs=[
            {"config_name": "default", "data_files": [{"split": split, "path": f"{split}.jsonl"} for split in rows]}
        ],
    )
    parts = [
        f"---\n{front.to_yaml()}\n---",
        f"# {card.title}",
        card.summary,
        table({"split": "rows"}, {split: f"{count:,}" for split, count in rows.items()}),
        table({"column": "what it holds"}, {f"`{name}`": text for name, text in card.columns.items()}),
        f"## Where it comes from\n\n{card.source}",
        f"## How it was made\n\n{card.made}",
        f"## Licence\n\n{card.licence}",
    ]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def table(head: Mapping[str, str], cells: Mapping[str, str]) -> str:
    """A Markdown table of two columns."""
    lines = [*head.items(), ("---", "---"), *cells.items()]
    return "\n".join(f"| {left} | {right} |" for left, right in lines)


def read_corpus(folder: Path) -> "datasets.DatasetDict":
    """The splits of a folder such as `write_corpus` makes: those of train, validation and test that it has, each a
    JSONL or CSV file.

    Raises UserError for a folder without a training split, and with its line for a row that cannot be read.
    """
    import datasets

    folder = Path(folder).expanduser()
    if not folder.is_dir():
        raise UserError(f"there is no folder {folder}; make one with: python -m storylib prepare")
    paths = {split: find_split(folder, split) for split in SPLITS}
    if paths["train"] is None:
        raise UserError(f"{folder} needs one of train.jsonl and train.csv, and has neither")
    return datasets.DatasetDict({split: read_split(path) for split, path in paths.items() if path})


def find_split(folder: Path, split: str) -> Path | None:
    """The file of that split, if there is one. Raises UserError for two of them."""
    found = [path for path in (folder / f"{split}.jsonl", folder / f"{split}.csv") if path.exists()]
    if len(found) > 1:
        raise UserError(f"{folder} needs one of {split}.jsonl and {split}.csv, and has both")
    return found[0] if found else None


def read_split(path: Path) -> "datasets.Dataset":
    """The rows of a JSONL or CSV file as Arrow columns, never all of them as Python objects at once.

    Raises UserError as `reading.stream_rows` does, for a column that holds texts here and numbers there, and for an
    `id` that comes twice.
    """
    import datasets
    import pyarrow

    rows, tables = stream_rows(path), []
    while chunk := list(islice(rows, CHUNK)):
        tables.append(arrow_table(chunk, path))
    if not tables:
        raise UserError(f"{path} has no rows")
    stat = path.stat()
    # datasets would pickle all rows for a fingerprint, which takes three times their memory
    mark = datasets.fingerprint.Hasher.hash([str(path.resolve()), stat.st_mtime_ns, stat.st_size])
    try:
        dataset = datasets.Dataset(pyarrow.concat_tables(tables, promote_options="permissive"), fingerprint=mark)
    except pyarrow.ArrowException as error:
        raise UserError(f"{path}: {error}; give each column values of one kind") from error
    ids = Counter(map(str, dataset["id"][:] if "id" in dataset.column_names else []))
    if len(ids) < ids.total():
        twice, count = ids.most_common(1)[0]
        raise UserError(f"{path}: the id {twice!r} comes {count} times; give each row its own")
    return dataset


def arrow_table(rows: list[dict], path: Path) -> "pyarrow.Table":
    """Rows as columns: those that any row has. Raises UserError with the name of a column of several kinds."""
    import pyarrow

    columns = {}
    for name in dict.fromkeys(name for row in rows for name in row):
        try:
            columns[name] = pyarrow.array([row.get(name) for row in rows])
        except (pyarrow.ArrowException, OverflowError) as error:
            raise UserError(f"{path}: the column {name!r} mixes texts, numbers or lists; make it one kind") from error
    return pyarrow.table(columns)


def read_hub(name: str) -> "datasets.DatasetDict":
    """A data set of the Hugging Face Hub. Raises UserError when there is none of that name or no connection."""
    import datasets

    try:
        return datasets.load_dataset(name)
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:  # OSError: ConnectionError, not found
        reason = str(error).partition("\n")[0]
        advice = "check the name and the connection, or give a local file"
        raise UserError(f"{name} is no local path, and not to be had from the Hub: {reason}; {advice}") from error
