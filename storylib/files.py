"""Files that are whole or not there at all."""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

DATA = Path(__file__).resolve().parents[1] / "data"  # shipped data


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A temporary name beside `path`, moved onto it when the block ends well, removed when it does not."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield part
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text that is never seen half-written."""
    with atomic_path(path) as part:
        part.write_text(text, encoding="utf-8")


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """A temporary folder beside `path`, renamed to it when the block ends well, removed when it does not."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        part.mkdir(parents=True)
        yield part
        part.rename(path)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def read_log(path: Path) -> list[dict]:
    """The rows of a JSONL log; a last line torn by a kill is left out, and no file is no rows."""
    rows = []
    for line in filter(None, path.read_bytes().split(b"\n") if path.exists() else []):  # a story may hold other breaks
        try:
            rows.append(json.loads(line))
        except ValueError:  # also where a character was torn
            break
    return rows


def trim_log(path: Path, done: int) -> None:
    """Drop the rows of steps after `done`: a run that goes on from there takes them again."""
    if path.exists():
        kept = [row for row in read_log(path) if row["step"] <= done]
        write_text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in kept))
