"""How cost grows: with stories side by side, their length, the number of prompts, and the rows of a training run.

Each curve has an exponent, the slope of log seconds over log size: 1 is linear, and less means that more at a time
costs less each. The prompts are streamed from a file to a file, as `python -m storylib generate` does it, with stories
of 8 tokens; the peak of the memory is taken in a fresh process for each number of them.
"""

import json
import multiprocessing
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import torch
from datasets import DatasetDict
from matplotlib.figure import Figure

from benchmarks.generation import ADAPTER, RECIPE, SETTINGS, many_prompts
from benchmarks.runner import Size
from storylib import bulk, data, decoding
from storylib.files import write_text
from storylib.generation import at_rest, draft
from storylib.models import load_adapter
from storylib.plots import BLUE
from storylib.runtime import quiet
from storylib.training import finetune

NO_END = -1  # a token that no story has, so that all are as long as they may be
SIDE_BY_SIDE = (1, 4, 16, 64)
LENGTHS = (50, 100, 200, 400)
SHORT = 8  # tokens of a story where the prompts are what counts

Curve = dict[int, float]  # size -> seconds


def measure(size: Size, out: Path, figures: Path) -> None:
    """Print, write and draw the four curves."""
    model, tokenizer = load_adapter(ADAPTER)
    write_stories(model, tokenizer, 2, SHORT)  # warm-up
    curves = {
        "stories side by side": curve(SIDE_BY_SIDE, lambda n: write_stories(model, tokenizer, n, 30), size.rounds),
        "tokens of 8 stories": curve(LENGTHS, lambda n: write_stories(model, tokenizer, 8, n), size.rounds),
    }
    streamed = {count: in_own_process(stream_prompts, count, size.threads) for count in size.counts}
    curves["prompts streamed"] = {count: seconds for count, (seconds, _) in streamed.items()}
    curves["rows taught"] = {count: in_own_process(teach, count, size.threads)[0] for count in size.taught}
    facts = {
        name: {"seconds": {n: float(f"{s:.3g}") for n, s in found.items()}, "exponent": round(exponent(found), 2)}
        for name, found in curves.items()
    }
    facts["prompts streamed"]["peak_mebibytes"] = {count: round(peak / 2**20) for count, (_, peak) in streamed.items()}
    print(json.dumps(facts, indent=1), flush=True)
    write_text(out / "growth.json", json.dumps(facts, indent=1) + "\n")
    draw(curves, figures / "growth.png")


def curve(sizes: Sequence[int], run: Callable[[int], None], rounds: int) -> Curve:
    """The median of a few rounds, each through all sizes."""
    seconds: dict[int, list[float]] = {size: [] for size in sizes}
    for _ in range(rounds):
        for size in sizes:
            start = time.perf_counter()
            run(size)
            seconds[size].append(time.perf_counter() - start)
    return {size: float(np.median(found)) for size, found in seconds.items()}


def exponent(found: Curve) -> float:
    return float(np.polyfit(np.log(list(found)), np.log(list(found.values())), 1)[0])


@torch.no_grad()
def write_stories(model, tokenizer, count: int, length: int) -> None:
    settings = replace(SETTINGS, max_new_tokens=length, batch_size=count)
    drafts = [draft(model, tokenizer, prompt, 0, settings, n) for n, prompt in enumerate(many_prompts(count))]
    with at_rest(model):
        assert sum(len(done.story) for done in decoding.write(model, iter(drafts), settings, NO_END)) == count * length


def stream_prompts(count: int) -> float:
    """Seconds of `count` short stories from a file to a file."""
    model, tokenizer = load_adapter(ADAPTER)
    settings = replace(SETTINGS, max_new_tokens=SHORT)
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "prompts.jsonl"
        with source.open("w", encoding="utf-8") as file:
            file.writelines(json.dumps({"prompt": prompt}) + "\n" for prompt in many_prompts(count))
        write_stories(model, tokenizer, 2, SHORT)  # warm-up
        start = time.perf_counter()
        shelf = bulk.Shelf(Path(folder) / "stories.jsonl")
        assert bulk.tell_all(model, tokenizer, bulk.Prompts(source, 1, {}), settings, shelf, {}) == count
        return time.perf_counter() - start


def teach(count: int) -> float:
    """Seconds of a whole run of one epoch over `count` stories, the loading of the base included."""
    known = data.load(RECIPE.corpus, **RECIPE.data)
    rows = known["train"].select([number % len(known["train"]) for number in range(count)])
    train = replace(RECIPE.train, epochs=1, evaluations=1)
    with tempfile.TemporaryDirectory() as folder:
        few = DatasetDict({"train": rows, "test": known["test"].select(range(2))})
        start = time.perf_counter()
        finetune(replace(RECIPE, train=train), Path(folder) / "run", few, samples=0, say=lambda text: None)
        return time.perf_counter() - start


def in_own_process(job: Callable[[int], float], count: int, threads: int) -> tuple[float, int]:
    """Seconds, as the job says, and peak bytes of the process."""
    spawn = multiprocessing.get_context("spawn")
    with spawn.Pool(1) as pool:
        return pool.apply(run, (job, count, threads))


def run(job: Callable[[int], float], count: int, threads: int) -> tuple[float, int]:
    quiet()
    torch.set_num_threads(threads)
    seconds = job(count)
    info = psutil.Process().memory_info()
    peak = getattr(info, "peak_wset", None) or peak_of_linux() or info.rss
    return seconds, peak


def peak_of_linux() -> int | None:
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM")), None)


def draw(curves: dict[str, Curve], path: Path) -> None:
    figure = Figure(figsize=(10, 2.8), layout="constrained")
    for axes, (name, found) in zip(figure.subplots(1, len(curves)), curves.items(), strict=True):
        sizes, seconds = np.array(list(found)), np.array(list(found.values()))
        axes.loglog(sizes, seconds, "o-", color=BLUE)
        axes.loglog(sizes, seconds[0] * sizes / sizes[0], ":", color="grey", label="linear")
        axes.set_xticks(sizes, [f"{size:,}" for size in sizes])
        axes.minorticks_off()
        axes.set(title=f"exponent {exponent(found):.2f}", xlabel=name)
    figure.axes[0].set_ylabel("seconds")
    figure.axes[0].legend(frameon=False)
    figure.savefig(path, dpi=120)
