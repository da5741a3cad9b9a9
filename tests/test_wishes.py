"""Wishes by rules, against the wishes that were written; and by a model behind a local server that misbehaves."""

import json
import pickle
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest

from storylib.data import load
from storylib.data.wishes import WISHES, BadAnswer, ModelExtractor, by_rules, parse_answer
from storylib.data.words import count_words, expand, forms, read_list
from storylib.data.writing_prompts import prepare
from storylib.errors import UserError

GOOD = {
    "character": "a bell maker",
    "traits": "deaf and kind",
    "setting": "a tower",
    "plot": "a bell is stolen",
    "tone": "warm",
    "arc": "the quest",
}


# Rules


@pytest.mark.parametrize(
    "premise, character",
    [
        ("You are a retired assassin who opens a bakery.", "a retired assassin"),
        ("The ancient dragon, nearing his end, looks back.", "the ancient dragon"),
        ("Two undercover cops arrest each other.", "two undercover cops"),
        ("A dragon accountant counts gold.", "a dragon accountant"),
        ("A knight guards the gate.", "a knight"),
        ("A shy, daydreaming librarian speaks.", "a librarian"),  # a comma ends what belongs to it
        ("A brave nurse leaves.", "a nurse"),  # bravery is a trait
        ("Your niece calls an astronaut.", "a niece"),
        ("A horde of zombies waits.", "zombies"),
        ("A kid meets a wizard.", "a wizard"),  # a kind of person before a mere person
        ("It rains.", ""),
    ],
)
def test_character_of_a_premise(premise, character):
    assert by_rules(premise, "")["character"] == character


@pytest.mark.parametrize(
    "premise, setting",
    [
        ("The lighthouse keeper hides in an abandoned theatre.", "an abandoned theatre"),
        ("On Mars a robot paints.", "Mars"),
        ("A castle school has no books.", "a castle school"),
        ("A man drives to New York.", "New York"),
        ("A man is in a room aboard the last ship.", "the last ship"),  # a place before a mere room
        ("It rains.", ""),
    ],
)
def test_setting_of_a_premise(premise, setting):
    assert by_rules(premise, "")["setting"] == setting


def test_the_story_tells_what_the_premise_does_not():
    story = (
        "A sailor came to the harbour. The sailor looked at the harbour. In the harbour lay a ship. The sailor left."
    )
    found = by_rules("It rains.", story)
    assert (found["character"], found["setting"]) == ("a sailor", "a harbour")
    named = "So Tilda ran, and Tilda fell, and old Tilda laughed. On Monday she rested, on Monday she slept, on Monday"
    assert by_rules("It rains.", named)["character"] == "Tilda"


def test_traits_plot_tone_and_arc():
    story = "She was careful. Warily she hid the clever map, a shrewd thing. He was kind."
    assert by_rules("", story)["traits"] == "cautious and clever"  # two words each; kindness has one
    assert by_rules("He is jealous.", "")["traits"] == "jealous"
    found = by_rules("A detective finds a corpse.", "The murderer left clues at the crime.")
    assert found["plot"] == "a crime must be solved"
    assert by_rules("", "The letter was sealed.")["plot"] == "a mysterious letter arrives"
    assert by_rules("", "A rival came.")["plot"] == ""  # of one plot as much as of another
    assert by_rules("", "") == dict.fromkeys(WISHES, "")


def test_agreement_with_the_wishes_that_were_written():
    """The figures in the card of a prepared folder: right answers of 40, with the lists as they ship."""
    stories = load("personal")
    right = dict.fromkeys(WISHES, 0)
    for row in (row for split in ("validation", "test") for row in stories[split]):
        found = by_rules(row["premise"], row["completion"])
        for wish in ("character", "setting"):
            right[wish] += bool(found[wish]) and found[wish].split()[-1] in count_words(row[wish])
        right["traits"] += bool({*found["traits"].split()} & {*row["traits"].split()} - {"and", "but"})
        for wish in ("plot", "tone", "arc"):
            right[wish] += found[wish] == row[wish]
    assert right == {"character": 35, "traits": 28, "setting": 29, "plot": 20, "tone": 6, "arc": 5}


def test_word_lists_have_no_slips():
    assert expand("a(b|c)d(|e)") == ["abd", "abde", "acd", "acde"]
    lists = read_list("wishes")
    for kind, listed in lists.items():
        for patterns in listed.values() if isinstance(listed, dict) and kind != "worlds" else []:
            assert len(patterns.split()) == len(set(patterns.split())), patterns
            assert all(word == word.lower() and word.strip("'-").replace("-", "").isalpha() for word in forms(patterns))


# A model


@pytest.fixture
def server():
    """Answers each request with the next of `server.answers`: a status, or the text of a completion."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            self.server.requests.append((self.path, self.headers.get("Authorization"), body))
            answers = self.server.answers
            answer = answers.pop(0) if len(answers) > 1 else answers[0]
            self.send_response(answer if isinstance(answer, int) else 200)
            self.end_headers()
            if isinstance(answer, bytes):
                self.wfile.write(answer)
            elif isinstance(answer, str):
                self.wfile.write(json.dumps({"choices": [{"message": {"content": answer}}]}).encode())

        def log_message(self, *args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.requests, server.answers = [], [json.dumps(GOOD)]
    server.address = f"http://127.0.0.1:{server.server_port}/v1"
    Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def ask(server, **options):
    return ModelExtractor(server.address, "tiny", pause=0.01, timeout=5, **options)


def test_a_model_is_asked(server):
    assert ask(server, key="secret")("A bell rings.", "x" * 50_000) == GOOD
    [(path, authorization, body)] = server.requests
    assert path == "/v1/chat/completions" and authorization == "Bearer secret" and body["model"] == "tiny"
    assert all(f'"{wish}"' in body["messages"][0]["content"] for wish in WISHES)
    question = body["messages"][1]["content"]
    assert question.startswith("Premise: A bell rings.") and len(question) < 13_000


def test_the_key_comes_from_the_environment_and_is_not_shown(server, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "from-there")
    extract = ask(server)
    extract("A bell rings.", "…")
    assert server.requests[0][1] == "Bearer from-there" and "from-there" not in repr(extract)
    assert pickle.loads(pickle.dumps(extract)) == extract  # it goes to other processes
    monkeypatch.delenv("OPENAI_API_KEY")
    ask(server)("A bell rings.", "…")
    assert server.requests[1][1] is None


@pytest.mark.parametrize("bad", ["I would rather not.", '{"character": 3}', "{}", '{"tone": ', b"no json", 429, 503])
def test_malformed_answers_are_asked_for_again(server, bad):
    server.answers = [bad, bad, f"Here you are:\n```json\n{json.dumps(GOOD)}\n```"]
    assert ask(server)("A bell rings.", "…") == GOOD
    assert len(server.requests) == 3


def test_too_many_malformed_answers(server):
    server.answers = ["no"]
    with pytest.raises(BadAnswer, match="no JSON object in 'no'"):
        ask(server, tries=2)("A bell rings.", "…")
    assert len(server.requests) == 2


def test_a_refusal_is_told_at_once(server):
    server.answers = [401]
    with pytest.raises(UserError, match="refused with 401 .*OPENAI_API_KEY"):
        ask(server)("A bell rings.", "…")
    assert len(server.requests) == 1
    with pytest.raises(UserError, match="nobody answers at http://127.0.0.1:9"):
        ModelExtractor("http://127.0.0.1:9/v1", "tiny")("A bell rings.", "…")
    with pytest.raises(UserError, match="'localhost:8000' is no address"):
        ModelExtractor("localhost:8000", "tiny")


def test_answers_that_say_too_little_or_too_much():
    assert parse_answer('{"tone": " warm\\n", "mood": "x"}') == dict.fromkeys(WISHES, "") | {"tone": "warm"}
    for answer in (None, '{"tone": ""}', '{"mood": "x"}', json.dumps({"plot": "long " * 50}), "[1]"):
        with pytest.raises(BadAnswer):
            parse_answer(answer)


def test_prepare_with_a_model_that_is_sometimes_wrong(server, tmp_path, monkeypatch):
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    rows = [
        {"prompt": f"Bell {n} rings.", "story": f"Bell {n}. " + "The sailor saw the harbour. " * 12} for n in range(40)
    ]
    raw = tmp_path / "own.jsonl"
    raw.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    server.answers = ["no", "no", "no", json.dumps(GOOD)]
    report = prepare(raw, tmp_path / "out", endpoint=server.address, model="tiny", processes=1)
    assert report.notes == ["1 rows with wishes by the rules: the model's answers were malformed"]
    found = [json.loads(line) for path in (tmp_path / "out").glob("*.jsonl") for line in path.open(encoding="utf-8")]
    assert sorted(row["setting"] for row in found) == ["a harbour"] + ["a tower"] * 39
    assert "found by the model tiny" in (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    server.answers = [404]
    with pytest.raises(UserError, match="refused with 404"):
        prepare(raw, tmp_path / "none", endpoint=server.address, model="tiny", processes=2)
    assert not (tmp_path / "none").exists() and not list(tmp_path.glob(".*"))
