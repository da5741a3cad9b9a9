"""What is in a corpus: sizes, lengths, openings, duplicates and labels, as plain numbers."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np
import regex

from storylib.data.duplicates import NO_SPACES, fingerprint, near_duplicates, words
from storylib.errors import UserError

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict

MOST = 10  # openings, and values of a column, that a table shows
MANY = 50_000  # rows; near duplicates among more would take many minutes, and 10 KB of memory a row
NO_LABELS = ("id", "prompt", "completion")
QUANTILES = {"shortest": 0, "10 %": 0.1, "median": 0.5, "90 %": 0.9, "longest": 1}
OPENS_WITHOUT_SPACES = regex.compile(rf"\P{{L}}*{NO_SPACES}")


@dataclass(frozen=True)
class Part:
    """The sizes of one split, or of one language in it where there are several; `lengths` has the words of each row."""

    split: str
    language: str | None
    rows: int
    words: int
    characters: int
    tokens: int | None
    lengths: tuple[int, ...]

    @property
    def name(self) -> dict[str, str]:
        return {"split": self.split} | ({"language": self.language} if self.language else {})


@dataclass(frozen=True)
class Repeat:
    """A row whose text is that of an earlier row, exactly or nearly. Rows count from 0, splits in their order."""

    split: str
    row: int
    of_split: str
    of_row: int
    exact: bool


@dataclass(frozen=True)
class Description:
    """A corpus in numbers; `tables` has them as rows to show."""

    parts: tuple[Part, ...]
    openings: dict[str, Counter[str]]  # split -> opening -> rows
    repeats: tuple[Repeat, ...]
    near: bool  # whether near duplicates were looked for
    values: dict[str, dict[str, Counter]]  # column -> split -> value -> rows

    def tables(self) -> dict[str, list[dict]]:
        """Title -> rows, each a dict with the same keys: for a notebook, `pandas.DataFrame(rows)`."""
        tables = {
            "size": [size_row(part) for part in self.parts],
            "length in words": [length_row(part) for part in self.parts],
            "duplicates": [repeat_row(split, self.repeats, self.near) for split in self.openings],
            "most frequent openings": count_rows("opening", self.openings),
        }
        return tables | {f"values of {column}": count_rows(column, counts) for column, counts in self.values.items()}

    def lengths(self) -> dict[str, list[int]]:
        """Words of each row, by language where there are several, else by split: what a histogram is drawn of."""
        lengths = {}
        for part in self.parts:
            lengths.setdefault(part.language or part.split, []).extend(part.lengths)
        return lengths


def describe(dataset: "DatasetDict", tokenizer=None) -> Description:
    """The numbers of a corpus of prompts and completions; in several languages, sizes and lengths are by language.

    A prompt that does not end its line is the beginning of the story, and counts as such. Words are counted without
    punctuation; in scripts without spaces each character is one. An opening is the first three words, or in such a
    script the first four characters. Near duplicates share 7 in 10 of their runs of five words; among more than 50,000
    rows they are not looked for. Values are counted of columns that name kinds of rows, such as a label.

    tokenizer: with one, `tokens` has how many it makes of the texts, special ones not counted.
    Raises UserError for a dataset without these two columns.
    """
    texts = {split: texts_of(rows, split) for split, rows in dataset.items()}
    near = sum(map(len, texts.values())) <= MANY
    return Description(
        parts=tuple(size(*part, rows, tokenizer) for part, rows in by_language(dataset, texts).items()),
        openings={split: Counter(map(opening, rows)) for split, rows in texts.items()},
        repeats=find_repeats(texts, near),
        near=near,
        values=count_values(dataset),
    )


def texts_of(rows: "Dataset", split: str) -> list[str]:
    """The stories: completions, behind their prompts where these are beginnings rather than lines of their own."""
    if missing := [column for column in ("prompt", "completion") if column not in rows.column_names]:
        raise UserError(f"the {split} split has {', '.join(rows.column_names)}, and no {' and no '.join(missing)}")
    pairs = zip(rows["prompt"][:], rows["completion"][:], strict=True)
    return [completion if prompt.endswith("\n") else prompt + completion for prompt, completion in pairs]


def by_language(
    dataset: "DatasetDict", texts: Mapping[str, Sequence[str]]
) -> dict[tuple[str, str | None], Sequence[str]]:
    """The texts by split and language; the language is None where they are all in one, or nothing says which."""
    languages = {split: rows["language"][:] for split, rows in dataset.items() if "language" in rows.column_names}
    if len(languages) < len(texts) or len(set(chain(*languages.values()))) < 2:
        return {(split, None): rows for split, rows in texts.items()}
    found = {}
    for split, rows in texts.items():
        for text, language in zip(rows, languages[split], strict=True):
            found.setdefault((split, str(language)), []).append(text)
    return found


def size(split: str, language: str | None, texts: Sequence[str], tokenizer) -> Part:
    lengths = tuple(len(words(text)) for text in texts)
    tokens = None
    if tokenizer is not None and texts:
        tokens = sum(map(len, tokenizer(texts, add_special_tokens=False, verbose=False).input_ids))
    return Part(split, language, len(texts), sum(lengths), sum(map(len, texts)), tokens, lengths)


def opening(text: str) -> str:
    """How a text begins, punctuation aside.

    >>> opening("“Once upon a time"), opening("「むかし、きつねが")
    ('once upon a', 'むかしき')
    """
    first = words(text[:200])
    return "".join(first[:4]) if OPENS_WITHOUT_SPACES.match(text) else " ".join(first[:3])


def find_repeats(texts: Mapping[str, Sequence[str]], near: bool) -> tuple[Repeat, ...]:
    """Each row that repeats an earlier one, named with the first such; splits are searched in their order."""
    places = [(name, row) for name, rows in texts.items() for row in range(len(rows))]
    pooled = [text for rows in texts.values() for text in rows]
    first, exact = {}, {}
    for index, mark in enumerate(map(fingerprint, pooled)):
        if (earlier := first.setdefault(mark, index)) != index:
            exact[index] = earlier
    found = (near_duplicates(pooled) if near else {}) | exact
    return tuple(Repeat(*places[index], *places[of], index in exact) for index, of in sorted(found.items()))


def count_values(dataset: "DatasetDict") -> dict[str, dict[str, Counter]]:
    values = {}
    for column in dict.fromkeys(name for rows in dataset.values() for name in rows.column_names):
        cells = {split: rows[column][:] for split, rows in dataset.items() if column in rows.column_names}
        if column not in NO_LABELS and are_labels([cell for rows in cells.values() for cell in rows]):
            values[column] = {split: Counter(rows) for split, rows in cells.items()}
    return values


def are_labels(cells: Sequence) -> bool:
    """Whether the cells name kinds of rows: two rows of a kind on average, or more; of numbers few, or they measure."""
    if any(isinstance(cell, list | dict) for cell in cells):
        return False
    kinds = set(cells) - {"", None}
    measured = len(kinds) > MOST and any(isinstance(kind, int | float) for kind in kinds)
    return 0 < 2 * len(kinds) <= len(cells) and not measured


def size_row(part: Part) -> dict:
    row = part.name | {"rows": part.rows, "words": part.words, "characters": part.characters}
    return row if part.tokens is None else row | {"tokens": part.tokens}


def length_row(part: Part) -> dict:
    lengths = part.lengths or (0,)
    return part.name | {title: round(float(np.quantile(lengths, share))) for title, share in QUANTILES.items()}


def repeat_row(split: str, repeats: Sequence[Repeat], near: bool) -> dict:
    found = Counter((repeat.of_split == split, repeat.exact) for repeat in repeats if repeat.split == split)
    row = {"split": split, "exact": found[True, True], "exact, of another split": found[False, True]}
    return row | ({"near": found[True, False], "near, of another split": found[False, False]} if near else {})


def count_rows(heading: str, counts: Mapping[str, Counter]) -> list[dict]:
    """The values that come most often, twice at least, with their rows in each split; the others in a last row."""
    total = sum(counts.values(), Counter())
    top = [value for value, count in total.most_common(MOST) if count > 1]
    rows = [{heading: value} | {name: count[value] for name, count in counts.items()} for value in top]
    if len(total) > len(top):
        others = {name: count.total() - sum(count[value] for value in top) for name, count in counts.items()}
        rows.append({heading: f"… {len(total) - len(top)} others"} | others)
    return rows
