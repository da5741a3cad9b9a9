"""The store of readers' feedback: nothing is lost, nothing of others is touched, the pairs are what readers meant."""

import json
import sqlite3
import subprocess
import sys
from datetime import datetime, timedelta, timezone

import pytest

from storylib import feedback
from storylib.errors import UserError
from storylib.feedback import FeedbackStore, preference_set

PROMPT = "🦔🏰💪 hedgehog, castle, courage\n"


@pytest.fixture
def store(tmp_path) -> FeedbackStore:
    return FeedbackStore(tmp_path / "feedback.sqlite")


def pairs(store) -> list[tuple[str, str]]:
    return [(row["chosen"], row["rejected"]) for row in preference_set(store, least=0)]


def test_what_is_given_is_kept_word_for_word(store):
    story = 'Él dijo: "Good night, 👨‍👩‍👦‍👦."\n\nおやすみ。'
    store.rate(PROMPT, story, 4, "coherence", "Ana", "emoji/cpu")
    store.choose(PROMPT, story, "The end.", "Ana")
    again = FeedbackStore(store.path)
    (rating,), (choice,) = again.ratings(), again.choices()
    age = datetime.now(timezone.utc) - datetime.fromisoformat(rating.pop("at").replace("Z", "+00:00"))
    assert timedelta(0) <= age < timedelta(minutes=1)
    assert rating == {
        "id": 1, "prompt": PROMPT, "story": story, "score": 4,
        "criterion": "coherence", "rater": "Ana", "system": "emoji/cpu",
    }  # fmt: skip
    assert (choice["chosen"], choice["rejected"]) == (story, "The end.")
    assert again.counts() == {"ratings": 1, "choices": 1, "raters": 1, "prompts": 1}
    assert [path.name for path in store.path.parent.iterdir()] == ["feedback.sqlite"]  # one file, no journal beside it


@pytest.mark.parametrize("score", [0, 6, 2.5, "3", None, float("nan")])
def test_score_outside_the_scale(store, score):
    with pytest.raises(UserError, match=f"whole number from 1 to 5, got {score!r}"):
        store.rate(PROMPT, "A story.", score, "coherence", "Ana")
    assert store.counts()["ratings"] == 0


def test_empty_texts_and_a_choice_of_one(store):
    with pytest.raises(UserError, match="rater must be a text that is not empty, got ' '"):
        store.rate(PROMPT, "A story.", 3, "coherence", " ")
    with pytest.raises(UserError, match="rejected must be a text that is not empty, got None"):
        store.choose(PROMPT, "A story.", None, "Ana")
    with pytest.raises(UserError, match="the same twice: 'A story.'"):
        store.choose(PROMPT, "A story.", "A story.", "Ana")


def test_a_readers_last_word_counts(store):
    store.rate(PROMPT, "A", 1, "coherence", "Ana")
    store.rate(PROMPT, "A", 1, "surprise", "Ana")
    store.rate(PROMPT, "A", 5, "coherence", "Ana")
    store.choose(PROMPT, "A", "B", "Ana")
    store.choose(PROMPT, "B", "A", "Ana")
    assert [(row["criterion"], row["score"]) for row in store.ratings()] == [("surprise", 1), ("coherence", 5)]
    assert [row["chosen"] for row in store.choices()] == ["B"]
    assert pairs(store) == [("B", "A")]


def test_majority_decides_and_a_tie_is_dropped(store):
    for rater, chosen, rejected in (("Ana", "A", "B"), ("Ben", "B", "A"), ("Cho", "B", "A"), ("Ana", "C", "D")):
        store.choose(PROMPT, chosen, rejected, rater)
    store.choose(PROMPT, "D", "C", "Ben")
    found = preference_set(store, least=1)
    assert found.to_list() == [{"prompt": PROMPT, "chosen": "B", "rejected": "A"}]
    assert found.info.description == "1 pairs left out: compared with no majority"


def test_ratings_a_point_apart_become_pairs(store):
    # means by coherence: A 4, B 10/3, C 7/3; only C is a point or more behind
    for story, scores in {"A": (4, 4, 4), "B": (3, 3, 4), "C": (2, 2, 3)}.items():
        for rater, score in zip("xyz", scores, strict=True):
            store.rate(PROMPT, story, score, "coherence", rater)
    store.rate("another prompt", "D", 1, "coherence", "x")  # never compared across prompts
    found = preference_set(store, least=1)
    assert [(row["chosen"], row["rejected"]) for row in found] == [("A", "C"), ("B", "C")]
    assert found.info.description == "1 pairs left out: rated less than a point apart"


def test_stories_are_compared_by_the_criteria_they_share(store):
    store.rate(PROMPT, "A", 1, "coherence", "x")
    store.rate(PROMPT, "A", 5, "surprise", "x")
    store.rate(PROMPT, "B", 3, "coherence", "x")
    store.rate(PROMPT, "C", 4, "relevance", "x")
    found = preference_set(store, least=1)
    assert [(row["chosen"], row["rejected"]) for row in found] == [("B", "A")]
    assert found.info.description == "2 pairs left out: rated by different criteria"


def test_comparison_outweighs_ratings(store):
    store.rate(PROMPT, "A", 5, "coherence", "x")
    store.rate(PROMPT, "B", 1, "coherence", "x")
    store.choose(PROMPT, "B", "A", "x")
    assert pairs(store) == [("B", "A")]


def test_too_few_pairs_says_how_many_are_needed(store):
    store.choose(PROMPT, "A", "B", "Ana")
    store.choose(PROMPT, "C", "D", "Ana")
    store.choose(PROMPT, "D", "C", "Ben")
    expected = r"1 pairs .* \(1 pairs left out: compared with no majority\), and 20 are needed; have 19 more"
    with pytest.raises(UserError, match=expected):
        preference_set(store)


def test_pairs_do_not_depend_on_the_order_of_arrival(tmp_path):
    said = [("p", "A", "B"), ("q", "C", "D"), ("p", "E", "A")]
    stores = [FeedbackStore(tmp_path / name) for name in ("one", "two")]
    for store, order in zip(stores, (said, said[::-1]), strict=True):
        for prompt, chosen, rejected in order:
            store.choose(prompt, chosen, rejected, "Ana")
    assert preference_set(stores[0], least=3).to_list() == preference_set(stores[1], least=3).to_list()


EACH = 60  # ratings, and as many choices, of a writing program
WRITER = f"""
import sys, time
from storylib.feedback import FeedbackStore
path, rater = sys.argv[1:]
print("ready", flush=True)
sys.stdin.readline()
for number in range({EACH}):
    store = FeedbackStore(path)  # opened anew: the file is made by whoever comes first
    store.rate("a prompt", f"story {{number}}", 1 + number % 5, "coherence", rater)
    store.choose("a prompt", f"story {{number}}", "another", rater)
    time.sleep(0.002)  # as a reader does; the other's turn
"""


def start_writer(path, rater) -> subprocess.Popen:
    """A program that waits for a line before it writes."""
    command = [sys.executable, "-c", WRITER, path, rater]
    writer = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert writer.stdout.readline() == "ready\n"
    return writer


def go(writer) -> None:
    writer.stdin.write("go\n")
    writer.stdin.flush()


def test_two_programs_write_at_once_and_nothing_is_lost(tmp_path):
    path = tmp_path / "feedback.sqlite"
    writers = [start_writer(path, rater) for rater in ("Ana", "Ben")]
    for writer in writers:
        go(writer)
    assert [writer.wait(timeout=120) for writer in writers] == [0, 0]
    store = FeedbackStore(path)
    assert store.counts() == {"ratings": 2 * EACH, "choices": 2 * EACH, "raters": 2, "prompts": 1}
    orders = "".join(row["rater"][0] for row in store.ratings())
    assert "AB" in orders and "BA" in orders  # they did overlap
    scores = {(row["rater"], row["story"]): row["score"] for row in store.ratings()}
    assert all(scores[rater, f"story {n}"] == 1 + n % 5 for rater in ("Ana", "Ben") for n in range(EACH))


def test_killed_writer_leaves_a_whole_store(tmp_path):
    path = tmp_path / "feedback.sqlite"
    kept = FeedbackStore(path)
    for attempt in range(3):
        writer = start_writer(path, "Ana")
        go(writer)
        while writer.poll() is None and kept.counts()["ratings"] < 5 + attempt:
            pass
        writer.kill()
        writer.wait(timeout=60)
        kept.forget("Ana")
        FeedbackStore(path).rate(PROMPT, "A story.", 3, "coherence", "Ben")
    assert kept.counts()["ratings"] == 1


def test_locked_store_says_so(store, monkeypatch):
    monkeypatch.setattr(feedback, "PATIENCE", 0.1)
    other = sqlite3.connect(store.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(UserError, match="database is locked; another program is using it"):
        store.choose(PROMPT, "A", "B", "Ana")
    other.execute("COMMIT")
    other.close()
    store.choose(PROMPT, "A", "B", "Ana")


def test_files_of_others_are_left_alone(tmp_path):
    text = tmp_path / "thesis.txt"
    text.write_text("My thesis. " * 100)
    with pytest.raises(UserError, match="cannot use .*thesis.txt as a store of feedback: file is not a database"):
        FeedbackStore(text)
    other = tmp_path / "other.sqlite"
    with sqlite3.connect(other) as database:
        database.execute("CREATE TABLE bookmark (url TEXT)")
    database.close()
    before = other.read_bytes()
    with pytest.raises(UserError, match="other.sqlite is a database of another program; name another file"):
        FeedbackStore(other)
    assert other.read_bytes() == before and text.read_text() == "My thesis. " * 100
    with pytest.raises(UserError, match="unable to open database file"):
        FeedbackStore(tmp_path)


def test_store_of_a_newer_version(store):
    with sqlite3.connect(store.path) as database:
        database.execute("PRAGMA user_version = 2")
    database.close()
    with pytest.raises(UserError, match=r"newer storylib \(store 2, known 1\); update it"):
        FeedbackStore(store.path)


def test_damaged_store_is_named(store):
    for number in range(20):
        store.rate(PROMPT, f"story {number} " * 200, 3, "coherence", "Ana")
    whole = store.path.read_bytes()
    store.path.write_bytes(whole[: len(whole) // 2 // 4096 * 4096])
    with pytest.raises(UserError, match=r"damaged|malformed"):
        FeedbackStore(store.path)
    store.path.write_bytes(whole[:8192] + b"\x07" * 4096 + whole[12288:])
    with pytest.raises(UserError, match=r"damaged|malformed"):
        FeedbackStore(store.path)
    store.path.write_bytes(whole)
    assert FeedbackStore(store.path).counts()["ratings"] == 20


def test_forgetting_a_rater_leaves_no_trace(store):
    store.rate(PROMPT, "A secret story.", 1, "coherence", "Ana")
    store.choose(PROMPT, "A secret story.", "B", "Ana")
    store.rate(PROMPT, "B", 2, "coherence", "Ben")
    with pytest.raises(UserError, match="no rater 'Anna' .* it knows Ana"):
        store.forget("Anna")
    assert store.forget("Ana") == 2
    assert store.counts() == {"ratings": 1, "choices": 0, "raters": 1, "prompts": 1}
    assert b"secret" not in store.path.read_bytes() and b"Ana" not in store.path.read_bytes()


def test_export_holds_everything_ever_judged(store, tmp_path):
    store.rate(PROMPT, "A", 1, "coherence", "Ana")
    store.rate(PROMPT, "A", 5, "coherence", "Ana")
    store.choose(PROMPT, "A", "B", "Ben")
    out = tmp_path / "feedback.jsonl"
    assert store.export(out) == 3
    rows = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    assert [(row["kind"], row["prompt"], row.get("score")) for row in rows] == [
        ("rating", PROMPT, 1),
        ("rating", PROMPT, 5),
        ("choice", PROMPT, None),
    ]
    with pytest.raises(UserError, match="exists already"):
        store.export(out)


def test_the_store_needs_no_torch():
    code = "import sys, storylib.feedback; sys.exit('torch' in sys.modules or 'datasets' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0
