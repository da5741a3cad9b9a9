"""Readers' ratings and choices in one small file, and the pairs of stories that training learns a taste from."""

import json
import sqlite3
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from fractions import Fraction
from itertools import combinations
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING

from storylib.errors import UserError
from storylib.files import atomic_path

if TYPE_CHECKING:
    from datasets import Dataset

SCORES = range(1, 6)
APART = 1  # points between two ratings that tell the better story
COLUMNS = ("prompt", "chosen", "rejected")
LEAST = 20  # pairs; from fewer the model learns these stories, not a taste
PATIENCE = 30  # seconds that a writer waits for another
OURS = 0x53746F72  # application_id of the file: "Stor"
VERSION = 1  # user_version: of the tables below

TABLES = (
    """CREATE TABLE rating (
        id INTEGER PRIMARY KEY, prompt TEXT NOT NULL, story TEXT NOT NULL, score INTEGER NOT NULL,
        criterion TEXT NOT NULL, rater TEXT NOT NULL, system TEXT NOT NULL,
        at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%SZ', 'now')))""",
    """CREATE TABLE choice (
        id INTEGER PRIMARY KEY, prompt TEXT NOT NULL, chosen TEXT NOT NULL, rejected TEXT NOT NULL, rater TEXT NOT NULL,
        at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%SZ', 'now')))""",
)
LAST_RATINGS = """SELECT * FROM rating WHERE id IN (
    SELECT max(id) FROM rating GROUP BY prompt, story, criterion, rater) ORDER BY id"""
LAST_CHOICES = """SELECT * FROM choice WHERE id IN (
    SELECT max(id) FROM choice GROUP BY prompt, min(chosen, rejected), max(chosen, rejected), rater) ORDER BY id"""


class FeedbackStore:
    """Ratings and pairwise choices in one SQLite file, made where there is none; several programs may write at once.

    Nothing is overwritten: where a reader judged the same twice, the last judgement counts. Times are UTC.
    Every call opens the file for one short transaction. It keeps SQLite's rollback journal: WAL needs memory that
    programs share, which network mounts such as Drive's lack, and it leaves files beside the one.

    Raises UserError for a file that is damaged, of another program or of a newer storylib, and for one that another
    program keeps locked.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path).expanduser()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self._transaction("IMMEDIATE") as store:
            ours, version = (pragma(store, name) for name in ("application_id", "user_version"))
            if not (ours or version or store.execute("SELECT 1 FROM sqlite_master").fetchone()):
                for statement in (*TABLES, f"PRAGMA application_id = {OURS}", f"PRAGMA user_version = {VERSION}"):
                    store.execute(statement)
            elif ours != OURS:
                raise UserError(f"{self.path} is a database of another program; name another file")
            elif version > VERSION:
                raise UserError(f"{self.path} is of a newer storylib (store {version}, known {VERSION}); update it")
            elif (fault := pragma(store, "quick_check")) != "ok":
                raise UserError(f"{self.path} is damaged ({fault.splitlines()[-1]}); restore a copy of it")

    def rate(self, prompt: str, story: str, score: int, criterion: str, rater: str, system: str = "") -> None:
        """Keep a rating, 1 to 5, of a story by one criterion; `system` is what told it, such as an adapter's name."""
        check_texts(prompt=prompt, story=story, criterion=criterion, rater=rater)
        if score not in SCORES:
            raise UserError(f"a score is a whole number from {SCORES[0]} to {SCORES[-1]}, got {score!r}")
        row = (prompt, story, int(score), criterion, rater, system)
        with self._transaction("IMMEDIATE") as store:
            columns = "prompt, story, score, criterion, rater, system"
            store.execute(f"INSERT INTO rating ({columns}) VALUES (?, ?, ?, ?, ?, ?)", row)

    def choose(self, prompt: str, chosen: str, rejected: str, rater: str) -> None:
        """Keep which of two stories of a prompt a reader likes better."""
        check_texts(prompt=prompt, chosen=chosen, rejected=rejected, rater=rater)
        if chosen == rejected:
            raise UserError(f"a choice is between two stories, got the same twice: {chosen[:40]!r}")
        with self._transaction("IMMEDIATE") as store:
            columns = "prompt, chosen, rejected, rater"
            store.execute(f"INSERT INTO choice ({columns}) VALUES (?, ?, ?, ?)", (prompt, chosen, rejected, rater))

    def ratings(self) -> list[dict]:
        """The ratings that count, the oldest first, a dict per row with the columns of `rate`, `id` and `at`."""
        return self._rows(LAST_RATINGS)

    def choices(self) -> list[dict]:
        """The choices that count, likewise."""
        return self._rows(LAST_CHOICES)

    def counts(self) -> dict[str, int]:
        """How many ratings and choices count, of how many raters and prompts."""
        ratings, choices = self.ratings(), self.choices()
        distinct = {f"{key}s": len({row[key] for row in ratings + choices}) for key in ("rater", "prompt")}
        return {"ratings": len(ratings), "choices": len(choices)} | distinct

    def export(self, path: str | Path) -> int:
        """Write everything ever judged as JSONL; the number of rows. Raises UserError where `path` exists."""
        path = Path(path).expanduser()
        if path.exists():
            raise UserError(f"{path} exists already; choose another name, or remove it first")
        rows = [{"kind": kind} | row for kind in ("rating", "choice") for row in self._rows(f"SELECT * FROM {kind}")]
        with atomic_path(path) as part, part.open("w", encoding="utf-8") as file:
            file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        return len(rows)

    def forget(self, rater: str) -> int:
        """Delete everything of one rater, not to be brought back; the rows. UserError for a rater who is not there."""
        with self._transaction("IMMEDIATE") as store:
            store.execute("PRAGMA secure_delete = ON")  # the freed pages are overwritten with zeros
            deleted = sum(
                store.execute(f"DELETE FROM {kind} WHERE rater = ?", (rater,)).rowcount for kind in ("rating", "choice")
            )
            if not deleted:
                known = [
                    row["rater"] for row in store.execute("SELECT rater FROM rating UNION SELECT rater FROM choice")
                ]
                near = get_close_matches(rater, known, cutoff=0.3) or known
                raise UserError(f"no rater {rater!r} in {self.path}; it knows {', '.join(near) or 'nobody'}")
        return deleted

    def _rows(self, query: str) -> list[dict]:
        with self._transaction("DEFERRED") as store:
            return [dict(row) for row in store.execute(query)]

    @contextmanager
    def _transaction(self, kind: str) -> Iterator[sqlite3.Connection]:
        """A connection of its own, in a transaction that is undone where the block fails."""
        store = None
        try:
            store = sqlite3.connect(self.path, timeout=PATIENCE, isolation_level=None)
            store.row_factory = sqlite3.Row
            store.execute(f"BEGIN {kind}")
            yield store
            store.execute("COMMIT")
        except sqlite3.Error as error:
            advice = "another program is using it" if "locked" in str(error) else "name another file or restore a copy"
            raise UserError(f"cannot use {self.path} as a store of feedback: {error}; {advice}") from error
        finally:
            if store:
                store.close()


def pragma(store: sqlite3.Connection, name: str):
    return store.execute(f"PRAGMA {name}").fetchone()[0]


def check_texts(**texts: str) -> None:
    for name, text in texts.items():
        if not isinstance(text, str) or not text.strip():
            raise UserError(f"{name} must be a text that is not empty, got {text!r}")


Pair = tuple[str, str, str]  # prompt and two of its stories in alphabetical order


def preference_set(store: FeedbackStore, least: int = LEAST) -> "Dataset":
    """Which story of a prompt readers prefer, as rows of prompt, chosen and rejected; what was left out is counted in
    the data set's `info.description`.

    Where stories were compared, the majority of the readers decides, and a tie is dropped. Other pairs of a prompt are
    decided by their ratings: the mean over the readers for each criterion that both stories were rated by, and the mean
    over these criteria must be at least a point apart. Raises UserError for fewer than `least` pairs.
    """
    compared = net_votes(store.choices())
    rated = rating_gaps(store.ratings())
    by_rating = {pair: gap for pair, gap in rated.items() if pair not in compared}
    rows = [row(*pair, net) for pair, net in sorted(compared.items()) if net]
    rows += [row(*pair, gap) for pair, gap in sorted(by_rating.items()) if gap is not None and abs(gap) >= APART]
    dropped = {
        "compared with no majority": sum(net == 0 for net in compared.values()),
        "rated less than a point apart": sum(gap is not None and abs(gap) < APART for gap in by_rating.values()),
        "rated by different criteria": sum(gap is None for gap in by_rating.values()),
    }
    notes = "; ".join(f"{count} pairs left out: {why}" for why, count in dropped.items() if count)
    if len(rows) < least:
        found = f"{len(rows)} pairs of stories to learn from in {store.path}" + (f" ({notes})" if notes else "")
        raise UserError(f"{found}, and {least} are needed; have {least - len(rows)} more compared or rated")
    from datasets import Dataset  # here: a widget that only keeps ratings need not wait for it

    pairs = Dataset.from_list(rows)
    pairs.info.description = notes
    return pairs


def as_pairs(feedback: "FeedbackStore | Dataset | str | Path") -> "Dataset":
    """The preference set of a store, of the store at a path, or the rows as given; UserError where there is none."""
    if isinstance(feedback, (str, Path)):
        if not Path(feedback).expanduser().exists():
            raise UserError(f"no store of feedback at {feedback}; collect ratings first, or name another file")
        feedback = FeedbackStore(feedback)
    if isinstance(feedback, FeedbackStore):
        return preference_set(feedback)
    if missing := [name for name in COLUMNS if name not in feedback.column_names]:
        raise UserError(f"pairs need the columns {', '.join(COLUMNS)}; {', '.join(missing)} missing")
    pairs = feedback.select_columns(list(COLUMNS))
    pairs.info.description = ""  # of a store's pairs it counts what was left out
    return pairs


def row(prompt: str, first: str, second: str, gap: float) -> dict[str, str]:
    """The training row of a pair whose first story is better by `gap`, or whose second is if that is below zero."""
    chosen, rejected = (first, second) if gap > 0 else (second, first)
    return {"prompt": prompt, "chosen": chosen, "rejected": rejected}


def net_votes(choices: Sequence[Mapping]) -> dict[Pair, int]:
    """For each pair that was compared, the readers for its first story less the readers for its second."""
    votes: dict[Pair, int] = defaultdict(int)
    for choice in choices:
        first, second = sorted((choice["chosen"], choice["rejected"]))
        votes[choice["prompt"], first, second] += 1 if choice["chosen"] == first else -1
    return dict(votes)


def rating_gaps(ratings: Sequence[Mapping]) -> dict[Pair, Fraction | None]:
    """For each pair of rated stories of a prompt, the points that its first is ahead; None without a common criterion.

    In fractions: means that are a point apart must not miss it by a rounding error.
    """
    given: dict[str, dict[str, dict[str, list[Fraction]]]] = {}  # prompt -> story -> criterion -> scores
    for rating in ratings:
        stories = given.setdefault(rating["prompt"], {})
        scores = stories.setdefault(rating["story"], {}).setdefault(rating["criterion"], [])
        scores.append(Fraction(rating["score"]))
    gaps: dict[Pair, Fraction | None] = {}
    for prompt, stories in given.items():
        means = {story: {name: mean(scores) for name, scores in by.items()} for story, by in stories.items()}
        for first, second in combinations(sorted(means), 2):
            common = means[first].keys() & means[second].keys()
            ahead = [means[first][name] - means[second][name] for name in common]
            gaps[prompt, first, second] = mean(ahead) if ahead else None
    return gaps
