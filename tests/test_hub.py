"""Gated, unknown and unreachable bases are named in one line, early, and with a way out."""

import threading
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from huggingface_hub.errors import LocalEntryNotFoundError, OfflineModeIsEnabled

from storylib import hub
from storylib.errors import UserError
from storylib.hub import ask_hub, check_access, use_secret

LLAMA = "meta-llama/Llama-2-7b-chat-hf"
TOKEN = "hf_not_to_be_shown"


@pytest.fixture
def server():
    """A stand-in for the Hub that answers as told, and counts how often it is asked."""

    class Answer(BaseHTTPRequestHandler):
        asked, status, headers_sent = 0, 200, {}

        def do_HEAD(self):
            type(self).asked += 1
            self.send_response(self.status)
            for name, value in self.headers_sent.items():
                self.send_header(name, value)
            self.end_headers()

        def log_message(self, *args):
            pass

    site = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    threading.Thread(target=site.serve_forever, daemon=True).start()
    Answer.ask = staticmethod(partial(ask_hub, endpoint=f"http://127.0.0.1:{site.server_port}"))
    yield Answer
    site.shutdown()
    site.server_close()


@pytest.fixture(autouse=True)
def no_token_and_no_cache(monkeypatch):
    monkeypatch.setattr(hub, "get_token", lambda: None)
    monkeypatch.setattr(hub, "try_to_load_from_cache", lambda base, name: None)


@pytest.fixture
def cached(monkeypatch):
    monkeypatch.setattr(hub, "try_to_load_from_cache", lambda base, name: f"/cache/{name}")


def raising(error):
    def ask(base):
        raise error

    return ask


def test_open_model_may_be_fetched(server):
    server.headers_sent = {"ETag": '"abc"', "X-Repo-Commit": "0" * 40, "Content-Length": "10"}
    assert check_access(LLAMA, server.ask, "laptop") is True


@pytest.mark.parametrize(
    ("place", "advice"),
    [
        ("laptop", "run: hf auth login"),
        ("colab", "keep a token as the secret HF_TOKEN (the key symbol on the left)"),
        ("kaggle", "keep a token as the secret HF_TOKEN (Add-ons > Secrets)"),
    ],
)
def test_gated_model_without_a_token(server, place, advice):
    server.status, server.headers_sent = 401, {"X-Error-Code": "GatedRepo"}
    with pytest.raises(UserError) as error:
        check_access(LLAMA, server.ask, place)
    assert str(error.value) == (
        f"{LLAMA} is gated; ask for leave on https://huggingface.co/{LLAMA}, then {advice}; "
        "or take the open NousResearch/Llama-2-7b-chat-hf"
    )
    assert server.asked == 1  # no second try, no waiting


def test_gated_model_with_a_token_that_has_no_leave(server, monkeypatch):
    monkeypatch.setattr(hub, "get_token", lambda: TOKEN)
    server.status, server.headers_sent = 403, {"X-Error-Code": "GatedRepo"}
    with pytest.raises(UserError, match="no leave yet.*or take the open HuggingFaceTB/SmolLM2-1.7B") as error:
        check_access("someone/gated-model", server.ask, "laptop")
    assert TOKEN not in str(error.value)


def test_unknown_model(server):
    server.status, server.headers_sent = 404, {"X-Error-Code": "RepoNotFound"}
    with pytest.raises(UserError, match="no model some/typo on huggingface.co, or a private one"):
        check_access("some/typo", server.ask, "laptop")


def test_token_that_is_refused(server):
    server.status, server.headers_sent = 403, {"X-Error-Message": "token expired"}
    with pytest.raises(UserError, match="refuses the token for some/model; make a new one, then run: hf auth login"):
        check_access("some/model", server.ask, "laptop")


@pytest.mark.parametrize("error", [OfflineModeIsEnabled("off"), LocalEntryNotFoundError("gone"), TimeoutError()])
def test_no_network_and_no_copy(error):
    with pytest.raises(UserError) as told:
        check_access(LLAMA, raising(error), "kaggle")
    message = str(told.value)
    assert type(error).__name__ in message and "turn on Internet in the notebook's settings" in message
    assert "or take a cpu recipe" in message and "\n" not in message


def test_no_network_is_one_quick_line(server, capfd):
    nowhere = partial(ask_hub, endpoint="http://127.0.0.1:9")  # the discard port: nobody listens
    with pytest.raises(UserError, match=r"can't be reached for .* \(ConnectError\).*check the network"):
        check_access(LLAMA, nowhere, "laptop")
    assert capfd.readouterr() == ("", "")  # the Hub's own calls print each of six tries


def test_copy_in_the_cache_is_enough(cached, server):
    assert check_access(LLAMA, raising(OfflineModeIsEnabled("off")), "laptop") is False
    server.status, server.headers_sent = 401, {"X-Error-Code": "GatedRepo"}
    assert check_access(LLAMA, server.ask, "laptop") is False


def test_config_alone_is_no_copy(monkeypatch):
    monkeypatch.setattr(hub, "try_to_load_from_cache", lambda base, name: "/c" if name == "config.json" else None)
    with pytest.raises(UserError, match="no copy is on this machine"):
        check_access(LLAMA, raising(OfflineModeIsEnabled("off")), "laptop")


def test_folder_asks_nobody(tmp_path):
    assert check_access(str(tmp_path), raising(AssertionError("asked")), "laptop") is False


def test_what_is_no_name_at_all():
    with pytest.raises(UserError, match="'a/b/c' is neither a folder nor a name"):
        check_access("a/b/c", ask_hub, "laptop")


def test_secret_store_comes_before_the_environment():
    environ = {"HF_TOKEN": "old"}
    use_secret("colab", environ, {"colab": f" {TOKEN}\n"}.get)
    assert environ == {"HF_TOKEN": TOKEN}
    use_secret("laptop", environ, {"colab": "another"}.get)
    assert environ == {"HF_TOKEN": TOKEN}


def test_machine_without_a_secret_store_has_none():
    assert [hub.secret(place) for place in ("laptop", "colab", "kaggle")] == [None] * 3
