"""A judge that prefers a position, one that prefers length, one that talks, and servers that misbehave."""

import json
import math
import os
import re
import socket
import subprocess
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from threading import Thread

import pytest

from storylib.errors import UserError
from storylib.files import DATA
from storylib.metrics.judge import Cache, Judge, find_key, judge_pairs, together, verdict
from storylib.metrics.score import wilson_interval

SHORT, LONG = "A fox slept. {}", "A fox ran over the hill, sang to the owl and slept in the hay. {}"
PROMPTS = [f"🦊 fox {number}" for number in range(10)]
STORIES = [(LONG if number < 7 else SHORT).format(number) for number in range(10)]
BASELINE = [(SHORT if number < 7 else LONG).format(number) for number in range(10)]


class Server(ThreadingHTTPServer):
    """Answers by `script`, which is given the two stories: with a text, a status and headers, or after a pause."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.script, self.seen, self.times, self.now, self.most = lambda first, second: "first", [], [], 0, 0
        self.url = f"http://127.0.0.1:{self.server_port}/v1"


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        server = self.server
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        server.seen.append((self.path, self.headers.get("Authorization"), body))
        server.times.append(time.monotonic())
        server.now += 1
        server.most = max(server.most, server.now)
        answer = server.script(*re.findall(r"story>\n(.*?)\n</", body["messages"][-1]["content"]))
        if isinstance(answer, float):
            time.sleep(answer)
            answer = "first"
        status, headers = answer if isinstance(answer, tuple) else (200, {})
        server.now -= 1
        try:
            self.send_response(status)
            for name, value in {"Content-Type": "application/json", **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            usage = {"prompt_tokens": 100, "completion_tokens": 2, "total_tokens": 102}
            reply = {"choices": [{"index": 0, "message": {"role": "assistant", "content": answer}}], "usage": usage}
            self.wfile.write(json.dumps(reply if status == 200 else {"error": {"message": "no such model"}}).encode())
        except ConnectionError:  # the client has given up
            pass

    def log_message(self, *args):
        pass


@pytest.fixture
def server():
    server = Server()
    Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def judge(server, tmp_path, monkeypatch):
    """Ask a judge at the server about ten pairs, or others."""
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)

    def ask(prompts=PROMPTS, stories=STORIES, baseline=BASELINE, **options):
        options = {"retries": 1, "timeout": 10.0, **options}
        return judge_pairs(
            Judge(model="tiny", url=server.url, **options), prompts, stories, baseline, tmp_path / "a.jsonl"
        )

    return ask


def longer(first, second):
    return "first" if len(first) > len(second) else "second"


def test_a_judge_that_prefers_the_first_position(judge):
    found = judge()
    assert found.win_rate.value == 0.5 and found.flip_rate.value == 1 and found.said_first == 1
    assert (found.wins, found.ties, found.losses) == (0, 10, 0)
    assert (found.win_rate.low, found.win_rate.high) == wilson_interval(5, 10)
    assert math.isnan(found.words_of_winners)


def test_a_judge_that_prefers_length_is_unmasked(server, judge):
    server.script = longer
    found = judge(price=(2.0, 5.0))
    assert found.win_rate.value == 0.7 and found.flip_rate.value == 0 and found.said_first == 0.5
    assert (found.words_of_winners, found.words_of_losers) == (16, 4)
    assert found.win_rate.per_story == (1,) * 7 + (0,) * 3 and found.verdicts[6:8] == ("win", "loss")
    assert (found.tokens_read, found.tokens_written) == (2000, 40)
    assert found.cost == pytest.approx((2000 * 2 + 40 * 5) / 1e6)
    assert "orders:both|disagreement:tie|interval:wilson|pairs:10|clusters:10" in found.win_rate.signature
    assert found.table()["words of winners, losers"] == "16, 4"


def test_what_is_sent(server, judge):
    judge(PROMPTS[:1], STORIES[:1], BASELINE[:1], key="secret", criteria="the rhymes")
    assert {(path, key) for path, key, _ in server.seen} == {("/v1/chat/completions", "Bearer secret")}
    shown = [body["messages"][1]["content"] for _, _, body in server.seen]
    assert all(PROMPTS[0] in text and STORIES[0] in text and BASELINE[0] in text for text in shown)
    assert sorted(text.index(STORIES[0]) < text.index(BASELINE[0]) for text in shown) == [False, True]
    assert "the rhymes" in server.seen[0][2]["messages"][0]["content"] and server.seen[0][2]["temperature"] == 0


def test_stories_of_one_prompt_are_no_more_evidence_than_the_prompt(server, judge):
    server.script = longer
    found = judge(["🦊 fox"] * 10)
    assert found.win_rate.value == 0.7 and "clusters:1" in found.win_rate.signature
    assert (found.win_rate.low, found.win_rate.high) == wilson_interval(0.7, 1)


@pytest.mark.parametrize(
    ("answer", "heard"),
    [
        ("first", "first"),
        (" Second.\n", "second"),
        ("**TIE**", "tie"),
        ("<think>The first is long.</think>\n\nsecond", "second"),
        ("The first story is better.", "unreadable"),
        ("first second", "unreadable"),
        ("", "unreadable"),
        ("firstly", "unreadable"),
        ("1", "unreadable"),
    ],
)
def test_verdicts_are_read_strictly(answer, heard):
    assert verdict({"answer": answer}) == heard


@pytest.mark.parametrize(
    ("one", "turned", "outcome"),
    [
        ("first", "second", "win"),
        ("second", "first", "loss"),
        ("second", "second", "tie"),
        ("tie", "first", "tie"),
        ("tie", "tie", "tie"),
        ("first", "unreadable", "unreadable"),
        ("unanswered", "unreadable", "unanswered"),
    ],
)
def test_disagreement_is_a_tie(one, turned, outcome):
    assert together(one, turned) == outcome


def test_prose_is_counted_and_left_out(server, judge):
    server.script = lambda first, second: "Both are lovely!" if first.endswith("0") else longer(first, second)
    found = judge()
    assert found.unreadable == 1 and found.verdicts[0] == "unreadable" and math.isnan(found.win_rate.per_story[0])
    assert found.win_rate.value == pytest.approx(6 / 9) and "pairs:9" in found.win_rate.signature
    server.script = lambda first, second: "Both are lovely!"
    with pytest.raises(UserError, match="no verdict on 10 pairs: 10 unreadable.*tiny said 'Both are lovely!'"):
        judge(criteria="another question")


def test_empty_and_equal_stories_are_not_asked_about(server, judge):
    found = judge(["a", "b", "c", "d"], ["", "A fox.", " ", "An owl."], ["A fox.", "\n", "", "An owl. "])
    assert found.verdicts == ("loss", "win", "tie", "tie") and server.seen == []
    assert (found.empty, found.same, found.requests) == (3, 1, 0) and math.isnan(found.flip_rate.value)


def test_a_second_run_asks_nothing_again(server, judge, tmp_path):
    server.script = longer
    first = judge()
    assert (first.requests, first.cached, len(server.seen)) == (20, 0, 20)
    again = judge()
    assert len(server.seen) == 20 and again.cached == 20 and again.verdicts == first.verdicts
    assert again.cost == first.cost and again.tokens_read == 2000
    judge(options={"temperature": 1})
    assert len(server.seen) == 40  # another question
    assert len((tmp_path / "a.jsonl").read_text().splitlines()) == 40


def test_a_cache_that_a_kill_has_torn(server, judge, tmp_path):
    judge()
    whole = (tmp_path / "a.jsonl").read_text()
    (tmp_path / "a.jsonl").write_text(whole[: len(whole) - 9])
    assert judge().cached == 19 and len(server.seen) == 21
    assert judge().cached == 20 and len(server.seen) == 21
    assert len(Cache(tmp_path / "a.jsonl").rows) == 20


def test_a_stopped_run_goes_on(server, judge):
    def fails_later(first, second):
        return "first" if len(server.seen) <= 6 else (400, {})

    server.script = fails_later
    with pytest.raises(UserError, match="refused with 400: .*no such model.*OPENAI_API_KEY"):
        judge(concurrency=1)
    assert 7 <= len(server.seen) <= 8  # the next one may be under way
    server.script = longer
    assert judge().cached == 6


def test_a_passing_500_and_a_rate_limit_are_waited_out(server, judge):
    answers = iter([(500, {}), (429, {"Retry-After": "1"}), "first", "second"])
    server.script = lambda first, second: next(answers)
    found = judge(PROMPTS[:1], STORIES[:1], BASELINE[:1], retries=2, concurrency=1)
    assert found.verdicts == ("win",) and len(server.seen) == 4
    assert server.times[2] - server.times[1] >= 1  # as long as the server asked for


def test_a_request_that_fails_to_the_end_is_counted_and_asked_again(server, judge):
    broken = True
    server.script = lambda first, second: (500, {}) if broken and first.endswith("3") else longer(first, second)
    found = judge()
    assert found.unanswered == 1 and found.verdicts[3] == "unanswered" and found.win_rate.value == pytest.approx(6 / 9)
    broken = False
    assert judge().verdicts[3] == "win"


def test_a_time_out_is_counted(server, judge):
    server.script = lambda first, second: 1.5 if first.endswith("3") else longer(first, second)
    assert judge(timeout=0.4, retries=0).unanswered == 1


def test_a_server_that_is_down_is_named(judge):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
    with pytest.raises(UserError, match=f"nobody answers at {url}: .*start the server"):
        judge_pairs(Judge(model="tiny", url=url, retries=0), PROMPTS, STORIES, BASELINE, DATA / "never")
    assert not (DATA / "never").exists()


def test_requests_at_a_time_are_bounded(server, judge):
    def slow(first, second):
        time.sleep(0.05)
        return longer(first, second)

    server.script = slow
    judge(concurrency=3)
    assert 2 <= server.most <= 3


def test_the_key_is_found_and_never_shown(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "from-there\n")
    assert find_key(Judge(model="m")) == "from-there" and find_key(Judge(model="m", key="given")) == "given"
    assert "given" not in repr(Judge(model="m", key="given"))
    monkeypatch.delenv("OPENAI_API_KEY")
    assert find_key(Judge(model="m")) == "none"
    monkeypatch.setattr("storylib.hub.secret", lambda place, name: f" {name} of the store\n")
    assert find_key(Judge(model="m")) == "OPENAI_API_KEY of the store"


def test_bad_requests(judge):
    with pytest.raises(UserError, match="got 10, 10 and 9"):
        judge(baseline=BASELINE[1:])
    with pytest.raises(UserError, match="no prompts"):
        judge([], [], [])
    with pytest.raises(TypeError, match=r"stories\[0\] must be a text, got None"):
        judge(["a"], [None], ["b"])
    with pytest.raises(UserError, match="'localhost:8000' is no address"):
        Judge(model="m", url="localhost:8000")
    with pytest.raises(UserError, match="concurrency must be 1 or more"):
        Judge(model="m", concurrency=0)


@pytest.mark.slow
@pytest.mark.skipif(
    not (find_spec("fastapi") and find_spec("uvicorn")), reason="transformers serve needs fastapi, uvicorn"
)
def test_transformers_serves_the_embedded_base(tmp_path):
    """It tells stories there in the words of a chat, and as a judge, which it is none, it is found unreadable."""
    import openai

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    base = str(DATA / "base_model")
    command = [sys.executable, "-m", "transformers.cli.transformers", "serve", base, "--device", "cpu"]
    serving = subprocess.Popen(
        [*command, "--host", "127.0.0.1", "--port", str(port)],
        env=os.environ | {"HF_HUB_OFFLINE": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    url = f"http://127.0.0.1:{port}/v1"
    client = openai.OpenAI(base_url=url, api_key="none", max_retries=0, timeout=60)
    try:
        wait_for(port, serving)
        asked = [{"role": "user", "content": "🦔🏰💪 hedgehog, castle, courage"}]
        told = client.chat.completions.create(model=base, messages=asked, max_tokens=40, temperature=0)
        assert len(told.choices[0].message.content.split()) > 10 and told.usage.prompt_tokens == 12
        judge = Judge(model=base, url=url, options={"temperature": 0, "max_tokens": 8}, timeout=60)
        with pytest.raises(UserError, match="no verdict on 1 pairs: 1 unreadable"):
            judge_pairs(judge, PROMPTS[:1], STORIES[:1], BASELINE[:1], tmp_path / "answers.jsonl")
    finally:
        serving.terminate()
        serving.wait(20)


def wait_for(port: int, serving: subprocess.Popen, seconds: int = 100) -> None:
    for _ in range(2 * seconds):
        assert serving.poll() is None, "the server has ended"
        with socket.socket() as attempt:
            if attempt.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.5)
    raise AssertionError("the server does not answer")
