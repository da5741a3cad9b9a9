"""Blind sheets on which people rate stories, and their answers read back, from CSV or from a store of feedback."""

import csv
import hashlib
import json
import random
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import chain, combinations
from pathlib import Path
from typing import Protocol

from storylib.data.reading import csv_lines
from storylib.errors import UserError
from storylib.feedback import SCORES, FeedbackStore
from storylib.files import atomic_path
from storylib.metrics.ratings import ANSWERS, Choice, Rating

CRITERIA = {
    "relevance": "How well does the story match its prompt?",
    "coherence": "How much does the story make sense?",
    "empathy": "How well do you understand what the characters feel?",
    "surprise": "How surprising is the end of the story?",
    "engagement": "How much does the story draw you in?",
    "complexity": "How elaborate is the story?",
    "fit for the age": "How well does the story suit young children?",
}  # the first six: HANNA's, Chhun et al. 2022, https://aclanthology.org/2022.coling-1.509
BETTER = "better"  # the one question of a sheet of pairs
FORMULA = tuple("=+-@＝＋－＠")  # what a spreadsheet takes for the start of a formula
SQLITE = b"SQLite format 3\0"


class Told(Protocol):
    """What a sheet needs of a story; `storylib.generation.Story` is one."""

    prompt: str
    text: str


@dataclass(frozen=True)
class Item:
    """What one row of a sheet asks about: a story, or two of them, the left one first."""

    prompt: str
    stories: tuple[str, ...]
    systems: tuple[tuple[str, ...], ...]  # of each story, who told it; several where they told the same


Key = dict[str, Item]  # id of a row -> what is behind it


@dataclass(frozen=True)
class Sheet:
    """What raters see, and what they must not."""

    rows: list[dict[str, str]]  # id, prompt and story, or id, prompt, left and right; in an order that tells nothing
    key: Key = field(repr=False)
    notes: list[str] = field(repr=False)  # what was left out, for whoever hands the sheet out: it names systems


def blind(stories: Mapping[str, Sequence[Told]], seed: int = 0, per_prompt: int | None = None) -> Sheet:
    """A row per story, shuffled over systems and prompts; a story that several systems told is one row.

    stories: by system. per_prompt: how many of each system for a prompt, drawn by chance; None is all.
    Prompts that a system has no story for are left out, or its mean would be of other prompts than theirs.
    Raises UserError where no prompt remains, or a story has no prompt.
    """
    chance = random.Random(seed)
    by_prompt, notes = shared_prompts(stories)
    key: Key = {}
    again = 0
    for prompt, told in by_prompt.items():
        for system, texts in told.items():
            for text in drawn(texts, per_prompt, chance):
                again += item_id(prompt, text) in key
                add(key, Item(prompt, (text,), ((system,),)))
    if again:
        notes.append(f"{again} stories are asked about in the row of one that says the same")
    return Sheet(shuffled(key, ("story",), chance), key, notes)


def blind_pairs(stories: Mapping[str, Sequence[Told]], seed: int = 0, per_prompt: int | None = None) -> Sheet:
    """A row per two stories of two systems for one prompt, likewise; each system is on the left half of the time.

    per_prompt: how many pairs of every two systems for a prompt; None is as many as they have stories. Pairs that say
    the same are left out. Raises UserError as `blind` does, for a single system, and where no pair remains.
    """
    if len(stories) < 2:
        raise UserError(f"pairs need two systems, got {', '.join(stories) or 'none'}; rate its stories without --pairs")
    chance = random.Random(seed)
    by_prompt, notes = shared_prompts(stories)
    key: Key = {}
    same = 0
    for first, second in combinations(sorted(stories), 2):
        pairs = [
            (prompt, *pair)
            for prompt, told in by_prompt.items()
            for pair in zip(*(drawn(told[system], per_prompt, chance) for system in (first, second)), strict=False)
        ]
        different = [pair for pair in pairs if settled(pair[1]) != settled(pair[2])]
        same += len(pairs) - len(different)
        turned = chance.sample([bool(number % 2) for number in range(len(different))], len(different))
        for (prompt, one, other), turn in zip(different, turned, strict=True):
            texts, systems = (other, one) if turn else (one, other), (second, first) if turn else (first, second)
            add(key, Item(prompt, texts, ((systems[0],), (systems[1],))))
    if same:
        notes.append(f"{same} pairs left out: both stories are the same")
    if not key:
        raise UserError("no pair of different stories remains; " + "; ".join(notes))
    return Sheet(shuffled(key, ("left", "right"), chance), key, notes)


def shared_prompts(stories: Mapping[str, Sequence[Told]]) -> tuple[dict[str, dict[str, list[str]]], list[str]]:
    """Prompt -> system -> its stories, for the prompts that all systems have a story for, and what was left out.

    Sorted, so that the order in which stories came shows nowhere.
    """
    told: dict[str, dict[str, list[str]]] = {}
    empty: Counter[str] = Counter()
    for system, told_by in stories.items():
        for story in told_by:
            if not story.prompt.strip():
                raise UserError(f"a story of {system} has no prompt, and raters need it: {story.text[:40]!r}")
            if story.text.strip():
                told.setdefault(story.prompt, {}).setdefault(system, []).append(story.text)
            else:
                empty[system] += 1
    shared = {
        prompt: {system: sorted(texts) for system, texts in sorted(by_system.items())}
        for prompt, by_system in sorted(told.items())
        if len(by_system) == len(stories)
    }
    notes = [f"{count} stories of {system} left out: they are empty" for system, count in empty.items()]
    if len(told) > len(shared):
        notes.append(f"{len(told) - len(shared)} prompts left out: not every system has a story for them")
    if not shared:
        raise UserError("; ".join(["no prompt has a story of every system", *notes]))
    return shared, notes


def drawn(texts: list[str], most: int | None, chance: random.Random) -> list[str]:
    if most is not None and most < 1:
        raise UserError(f"per_prompt must be at least 1, got {most}")
    return chance.sample(texts, len(texts) if most is None else min(most, len(texts)))


def add(key: Key, item: Item) -> None:
    """Enter an item; where its stories are on the sheet already, they have one more teller."""
    name = item_id(item.prompt, *item.stories)
    known = key.get(name, item)
    who = {settled(text): systems for text, systems in zip(item.stories, item.systems, strict=True)}
    systems = (
        tuple(sorted({*systems, *who[settled(text)]}))
        for text, systems in zip(known.stories, known.systems, strict=True)
    )
    key[name] = Item(known.prompt, known.stories, tuple(systems))


def item_id(prompt: str, *stories: str) -> str:
    """An id from the texts alone, whoever told them and whichever is left. Its first letter keeps a spreadsheet from
    reading 12e4567 as a number.

    >>> item_id("A fox\\n", "It slept.", "It ran.") == item_id("A fox", "It ran.", "It slept. ")
    True
    """
    texts = "\0".join([settled(prompt), *sorted(map(settled, stories))])
    return "s" + hashlib.sha256(texts.encode()).hexdigest()[:11]


def settled(text: str) -> str:
    """A text as far as a spreadsheet leaves it alone: without its spaces, line ends and leading apostrophes."""
    return " ".join(text.replace("\0", "").split()).lstrip("' ")


def shuffled(key: Key, columns: Sequence[str], chance: random.Random) -> list[dict[str, str]]:
    names = chance.sample(sorted(key), len(key))
    return [
        {"id": name, "prompt": key[name].prompt, **dict(zip(columns, key[name].stories, strict=True))} for name in names
    ]


def questions(key: Key) -> tuple[str, ...]:
    """The columns that raters fill in: the criteria, or which of two stories is better."""
    return (BETTER,) if key and len(next(iter(key.values())).stories) == 2 else tuple(CRITERIA)


def guide(key: Key) -> str:
    """What to tell the raters."""
    if questions(key) == (BETTER,):
        return f"Which story is better? Write {', '.join(ANSWERS[:-1])} or {ANSWERS[-1]} under {BETTER}."
    lines = [f"{name}: {question}" for name, question in CRITERIA.items()]
    return "\n".join([f"Write a whole number under each, {SCORES[0]} (not at all) to {SCORES[-1]} (very):", *lines])


def write_sheet(sheet: Sheet, path: str | Path) -> Path:
    """Write the sheet as CSV, and its key beside it as JSON, which raters must not see; the key's path.

    UTF-8 with a byte order mark, without which Excel reads emoji as rubbish. A text that a spreadsheet would take for
    a formula gets an apostrophe in front. Raises UserError where one of the files exists.
    """
    path = Path(path).expanduser()
    key = path.with_suffix(".key.json")
    if path.suffix.lower() != ".csv":
        raise UserError(f"a sheet is a .csv file, got {path}")
    for file in (path, key):
        if file.exists():
            raise UserError(f"{file} exists already; choose another name, or remove it first")
    path.parent.mkdir(parents=True, exist_ok=True)
    items = {name: asdict(item) for name, item in sheet.key.items()}
    with (
        atomic_path(key) as key_part,  # a sheet without its key is work for nothing: both files or none
        atomic_path(path) as part,
        part.open("w", encoding="utf-8-sig", newline="") as file,
    ):
        key_part.write_text(json.dumps(items, ensure_ascii=False, indent=1, sort_keys=True), encoding="utf-8")
        writer = csv.writer(file)
        writer.writerow([*sheet.rows[0], *questions(sheet.key)])
        blanks = [""] * len(questions(sheet.key))
        writer.writerows([*(guarded(text.strip()) for text in row.values()), *blanks] for row in sheet.rows)
    return key


def guarded(text: str) -> str:
    """A text that no spreadsheet takes for a formula.

    >>> guarded("=1+1"), guarded("- No, said the fox.")
    ("'=1+1", "'- No, said the fox.")
    """
    text = text.replace("\0", "")
    return f"'{text}" if text.startswith(FORMULA) or text.startswith("'") else text


def read_key(path: str | Path) -> Key:
    """The key that `write_sheet` wrote. Raises UserError for another file."""
    try:
        items = json.loads(Path(path).expanduser().read_text(encoding="utf-8"))
        return {
            name: Item(item["prompt"], tuple(item["stories"]), tuple(map(tuple, item["systems"])))
            for name, item in items.items()
        }
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path} is not the key of a sheet; it is the .key.json written beside the sheet") from error


@dataclass(frozen=True)
class Cell:
    """An answer as a rater gave it; `case` says why it cannot count, where it cannot."""

    rater: str
    item: str
    question: str
    text: str
    place: str
    case: str = ""

    @property
    def asked(self) -> tuple[str, str, str]:
        """Who was asked what about which row."""
        return self.rater, self.item, self.question


@dataclass(frozen=True)
class Answers:
    """What the raters answered, and what stands in the way of more."""

    ratings: list[Rating]
    choices: list[Choice]
    missing: dict[str, int]  # rater -> questions of the sheet left open
    cases: dict[str, list[str]]  # case -> the places of its cells
    key: Key = field(repr=False)


def read_answers(paths: Iterable[str | Path], key: Key | None = None) -> Answers:
    """The answers in sheets (.csv) and stores of feedback, the last of each rater to each question.

    A sheet's rater is its file's name, unless it has a column `rater`. key: of the sheet. Stores whose ratings name
    their systems need none; nothing is missing there, for nobody was asked for more.
    `cases` names the cells that cannot count ("not an answer", "unknown id", "story changed", "no rater"), those that
    counted until the rater answered again ("answered again alike", "… differently"), and files with
    "nothing filled in".
    Raises UserError for a file that is neither, lacks columns or belongs to another key, and where nothing counts.
    """
    paths = [Path(path).expanduser() for path in paths]
    stores = [path for path in paths if is_store(path)]
    asked = stored_key(stores) if key is None else key
    if key is None and len(stores) < len(paths):
        raise UserError("a sheet needs its key, the .key.json that was written beside it")
    stems = Counter(path.stem for path in paths if path not in stores)
    cells: list[Cell] = []
    cases: dict[str, list[str]] = {}
    for path in paths:
        rater = path.stem if stems[path.stem] == 1 else ""
        found = list(store_cells(path, asked) if path in stores else sheet_cells(path, asked, rater))
        if not found:
            cases.setdefault("nothing filled in", []).append(path.name)
        cells += found
    given = last_words(cells, asked, cases)
    if not given:
        why = ", ".join(f"{case}: {len(places)}" for case, places in cases.items())
        advice = "; is it the key of another sheet?" if set(cases) == {"unknown id"} else ""
        advice = "; no rating there names its system, so give the sheet's key" if key is None else advice
        raise UserError(f"no answer counts in {', '.join(map(str, paths))} ({why}){advice}")
    return Answers(
        [answer for answer in given.values() if isinstance(answer, Rating)],
        [answer for answer in given.values() if isinstance(answer, Choice)],
        {} if key is None else missing(cells, key),
        cases,
        asked,
    )


def last_words(cells: Iterable[Cell], key: Key, cases: dict[str, list[str]]) -> dict[tuple, Rating | Choice]:
    """(rater, item, question) -> the last answer that counts; `cases` gets the place of every cell that is special."""
    given: dict[tuple, Rating | Choice] = {}
    for cell in cells:
        case = cell.case
        answer = None if case else answered(cell, key[cell.item])
        if answer is None:
            case = case or "not an answer"
        elif cell.asked in given:
            case = f"answered again {'alike' if given[cell.asked] == answer else 'differently'}"
        if case:
            cases.setdefault(case, []).append(cell.place)
        if answer is not None:
            given[cell.asked] = answer
    return given


def missing(cells: Iterable[Cell], key: Key) -> dict[str, int]:
    """Rater -> the questions of the sheet whose cells are empty."""
    asked = questions(key)
    met = Counter(
        rater for rater, item, question in {cell.asked for cell in cells} if item in key and question in asked
    )
    return {rater: len(key) * len(asked) - count for rater, count in sorted(met.items()) if rater}


def answered(cell: Cell, item: Item) -> Rating | Choice | None:
    """What a cell says; None where that is no answer to its question."""
    if len(item.stories) == 2:
        answer = cell.text.lower()
        return Choice(cell.item, item.prompt, *item.systems, cell.rater, answer) if answer in ANSWERS else None
    try:
        score = float(cell.text)  # 4.0 is what pandas makes of a 4 in a column with gaps
    except ValueError:
        return None
    return (
        Rating(cell.item, item.prompt, item.systems[0], cell.rater, cell.question, int(score))
        if score in SCORES
        else None
    )


def sheet_cells(path: Path, key: Key, rater: str) -> Iterator[Cell]:
    """The cells of a sheet that are not empty."""
    asked = questions(key)
    texts = ("left", "right") if asked == (BETTER,) else ("story",)
    rows = sheet_rows(path)
    _, names = next(rows)
    if absent := [name for name in ("id", *texts, *asked) if name not in names]:
        raise UserError(f"{path} lacks the columns {', '.join(absent)} of this key's sheet; it has {', '.join(names)}")
    if not rater and "rater" not in names:
        raise UserError(f"two files are called {path.name}; name each after its rater, or add a column rater")
    for number, cells in rows:
        row = dict(zip(names, cells, strict=True))
        item = key.get(row["id"])
        who = row.get("rater", rater)
        case = ""
        if item is None:
            case = "unknown id"
        elif any(settled(row[name]) != settled(text) for name, text in zip(texts, item.stories, strict=True)):
            case = "story changed"
        elif not who:
            case = "no rater"
        for question in asked:
            if row[question]:
                place = f"{path.name}, row {number}, {question}: {row[question][:20]}"
                yield Cell(who, row["id"], question, row[question], place, case)


def sheet_rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Number, as a spreadsheet counts, and stripped cells of each row that is not blank, the header first.

    Spreadsheets save commas, semicolons or tabs, as their country has it, and Excel saves no empty cells at the end of
    some rows (every 16 rows it counts anew how many are needed).
    """
    if path.suffix.lower() != ".csv":
        raise UserError(f"{path} is neither a .csv file nor a store of feedback; save the sheet as CSV UTF-8")
    lines = csv_lines(path)
    first = next(lines, "")
    delimiter = max(",;\t", key=first.count)
    reader = csv.reader(chain([first], lines), delimiter=delimiter, strict=True)
    width = 0
    try:
        for number, row in enumerate(reader, start=1):
            cells = [cell.strip() for cell in row]
            if number == 1:
                cells = [cell.lower() for cell in cells]
                width = len(cells)
            if any(cells[width:]):
                raise UserError(f"{path}, row {number} has more cells than the header names")
            if number == 1 or any(cells):
                yield number, (cells + [""] * width)[:width]
    except csv.Error as error:
        raise UserError(f"{path}, line {reader.line_num + 1}: {error}") from error


def is_store(path: Path) -> bool:
    """Whether a file is a SQLite database. UserError where it cannot be read."""
    try:
        with path.open("rb") as file:
            return file.read(len(SQLITE)) == SQLITE
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error


def store_cells(path: Path, key: Key) -> Iterator[Cell]:
    """The ratings of a store or, for a key of pairs, its choices, as cells of the sheet."""
    store = FeedbackStore(path)
    if questions(key) == (BETTER,):
        for row in store.choices():
            name = item_id(row["prompt"], row["chosen"], row["rejected"])
            left = name in key and settled(key[name].stories[0]) == settled(row["chosen"])
            case = "" if name in key else "unknown id"
            place = f"{path.name}, choice {row['id']}"
            yield Cell(row["rater"], name, BETTER, "left" if left else "right", place, case)
    else:
        for row in store.ratings():
            name = item_id(row["prompt"], row["story"])
            case = "" if name in key else "unknown id"
            place = f"{path.name}, rating {row['id']}, {row['criterion']}: {row['score']}"
            yield Cell(row["rater"], name, row["criterion"], str(row["score"]), place, case)


def stored_key(paths: Iterable[Path]) -> Key:
    """The key of the ratings that name their systems."""
    key: Key = {}
    for row in chain.from_iterable(FeedbackStore(path).ratings() for path in paths):
        if row["system"]:
            add(key, Item(row["prompt"], (row["story"],), ((row["system"],),)))
    return key


def keep(answers: Answers, store: FeedbackStore) -> int:
    """Write the answers to a store of feedback; how many ties were not, since a store has no place for them.

    A story of several systems is kept under all their names, "a, b"; reading with the key tells them apart.
    """
    for rating in answers.ratings:
        story = answers.key[rating.item].stories[0]
        who = ", ".join(rating.systems)
        store.rate(rating.prompt, story, rating.score, rating.criterion, rating.rater, who)
    for choice in answers.choices:
        if choice.answer != "tie":
            left, right = answers.key[choice.item].stories
            pair = (left, right) if choice.answer == "left" else (right, left)
            store.choose(choice.prompt, *pair, choice.rater)
    return sum(choice.answer == "tie" for choice in answers.choices)
