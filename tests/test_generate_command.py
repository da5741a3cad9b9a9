"""Stories for a file of prompts: each once, whatever is killed, and with any number of processes."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import apart
import psutil
import pytest

from storylib import bulk
from storylib.config import GenerationSettings
from storylib.errors import UserError
from storylib.files import DATA
from storylib.models import load_finetuned

SETTINGS = GenerationSettings(max_new_tokens=8, batch_size=4)
EMOJIS = {"🏰": "castle", "💪": "courage"}


def prompts_file(path: Path, number: int) -> Path:
    rows = [{"id": f"p{n}", "prompt": f" fox, owl {n}\n"} for n in range(number)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def tell(prompts: Path, out: Path, base: Path, seeds: int = 2, environ=(), settings=SETTINGS) -> int:
    os.environ.update(environ)
    model, tokenizer = load_finetuned(base)
    return bulk.tell_all(model, tokenizer, bulk.Prompts(prompts, seeds, {}), settings, bulk.Shelf(out), {})


def launched(number: int, *arguments) -> list:
    """As many processes as `accelerate launch` would start, each telling its share."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1]), "WORLD_SIZE": str(number)}
    started = []
    for rank in range(number):
        environ = shared | {"RANK": str(rank), "LOCAL_RANK": str(rank), "LOCAL_WORLD_SIZE": str(number)}
        started.append(apart.CONTEXT.Process(target=tell, args=(*arguments, 2, environ)))
        started[-1].start()
    return started


def stories_in(out: Path) -> dict[tuple[str, int], dict]:
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    told = {(row["id"], row["seed"]): row for row in rows}
    assert len(told) == len(rows)  # none twice
    return told


def wait_for(happened, seconds: float = 200) -> None:
    for _ in range(int(seconds / 0.01)):
        if happened():
            return
        time.sleep(0.01)
    raise AssertionError("it did not happen")


@pytest.fixture(scope="module")
def whole(tiny_base, tmp_path_factory):
    """Thirty prompts, and their stories told in one go."""
    folder = tmp_path_factory.mktemp("whole")
    prompts = prompts_file(folder / "prompts.jsonl", 30)
    assert tell(prompts, folder / "stories.jsonl", tiny_base) == 60
    return prompts, stories_in(folder / "stories.jsonl")


def test_each_story_is_told_once(whole):
    prompts, told = whole
    assert set(told) == {(f"p{n}", seed) for n in range(30) for seed in range(2)}
    assert told["p3", 1].keys() == {"id", "prompt", "seed", "text", "ended", "tokens"}
    assert told["p3", 1]["prompt"] == " fox, owl 3\n"


def test_two_processes_are_killed_and_go_on(whole, tiny_base, tmp_path):
    prompts, told = whole
    out = tmp_path / "new" / "stories.jsonl"
    pair = launched(2, prompts, out, tiny_base)
    wait_for(lambda: out.exists() and out.read_bytes().count(b"\n") >= 3)
    for process in pair:
        os.kill(process.pid, signal.SIGKILL)
        process.join()
    before = out.read_bytes()
    assert 3 <= before.count(b"\n") < 60
    with out.open("ab") as file:
        file.write(b'{"id": "p5", "prompt": " fox, ')  # as a kill in the middle of a line leaves it
    for process in launched(2, prompts, out, tiny_base):
        process.join(200)
        assert process.exitcode == 0
    assert out.read_bytes().startswith(before[: before.rfind(b"\n") + 1])
    assert stories_in(out) == told


def test_one_goes_on_where_two_were_and_nothing_is_left_to_do(whole, tiny_base, tmp_path):
    prompts, told = whole
    out = tmp_path / "stories.jsonl"
    assert tell(prompts, out, tiny_base) == 60
    lines = out.read_bytes().splitlines(keepends=True)
    out.write_bytes(b"".join(lines[:50]) + lines[50][:20])
    tell(prompts, out, tiny_base)
    again = out.read_bytes()
    assert stories_in(out) == told
    tell(prompts, out, tiny_base)
    assert out.read_bytes() == again


@pytest.mark.parametrize("torn", ["", "torn", '{"a": 1}\n', '{"a": 1}\ntorn', '{"a": 1}\n' + "x" * 200_000])
def test_torn_lines_are_cut_off(tmp_path, torn):
    path = tmp_path / "stories.jsonl"
    path.write_text(torn)
    bulk.cut_torn_line(path)
    assert path.read_text() == ('{"a": 1}\n' if "\n" in torn else "")


def test_rows_with_emojis(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"emojis": "🦕🏰💪"}\n{"id": 0, "role": "🦔", "place": "🏰", "theme": "💪"}\n{"prompt": " fox"}\n')
    asked = [(ask.id, ask.prompt, ask.seed) for ask in bulk.Prompts(path, 1, EMOJIS)]
    assert asked == [
        (1, "🏰💪 sauropod, castle, courage\n", 0),
        (0, "🏰💪 hedgehog, castle, courage\n", 0),
        (3, " fox", 0),
    ]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("", "has no rows"),
        ('{"story": "x"}\n', "row 1 of .* has neither a prompt nor emojis"),
        ('{"emojis": "🦔🏰"}\n', "exactly three emojis"),
        ('{"emojis": ["🦔", "🏰"]}\n', "exactly three emojis"),
        ('{"emojis": {"who": "🦔"}}\n', "row 1 of .* has neither a prompt nor emojis"),
        ('{"id": 1, "prompt": "a"}\n{"id": "1", "prompt": "b"}\n', "the id '1' twice"),
        (json.dumps({"prompt": " fox" * 200}) + "\n", "window holds 128"),
        ('{"prompt": ', "line 1"),
    ],
)
def test_bad_prompts_stop_before_anything_is_written(tiny_base, tmp_path, rows, message):
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text(rows)
    with pytest.raises(UserError, match=message):
        tell(prompts, tmp_path / "stories.jsonl", tiny_base)
    assert list(tmp_path.iterdir()) == [prompts]


def test_stories_told_in_another_way_are_kept_apart(tiny_base, tmp_path):
    prompts, out = prompts_file(tmp_path / "prompts.jsonl", 2), tmp_path / "stories.jsonl"
    tell(prompts, out, tiny_base)
    before = out.read_bytes()
    with pytest.raises(UserError, match="max_new_tokens 8 instead of 9; choose another file"):
        tell(prompts, out, tiny_base, settings=GenerationSettings(max_new_tokens=9))
    (tmp_path / "mine.jsonl").write_text("{}\n")
    with pytest.raises(UserError, match="exists already"):
        tell(prompts, tmp_path / "mine.jsonl", tiny_base)
    assert out.read_bytes() == before and (tmp_path / "mine.jsonl").read_text() == "{}\n"


def test_another_run_at_work(tiny_base, tmp_path):
    prompts, out = prompts_file(tmp_path / "prompts.jsonl", 2), tmp_path / "stories.jsonl"
    first = apart.CONTEXT.Process(target=tell, args=(prompts_file(tmp_path / "many.jsonl", 3000), out, tiny_base))
    first.start()
    wait_for(lambda: out.exists() and out.stat().st_size)
    with pytest.raises(UserError, match="another run is at work"):
        tell(prompts, out, tiny_base)
    os.kill(first.pid, signal.SIGKILL)
    first.join()


@pytest.mark.slow
def test_memory_does_not_grow_with_the_prompts(tiny_base, tmp_path):
    """Resident MiB after 500 stories and after 10,000."""
    short = GenerationSettings(max_new_tokens=8, batch_size=32)
    memory = []
    for number in (500, 10_000):
        prompts = prompts_file(tmp_path / f"{number}.jsonl", number)
        assert tell(prompts, tmp_path / f"{number}-stories.jsonl", tiny_base, 1, (), short) == number
        memory.append(psutil.Process().memory_info().rss / 2**20)
    assert memory[1] - memory[0] < 25


@pytest.mark.slow
def test_accelerate_launch(tmp_path):
    prompts, out = tmp_path / "prompts.jsonl", tmp_path / "stories.jsonl"
    prompts.write_text("".join(f'{{"emojis": "{emojis}"}}\n' for emojis in ("🦔🏰📚", "🐻🌳📚", "🦄🎢🔮")))
    launch = ["accelerate.commands.launch", "--config_file", "configs/ddp_cpu.yaml", "-m"]
    command = [sys.executable, "-m", *launch, "storylib", "generate", prompts, "--out", out, "--seeds", "2"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=DATA.parent, timeout=600)
    assert done.returncode == 0, done.stderr
    told = stories_in(out)
    assert set(told) == {(number, seed) for number in (1, 2, 3) for seed in (0, 1)}
    assert done.stderr.count("stories: ") == 1
