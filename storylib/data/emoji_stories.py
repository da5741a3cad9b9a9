"""Bedtime stories for three emojis: the shipped ones, a user's file or folder, or a set on the Hugging Face Hub."""

import re
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path

import datasets

from storylib import emoji
from storylib.data.cleaning import tidy
from storylib.data.corpus import Card, Report, read_corpus, read_hub, write_corpus
from storylib.data.duplicates import fingerprint
from storylib.data.reading import read_rows
from storylib.data.splitting import share
from storylib.errors import UserError
from storylib.files import DATA
from storylib.prompts import story_prompt

LEVELS = ("easy", "rich")
EMOJIS = ("role", "place", "theme")
NAMES = tuple(f"{field}_name" for field in EMOJIS)
HEADINGS = {  # what a column may be called, the likeliest first
    "role": ("role", "角色"),
    "place": ("place", "地點", "地点"),
    "theme": ("theme", "主題", "主题"),
    "story": ("story", "generated sentence"),
} | {name: (name,) for name in NAMES}
HUB_NAME = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*(?<!\.jsonl)(?<!\.csv)")
TEST_SHARE = 0.1  # of the combinations of a source that is not split yet
CARD = Card(
    title="Stories for three emojis",
    summary="Each row is a story and the three emojis that asked for it: who it is about, where, and what about.",
    languages=[],
    licence="unknown",
    source="The texts are those of whoever made this folder, and so is the choice of a licence.",
    made="Emojis fully qualified, their names added where there were none; test has combinations that train has not.",
    columns=dict.fromkeys(EMOJIS, "one emoji, fully qualified")
    | dict.fromkeys(NAMES, "what the emoji stands for")
    | {"story": "the story"},
    tags=["stories", "emoji"],
)


def load(
    level: str = "easy",
    source: str | Path | None = None,
    columns: Mapping[str, str] | None = None,
    names: bool = True,
) -> datasets.DatasetDict:
    """Splits `train` and `test` with prompt, completion, the three emojis and their names.

    level: of the shipped stories, "easy" (ages 3 to 4) or "rich" (ages 5 to 7); a source of your own has none.
    source: a .jsonl or .csv file, a folder with `train` and `test` files of that kind, or "user/name" on the Hub. What
        has no train and test splits is split by whole combinations of emojis.
    columns: your names of the columns where they differ, such as {"role": "hero"}.
    names: False leaves the emojis alone in the prompt.

    Raises UserError for a source that cannot be read, rows without their emojis or story (with the row number), and
    combinations that are in train and test.
    """
    if level not in LEVELS:
        near = get_close_matches(str(level), LEVELS, n=1, cutoff=0)
        raise UserError(f"no level {level!r}; there are {', '.join(LEVELS)}; nearest: {near[0]}")
    source = DATA / "emoji_stories" / level if source is None else source
    splits = {
        split: clean_rows(rows, columns or {}, names, f"{source} ({split})" if split else str(source))
        for split, rows in read_source(source).items()
    }
    if "" in splits:
        splits = split_rows(splits[""])
    dataset = datasets.DatasetDict({split: datasets.Dataset.from_list(rows) for split, rows in splits.items()})
    check_no_overlap(dataset)
    return dataset


def prepare(source: str | Path, out: Path) -> Report:
    """Write the stories of a file, folder or Hub data set to the folder `out`: train and test, with a card.

    A story that repeats an earlier one word for word is left out. Raises UserError as `load` does, and when `out`
    exists.
    """
    stories, seen, kept = load(source=source), set(), {}
    for split, rows in stories.items():
        kept[split] = []
        for row in rows:
            if (mark := fingerprint(row["completion"])) not in seen:
                seen.add(mark)
                kept[split].append({field: row[field] for field in EMOJIS + NAMES} | {"story": row["completion"]})
    rows = write_corpus(out, kept, CARD)
    repeats = sum(map(len, stories.values())) - sum(rows.values())
    return Report(rows, [f"{repeats} rows dropped: their story repeats an earlier one"] if repeats else [])


def check_no_overlap(dataset: Mapping[str, datasets.Dataset]) -> None:
    """Raises UserError when a combination of emojis is in `train` and in `test`: such a test measures memory."""
    train, test = combinations(dataset["train"]), combinations(dataset["test"])
    if shared := [emojis for emojis in test if emojis in train]:
        first = f"{len(shared)} of {len(test)} test combinations are in train too, first {''.join(shared[0])}"
        raise UserError(f"{first}; take them out, or give one file and it is split by whole combinations")


def combinations(rows: datasets.Dataset) -> dict[tuple[str, ...], None]:
    """The different combinations of emojis, in the order in which they first occur."""
    return dict.fromkeys(zip(*(rows[field] for field in EMOJIS), strict=True))


def read_source(source: str | Path) -> dict[str, list[dict]]:
    """Rows as they were found, by split; under "" where the source has no train and test."""
    path = Path(source).expanduser()
    if not path.exists() and HUB_NAME.fullmatch(str(source)):
        found = read_hub(str(source))
    elif path.is_dir():
        found = read_corpus(path)
        if "test" not in found:
            raise UserError(f"{path} needs one of test.jsonl and test.csv, and has neither")
    else:
        return {"": read_rows(path)}
    if {"train", "test"} <= set(found):
        return {split: list(found[split]) for split in ("train", "test")}
    return {"": [row for split in found.values() for row in split]}


def split_rows(rows: list[dict]) -> dict[str, list[dict]]:
    """About a tenth of the combinations, never none, to `test`, by a hash: each stays on its side as a file grows."""
    shares = {combination(row): share("".join(combination(row))) for row in rows}
    if len(shares) < 2:
        raise UserError("train and test need different emojis: give at least two combinations, got one")
    test = {emojis for emojis, place in shares.items() if place < TEST_SHARE}
    if not test or len(test) == len(shares):
        test = {min(shares, key=shares.get)}
    return {
        "train": [row for row in rows if combination(row) not in test],
        "test": [row for row in rows if combination(row) in test],
    }


def combination(row: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(row[field] for field in EMOJIS)


def clean_rows(rows: list[dict], columns: Mapping[str, str], names: bool, where: str) -> list[dict]:
    if not rows:
        raise UserError(f"{where} has no rows")
    found = find_columns(rows, columns, where)
    cleaned = []
    for number, row in enumerate(rows, start=1):
        cells = {field: row.get(heading) for field, heading in found.items()}
        try:
            cleaned.append(clean_row(cells, names))
        except UserError as error:
            raise UserError(f"{where}, row {number}: {error}") from error
    return cleaned


def find_columns(rows: list[dict], columns: Mapping[str, str], where: str) -> dict[str, str]:
    """The source's own heading for each field that it has."""
    if unknown := set(columns) - set(HEADINGS):
        raise UserError(f"columns names {', '.join(sorted(unknown))}; it can name {', '.join(HEADINGS)}")
    headings = list(dict.fromkeys(heading for row in rows for heading in row))
    plain = {heading.strip().casefold(): heading for heading in headings}
    wanted = HEADINGS | {field: (heading.strip().casefold(),) for field, heading in columns.items()}
    present = {field: [plain[known] for known in names if known in plain] for field, names in wanted.items()}
    found = {field: matches[0] for field, matches in present.items() if matches}
    if missing := [field for field in (*EMOJIS, "story", *columns) if field not in found]:
        example = ", ".join(f'"{field}": "…"' for field in dict.fromkeys(missing))
        has = ", ".join(headings) or "no columns"
        raise UserError(f"{where} has {has}; rename them, or say which is which with columns={{{example}}}")
    return found


def clean_row(cells: Mapping[str, object], names: bool) -> dict[str, str]:
    emojis = [clean_emoji(field, cells[field]) for field in EMOJIS]
    words = [clean_name(cells.get(field)) or emoji.name(sign) for field, sign in zip(NAMES, emojis, strict=True)]
    return {
        "prompt": story_prompt(words if names else [], emojis),
        "completion": clean_story(cells["story"]),
        **dict(zip(EMOJIS, emojis, strict=True)),
        **dict(zip(NAMES, words, strict=True)),
    }


def clean_story(cell: object) -> str:
    if cell is None or isinstance(cell, str) and not tidy(cell):
        raise UserError("the story is empty")
    if not isinstance(cell, str):
        raise UserError(f"the story is {cell!r}, not text")
    return tidy(cell)


def clean_emoji(field: str, cell: object) -> str:
    if not isinstance(cell, str):
        raise UserError(f"{field}: one emoji is needed here, got {'none' if cell is None else repr(cell)}")
    try:
        return emoji.one(cell)
    except UserError as error:
        raise UserError(f"{field}: {error}") from error


def clean_name(cell: object) -> str:
    return " ".join(cell.split()) if isinstance(cell, str) else ""  # a line end would end the prompt
