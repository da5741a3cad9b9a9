"""The folder of a run: where it lies, who may write to it, and whose run it holds."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from storylib import training
from storylib.errors import UserError
from storylib.runs import Run, describe, runs_folder
from storylib.training import finetune


@pytest.fixture
def card(tiny_recipe) -> dict:
    return describe(tiny_recipe, {"data": "a", "base": "b"}, {})


def test_runs_lie_where_they_outlive_the_session(tmp_path):
    assert runs_folder(tmp_path) == Path("runs")
    (tmp_path / "kaggle/working").mkdir(parents=True)
    assert runs_folder(tmp_path) == tmp_path / "kaggle/working/runs"
    (tmp_path / "content/drive").mkdir(parents=True)  # Colab's folder for Drive, not mounted
    assert runs_folder(tmp_path) == tmp_path / "kaggle/working/runs"
    (tmp_path / "content/drive/MyDrive").mkdir()
    assert runs_folder(tmp_path) == tmp_path / "content/drive/MyDrive/storylib/runs"


def test_folder_of_something_else_is_left_alone(tiny_recipe, rows, tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(UserError, match="is not empty and holds no run; choose another folder with --out"):
        finetune(tiny_recipe, tmp_path, rows)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_finished_run_is_not_done_again(tiny_recipe, rows, tmp_path, capsys):
    done = finetune(tiny_recipe, tmp_path, rows)
    capsys.readouterr()
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    again = finetune(tiny_recipe, tmp_path, rows)
    assert capsys.readouterr().out == (
        f"{tmp_path} holds this very run, finished; to train anew choose another folder, or remove it\n"
    )
    assert again.log == done.log and {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before
    other = replace(tiny_recipe, train=replace(tiny_recipe.train, seed=18))
    with pytest.raises(UserError, match="holds a run with train.seed 17 instead of 18; choose another folder"):
        finetune(other, tmp_path, rows)


def test_run_of_other_data_or_base_is_refused(tiny_recipe, card, tmp_path):
    run = Run(tmp_path)
    run.check(card)
    run.start(card)
    run.check(card)
    for kind in ("data", "base"):
        with pytest.raises(UserError, match=f"holds a run with other {kind}; choose another folder"):
            run.check(card | {"hashes": card["hashes"] | {kind: "c"}})
    with pytest.raises(UserError, match=r"lora\.rank 4 instead of 8"):
        run.check(describe(replace(tiny_recipe, lora=replace(tiny_recipe.lora, rank=8)), card["hashes"], {}))
    run.check(card | {"versions": {"python": "3.14"}})  # it may go on after an upgrade
    run.card.write_text(json.dumps(card)[:-1])
    with pytest.raises(UserError, match=r"run\.json is damaged"):
        run.check(card)


def test_what_a_kill_left_is_cleared_by_the_main_process_and_the_others_wait(card, tmp_path, monkeypatch):
    """The others would remove what the main process is just writing."""
    left, waited = tmp_path / ".adapter.123.part", []
    left.mkdir()
    for main in (False, True):
        state = SimpleNamespace(is_main_process=main, wait_for_everyone=lambda main=main: waited.append(main))
        monkeypatch.setattr(training, "processes", lambda state=state: state)
        training.begin(Run(tmp_path), card)
        assert left.exists() != main and Run(tmp_path).card.exists() == main
    assert waited == [False, True]


def test_second_run_in_a_folder_is_refused_while_one_is_at_work(tiny_recipe, rows, tmp_path):
    run = Run(tmp_path / "run")
    with run.alone(), pytest.raises(UserError, match="another run is at work in .*run; let it end"):
        finetune(tiny_recipe, tmp_path / "run", rows)
    assert not run.folder.exists()
    with run.alone(), Run(tmp_path / "other").alone():
        pass
    with pytest.raises(ZeroDivisionError), run.alone():
        raise ZeroDivisionError
    with Run(tmp_path / "other" / ".." / "run").alone():  # free again, and known by its place, not its name
        with pytest.raises(UserError), run.alone():
            pass
