"""Stories in several languages, each begun by its first sentences: the shipped quartet, a user's own texts, or the Hub.

A row of a source is `{"text": …}`, with an `id` where it has one. A folder may hold a sub-folder of such files for each
language; the shipped one, `data/quartet`, tells the same 450 stories in English, Chinese, Portuguese and Japanese.
"""

import logging
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from itertools import islice
from pathlib import Path

import datasets
import regex

from storylib.data.cleaning import tidy
from storylib.data.corpus import SPLITS, Card, Report, read_corpus, read_hub, read_split, write_corpus
from storylib.data.duplicates import fingerprint, near_duplicates
from storylib.data.reading import lines
from storylib.data.sentences import RULES, base, rules, sentence_ends
from storylib.data.splitting import split_of
from storylib.errors import UserError
from storylib.files import DATA
from storylib.prompts import continuation_prompt

COLUMNS = ["prompt", "completion", "id", "language"]
QUARTET = DATA / "quartet"
TINY_STORIES = {"en": "roneneldan/TinyStories", "zh": "RobinChen2001/TinyStories-Zh-1M"}  # of the Hub
END_OF_TEXT = "<|endoftext|>"  # the line between stories in TinyStories' own .txt files
MISREAD = regex.compile("â€|ðŸ|Ã.")  # UTF-8 once read as Windows-1252; one in twenty English TinyStories has it
LOST_BYTE = regex.compile(r"â€(?=[\s\p{ASCII}]|$)")  # the last of ”, which Windows-1252 has no sign for
LETTER = regex.compile(r"\p{L}")
SCRIPTS = {  # letters that are the language's own, and the least share of them in a text
    "en": (regex.compile(r"\p{Latin}"), 0.5),
    "pt": (regex.compile(r"\p{Latin}"), 0.5),
    "zh": (regex.compile(r"\p{Han}"), 0.5),
    "ja": (regex.compile(r"[\p{Hiragana}\p{Katakana}]"), 0.2),
}
log = logging.getLogger(__name__)


def load(
    language: str | Sequence[str] = "en",
    source: str | Path | None = None,
    sentences: int = 1,
    column: str = "text",
) -> datasets.DatasetDict:
    """Splits train, validation and test with prompt, completion, id and language.

    language: a code, several, or "all" that the source has a sub-folder for.
    source: None is the quartet. Else a folder with train.jsonl or train.csv, or with such a sub-folder per language; a
        .jsonl, .csv or .txt file (a story a line, or stories between lines of <|endoftext|>); "user/name" on the Hub,
        or "tinystories" for the set there that is known. What it lacks of validation and test is taken from train, a
        tenth each, by a hash of the text.
    sentences: how many of a story's sentences are its prompt. The rest is its completion, and the two joined are the
        story, mended. 0 leaves the prompt empty, which works for any language. A story with nothing to complete is
        dropped, and the log says how many were.
    column: the name of the texts' column.

    Raises UserError for a source that cannot be read or has no texts, and for a language without a sentence splitter.
    """
    if not isinstance(sentences, int) or sentences < 0:
        raise UserError(f"sentences is {sentences!r}; it takes a whole number from 0")
    places = find_places(language, QUARTET if source is None else source)
    if sentences:
        check_splitters(places)
    parts = [load_one(code, place, sentences, column) for code, place in places.items()]
    return datasets.DatasetDict(
        {split: datasets.concatenate_datasets([part[split] for part in parts]) for split in SPLITS}
    )


def aligned(split: str = "train", source: str | Path | None = None) -> datasets.Dataset:
    """A row per story that all languages tell: its id, and its text under the code of each; to compare languages by.

    source: a folder with a sub-folder per language; None is the quartet. Raises UserError for an unknown split, and
    where no id is in all languages.
    """
    if split not in SPLITS:
        raise UserError(f"no split {split!r}; there are {', '.join(SPLITS)}")
    places = find_places("all", QUARTET if source is None else source)
    told = {code: read_stories(place, code, "text").get(split, []) for code, place in places.items()}
    texts = {code: {row["id"]: row["text"] for row in rows} for code, rows in told.items()}
    shared = [key for key in next(iter(texts.values())) if all(key in stories for stories in texts.values())]
    if not shared:
        raise UserError(f"no id of {split} is in all of {', '.join(texts)}; give a story the same id in each language")
    return datasets.Dataset.from_list([{"id": key} | {code: texts[code][key] for code in texts} for key in shared])


def prepare(
    source: Path, out: Path, *, language: str = "en", column: str = "text", validation: float = 0.1, test: float = 0.1
) -> Report:
    """Turn a file of texts in one language into the folder `out`, with a card: mended, no text twice, in three splits.

    source: a .jsonl, .csv or .txt file, as in `load`. Split by a hash of the text, so that no text changes sides when
    the file grows. Raises UserError for a file that cannot be read, a split that would be empty, and when `out` exists.
    """
    source, out = Path(source).expanduser(), Path(out).expanduser()
    if out.exists():
        raise UserError(f"{out} exists already; choose another folder, or remove it first")
    if source.is_dir():
        raise UserError(f"{source} is a folder; give one file of texts, and run again for each language")
    split_of("", validation, test)  # refuses impossible shares before the file is read
    raw = read_file(source)
    rows = mend_rows(raw, column, str(source))
    kept, notes = distinct(rows)
    if misread := sum(map(was_misread, raw[column])):
        notes.append(f"{misread} texts mended: UTF-8 that was read as Windows-1252, such as â€œ for “")
    if foreign := sum(not in_script(row["text"], language) for row in kept):
        notes.append(f"{foreign} of {len(kept)} texts have few letters of {language!r}: is that their language?")
    if base(language) not in RULES:
        notes.append(f"no sentence splitter for {language!r}: load it with sentences=0")
    splits = {split: [] for split in SPLITS}
    for row in kept:
        splits[split_of(fingerprint(row["text"]), validation, test)].append(row)
    return Report(write_corpus(out, splits, card(language, source.name)), notes)


# Where the texts are


def find_places(language: str | Sequence[str], source: str | Path) -> dict[str, str | Path]:
    """Where the texts of each language asked for are: its sub-folder, or `source` itself where there are none."""
    folder = Path(source).expanduser()
    found = {path.parent.name for path in folder.glob("*/train.*")}
    present = [code for code in RULES if code in found] + sorted(found - RULES.keys())
    codes = [language] if isinstance(language, str) else list(language)
    if not codes:
        raise UserError('no language was asked for; give a code such as "en", several, or "all"')
    if not present and len(codes) == 1 and codes != ["all"]:
        return {codes[0]: source}
    if not present:
        raise UserError(f"{source} has no sub-folder for each language, such as en/train.jsonl; ask for one language")
    codes = present if codes == ["all"] else codes
    if missing := [code for code in codes if code not in present]:
        near = get_close_matches(missing[0], present, n=1, cutoff=0)[0]
        has = f"{source} has no language {missing[0]!r}; it has {', '.join(present)}; nearest: {near}"
        raise UserError(f"{has}; or name texts of your own: source=…")
    return {code: folder / code for code in codes}


def check_splitters(codes: Iterable[str]) -> None:
    for code in codes:
        try:
            rules(code)
        except UserError as error:
            raise UserError(f"{error}; sentences=0 does without") from None


def read_stories(source: str | Path, language: str, column: str) -> datasets.DatasetDict:
    """The splits that a source has, each with id and text, mended."""
    if source == "tinystories":
        if base(language) not in TINY_STORIES:
            known = ", ".join(TINY_STORIES)
            raise UserError(f'"tinystories" is known in {known}, not in {language}; name a set: source="user/name"')
        source = TINY_STORIES[base(language)]
    path = Path(source).expanduser()
    if path.is_dir():
        found = read_corpus(path)
    elif path.exists() or path.suffix.lower() in (".jsonl", ".csv", ".txt"):
        found = {"train": read_file(path)}
    elif str(source).count("/") == 1:
        found = read_hub(str(source))
    else:
        raise UserError(f'there is no file or folder {source}; sets of the Hub are named "user/name"')
    if "train" not in found:
        raise UserError(f"{source} has {', '.join(found)} and no train split; save the rows you want as a .jsonl file")
    return datasets.DatasetDict(
        {split: mend_rows(found[split], column, f"{source} ({split})") for split in SPLITS if split in found}
    )


def read_file(path: Path) -> datasets.Dataset:
    """The rows of a .jsonl, .csv or .txt file."""
    if path.suffix.lower() != ".txt":
        return read_split(path)
    told, story = [], []
    for _, line in lines(path):
        if line.strip() == END_OF_TEXT:
            told.append("\n".join(story))
            story = []
        else:
            story.append(line)
    told = [*told, "\n".join(story)] if told else story
    if not (texts := [text for text in told if text.strip()]):
        raise UserError(f"{path} has no texts")
    return datasets.Dataset.from_dict({"text": texts})


# What is made of them


def mend_rows(rows: datasets.Dataset, column: str, where: str) -> datasets.Dataset:
    """Each row's text, mended, and its id: its own, or else the fingerprint of the text."""
    if column not in rows.column_names:
        has = ", ".join(rows.column_names)
        raise UserError(f'{where} has {has} and no {column!r}; say which holds the texts: column="…"')

    def mend_batch(batch: Mapping[str, list], numbers: list[int]) -> dict[str, list[str]]:
        for number, text in zip(numbers, batch[column], strict=True):
            if not isinstance(text, str):
                raise UserError(f"row {number + 1} of {where} has no text in {column!r}, but {text!r}")
        texts = [mend(text) for text in batch[column]]
        keys = batch.get("id") or [None] * len(texts)
        keys = [fingerprint(text) if key is None else str(key) for key, text in zip(keys, texts, strict=True)]
        return {"id": keys, "text": texts}

    return rows.map(
        mend_batch,
        with_indices=True,
        batched=True,
        remove_columns=rows.column_names,
        features=text_columns("id", "text"),
    )


def text_columns(*names: str) -> datasets.Features:
    """The kinds of columns, said beforehand: they cannot be seen from a first batch of which every row is dropped."""
    return datasets.Features(dict.fromkeys(names, datasets.Value("string")))


def mend(text: str) -> str:
    """The text tidied, and what was UTF-8 read as Windows-1252 put right: â€œ is a quotation mark.

    >>> mend("He said, â€œItâ€™s late.â€ ")
    'He said, “It’s late.”'
    """
    if MISREAD.search(text):
        import ftfy  # a while to load, and few texts need it

        text = ftfy.fix_encoding(LOST_BYTE.sub("â€\x9d", text))
    return tidy(text)


def was_misread(text: str) -> bool:
    return bool(MISREAD.search(text)) and mend(text) != tidy(text)


def complete(stories: datasets.DatasetDict, where: str) -> datasets.DatasetDict:
    """All three splits: to each that is lacking goes a tenth of train, by a hash of the text."""
    lacking = [split for split in SPLITS if split not in stories]
    if not lacking:
        return stories
    shares = {split: 0.1 if split in lacking else 0.0 for split in ("validation", "test")}
    sides = [split_of(fingerprint(text), **shares) for text in stories["train"]["text"]]
    parts = {}
    for split in SPLITS:
        taken = [place for place, side in enumerate(sides) if side == split]
        parts[split] = stories["train"].select(taken) if split in ("train", *lacking) else stories[split]
        if not len(parts[split]):
            raise UserError(f"{where}: the {split} split would be empty, of {len(sides)} stories; give more of them")
    return datasets.DatasetDict(parts)


def load_one(language: str, source: str | Path, sentences: int, column: str) -> datasets.DatasetDict:
    """One language's prompts and completions. Raises UserError for a split of which nothing is left."""
    stories = complete(read_stories(source, language, column), str(source))

    def begin_batch(batch: Mapping[str, list[str]]) -> dict[str, list[str]]:
        begun = [(*begin(text, language, sentences), key) for text, key in zip(batch["text"], batch["id"], strict=True)]
        rows = [(prompt, completion, key, language) for prompt, completion, key in begun if completion]
        return {name: [row[place] for row in rows] for place, name in enumerate(COLUMNS)}

    begun = datasets.DatasetDict()
    for split, rows in stories.items():
        begun[split] = rows.map(
            begin_batch, batched=True, remove_columns=rows.column_names, features=text_columns(*COLUMNS)
        ).select_columns(COLUMNS)
        few = f"of {len(rows)} stories have nothing after sentence {sentences}"
        if not len(begun[split]):
            raise UserError(f"{source} ({split}): all {few}; ask for fewer sentences")
        if dropped := len(rows) - len(begun[split]):
            log.warning("%s (%s): %d %s; they are dropped", source, split, dropped, few)
    return begun


def begin(text: str, language: str, sentences: int = 1) -> tuple[str, str]:
    """A text's first sentences and the rest, with the space between them: joined, they are the text.

    >>> begin("Good night! The fox slept.", "en")
    ('Good night!', ' The fox slept.')
    """
    if not sentences:
        return "", text
    cut = next(islice(sentence_ends(text, language), sentences - 1, None), len(text))
    return continuation_prompt(text[:cut]), text[cut:]


def distinct(rows: datasets.Dataset) -> tuple[list[dict], list[str]]:
    """The rows whose text neither is empty nor repeats an earlier one, and a counted note of what was dropped."""
    kept, seen = [], set()
    dropped = {"empty": 0, "the same as an earlier one": 0, "nearly the same as an earlier one": 0}
    for row in rows:
        if not row["text"]:
            dropped["empty"] += 1
        elif (mark := fingerprint(row["text"])) in seen:
            dropped["the same as an earlier one"] += 1
        else:
            seen.add(mark)
            kept.append(row)
    near = near_duplicates([row["text"] for row in kept])
    dropped["nearly the same as an earlier one"] = len(near)
    kept = [row for place, row in enumerate(kept) if place not in near]
    return kept, [f"{count} texts dropped: {reason}" for reason, count in dropped.items() if count]


def in_script(text: str, language: str) -> bool:
    """Whether enough of the letters are the language's own; True for a language whose script is not listed."""
    if base(language) not in SCRIPTS:
        return True
    own, least = SCRIPTS[base(language)]
    return len(own.findall(text)) >= least * len(LETTER.findall(text))


def card(language: str, name: str) -> Card:
    return Card(
        title=f"Stories ({language})",
        summary="Each row is a story. The beginning of one asks for the rest.",
        languages=[language],
        licence="Not stated. The texts keep the licence that they came with.",
        source=f"The texts of {name}.",
        made="Spaces and line ends tidied, misread characters mended, repeated and nearly repeated texts left out. The "
        "split of a text is decided by a hash of it, so no text changes sides when more are added.",
        columns={"id": "the source's own id, or a fingerprint of the text", "text": "the story"},
        tags=["stories"],
    )
