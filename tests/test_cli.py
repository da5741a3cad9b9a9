"""What a user types, and what comes back: text on standard output, one plain line when something is wrong."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from storylib import __main__ as cli
from storylib import config, terminal
from storylib.errors import UserError
from storylib.feedback import FeedbackStore
from storylib.files import DATA
from storylib.models import weights_hash
from storylib.prompts import emoji_prompt

ADAPTER = DATA / "adapters" / "emoji"
TIMEOUT = 300  # seconds


@pytest.mark.parametrize(
    ("emojis", "message"),
    [
        ("", "exactly three emojis"),
        ("🦔🏰", "got 2: 🦔 🏰"),
        ("🦔🏰📚🌙", "got 4: 🦔 🏰 📚 🌙"),
        ("fox", "'fox' is no emoji"),
        ("\u200d", "got none"),
    ],
)
def test_not_three_emojis(command, emojis, message):
    code, out, err = command("tell", emojis)
    assert code == 2 and out == ""
    assert err.startswith("error: ") and err.count("\n") == 1 and message in err


def test_tell_prints_the_story_alone():
    tell = [sys.executable, "-m", "storylib", "tell", "🦔🏰📚", "--seed", "3"]
    done = subprocess.run(tell, capture_output=True, text=True, cwd=DATA.parent, timeout=TIMEOUT)
    assert done.returncode == 0 and done.stderr == ""
    assert len(done.stdout.split()) > 30 and done.stdout.strip()[-1] in '.!?"”'


def test_unknown_emoji_is_named_in_a_warning(command):
    code, out, err = command("tell", "🦕🏰💪")
    assert code == 0 and len(out.split()) > 10
    assert "🦕" in err and "sauropod" in err and err.count("\n") == 1


def test_streamed_and_plain_are_one_story(command):
    plain, streamed = command("tell", "🦔🏰📚")[1], command("tell", "🦔🏰📚", "--stream")[1]
    assert streamed == plain


def test_what_is_nothing_for_children_is_refused_unless_asked_for(command):
    code, out, err = command("tell", "🦔🏰🍺")
    assert code == 2 and out == "" and err.count("\n") == 1
    assert "'beer mug' asks for 'beer' (drugs and alcohol)" in err
    code, out, err = command("tell", "🦔🏰🍺", "--unchecked")
    assert code == 0 and len(out.split()) > 10


def test_a_story_that_stays_unfit_is_not_shown(command, monkeypatch):
    from storylib import generation

    asked = []

    def unfit(model, tokenizer, prompts, settings, seeds, on_text):
        asked.extend(seeds)
        return [generation.Story(prompt, seed, "A gun.", "eos", 3) for prompt, seed in zip(prompts, seeds, strict=True)]

    monkeypatch.setattr(generation, "generate", unfit)
    code, out, err = command("tell", "🦔🏰📚")
    assert code == 2 and out == "" and len(set(asked)) == 5
    assert err == "error: no story fit for children in 5 tries, but weapons: 'gun' (5 x); try another seed\n"


def test_streaming_stops_at_what_is_unfit_and_another_story_is_told(command, monkeypatch):
    from storylib import generation

    def told(model, tokenizer, prompts, settings, seeds, on_text):
        for sentence in (texts := left.pop(0)):
            on_text(sentence)
        return [generation.Story(prompts[0], seeds[0], "".join(texts), "eos", 3)]

    left = [["A fox sat. ", "He drank whiskey. ", "He slept."], ["A fox slept."]]
    monkeypatch.setattr(generation, "generate", told)
    code, out, err = command("tell", "🦊🏰📚", "--stream")
    assert code == 0 and out == "A fox sat. A fox slept.\n" and "another story instead" in err


def test_an_adapter_of_another_job_takes_words(command):
    adapter = DATA / "adapters" / "genre"
    code, out, err = command("tell", "a horror story", "--adapter", adapter, "--unchecked")
    assert code == 0 and len(out.split()) > 10
    code, out, err = command("tell", "a western", "--adapter", adapter)
    assert code == 2 and "ask for one of fairy tale or horror story" in err


def test_missing_adapter_and_unknown_recipe(command, tmp_path):
    code, out, err = command("tell", "🦔🏰📚", "--adapter", tmp_path)
    assert code == 2 and out == "" and "adapter_config.json is missing" in err
    code, out, err = command("finetune", "emojis")
    assert code == 2 and "did you mean emoji/cpu" in err


def test_recipes_are_listed_in_full(command):
    code, out, _ = command("recipes")
    assert code == 0 and "personal/mistral-7b" in out and "language/zh-lora-cpu" in out


def test_bad_data_stops_before_any_folder_is_made(command, tmp_path):
    broken = tmp_path / "stories.jsonl"
    broken.write_text('{"role": "🦔", "place": "🏰", "theme": "💪", "story": "A story."}\n{"role": \n')
    code, out, err = command("finetune", "emoji", "--data", broken, "--out", tmp_path / "run")
    assert code == 2 and "line 2" in err and err.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_ctrl_c_says_how_to_go_on(command, monkeypatch, tmp_path):
    from storylib import training

    def stop(*args, **options):
        raise training.Interrupted("stopped at step 7; its state is kept in here")

    monkeypatch.setattr(training, "finetune", stop)
    code, out, err = command("finetune", "emoji", "--out", tmp_path / "a b")
    assert code == 130 and "stopped at step 7" in err
    assert err.splitlines()[-1] == f"go on with: python -m storylib finetune emoji --out '{tmp_path}/a b'"


@pytest.fixture
def store(tmp_path) -> Path:
    """Twenty choices of a reader who likes short stories."""
    kept = FeedbackStore(tmp_path / "feedback.sqlite")
    for number in range(20):
        prompt = emoji_prompt(["🦔", "🏰", "💪"], {"🦔": f"hedgehog {number % 5}", "🏰": "castle", "💪": "courage"})
        kept.choose(prompt, f"It slept {number} days.", f"It ran and ran and ran for {number} days.", "Ana")
    return kept.path


def test_feedback_teaches_an_adapter(command, store, tmp_path):
    learn = ("finetune", "emoji", "--from-feedback", store, "--adapter", ADAPTER, "--out", tmp_path / "run")
    code, out, err = command(*learn, "--epochs", 0.2)
    assert code == 0 and out == "", err
    assert "16 pairs to learn from, 4 held out" in err and f"adapter: {tmp_path / 'run' / 'adapter'}" in err
    assert "fine-tuning: 100%" in err
    assert (tmp_path / "run" / "training.png").read_bytes().startswith(b"\x89PNG")
    assert weights_hash(str(tmp_path / "run" / "adapter")) != weights_hash(str(ADAPTER))


def test_feedback_that_cannot_be_learnt_from(command, store, monkeypatch, tmp_path):
    monkeypatch.setattr(cli, "RUNS", tmp_path / "runs")

    def refused(*arguments) -> str:
        code, out, err = command("finetune", "personal", *arguments, "--out", tmp_path / "run")
        assert code == 2 and out == "" and err.count("\n") == 1 and not (tmp_path / "run").exists()
        return err

    assert "no store of feedback at none.sqlite" in refused("--from-feedback", "none.sqlite", "--adapter", ADAPTER)
    few = FeedbackStore(tmp_path / "few.sqlite")
    few.choose("a wish", "A", "B", "Ana")
    assert "1 pairs of stories" in refused("--from-feedback", few.path, "--adapter", ADAPTER)
    (tmp_path / "notes.txt").write_text("no database")
    assert "as a store of feedback" in refused("--from-feedback", tmp_path / "notes.txt", "--adapter", ADAPTER)
    monkeypatch.setattr(cli, "DATA", tmp_path)
    assert "no adapter for personal/cpu ships" in refused("--from-feedback", store)
    assert "adapter_config.json is missing" in refused("--from-feedback", store, "--adapter", tmp_path)
    assert "add --from-feedback STORE" in refused("--adapter", ADAPTER)
    assert "leave out --data" in refused("--from-feedback", store, "--data", "x.jsonl")
    assert "leave out --set lora.rank=8" in refused("--from-feedback", store, "--set", "lora.rank=8")


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("lora.rank", "--set takes NAME=VALUE, such as train.learning_rate=1e-4, got 'lora.rank'"),
        ("train.learning_rat=1", "emoji/cpu has no setting 'train.learning_rat'; did you mean train.learning_rate"),
        ("train.batch_size=4.5", "train.batch_size is a whole number, got '4.5'"),
        ("four_bit=yes", "four_bit is true or false, got 'yes'"),
        ("lora.rank=0", "rank must be at least 1"),
    ],
)
def test_settings_that_make_no_sense(command, tmp_path, setting, message):
    code, out, err = command("finetune", "emoji", "--set", setting, "--out", tmp_path / "run")
    assert code == 2 and out == "" and message in err and err.count("\n") == 1 and not (tmp_path / "run").exists()


def test_settings_of_a_recipe_are_changed_by_name():
    settings = ("train.learning_rate=1e-4", "lora.targets=q_proj,v_proj", "base=gpt2", "four_bit=False", "lora.rank=8")
    recipe = cli.changed(config.recipe("emoji"), 0.5, "mine.csv", settings)
    assert (recipe.base, recipe.four_bit, recipe.lora.rank) == ("gpt2", False, 8)
    assert recipe.lora.targets == ("q_proj", "v_proj") and recipe.train.learning_rate == 1e-4
    assert recipe.train.epochs == 0.5 and recipe.data["source"] == "mine.csv"


def test_feedback_without_a_run_of_ones_own_teaches_what_ships(monkeypatch, tmp_path):
    assert cli.trained_adapter(tmp_path, config.recipe("personal")) == DATA / "adapters" / "personal"
    with pytest.raises(
        UserError, match="no adapter for emoji/cpu-alone ships: train one"
    ):  # that of emoji/cpu is another
        cli.trained_adapter(tmp_path, config.recipe("emoji/cpu-alone"))
    with pytest.raises(UserError, match=r"no adapter of personal/t4 in .* train one .*, or name one: --adapter"):
        cli.trained_adapter(tmp_path, config.recipe("personal/t4"))


def test_feedback_goes_to_the_recipes_own_adapter(command, store, monkeypatch, tmp_path):
    monkeypatch.setattr(cli, "RUNS", tmp_path)
    (tmp_path / "personal-cpu" / "adapter").mkdir(parents=True)
    code, out, err = command("finetune", "personal", "--from-feedback", store)
    assert code == 2 and f"no adapter in {tmp_path}/personal-cpu/adapter" in err


def test_scores_are_never_overwritten(command, tmp_path):
    (tmp_path / "scores.json").write_text("{}")
    code, out, err = command("evaluate", "emoji", "--out", tmp_path)
    assert code == 2 and "already holds scores" in err and (tmp_path / "scores.json").read_text() == "{}"


def test_stories_from_anywhere_are_scored_without_a_model(command, tmp_path):
    told = tmp_path / "mine.csv"
    told.write_text('story\n"The cat sat on the mat, and the cat sat on the mat again."\n"A dog ran home."\n')
    code, out, err = command("evaluate", "emoji", "--stories", told, "--out", tmp_path / "scores")
    assert code == 0 and "mine" in out and "repeated 4-grams" in out and "nothing is compared with references" in out
    assert (tmp_path / "scores" / "scores.png").read_bytes().startswith(b"\x89PNG")
    code, out, err = command("compare", tmp_path / "scores", tmp_path / "scores", "--system", "mine")
    assert code == 0 and out.count("can't tell") >= 2 and "better" not in out
    code, out, err = command("compare", tmp_path / "scores", tmp_path / "scores")
    assert code == 2 and "no system 'fine-tuned'" in err and "mine" in err


def test_genre_stories_for_other_prompts_are_scored_without_their_contents(command, tmp_path):
    told = tmp_path / "mine.csv"
    told.write_text('story\n"The cat sat on the mat, and the cat sat on the mat again."\n"A dog ran home."\n')
    code, out, err = command("evaluate", "genre", "--stories", told, "--out", tmp_path / "scores")
    assert code == 0 and "repeated 4-grams" in out and "mine is left out of the contents" in err
    assert "training data" in (tmp_path / "scores" / "contents.md").read_text()


def test_two_systems_of_one_name(command, tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "told.csv").write_text('story\n"A dog ran home."\n')
    twice = ("--stories", tmp_path / "a" / "told.csv", "--stories", tmp_path / "b" / "told.csv")
    code, out, err = command("evaluate", "emoji", *twice, "--out", tmp_path / "scores")
    assert code == 2 and "two systems are called told" in err and not (tmp_path / "scores").exists()


def test_scores_of_an_older_version_are_no_traceback(command, tmp_path):
    score = {"value": 1.0, "signature": "words", "low": 1.0, "high": 1.0, "per_story": [1.0, 1.0]}
    (tmp_path / "scores.json").write_text(json.dumps({"scores": {"fine-tuned": {"words": score}}}))
    code, out, err = command("compare", tmp_path, tmp_path)
    assert code == 2 and "no measure over the same prompts in common" in err


def test_a_job_without_a_shipped_adapter(command, monkeypatch, tmp_path):
    monkeypatch.setattr(cli, "DATA", tmp_path)
    code, out, err = command("evaluate", "personal", "--out", tmp_path / "scores")
    assert code == 2 and "no adapter for personal/cpu ships" in err and not (tmp_path / "scores").exists()


def test_python_m_storylib_lists_its_commands(command):
    code, out, err = command("--help")
    assert code == 0 and all(command in out for command in ("tell", "finetune", "evaluate", "pretrain"))
    assert "prepare" in out and "describe" in out


def test_shipped_adapter_opens_with_peft_alone():
    code = "import peft; peft.AutoPeftModelForCausalLM.from_pretrained('data/adapters/emoji'); print('opened')"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=DATA.parent, timeout=TIMEOUT
    )
    assert "opened" in done.stdout, done.stderr
    assert not list(Path(ADAPTER).glob("*.bin"))


def test_raw_files_become_a_corpus_that_is_described(command, tmp_path):
    texts = [f"The owl number {n} sat in tree {n} and slept. It dreamt of {n * n} mice.\n" for n in range(30)]
    (tmp_path / "raw.txt").write_text("".join([*texts, texts[0]]))
    out = tmp_path / "owls"
    code, shown, notes = command("prepare", "languages", tmp_path / "raw.txt", "--language", "en", "--out", out)
    assert code == 0 and shown.startswith(f"{out}: ") and shown.strip().endswith(" test") and notes.count("\n") == 1
    kept = [len(file.read_text().splitlines()) for file in out.glob("*.jsonl")]
    assert len(kept) == 3 and sum(kept) == 30
    code, shown, notes = command("describe", "languages", out, "--plot", tmp_path / "new" / "owls.png")
    assert code == 0 and "the owl number" in shown and "validation" in shown and "tokens" in shown
    assert (tmp_path / "new" / "owls.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("prepare", "genre", "x", "--out", "new"), "no corpus 'genre'"),
        (("prepare", "emoji", "none.jsonl", "--out", "new"), "cannot read none.jsonl: No such file"),
        (("prepare", "emoji", "x.jsonl", "--out", "new", "--lines", "9"), "emoji has no option lines in prepare"),
        (("prepare", "genres", "x", "--out", "."), "exists already"),
        (("describe", "personal", "--language", "pt"), "personal has no option language in load"),
        (("describe", "emoji", "none.jsonl"), "cannot read none.jsonl: No such file"),
    ],
)
def test_a_corpus_that_cannot_be_had(command, monkeypatch, tmp_path, arguments, message):
    monkeypatch.chdir(tmp_path)
    code, out, err = command(*arguments)
    assert code == 2 and out == "" and message in err and err.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_tables_show_brackets_and_colons_as_they_are(capsys):
    terminal.show_tables({"openings": [{"opening": "[bold] :smile:", "rows": 1234}]})
    out = capsys.readouterr().out
    assert "[bold] :smile:" in out and "1,234" in out
