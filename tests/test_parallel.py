"""A run in two processes takes the steps of a run in one."""

import subprocess
import sys
from dataclasses import replace

import apart
import pytest
import torch
from conftest import STORIES
from safetensors.torch import load_file
from test_resume import finish, kill, outcome, wait_for

from storylib import config
from storylib.config import TrainSettings
from storylib.errors import UserError
from storylib.files import DATA, read_log
from storylib.parallel import shared_out
from storylib.preference import PreferenceSettings
from storylib.prompts import story_prompt
from storylib.runs import Run


@pytest.fixture
def told() -> dict[str, list[dict]]:
    """Stories in numbers that two processes cannot share evenly."""
    rows = [{"prompt": story_prompt(names), "completion": story} for *names, story in STORIES]
    return {"train": [*rows, *rows[:1]], "test": rows[:3]}


@pytest.fixture
def recipe(tiny_recipe) -> config.Recipe:
    return replace(tiny_recipe, train=replace(tiny_recipe.train, epochs=3, batch_size=4))


def test_batch_is_shared_so_that_the_steps_stay():
    alone = (TrainSettings(batch_size=batch, accumulate=passes) for batch, passes in ((16, 8), (16, 2), (4, 1)))
    each = [shared_out(settings, 4) for settings in alone]
    assert [(s.batch_size, s.accumulate) for s in each] == [(16, 2), (8, 1), (1, 1)]
    with pytest.raises(UserError, match="batch of 2 x 3 stories cannot be shared by 4 processes"):
        shared_out(TrainSettings(batch_size=2, accumulate=3), 4)


def assert_same_curves(two: Run, one: Run) -> None:
    two, one = read_log(two.log), read_log(one.log)
    assert [row.keys() for row in two] == [row.keys() for row in one]
    for mine, its in zip(two, one, strict=True):
        for key in its.keys() - {"tokens_per_second", "epoch"}:
            assert mine[key] == pytest.approx(its[key], rel=1e-4), (key, mine, its)


@pytest.mark.parametrize(("batch", "passes"), [(4, 1), (1, 2)])
def test_two_processes_take_the_steps_of_one(recipe, told, tmp_path, batch, passes):
    recipe = replace(recipe, train=replace(recipe.train, batch_size=batch, accumulate=passes))
    one, two = Run(tmp_path / "one"), Run(tmp_path / "two")
    finish(apart.started(recipe, one.folder, told))
    for process in apart.launched(recipe, two.folder, told, 2):
        finish(process)
    assert_same_curves(two, one)
    assert two.samples.read_text().count("\n") == one.samples.read_text().count("\n")
    assert {path.name for path in two.folder.iterdir()} == {path.name for path in one.folder.iterdir()}


@pytest.mark.slow
def test_two_killed_processes_go_on_as_two_or_as_one(recipe, told, tmp_path):
    whole, killed, alone = (Run(tmp_path / name) for name in ("whole", "killed", "alone"))
    for process in apart.launched(recipe, whole.folder, told, 2):
        finish(process)
    for run in (killed, alone):
        pair = apart.launched(recipe, run.folder, told, 2)
        wait_for((run.checkpoints / "checkpoint-3").exists)
        assert all([kill(process) for process in pair])
    for process in apart.launched(recipe, killed.folder, told, 2):
        finish(process)
    assert outcome(killed) == outcome(whole)
    finish(apart.started(recipe, alone.folder, told))
    assert_same_curves(alone, whole)


@pytest.mark.slow
def test_feedback_killed_in_two_processes_goes_on(recipe, told, tmp_path):
    finish(apart.started(recipe, tmp_path / "taught", told))
    pairs = [
        {"prompt": f"Story {number}\n", "chosen": "A fox ran.", "rejected": "A fox ran and ran" + " and ran" * number}
        for number in range(12)
    ]
    settings = PreferenceSettings(epochs=3, batch_size=2, evaluations=4)  # eighteen steps, saved every five
    rows = (tmp_path / "taught" / "adapter", pairs)
    whole, killed = Run(tmp_path / "whole"), Run(tmp_path / "killed")
    for process in apart.launched(recipe, whole.folder, rows, 2, work=apart.train_pairs, settings=settings):
        finish(process)
    pair = apart.launched(recipe, killed.folder, rows, 2, work=apart.train_pairs, settings=settings)
    wait_for((killed.checkpoints / "checkpoint-10").exists)  # within the second epoch
    assert all([kill(process) for process in pair])
    for process in apart.launched(recipe, killed.folder, rows, 2, work=apart.train_pairs, settings=settings):
        finish(process)
    assert outcome(killed) == outcome(whole)


@pytest.mark.slow
@pytest.mark.parametrize("whole", [False, True], ids=["adapter", "all weights"])
def test_model_dealt_out_to_two_processes_takes_the_steps_of_one(recipe, told, tmp_path, whole):
    recipe = replace(recipe, four_bit=False, lora=None if whole else recipe.lora)
    one, two, cut = (Run(tmp_path / name) for name in ("one", "two", "cut"))
    finish(apart.started(recipe, one.folder, told))
    for process in apart.launched(recipe, two.folder, told, 2, fsdp=True):
        finish(process)
    assert_same_curves(two, one)
    mine, its = (load_file(next(run.result.glob("*.safetensors"))) for run in (two, one))
    assert all(torch.allclose(mine[name], its[name], atol=1e-4) for name in its)
    pair = apart.launched(recipe, cut.folder, told, 2, fsdp=True)
    wait_for((cut.checkpoints / "checkpoint-3").exists)
    assert all([kill(process) for process in pair])
    for process in apart.launched(recipe, cut.folder, told, 2, fsdp=True):
        finish(process)
    assert outcome(cut) == outcome(two)


@pytest.mark.slow
def test_accelerate_launch(tmp_path):
    launch = ["accelerate.commands.launch", "--config_file", "configs/ddp_cpu.yaml", "-m"]
    for name, before in (("one", []), ("two", launch)):
        command = [sys.executable, "-m", *before, "storylib", "finetune", "emoji", "--epochs", "0.02"]
        done = subprocess.run(
            [*command, "--out", tmp_path / name], capture_output=True, text=True, cwd=DATA.parent, timeout=600
        )
        assert done.returncode == 0, done.stderr
        assert done.stderr.count("adapter: ") == 1
    assert_same_curves(Run(tmp_path / "two"), Run(tmp_path / "one"))
