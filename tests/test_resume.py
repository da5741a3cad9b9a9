"""Nothing is lost: a run that was killed, stopped or damaged ends as if nothing had happened."""

import json
import random
import shutil
import signal
import time
from dataclasses import replace
from itertools import count

import apart
import pytest
from conftest import STORIES, said

from storylib import checkpoints, config
from storylib.callbacks import LogSteps
from storylib.checkpoints import fault, newest_whole, saved, step_of
from storylib.files import trim_log
from storylib.prompts import story_prompt
from storylib.runs import Run
from storylib.training import Interrupted, finetune

DEADLINE = 240  # seconds, on a machine with other work


@pytest.fixture(scope="module")
def told() -> dict[str, list[dict]]:
    """Seven stories to train on and two to hold out, with names to learn."""
    emojis = {"hedgehog": "🦔", "fox": "🦊", "owl": "🦉", "bee": "🐝"}
    rows = [
        {"prompt": story_prompt(names), "completion": story, "role": emojis[names[0]], "role_name": names[0]}
        for *names, story in STORIES
    ]
    return {"train": [*rows, *rows[:3]], "test": rows[:2]}


@pytest.fixture(scope="module")
def recipe(tiny_base) -> config.Recipe:
    """Nine steps of two stories, two epochs and a bit; what could go on in another way than it began is there."""
    return replace(
        config.recipe("emoji/cpu"),
        base=str(tiny_base),
        lora=config.LoraSettings(rank=4, alpha=8, dropout=0.1, embeddings="names"),
        train=config.TrainSettings(
            epochs=2.2, batch_size=1, accumulate=2, learning_rate=1e-2, schedule="cosine", evaluations=3, window=64
        ),
        generate=config.GenerationSettings(max_new_tokens=8),
    )


@pytest.fixture(scope="module")
def whole(recipe, told, tmp_path_factory) -> Run:
    """The run that nothing happened to."""
    return finetune(recipe, tmp_path_factory.mktemp("runs") / "whole", apart.as_splits(told)).run


@pytest.fixture
def unfinished(whole, tmp_path) -> Run:
    """A run killed between its last checkpoint and its adapter."""
    shutil.copytree(whole.folder, tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "adapter")
    return Run(tmp_path / "run")


def outcome(run: Run) -> tuple[list, str, bytes]:
    """What must be the same: each logged number but the speed, the samples, the weights."""
    log = [json.loads(line) for line in run.log.read_text().splitlines()]
    kept = [{key: value for key, value in row.items() if key != "tokens_per_second"} for row in log]
    (weights,) = run.result.glob("*.safetensors")
    return kept, run.samples.read_text(), weights.read_bytes()


def finish(process) -> None:
    process.join(DEADLINE)
    assert process.exitcode == 0


def wait_for(condition) -> None:
    end = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.002)


def kill(process) -> bool:
    """Whether there was something left to kill."""
    process.kill()
    process.join(DEADLINE)
    return process.exitcode == -signal.SIGKILL


def test_killed_while_saving_and_between_steps(recipe, told, whole, tmp_path):
    run = Run(tmp_path)
    process = apart.started(recipe, run.folder, told)
    wait_for((run.checkpoints / ".saving").exists)
    assert kill(process)
    process = apart.started(recipe, run.folder, told)
    wait_for(lambda: run.log.exists() and len(run.log.read_text().splitlines()) > 6)
    assert kill(process) and not run.adapter.exists()
    finish(apart.started(recipe, run.folder, told))
    assert outcome(run) == outcome(whole)
    steps = [row["step"] for row in outcome(run)[0] if "loss" in row]
    assert steps == list(range(1, 10)) and len(saved(run.checkpoints)) == 2


@pytest.mark.slow
@pytest.mark.parametrize("whole", [False, True], ids=["adapter", "all weights"])
def test_killed_at_random_moments(recipe, told, tmp_path, whole):
    recipe = replace(recipe, lora=None, four_bit=False) if whole else recipe
    for name in ("warm", "whole"):
        start = time.monotonic()
        finish(apart.started(recipe, tmp_path / name, told, minutes=0))
    seconds, moments, kills, runs, torn = time.monotonic() - start, random.Random(0), 0, 0, 0
    while kills < 25:
        run, runs = Run(tmp_path / str(runs)), runs + 1
        while not run.result:
            start = time.monotonic()
            process = apart.started(recipe, run.folder, told, minutes=moments.choice((0, 10)))
            process.join(moments.uniform(0, seconds))
            if kill(process):
                kills, seconds = kills + 1, 1.1 * seconds  # on a machine that has become busy, runs would never end
                torn += (run.checkpoints / ".saving").exists()
            else:
                seconds = time.monotonic() - start
        finish(apart.started(recipe, run.folder, told))
        assert outcome(run) == outcome(Run(tmp_path / "whole"))
    print(f"{runs} runs, {kills} kills, {torn} of them while a checkpoint was written")


def test_ctrl_c_ends_the_step_and_keeps_it(recipe, told, whole, tmp_path, monkeypatch, capsys):
    log_step = LogSteps.on_log

    def interrupt_in_step_6(self, args, state, control, logs, **kwargs):
        log_step(self, args, state, control, logs, **kwargs)
        if state.global_step == 5 and "loss" in logs:
            signal.raise_signal(signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(LogSteps, "on_log", interrupt_in_step_6)
        with pytest.raises(Interrupted, match="stopped at step 6; its state is kept in"):
            finetune(recipe, tmp_path, apart.as_splits(told))
    finetune(recipe, tmp_path, apart.as_splits(told))
    assert said(capsys) == ["going on from step 6"]
    assert outcome(Run(tmp_path)) == outcome(whole)


def test_killed_after_the_last_step_takes_no_step_more(recipe, told, whole, unfinished):
    assert step_of(saved(unfinished.checkpoints)[-1]) == 9  # within the third epoch, which has steps left
    finetune(recipe, unfinished.folder, apart.as_splits(told))
    assert outcome(unfinished) == outcome(whole)


def test_damaged_checkpoint_is_noticed_and_the_one_before_used(recipe, told, whole, unfinished, capsys):
    before, last = saved(unfinished.checkpoints)
    flip(last / "optimizer.pt", 1000)
    finetune(recipe, unfinished.folder, apart.as_splits(told))
    assert said(capsys) == [
        "checkpoint-9 is damaged (optimizer.pt is not as it was written) and left out",
        f"going on from step {step_of(before)}",
    ]
    assert outcome(unfinished) == outcome(whole)


def flip(file, place: int) -> None:
    content = bytearray(file.read_bytes())
    content[place] ^= 1
    file.write_bytes(content)


def test_every_byte_of_a_checkpoint_is_watched(unfinished):
    before, last = saved(unfinished.checkpoints)
    for file in [path for path in last.iterdir() if path.name != "manifest.json"]:
        content = file.read_bytes()
        for place in (0, len(content) // 2, len(content) - 1):
            flip(file, place)
            assert fault(last) == f"{file.name} is not as it was written"
            flip(file, place)
        file.write_bytes(content[:-1])
        assert fault(last) == f"{file.name} is not as it was written"
        file.unlink()
        assert fault(last) == f"{file.name} is not as it was written"
        file.write_bytes(content)
    assert newest_whole(unfinished.checkpoints, pytest.fail) == last
    (last / "manifest.json").unlink()
    assert newest_whole(unfinished.checkpoints, lambda text: None) == before and not last.exists()
    flip(before / "manifest.json", 20)
    assert newest_whole(unfinished.checkpoints, lambda text: None) is None


def test_checkpoints_by_time(recipe, told, tmp_path, monkeypatch):
    sealed, clock = [], count(step=15.0)  # seconds
    monkeypatch.setattr("storylib.callbacks.time.monotonic", lambda: next(clock))
    seal = checkpoints.seal
    monkeypatch.setattr(checkpoints, "seal", lambda folder: sealed.append(step_of(folder)) or seal(folder))
    rarely = replace(recipe, train=replace(recipe.train, evaluations=1))
    finetune(rarely, tmp_path, apart.as_splits(told), minutes=2)
    assert len(sealed) > 2 and sealed[-1] == 9
    assert [step_of(path) for path in saved(tmp_path / "checkpoints")] == sealed[-2:]


def test_what_a_kill_left_half_written_is_cleared(recipe, told, unfinished):
    (unfinished.folder / ".log.jsonl.123.part").write_text("{")
    (unfinished.folder / ".adapter.123.part").mkdir()
    (unfinished.checkpoints / ".saving" / "checkpoint-9").mkdir(parents=True)
    finetune(recipe, unfinished.folder, apart.as_splits(told))
    assert not [path.name for path in unfinished.folder.rglob(".*")]


def test_log_with_a_torn_line(tmp_path):
    log = tmp_path / "log.jsonl"
    log.write_text('{"step": 1}\n{"step": 2}\n{"step": 3}\n{"st')
    trim_log(log, 2)
    assert log.read_text() == '{"step": 1}\n{"step": 2}\n'
