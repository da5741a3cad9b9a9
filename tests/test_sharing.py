"""What would go to the Hub, what is missing, and what is sent."""

import json
import shutil
from dataclasses import replace
from types import SimpleNamespace

import pytest
from huggingface_hub import ModelCard
from huggingface_hub.errors import HfHubHTTPError

from storylib import __main__ as cli
from storylib import config, sharing
from storylib.data.corpus import Card, write_corpus
from storylib.errors import UserError
from storylib.facts import as_card
from storylib.files import DATA
from storylib.sharing import plan, push

TOKEN = "hf_not_to_be_shown"


@pytest.fixture(autouse=True)
def token(monkeypatch):
    monkeypatch.setattr(sharing, "get_token", lambda: TOKEN)


@pytest.fixture
def model(tiny_base, tmp_path):
    """A whole model with a run's card, a pickle and a hidden file."""
    folder = tmp_path / "model"
    shutil.copytree(tiny_base, folder)
    card = {
        "recipe": as_card(replace(config.recipe("emoji/cpu"), base="Qwen/Qwen2.5-7B")),
        "hashes": {},
        "versions": {},
    }
    (folder / "run.json").write_text(json.dumps(card))
    (folder / "training_args.bin").write_bytes(b"pickle")
    (folder / ".env").write_text("HF_TOKEN=secret")
    return folder


@pytest.fixture
def corpus(tmp_path):
    card = Card(
        title="Owls", summary="Owls.", languages=["en"], licence="cc0-1.0", source="Ana", made="By hand",
        columns={"prompt": "a line", "completion": "a story"}, tags=["stories"],
    )  # fmt: skip
    rows = {"train": [{"prompt": "owl\n", "completion": "An owl."}]}
    write_corpus(tmp_path / "owls", rows, card)
    return tmp_path / "owls"


@pytest.fixture
def hub(monkeypatch):
    """A stand-in for the Hub that keeps what it is asked."""

    class Hub:
        asked, error = [], None

        def create_repo(self, name, **options):
            if self.error:
                raise self.error
            Hub.asked.append((name, options))
            return f"https://hub/{name}"

        def create_commit(self, name, operations, **options):
            Hub.asked.append((name, {part.path_in_repo: part.path_or_fileobj for part in operations}, options))

    monkeypatch.setattr(sharing, "HfApi", Hub)
    return Hub


def test_dry_run_says_what_would_go_and_sends_nothing(model, hub):
    upload = plan(model, "ana/owl", "cc0-1.0")
    assert upload.missing == [] and upload.kind == "model"
    assert {"README.md", "model.safetensors", "config.json", "tokenizer.json", "run.json"} <= upload.sizes().keys()
    assert upload.files["model.safetensors"] == (model / "model.safetensors").stat().st_size
    assert upload.notes == ["left out, for it is no part of a model: .env, training_args.bin"]
    assert "ana/owl" in str(upload) and hub.asked == []


def test_what_is_sent_is_what_was_said(model, hub, capsys):
    upload = plan(model, "ana/owl", "cc0-1.0")
    assert push(upload) == "https://hub/ana/owl"
    (name, options), (again, files, commit) = hub.asked
    assert name == again == "ana/owl"
    assert options == {"repo_type": "model", "private": True, "exist_ok": True} and commit["repo_type"] == "model"
    assert files.keys() == upload.sizes().keys() and files["config.json"] == str(model / "config.json")
    front = ModelCard(files["README.md"].decode()).data
    assert (front.license, front.library_name, front.base_model) == ("cc0-1.0", "transformers", "Qwen/Qwen2.5-7B")
    assert TOKEN not in capsys.readouterr().out


def test_what_is_missing_is_named_and_nothing_is_sent(model, hub, monkeypatch):
    monkeypatch.setattr(sharing, "get_token", lambda: None)
    upload = plan(model, "ana/owl")
    assert upload.missing == [
        "license in the card, such as --licence cc0-1.0",
        "a token of the Hub: run: hf auth login",
    ]
    with pytest.raises(UserError, match="not uploaded: license in the card.*; a token of the Hub"):
        push(upload)
    assert hub.asked == []


def test_adapter_of_a_base_that_nobody_else_has(hub):
    upload = plan(DATA / "adapters" / "emoji", "ana/owl")
    (fault,) = (what for what in upload.missing if "base" in what)
    assert "data/base_model is a folder here; merge the adapter into it (python -m storylib merge" in fault


def test_own_card_is_taken_as_it_is(model):
    text = "---\nlicense: mit\nlibrary_name: transformers\npipeline_tag: text-generation\n---\n# Mine\n"
    (model / "README.md").write_text(text)
    assert plan(model, "ana/owl", "cc0-1.0").card == text
    (model / "README.md").write_text("# Mine\n")
    upload = plan(model, "ana/owl", "cc0-1.0")
    assert "license: cc0-1.0" in upload.card and upload.card.endswith("# Mine\n")
    assert upload.missing == ["library_name in the card", "pipeline_tag in the card"]


def test_paths_of_this_machine_are_pointed_out(model):
    card = json.loads((model / "run.json").read_text())
    card["recipe"]["data"]["source"] = "/home/ana/thesis.csv"
    (model / "run.json").write_text(json.dumps(card))
    (note,) = (note for note in plan(model, "ana/owl", "mit").notes if "paths" in note)
    assert note == "run.json and the card show paths of this machine: /home/ana/thesis.csv"


def test_corpus(corpus, hub):
    upload = plan(corpus, "ana/owls")
    assert upload.kind == "dataset" and upload.missing == [] and upload.files.keys() == {"train.jsonl"}
    push(upload, private=False)
    assert hub.asked[0] == ("ana/owls", {"repo_type": "dataset", "private": False, "exist_ok": True})
    assert hub.asked[1][1]["README.md"] == (corpus / "README.md").read_bytes()
    (corpus / "README.md").unlink()
    assert plan(corpus, "ana/owls").missing == ["README.md, the card: write one, or prepare the corpus with storylib"]


@pytest.mark.parametrize("name", ["emoji_stories", "genres", "personal", "quartet"])
def test_cards_of_the_shipped_corpora_are_complete(name):
    assert plan(DATA / name, f"ana/{name}").missing == []


@pytest.mark.parametrize("name", ["emoji", "genre", "personal"])
def test_cards_of_the_shipped_adapters_are_complete(name):
    text = (DATA / "adapters" / name / "README.md").read_text(encoding="utf-8")
    assert sharing.card_faults("model", text) == []


@pytest.mark.parametrize("name", ["owl", "ana/o w l", "ana/owl/two", "", "ana/.."])
def test_what_is_no_name(model, name):
    with pytest.raises(UserError, match="give .*such as ana/bedtime-stories"):
        plan(model, name)


def test_what_cannot_be_shared(tmp_path, model):
    with pytest.raises(UserError, match="is neither a run, an adapter, a model nor a corpus"):
        plan(tmp_path, "ana/owl")
    shutil.copy(model / "run.json", tmp_path)
    shutil.rmtree(model)
    with pytest.raises(UserError, match="has no adapter yet"):
        plan(tmp_path, "ana/owl")


def answered(status: int, text: str) -> HfHubHTTPError:
    error = HfHubHTTPError.__new__(HfHubHTTPError, text)  # its own constructor wants a response of the HTTP library
    error.args = (text,)
    error.response = SimpleNamespace(status_code=status)
    return error


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (answered(401, TOKEN), "the Hub refuses the token; it needs leave to write to that name: make one"),
        (answered(500, "broken\nmore"), "the Hub says 500: broken$"),
        (ConnectionError("no route"), r"huggingface.co can't be reached \(ConnectionError\); check the network"),
    ],
)
def test_hub_that_refuses(model, hub, error, reason):
    hub.error = error
    with pytest.raises(UserError, match=f"not uploaded to ana/owl: {reason}") as told:
        push(plan(model, "ana/owl", "mit"))
    assert TOKEN not in str(told.value)


def test_command_is_a_dry_run_unless_told_otherwise(model, hub, monkeypatch, capsys):
    def call(*arguments):
        monkeypatch.setattr("sys.argv", ["storylib", "push", str(model), "ana/owl", *arguments])
        with pytest.raises(SystemExit) as end:
            cli.main()
        return end.value.code or 0, capsys.readouterr()

    code, (out, err) = call("--licence", "mit")
    assert code == 0 and "model.safetensors" in out and "nothing was uploaded" in err and hub.asked == []
    code, (out, err) = call("--upload")
    assert code == 2 and err == "error: not uploaded: license in the card, such as --licence cc0-1.0\n"
    code, (out, err) = call("--licence", "mit", "--upload")
    assert code == 0 and out.endswith("https://hub/ana/owl\n") and len(hub.asked) == 2
