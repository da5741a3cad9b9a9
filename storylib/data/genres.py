"""Horror and fairy tales: raw Project Gutenberg books, one folder for each genre, turned into rows of up to 50 lines.

A row is a stretch of one tale: `prompt` asks for its genre, `response` is the stretch, `label` the genre, `book` and
`tale` say where it stands and `lines` how many lines of the book it covers, the blank ones between paragraphs included.
Rows end where a paragraph does or, where none ends nearby, a sentence.

A tale is in one split, which its book and title decide. A novel is one tale, however many chapters it has: split by
chapters, its test rows would be about people met in training. It goes to train whole: in another split it would crowd
out the rest.
"""

import math
import re
import warnings
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from difflib import get_close_matches
from itertools import accumulate
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from storylib.data.corpus import SPLITS, Card, Report, read_corpus, write_corpus
from storylib.data.duplicates import near_duplicates
from storylib.data.reading import column, read_rows
from storylib.data.sentences import sentence_ends
from storylib.data.splitting import split_of
from storylib.data.tales import Book, Paragraph, Tale, read_book
from storylib.errors import UserError
from storylib.files import DATA
from storylib.prompts import GENRES, genre_prompt

if TYPE_CHECKING:
    import datasets

LINES = 50  # of a row at most
NEAR = 0.7  # of the length aimed at: from here on a row may end
LEAVES_OFF = re.compile(r"(?:[,:;][—-]*|\w)$")  # `he said:--`; a signature, too
SHIPPED = DATA / "genres"
COLUMNS = {
    "prompt": "what is asked for: `Write me a horror story` or `Write me a fairy tale`",
    "response": "a stretch of a tale; paragraphs are parted by a blank line",
    "label": "the genre: `horror` or `fairy_tale`",
    "book": "the title of the book",
    "tale": "the title of the tale; of a novel, that of the book",
    "lines": "how many lines of the book the stretch covers, blank ones between its paragraphs included",
}


def load(source: str | Path | None = None, lines: int = LINES) -> "datasets.DatasetDict":
    """Splits with prompt, completion, label, book, tale and lines.

    source: "gutenberg" downloads the fourteen books of the catalogue once and prepares them. Or a folder that `prepare`
        wrote; a folder of raw books, with one sub-folder for each genre; a .jsonl or .csv file with `response` and
        `label`. Without one, the two shipped books.
    lines: of a row at most, where raw books are prepared.

    Raises UserError for a source that cannot be read, and what `prepare` raises.
    """
    if source is None:
        source = SHIPPED if lines == LINES else SHIPPED / "books"
    path = Path(source).expanduser()
    if path.suffix.lower() in (".jsonl", ".csv"):
        return load_file(path)
    if (path / "train.jsonl").exists():
        if lines != LINES:
            raise UserError(f"the rows of {path} are cut already; lines={lines} needs a folder of raw books")
        return with_prompts(read_corpus(path), path)
    with TemporaryDirectory() as folder:
        report = prepare(path, Path(folder) / "genres", lines=lines)
        for note in report.notes * (path != SHIPPED / "books"):
            warnings.warn(note, stacklevel=2)
        return with_prompts(read_corpus(Path(folder) / "genres"), path)


def load_file(path: Path) -> "datasets.DatasetDict":
    """A user's own rows, split by book and tale where they have both, else each by itself."""
    import datasets

    rows = read_rows(path)
    responses, labels = (column(rows, name, path) for name in ("response", "label"))
    splits = {split: [] for split in SPLITS}
    for row, response, label in zip(rows, responses, labels, strict=True):
        known = {name: str(row[name]) for name in ("book", "tale") if row.get(name)}
        key = "/".join(known.values()) if len(known) == 2 else response
        splits[split_of(key)].append({"response": response, "label": label, **known})
    if empty := [split for split, found in splits.items() if not found]:
        raise UserError(f"the {empty[0]} split of {path} would be empty; give more rows, of more tales")
    return with_prompts(
        datasets.DatasetDict({s: datasets.Dataset.from_list(found) for s, found in splits.items()}), path
    )


def with_prompts(rows: "datasets.DatasetDict", path: Path) -> "datasets.DatasetDict":
    """The rows with `prompt` as a model is to read it, and the response as `completion`."""
    for split, part in rows.items():
        if missing := {"response", "label"} - set(part.column_names):
            raise UserError(
                f"the {split} rows of {path} have no {' and no '.join(sorted(missing))}; is it a folder of genres?"
            )
        for label in dict.fromkeys(part["label"]):
            check_genre(label, f"a {split} row of {path}")
        others = [name for name in part.column_names if name not in ("prompt", "response")]
        columns = {"prompt": [genre_prompt(label) for label in part["label"]], "completion": part["response"]}
        rows[split] = type(part).from_dict(columns | {name: part[name] for name in others})
    return rows


def check_genre(genre: object, where: str) -> None:
    if genre not in GENRES:
        near = get_close_matches(str(genre), GENRES, n=1, cutoff=0)[0]
        raise UserError(f"{where} is of no known genre, {genre!r}; there are {', '.join(GENRES)}; nearest: {near}")


def prepare(source: Path, out: Path, *, lines: int = LINES) -> Report:
    """Turn raw books, `source/GENRE/*.txt`, into the folder `out` with its card; source "gutenberg" downloads them.

    Raises UserError for a source without such books, a book that cannot be read, fewer than 2 lines, an `out` that
    exists, and when all tales fall into one split.
    """
    if lines < 2:
        raise UserError(f"lines={lines} is too few for a row; 50 is usual")
    if out.exists():
        raise UserError(f"{out} exists already; choose another folder, or remove it first")
    if str(source) == "gutenberg" and not source.exists():
        from storylib.data.download import download

        source = download()
    books = read_books(source)
    tales = [(genre, book, tale) for genre, book in books for tale in book.tales]
    repeats = near_duplicates([tale.text for _, _, tale in tales])
    splits = {split: [] for split in SPLITS}
    kept = [tales[index] for index in range(len(tales)) if index not in repeats]
    for genre, book, tale in kept:
        split = "train" if book.novel else split_of(f"{book.title}/{tale.title}")
        splits[split] += rows_of(genre, book, tale, lines)
    rows = write_corpus(out, splits, card(kept, splits, lines))
    return Report(rows, [*marker_notes(books), *repeat_notes(tales, repeats)])


def read_books(source: Path) -> list[tuple[str, Book]]:
    """Genre and book of each text file, by genre and name. Raises UserError for a folder of another shape."""
    if not source.is_dir():
        raise UserError(f"there is no folder {source}; give one with a sub-folder of raw books for each genre")
    folders = sorted(path for path in source.iterdir() if path.is_dir() and any(path.glob("*.txt")))
    if not folders:
        raise UserError(f"{source} has no books; put them where they belong: {source / 'horror' / 'dracula.txt'}")
    for folder in folders:
        check_genre(folder.name, f"the folder {folder}")
    return [(folder.name, read_book(path)) for folder in folders for path in sorted(folder.glob("*.txt"))]


def rows_of(genre: str, book: Book, tale: Tale, lines: int) -> Iterator[dict]:
    for text, count in stretches(tale, lines):
        prompt = genre_prompt(genre).strip()
        yield dict(zip(COLUMNS, (prompt, text, genre, book.title, tale.title, count), strict=True))


def stretches(tale: Tale, size: int) -> Iterator[tuple[str, int]]:
    """The tale in stretches of up to `size` lines of the book, each with its number of lines.

    None crosses from one section into another, unless one of them has less prose than a quarter of a row. Those of a
    section are about as long as each other.
    """
    groups = []
    for section in tale.sections:
        if groups and min(prose_lines(groups[-1]), prose_lines(section)) < size / 4:
            groups[-1] += section
        else:
            groups.append(list(section))
    for rest in groups:
        while rest:
            taken, rest = cut(rest, size)
            yield "\n\n".join(paragraph.text.rstrip() for paragraph in taken), span(taken)


def prose_lines(section: Sequence[Paragraph]) -> int:
    return sum(len(paragraph.ends) for paragraph in section if not paragraph.verse)


def span(section: Sequence[Paragraph]) -> int:
    """Lines of the book, with a blank one between paragraphs."""
    return sum(len(paragraph.ends) + 1 for paragraph in section) - 1


def cut(section: Sequence[Paragraph], size: int) -> tuple[list[Paragraph], list[Paragraph]]:
    """The first row of a section, and the rest of it.

    The row ends, the nearest to the length aimed at, with a paragraph that comes to an end itself; or with a sentence;
    or with a paragraph that leaves off (`he said:`); or with a line.
    """
    total = span(section[: size * size])  # of a longer section the rest is no matter
    if total <= size:
        return list(section), []
    aim = total / math.ceil(total / size)  # so that the last row is no stump
    front = section[:size]
    used = [0, *accumulate(len(paragraph.ends) + 1 for paragraph in front[:-1])]  # lines in front of each paragraph
    ends = [(used[i] + len(paragraph.ends), i, len(paragraph.text)) for i, paragraph in enumerate(front)]

    def nearest(choices: Iterable[tuple[int, int, int]]) -> tuple[int, int, int] | None:
        """Of lines, paragraph and place in its text; None where nothing is near. Too short is the worse fault."""
        near = (choice for choice in choices if NEAR * aim <= choice[0] <= size)
        return min(near, key=lambda choice: max(choice[0] - aim, 2 * (aim - choice[0])), default=None)

    last = bisect_left(used, size) - 1  # the paragraph of line `size`
    choice = (
        nearest(end for end in ends if not LEAVES_OFF.search(section[end[1]].text[-9:]))
        or nearest(
            (used[i] + line_of(section[i], place), i, place)
            for i in range(last + 1)
            if ends[i][0] >= NEAR * aim
            for place in sentence_ends(section[i].text[: section[i].ends[: size + 1 - used[i]][-1]], "en")
        )
        or nearest(ends)
        or (size, last, section[last].ends[: size - used[last]][-1])
    )
    _, i, place = choice
    first, second = halves(section[i], place)
    return [*section[:i], first], [*second, *section[i + 1 :]]


def line_of(paragraph: Paragraph, place: int) -> int:
    """The line of the book, counted from 1, on which the character in front of `place` stands."""
    return bisect_left(paragraph.ends, place) + 1


def halves(paragraph: Paragraph, place: int) -> tuple[Paragraph, list[Paragraph]]:
    """The paragraph up to a place in its text, and what is left of it, if anything."""
    rest = paragraph.text[place:].lstrip()
    shift = len(paragraph.text) - len(rest)
    first = replace(
        paragraph, text=paragraph.text[:place], ends=(*paragraph.ends[: line_of(paragraph, place) - 1], place)
    )
    second = replace(paragraph, text=rest, ends=tuple(end - shift for end in paragraph.ends if end > shift))
    return first, [second] * bool(rest)


def marker_notes(books: Sequence[tuple[str, Book]]) -> list[str]:
    """Which books lack a marker of Project Gutenberg."""
    missing = [f"{book.title} (no {' and no '.join(book.missing)})" for _, book in books if book.missing]
    counted = f"{len(missing)} of {len(books)} books kept whole where a Project Gutenberg marker is missing"
    return [f"{counted}: {'; '.join(missing)}"] * bool(missing)


def repeat_notes(tales: Sequence[tuple[str, Book, Tale]], repeats: dict[int, int]) -> list[str]:
    """Which tales were dropped, and what they repeat."""
    named = [f"{tale.title} in {book.title}" for _, book, tale in tales]
    pairs = "; ".join(f"{named[later]} repeats {named[earlier]}" for later, earlier in repeats.items())
    return [f"{len(repeats)} of {len(tales)} tales dropped: {pairs}"] * bool(repeats)


def card(kept: Sequence[tuple[str, Book, Tale]], splits: dict[str, list[dict]], lines: int) -> Card:
    counts = Counter(row["label"] for rows in splits.values() for row in rows)
    books = dict.fromkeys(f"{book.title} ({GENRES[genre]})" for genre, book, _ in kept)
    return Card(
        title="Horror and fairy tales in rows",
        summary=f"Stretches of up to {lines} lines of {len(kept)} tales from {len(books)} books: "
        + " and ".join(f"{count:,} rows of {genre}" for genre, count in sorted(counts.items()))
        + ". No tale is in two splits, and a novel is in train whole: its chapters are about the same people.",
        languages=["en"],
        licence="That of the books. Project Gutenberg's are in the public domain in the USA; look up your own country.",
        source="\n".join(f"- {book}" for book in books),
        made="Headers, trailers, title pages, contents, prefaces, notes, illustrations and headings were removed, and "
        "wrapped lines joined. Tales that nearly repeat another were dropped. A row ends at a paragraph or, where none "
        "is near, at a sentence; no row crosses from one tale into another.",
        columns=COLUMNS,
        tags=["stories", "horror", "fairy-tales"],
    )
