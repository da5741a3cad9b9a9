"""A run's page and its model's card: all the facts, nothing from elsewhere, everything quoted shown as text."""

import json
import re
from html.parser import HTMLParser

import pytest
from huggingface_hub import ModelCard

from storylib import __main__ as cli
from storylib import cards, config
from storylib.errors import UserError
from storylib.facts import as_card, gather, recipe_of
from storylib.files import DATA
from storylib.metrics import Score
from storylib.run_report import page, write_report
from storylib.scoreboard import Board, write_board

EVIL = '</script><script>alert(1)</script> | `x` **<b>** "q" & 森'
LOG = [{"step": 1, "epoch": 0.5, "loss": 3.0, "grad_norm": 1.0}, {"step": 2, "epoch": 1, "loss": 2.0}]


def sample(step: int, text: str, prompt: str = "fox\n", ended: str = "eos") -> dict:
    return {"step": step, "prompt": prompt, "seed": 17, "text": text, "ended": ended, "tokens": 3}


@pytest.fixture
def run(tmp_path):
    """The folder of a run that was cut off before its adapter was there."""
    card = {
        "recipe": as_card(config.recipe("emoji/cpu")),
        "hashes": {"data": "d" * 64, "base": "b" * 64},
        "versions": {"python": "3.11.7", "torch": "2.13.0"},
        "emojis": {"🦊": "fox"},
    }
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "run.json").write_text(json.dumps(card), encoding="utf-8")
    write_rows(folder / "log.jsonl", LOG)
    write_rows(folder / "samples.jsonl", [sample(0, "A fox."), sample(2, EVIL, ended="limit")])
    return folder


def write_rows(path, rows) -> None:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def change(run, **settings) -> None:
    card = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps(card | settings))


class Page(HTMLParser):
    """The tags of a page with their attributes, and its text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags, self.text, self.open = [], "", []
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        self.open += [tag] if tag not in ("meta", "img") else []

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += "" if self.open[-1:] == ["style"] else data


def test_page_holds_the_run(run):
    found = Page(page(gather(run)))
    for fact in ("LoRA of rank 64 on data/base_model in 4 bits", "learning_rate", "0.003", "2.13.0", "d" * 64):
        assert fact in found.text
    assert "python -m storylib finetune emoji/cpu" in found.text and "The run has not ended" in found.text
    assert "step 0" in found.text and "step 2, cut at the limit" in found.text
    assert found.open == []


def test_what_is_quoted_is_text(run):
    card = json.loads((run / "run.json").read_text())
    change(
        run, recipe=card["recipe"] | {"name": EVIL, "data": {EVIL: EVIL}}, versions={EVIL: EVIL}, hashes={EVIL: EVIL}
    )
    write_rows(run / "samples.jsonl", [sample(0, EVIL, prompt=EVIL)])
    write_board(run / "scores", Board({EVIL: {"words": Score(9, EVIL)}}, {}, []), {})
    found = Page(page(gather(run)))
    assert {"script", "b"}.isdisjoint(tag for tag, _ in found.tags)
    assert found.text.count(EVIL) >= 8
    text = str(cards.model_card(gather(run)))
    story = text.partition("Step 0:")[2].partition("##")[0]
    assert "\\<script\\>" in story and re.search(r"(?<!\\)[<|*`]", story) is None
    (heading,) = (line for line in text.splitlines() if line.startswith("| | ") and "script" in line)
    assert "\\<script\\>" in heading and len(re.findall(r"(?<!\\)\|", heading)) == 3  # two columns


def test_page_needs_nothing_else_and_every_picture_has_an_alt_text(run):
    write_board(run / "scores", Board({"fine-tuned": {"words": Score(9, "words|s", 8, 10)}}, {}, []), {})
    html = page(gather(run))
    pictures = [attributes for tag, attributes in Page(html).tags if tag == "img"]
    assert len(pictures) == 2
    assert all(picture["src"].startswith("data:image/png;base64,") for picture in pictures)
    assert pictures[0]["alt"].startswith("Loss by step, from 3.00 at step 1 to 2.00 at step 2")
    assert "fine-tuned" in pictures[1]["alt"]
    assert not re.search(r"https?://|<link|@import|url\(", html)
    assert '<html lang="en">' in html and "@media print" in html


def test_scores_are_shown_with_their_signatures(run, tmp_path):
    row = {"words": Score(87.3, "words|counted|stories:2", 85, 90)}
    write_board(tmp_path / "elsewhere", Board({"fine-tuned": row}, {}, []), {})
    assert "87 [85, 90]" not in page(gather(run))
    facts = gather(run, tmp_path / "elsewhere")
    for text in (page(facts), str(cards.model_card(facts))):
        assert "87 [85, 90]" in text and "words|counted|stories:2" in text
    with pytest.raises(UserError, match="no scores.json in"):
        gather(run, tmp_path)


def test_scores_of_another_model_are_refused(run, tmp_path):
    board = Board({"fine-tuned": {"words": Score(87.3, "words|counted", 85, 90)}}, {}, [])
    for own in (run, run / "adapter"):
        write_board(tmp_path / own.name, board, {"models": {"fine-tuned": str(own)}})
        assert gather(run, tmp_path / own.name).table
    write_board(tmp_path / "theirs", board, {"models": {"fine-tuned": "data/adapters/emoji"}})
    with pytest.raises(
        UserError, match="are of data/adapters/emoji, not of .*; score the run first: storylib evaluate"
    ):
        gather(run, tmp_path / "theirs")


def test_samples_of_a_long_run_are_its_first_middle_and_last(run):
    write_rows(run / "samples.jsonl", [sample(step, f"Story {step}.") for step in range(0, 50, 10)])
    text = Page(page(gather(run))).text
    assert [f"Story {step}." in text for step in range(0, 50, 10)] == [True, False, True, False, True]
    assert "At 3 of the 5 steps" in text


def test_run_that_has_barely_begun(run):
    (run / "samples.jsonl").unlink()
    write_rows(run / "log.jsonl", [])
    assert "Curves" not in page(gather(run))
    write_rows(run / "log.jsonl", [{"step": 0, "eval_loss": 4.0}])
    assert "no loss yet" in page(gather(run))
    with (run / "samples.jsonl").open("w") as torn:
        torn.write('{"step": 0, "pro')
    assert "Samples" not in page(gather(run))


def test_command_that_trains_it_again(run):
    recipe = json.loads((run / "run.json").read_text())["recipe"]
    changed = recipe | {"train": recipe["train"] | {"epochs": 0.5}, "data": recipe["data"] | {"source": "my tales.csv"}}
    change(run, recipe=changed)
    assert gather(run).command == "python -m storylib finetune emoji/cpu --data 'my tales.csv' --epochs 0.5"
    change(run, recipe=recipe | {"train": recipe["train"] | {"seed": 18}})
    assert gather(run).command == "python -m storylib finetune emoji/cpu --set train.seed=18"
    change(run, recipe=recipe | {"corpus": "personal"})
    assert gather(run).command == ""
    del recipe["train"]["renew_embeddings"]  # a setting that the run is older than
    change(run, recipe=recipe)
    assert gather(run).command == "python -m storylib finetune emoji/cpu"


@pytest.mark.parametrize("name", config.RECIPES)
def test_recipe_comes_back_from_its_card(name):
    recipe = config.recipe(name)
    assert recipe_of({"recipe": json.loads(json.dumps(as_card(recipe)))}) == recipe


def test_what_is_no_run(tmp_path, run):
    with pytest.raises(UserError, match="no run.json in"):
        gather(tmp_path)
    for broken, reason in (("{", "damaged"), ("[]", "is no run's card"), ('{"recipe": {}}', "is no run's card")):
        (run / "run.json").write_text(broken)
        with pytest.raises(UserError, match=reason):
            gather(run)


@pytest.mark.parametrize("name", ["emoji", "genre", "personal"])
def test_card_of_a_shipped_adapter(name):
    facts = gather(DATA / "adapters" / name)
    front = cards.model_card(facts, "ana/owl", "cc0-1.0").data.to_dict()
    assert front["library_name"] == "peft" and front["pipeline_tag"] == "text-generation"
    assert front["license"] == "cc0-1.0" and front["language"] == ["en"]
    assert "base_model" not in front  # a folder is no repository of the Hub
    assert facts.licences() == {"base": "apache-2.0", "stories": "cc0-1.0"}
    text = str(cards.model_card(facts, "ana/owl"))
    assert 'from_pretrained("ana/owl")' in text and repr(facts.prompt) in text
    assert facts.weights in text and facts.card["versions"]["peft"] in text
    assert "An adapter alone" in page(facts)


def test_prompt_of_a_card_is_one_that_was_taught():
    prompts = {name: gather(DATA / "adapters" / name).prompt for name in ("emoji", "genre", "personal")}
    assert prompts["genre"] == "Write me a horror story\n" and prompts["personal"].endswith("Story:\n")
    assert re.fullmatch(r"\S+ \w+, \w+, \w+\n", prompts["emoji"])


def test_code_of_a_card_is_code(run):
    write_rows(run / "samples.jsonl", [sample(0, "x", prompt='"""\n```\n' + EVIL)])
    code = str(cards.model_card(gather(run))).partition("```python\n")[2].partition("\n```")[0]
    compile(code, "card", "exec")


def test_base_of_the_hub_is_named(run):
    recipe = json.loads((run / "run.json").read_text())["recipe"]
    change(run, recipe=recipe | {"base": "Qwen/Qwen2.5-7B"}, hashes={"base": "Qwen/Qwen2.5-7B"})
    card = cards.model_card(gather(run))
    assert card.data.base_model == "Qwen/Qwen2.5-7B" and "base (sha256)" not in str(card)


def test_files_of_a_report(run, tmp_path):
    for out in (tmp_path / "new" / "folder", run):
        paths = write_report(gather(run), out)
        assert [path.name for path in paths] == ["report.html", "model_card.md"]
        assert ModelCard.load(out / "model_card.md").data.library_name == "peft"


def test_adapter_of_a_run_stands_for_the_run(run):
    (run / "adapter").mkdir()
    (run / "adapter" / "adapter_config.json").write_text("{}")
    for own, folder in ((True, run), (False, run / "adapter")):
        (run / "adapter" / "run.json").write_text((run / "run.json").read_text() + ("" if own else " "))
        facts = gather(run / "adapter")
        assert facts.folder == folder and facts.result == run / "adapter" and bool(facts.log) == own


def test_command_writes_both(run, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["storylib", "report", str(run)])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert not end.value.code
    assert capsys.readouterr().out.split() == [str(run / "report.html"), str(run / "model_card.md")]
