"""Rows from a user's JSONL or CSV file, or one line that says where the file is wrong."""

import csv
import json
from collections.abc import Iterator
from pathlib import Path

from storylib.errors import UserError

LONGEST = 16 * 2**20  # bytes of a line: a book on one line fits, a file that has lost its line ends does not


def read_rows(path: Path) -> list[dict]:
    """All rows of a file. Raises UserError as `stream_rows` does, and for a file without rows."""
    rows = list(stream_rows(path))
    if not rows:
        raise UserError(f"{path} has no rows")
    return rows


def stream_rows(path: Path) -> Iterator[dict]:
    """The rows of a .jsonl file, or of a .csv file whose first line names the columns, one at a time.

    Raises UserError for a file that is missing, of another kind or not UTF-8, and, with its line number, for a row that
    cannot be read.
    """
    path = Path(path)
    readers = {".jsonl": read_jsonl, ".csv": read_csv}
    if path.suffix.lower() not in readers:
        raise UserError(f"{path} is neither a .jsonl nor a .csv file; save it as one of them")
    return readers[path.suffix.lower()](path)


def column(rows: list[dict], name: str, path: Path) -> list[str]:
    """The texts of one column; UserError with its number for a row that has none."""
    for number, row in enumerate(rows, start=1):
        if not isinstance(row.get(name), str) or not row[name].strip():
            raise UserError(f"row {number} of {path} has no {name!r}; each needs one, such as {{{name!r}: 'Once …'}}")
    return [row[name] for row in rows]


def lines(path: Path) -> Iterator[tuple[int, str]]:
    """Number, from 1, and text of each line of a UTF-8 file, one at a time; without line end and byte order mark.

    Lines end at \\n or \\r\\n alone: a story may hold U+2028 or U+0085. Raises UserError for a file that cannot be
    read, a line over 16 MiB, which is never in memory, and, with line and offset, a byte that is not UTF-8.
    """
    number = offset = 0
    try:
        with Path(path).open("rb") as file:
            while raw := file.readline(LONGEST + 1):
                number += 1
                if len(raw) > LONGEST:
                    advice = "put each text on a line of its own"
                    raise UserError(f"{path}, line {number} is longer than {LONGEST >> 20} MiB; {advice}")
                text = decode(raw, path, number, offset).removesuffix("\n").removesuffix("\r")
                yield number, text.removeprefix("\ufeff") if number == 1 else text
                offset += len(raw)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error


def decode(raw: bytes, path: Path, number: int, offset: int) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        place = f"line {number} (byte 0x{raw[error.start]:02x} at offset {offset + error.start})"
        raise UserError(f"{path} is not UTF-8 at {place}; save it as UTF-8") from error


def read_jsonl(path: Path) -> Iterator[dict]:
    """The object of each line; blank lines are skipped."""
    for number, line in lines(path):
        if line.strip():
            yield parse_line(line, f"{path}, line {number}")


def parse_line(line: str, where: str) -> dict:
    try:
        row = json.loads(line)
        if "\\u" in line:
            json.dumps(row, ensure_ascii=False).encode()  # half an emoji, "\\ud83e", is good JSON and yet no text
    except (ValueError, RecursionError) as error:
        raise UserError(f"{where} is not valid JSON: {error}") from error
    if not isinstance(row, dict):
        raise UserError(f'{where} is not an object such as {{"role": "🦔", …}}, but {line.strip()[:40]}')
    return row


def read_csv(path: Path) -> Iterator[dict]:
    """The rows by column name. Each is as wide as the header, or refused."""
    reader = csv.DictReader(csv_lines(path), strict=True)  # strict refuses a quote that is never closed
    try:
        for row in reader:
            if None in row or None in row.values():  # where csv puts what is too much, and what is too little
                cells = f"the header names {len(reader.fieldnames)} columns"
                raise UserError(f"{path}, line {reader.line_num}: {cells}, this row has more or fewer cells")
            yield row
    except csv.Error as error:
        # line_num is still that of the last good row: a quote never closed is named where it opens, not at the end
        raise UserError(f"{path}, line {reader.line_num + 1}: {error}") from error


def csv_lines(path: Path) -> Iterator[str]:
    """The lines as csv wants them: with an end, since a quoted cell may hold several."""
    for number, line in lines(path):
        if "\0" in line:
            raise UserError(f"{path}, line {number} has a NUL byte, which is no text; save it as UTF-8")
        yield from (f"{part}\n" for part in line.split("\r"))  # old spreadsheets end lines with \r alone
