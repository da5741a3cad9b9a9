"""Rows per second and peak memory of preparing WritingPrompts: ours beside the obvious way, as ratios in one run.

    python benchmarks/data_prep.py [--rows 30000 --rows 300000] [--processes 2] [--samples FOLDER] [--out FILE.json]

For each number of rows a pair of files of that many prompts and stories is made, by repeating the samples with their
sentences turned round and their names changed, so that none repeats another. Both then go from it to JSONL:

    pandas      both files read into one DataFrame, the very cleaning of ours by `apply`, drop_duplicates, to_json
    storylib    what `python -m storylib prepare personal` runs: streamed, on several processes, split, with a card

Memory is that of a job's whole tree of processes, each shared page counted once, looked at five times a second.
"""

import json
import multiprocessing
import os
import random
import re
import shutil
import tempfile
import time
from collections.abc import Callable
from itertools import cycle, islice
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Annotated

import psutil
import typer

from storylib.data import writing_prompts
from storylib.data.reading import lines
from storylib.data.wishes import by_rules
from storylib.files import DATA, write_text

SAMPLES = Path(__file__).resolve().parents[2] / "shared" / "corpora" / "writingprompts"
ENDINGS = re.compile(r"(?<=\w)(?=n't\b|'(?:s|re|ve|ll|d|m)\b)|(?<=\S)(?=[.,!?:;](?:\W|$))")
MEBIBYTE = 2**20


def main(
    rows: Annotated[list[int], typer.Option(help="Rows of each file.")] = (30_000, 300_000),
    processes: Annotated[int, typer.Option(help="Processes of ours.")] = 2,
    samples: Annotated[Path, typer.Option(help="Folder with train.wp_source and train.wp_target.")] = SAMPLES,
    pandas: Annotated[bool, typer.Option(help="The obvious way, too: it needs 8 GB for 300,000 rows.")] = True,
    out: Annotated[Path | None, typer.Option(help="Where the figures go, as JSON.")] = None,
) -> None:
    """Measure, print a table, and write the figures."""
    found = []
    for count in rows:
        with tempfile.TemporaryDirectory() as folder:
            size = write_pairs(Path(folder), count, read_samples(samples))
            jobs = {"storylib": (ours, processes)} | ({"pandas": (obvious, 1)} if pandas else {})
            for name, (job, workers) in jobs.items():
                seconds, busy, peak = measure(job, Path(folder), workers)
                found.append(
                    {
                        "job": name,
                        "rows": count,
                        "processes": workers,
                        "seconds": round(seconds, 1),
                        "rows_per_second": round(count / seconds),
                        "megabytes_per_second": round(size / 1e6 / seconds, 1),
                        "cpu_ms_per_row": round(1000 * busy / count, 2),
                        "peak_mebibytes": round(peak / MEBIBYTE),
                    }
                )
                print(table(found[-1:], head=len(found) == 1), flush=True)
    for count in rows if pandas else ():
        one, other = (next(row for row in found if row["rows"] == count and row["job"] == job) for job in jobs)
        speed, memory = (one[key] / other[key] for key in ("rows_per_second", "peak_mebibytes"))
        print(f"{count:,} rows: storylib / pandas = {speed:.2f} in rows per second, {memory:.2f} in memory")
    if out:
        write_text(out, json.dumps(found, indent=2) + "\n")


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


def ours(folder: Path, processes: int) -> None:
    writing_prompts.prepare(folder, folder / "ours", processes=processes)
    shutil.rmtree(folder / "ours")


def obvious(folder: Path, processes: int) -> None:
    """All rows in memory, one `apply` after the other."""
    import pandas

    texts = [
        (folder / f"train{suffix}").read_text(encoding="utf-8").split("\n")[:-1] for suffix in writing_prompts.PAIR
    ]
    frame = pandas.DataFrame(dict(zip(("prompt", "story"), texts, strict=True)))
    rules = writing_prompts.Rules(shortest=50, longest=1500, adult=False, extract=by_rules)
    cleaned = frame.apply(
        lambda row: writing_prompts.clean(writing_prompts.Raw(str(row.name), row["prompt"], row["story"], {}), rules),
        axis=1,
    )
    kept = pandas.DataFrame([one.row | {"mark": one.story} for one in cleaned if one.row])
    kept.drop_duplicates("mark").drop(columns="mark").to_json(folder / "rows.jsonl", orient="records", lines=True)
    (folder / "rows.jsonl").unlink()


def measure(job: Callable[[Path, int], None], folder: Path, processes: int) -> tuple[float, float, int]:
    """Seconds, seconds of processors, and peak bytes of a job in a fresh process."""
    spawn = multiprocessing.get_context("spawn")
    receive, send = spawn.Pipe(duplex=False)
    process = spawn.Process(target=run, args=(job, folder, processes, send))
    started, peak = time.perf_counter(), 0
    process.start()
    while process.is_alive():
        peak = max(peak, memory(psutil.Process(process.pid)))
        process.join(0.2)
    seconds = time.perf_counter() - started
    if process.exitcode:
        raise SystemExit(f"{job.__name__} ended with {process.exitcode}")
    return seconds, receive.recv(), peak


def run(job: Callable[[Path, int], None], folder: Path, processes: int, send: Connection) -> None:
    job(folder, processes)
    send.send(sum(os.times()[:4]))  # of this process and of those that it waited for


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


def table(found: list[dict], head: bool) -> str:
    """The figures as lines of Markdown."""
    cells = [[f"{cell:,}" if isinstance(cell, int) else str(cell) for cell in row.values()] for row in found]
    top = [[name.replace("_", " ") for name in found[0]], ["---"] * len(found[0])] if head else []
    return "\n".join(f"| {' | '.join(row)} |" for row in top + cells)


if __name__ == "__main__":
    typer.run(main)
