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
QUANTILES = {"shortest": 0, "10 %": 0.1, "median": 0.5, "90 %": 0.9, "longest": 1}
OPENS_WITHOUT_SPACES = regex.compile(rf"\P{{L}}*{NO_SPACES}")


@dataclass(frozen=True)
class Split:
    """The sizes of one split; `lengths` has the words of each row."""

    rows: int
    words: int
    characters: int
    tokens: int | None
    lengths: tuple[int, ...]


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

    splits: dict[str, Split]  # "train", or "train zh" where there are several languages
    openings: dict[str, Counter[str]]  # split -> opening -> rows
    repeats: tuple[Repeat, ...]
    values: dict[str, dict[str, Counter]]  # column -> split -> value -> rows

    def tables(self) -> dict[str, list[dict]]:
        """Title -> rows, each a dict with the same keys: for a notebook, `pandas.DataFrame(rows)`."""
        tables = {
            "size": [size_row(name, split) for name, split in self.splits.items()],
            "length in words": [length_row(name, split) for name, split in self.splits.items()],
            "duplicates": [repeat_row(name, self.repeats) for name in self.splits],
            "most frequent openings": count_rows("opening", self.openings),
        }
        return tables | {f"values of {column}": count_rows(column, counts) for column, counts in self.values.items()}


def describe(dataset: "DatasetDict", tokenizer=None) -> Description:
    """The numbers of a corpus of prompts and completions; in several languages, sizes and lengths are by language.

    A prompt that does not end its line is the beginning of the story, and counts as such. Words are counted without
    punctuation; in scripts without spaces each character is one. An opening is the first three words, or in such a
    script the first four characters. Near duplicates share 7 in 10 of their runs of five words. Values are counted for
    each column that has half as many of them as rows, or fewer.

    tokenizer: with one, `tokens` has how many it makes of the texts, special ones not counted.
    Raises UserError for a dataset without these two columns.
    """
    texts = {split: texts_of(rows, split) for split, rows in dataset.items()}
    return Description(
        splits={part: split_sizes(rows, tokenizer) for part, rows in parts(dataset, texts).items()},
        openings={split: Counter(map(opening, rows)) for split, rows in texts.items()},
        repeats=find_repeats(texts),
        values=count_values(dataset),
    )


def texts_of(rows: "Dataset", split: str) -> list[str]:
    """The stories: completions, behind their prompts where these are beginnings rather than lines of their own."""
    if missing := [column for column in ("prompt", "completion") if column not in rows.column_names]:
        raise UserError(f"the {split} split has {', '.join(rows.column_names)}, and no {' and no '.join(missing)}")
    pairs = zip(rows["prompt"][:], rows["completion"][:], strict=True)
    return [completion if prompt.endswith("\n") else prompt + completion for prompt, completion in pairs]


def parts(dataset: "DatasetDict", texts: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """The texts by split or, where there are several languages, by split and language."""
    languages = {split: rows["language"][:] for split, rows in dataset.items() if "language" in rows.column_names}
    if len(languages) < len(texts) or len(set(chain(*languages.values()))) < 2:
        return {split: list(rows) for split, rows in texts.items()}
    found = {}
    for split, rows in texts.items():
        for text, language in zip(rows, languages[split], strict=True):
            found.setdefault(f"{split} {language}", []).append(text)
    return found


def split_sizes(texts: Sequence[str], tokenizer) -> Split:
    lengths = tuple(len(words(text)) for text in texts)
    tokens = None
    if tokenizer is not None and texts:
        tokens = sum(map(len, tokenizer(texts, add_special_tokens=False, verbose=False).input_ids))
    return Split(len(texts), sum(lengths), sum(map(len, texts)), tokens, lengths)


def opening(text: str) -> str:
    """How a text begins, punctuation aside.

    >>> opening("“Once upon a time"), opening("「むかし、きつねが")
    ('once upon a', 'むかしき')
    """
    first = words(text[:200])
    return "".join(first[:4]) if OPENS_WITHOUT_SPACES.match(text) else " ".join(first[:3])


def find_repeats(texts: Mapping[str, Sequence[str]]) -> tuple[Repeat, ...]:
    """Each row that repeats an earlier one, named with the first such; splits are searched in their order."""
    places = [(name, row) for name, rows in texts.items() for row in range(len(rows))]
    pooled = [text for rows in texts.values() for text in rows]
    first, exact = {}, {}
    for index, mark in enumerate(map(fingerprint, pooled)):
        if (earlier := first.setdefault(mark, index)) != index:
            exact[index] = earlier
    found = near_duplicates(pooled) | exact
    return tuple(Repeat(*places[index], *places[of], index in exact) for index, of in sorted(found.items()))


def count_values(dataset: "DatasetDict") -> dict[str, dict[str, Counter]]:
    """The counts of each column of labels: one whose values are in two rows each on average, or in more."""
    values = {}
    for column in dict.fromkeys(name for rows in dataset.values() for name in rows.column_names):
        cells = {name: rows[column][:] for name, rows in dataset.items() if column in rows.column_names}
        pooled = [cell for rows in cells.values() for cell in rows]
        if column in ("prompt", "completion") or any(isinstance(cell, list | dict) for cell in pooled):
            continue
        if 2 * len(set(pooled)) <= len(pooled):
            values[column] = {name: Counter(rows) for name, rows in cells.items()}
    return values


def size_row(name: str, split: Split) -> dict:
    row = {"split": name, "rows": split.rows, "words": split.words, "characters": split.characters}
    return row if split.tokens is None else row | {"tokens": split.tokens}


def length_row(name: str, split: Split) -> dict:
    lengths = split.lengths or (0,)
    return {"split": name} | {title: round(float(np.quantile(lengths, part))) for title, part in QUANTILES.items()}


def repeat_row(name: str, repeats: Sequence[Repeat]) -> dict:
    found = Counter((repeat.of_split == name, repeat.exact) for repeat in repeats if repeat.split == name)
    return {
        "split": name,
        "repeats a row": found[True, True],
        "nearly": found[True, False],
        "repeats another split": found[False, True],
        "nearly so": found[False, False],
    }


def count_rows(heading: str, counts: Mapping[str, Counter]) -> list[dict]:
    """The most frequent values with their rows in each split; the rest in a last row."""
    total = sum(counts.values(), Counter())
    top = [value for value, _ in total.most_common(MOST)]
    rows = [{heading: value} | {name: count[value] for name, count in counts.items()} for value in top]
    if len(total) > MOST:
        others = {name: count.total() - sum(count[value] for value in top) for name, count in counts.items()}
        rows.append({heading: f"… {len(total) - MOST} others"} | others)
    return rows
