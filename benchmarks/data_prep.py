"""Rows per second and peak memory of preparing WritingPrompts: ours beside the obvious way, and the work itself.

A pair of files of prompts and stories is made by repeating the samples with their sentences turned round and their
numbers changed, so that none repeats another. All go from it to JSONL:

    pandas      both files read into one DataFrame, the very cleaning of ours by `apply`, drop_duplicates, to_json
    storylib    what `python -m storylib prepare personal` runs: streamed, on several processes, split, with a card
    limit       the very cleaning of rows in memory, on as many processes, and nothing read, compared or written

Memory is that of a job's whole tree of processes, each shared page counted once, looked at five times a second.
"""

import json
import multiprocessing
import random
import re
import shutil
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from itertools import cycle, islice
from multiprocessing.connection import Connection
from pathlib import Path

import psutil

from benchmarks.runner import LIMIT, OURS, Row, Size, TimedItself, row, take_turns
from storylib.data import writing_prompts
from storylib.data.reading import lines
from storylib.data.wishes import by_rules
from storylib.files import DATA

SAMPLES = Path(__file__).resolve().parents[2] / "shared" / "corpora" / "writingprompts"
ENDINGS = re.compile(r"(?<=\w)(?=n't\b|'(?:s|re|ve|ll|d|m)\b)|(?<=\S)(?=[.,!?:;](?:\W|$))")
MEBIBYTE = 2**20
RULES = writing_prompts.Rules(shortest=50, longest=1500, adult=False, extract=by_rules)


def rows(size: Size) -> list[Row]:
    with tempfile.TemporaryDirectory() as folder:
        write_pairs(Path(folder), size.rows, read_samples(SAMPLES))
        peaks: dict[str, int] = {}

        def system(name: str, job: Callable[[Path, int], float]) -> TimedItself:
            def run() -> tuple[float, float]:
                seconds, peak = measure(job, Path(folder), size.threads)
                peaks[name] = max(peak, peaks.get(name, 0))
                return size.rows, seconds

            return TimedItself(run)

        jobs = {OURS: ours, "pandas": obvious, LIMIT: cleaning_alone}
        speeds = take_turns({name: system(name, job) for name, job in jobs.items()}, size.rounds)
    print("  memory at most: " + ", ".join(f"{name} {peak / MEBIBYTE:.0f} MiB" for name, peak in peaks.items()))
    return [row("prepare vs pandas", "rows/s", speeds, "pandas")]


def read_samples(folder: Path) -> list[tuple[str, str]]:
    """Prompts and stories as tokens: those of the folder, or the shipped stories taken apart again."""
    if (folder / "train.wp_source").exists():
        prompts, stories = (lines(folder / f"train{suffix}") for suffix in writing_prompts.PAIR)
        return [(prompt, story) for (_, prompt), (_, story) in zip(prompts, stories, strict=True)]
    rows = [json.loads(line) for _, line in lines(DATA / "personal" / "train.jsonl")]
    stories = [take_apart(row["story"]) for row in rows]
    longer = [" <newline> <newline> ".join(stories[i : i + 4]) for i in range(len(rows))]  # as long as the forum's
    return [(f"[ WP ] {take_apart(row['prompt'])}", story) for row, story in zip(rows, longer, strict=True)]


def take_apart(text: str) -> str:
    """Tokens with spaces between, as WritingPrompts has them."""
    return ENDINGS.sub(" ", re.sub(r'(?<!\S)"', "`` ", text).replace('"', " ''"))


def write_pairs(folder: Path, count: int, samples: list[tuple[str, str]]) -> int:
    """A pair of files of `count` lines, about two stories to a prompt; their size in bytes."""
    draw = random.Random(0)
    paths = [folder / f"train{suffix}" for suffix in writing_prompts.PAIR]
    with paths[0].open("w", encoding="utf-8") as prompts, paths[1].open("w", encoding="utf-8") as stories:
        for number, (prompt, story) in enumerate(islice(cycle(samples), count)):
            prompts.write(f"{prompt} It happened in {1000 + number // 2} .\n")
            sentences = story.split(" . ")
            turn = draw.randrange(len(sentences))
            stories.write(" . ".join(sentences[turn:] + sentences[:turn] + [f"So it was , {number} times ."]) + "\n")
    return sum(path.stat().st_size for path in paths)


def ours(folder: Path, processes: int) -> float:
    start = time.perf_counter()
    writing_prompts.prepare(folder, folder / "ours", processes=processes)
    seconds = time.perf_counter() - start
    shutil.rmtree(folder / "ours")
    return seconds


def obvious(folder: Path, processes: int) -> float:
    """All rows in memory, one `apply` after the other."""
    import pandas

    start = time.perf_counter()
    frame = pandas.DataFrame(read_all(folder), columns=["prompt", "story"])
    cleaned = frame.apply(lambda one: clean((one["prompt"], one["story"])), axis=1)
    kept = pandas.DataFrame([one.row | {"mark": one.story} for one in cleaned if one.row])
    kept.drop_duplicates("mark").drop(columns="mark").to_json(folder / "rows.jsonl", orient="records", lines=True)
    return time.perf_counter() - start


def cleaning_alone(folder: Path, processes: int) -> float:
    texts, many = read_all(folder), writing_prompts.CHUNK
    with ProcessPoolExecutor(processes) as pool:
        list(pool.map(clean_part, [texts[:1]] * processes))  # word lists are read
        start = time.perf_counter()
        list(pool.map(clean_part, [texts[first : first + many] for first in range(0, len(texts), many)]))
        return time.perf_counter() - start


def read_all(folder: Path) -> list[tuple[str, str]]:
    texts = [(folder / f"train{end}").read_text(encoding="utf-8").split("\n")[:-1] for end in writing_prompts.PAIR]
    return list(zip(*texts, strict=True))


def clean(text: tuple[str, str]):
    return writing_prompts.clean(writing_prompts.Raw("", *text, {}), RULES)


def clean_part(texts: list[tuple[str, str]]) -> int:
    return sum(bool(clean(text).row) for text in texts)


def measure(job: Callable[[Path, int], float], folder: Path, processes: int) -> tuple[float, int]:
    """Seconds, as the job says, and peak bytes of it in a fresh process."""
    spawn = multiprocessing.get_context("spawn")
    receive, send = spawn.Pipe(duplex=False)
    process = spawn.Process(target=run, args=(job, folder, processes, send))
    peak = 0
    process.start()
    while process.is_alive():
        peak = max(peak, memory(psutil.Process(process.pid)))
        process.join(0.2)
    if process.exitcode:
        raise SystemExit(f"{job.__name__} ended with {process.exitcode}")
    return receive.recv(), peak


def run(job: Callable[[Path, int], float], folder: Path, processes: int, send: Connection) -> None:
    send.send(job(folder, processes))


def memory(process: psutil.Process) -> int:
    """Bytes of a process and all below it, where the system tells it with shared pages counted once."""
    total = 0
    try:
        for part in [process, *process.children(recursive=True)]:
            full = part.memory_full_info()
            total += getattr(full, "pss", full.rss)
    except psutil.Error:  # one ended meanwhile
        pass
    return total
