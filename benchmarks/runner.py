"""What all benchmarks share: systems that take turns, their speeds as a row, and rows as a file, a table and a picture.

pyperf and pytest-benchmark time one function many times in processes of its own. Here a model is loaded once, a run
takes seconds, and what counts is the ratio of two systems at the same moment, so they run A B A B in one process.
"""

import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

from storylib.files import write_text
from storylib.runtime import machine

Speeds = dict[str, list[float]]  # system -> units per second in each round
OURS, LIMIT = "storylib", "limit"
VERSIONS = ("torch", "transformers", "peft", "bitsandbytes", "trl", "datasets", "numpy")


@dataclass(frozen=True)
class Size:
    """How much is measured: enough for the machine, and not more."""

    rounds: int
    threads: int
    steps: int  # of fine-tuning, the warm-up included
    stories: int  # written
    singles: int  # stories that a one-by-one loop is timed on
    texts: int  # scored
    rows: int  # prepared
    counts: tuple[int, ...]  # prompts of one command, for how its cost grows
    taught: tuple[int, ...]  # rows of a training run, for the same


SIZES = {
    "laptop": Size(3, 2, 8, 100, 4, 100, 4000, (10, 100, 1000, 10_000), (50, 100, 200, 400)),
    "gpu": Size(5, 8, 60, 1000, 20, 5000, 100_000, (10, 100, 1000, 10_000), (100, 1000, 10_000)),
    "tiny": Size(1, 1, 6, 6, 1, 10, 200, (5, 10), (20, 40)),  # whether it runs at all
}


@dataclass(frozen=True)
class Row:
    """Medians over the rounds, in units per second, and ratios taken within each round."""

    name: str
    ours: float
    other: float
    limit: float | None
    unit: str
    ratio: float  # ours by the other
    ratio_to_limit: float | None  # the limit by ours
    spread: float  # of the ratio: largest less smallest, by the median


def take_turns(systems: Mapping[str, Callable[[], float]], rounds: int) -> Speeds:
    """Units per second of each system in each round. A system does its work and says how many units that were, or,
    where it keeps the clock itself to leave its set-up out, is a `TimedItself`."""
    speeds: Speeds = {name: [] for name in systems}
    for number in range(rounds):
        for name, run in systems.items():
            start = time.perf_counter()
            units = run()
            seconds = getattr(run, "seconds", time.perf_counter() - start)
            speeds[name].append(units / seconds)
            print(f"  round {number + 1}, {name}: {speeds[name][-1]:,.0f}/s in {seconds:.1f} s", flush=True)
    return speeds


class TimedItself:
    """A system that gives its units and its seconds."""

    def __init__(self, run: Callable[[], tuple[float, float]]) -> None:
        self.run = run

    def __call__(self) -> float:
        units, self.seconds = self.run()
        return units


def row(name: str, unit: str, speeds: Speeds, other: str) -> Row:
    """The row that sets ours beside `other`, with the limit where it was measured."""
    ratios = by_round(speeds, OURS, other)
    return Row(
        name,
        middle(speeds[OURS]),
        middle(speeds[other]),
        middle(speeds[LIMIT]) if LIMIT in speeds else None,
        unit,
        middle(ratios),
        middle(by_round(speeds, LIMIT, OURS)) if LIMIT in speeds else None,
        round((max(ratios) - min(ratios)) / statistics.median(ratios), 3),
    )


def by_round(speeds: Speeds, one: str, other: str) -> list[float]:
    return [mine / yours for mine, yours in zip(speeds[one], speeds[other], strict=True)]


def middle(numbers: Sequence[float]) -> float:
    return float(f"{statistics.median(numbers):.3g}")


def this_machine(size: str) -> dict:
    """What the figures depend on."""
    import torch  # here, not above: processes of ours that only prepare data do without

    try:
        cpu = next(line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name"))
    except (OSError, StopIteration):
        cpu = platform.processor()
    return {
        "machine": str(machine()),
        "cpu": cpu,
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load": round(os.getloadavg()[0], 1),
        "system": platform.platform(),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in VERSIONS},
        "size": size,
        "date": time.strftime("%Y-%m-%d"),
    }


def keep(path: Path, rows: Sequence[Row], size: str) -> list[dict]:
    """Write the rows into the file, in the place of those of the same name; all rows of the file then."""
    known = {old["name"]: old for old in json.loads(path.read_text())["rows"]} if path.exists() else {}
    known |= {new.name: asdict(new) for new in rows}
    write_text(path, json.dumps({"machine": this_machine(size), "rows": list(known.values())}, indent=1) + "\n")
    return list(known.values())


def table(rows: Sequence[Mapping]) -> str:
    """The rows in Markdown."""
    lines = [
        "| | ours | other | limit | unit | ours / other | limit / ours | spread |",
        "| --- | ---: | ---: | ---: | --- | ---: | ---: | ---: |",
    ]
    for one in rows:
        speeds = " | ".join("" if one[key] is None else f"{one[key]:,.0f}" for key in ("ours", "other", "limit"))
        limit = "" if one["ratio_to_limit"] is None else f"{one['ratio_to_limit']:.2f}"
        line = f"| {one['name']} | {speeds} | {one['unit']} | {one['ratio']:.2f} | {limit} | {one['spread']:.0%} |"
        lines.append(line)
    return "\n".join(lines)


def draw(rows: Sequence[Mapping], path: Path) -> None:
    """How many times as fast as the other ours is, and the limit, on a scale of ratios."""
    from matplotlib.figure import Figure

    from storylib.plots import BLUE, ORANGE

    figure = Figure(figsize=(7, 0.45 * len(rows) + 1.2), layout="constrained")
    axes = figure.subplots()
    names = [one["name"].replace(" vs ", "\nvs ") for one in rows]
    axes.barh(names, [one["ratio"] for one in rows], color=BLUE, label="ours")
    limits = [(name, one) for name, one in zip(names, rows, strict=True) if one["ratio_to_limit"]]
    ends = [one["ratio"] * one["ratio_to_limit"] for _, one in limits]
    axes.plot(ends, [name for name, _ in limits], "|", color=ORANGE, markersize=16, markeredgewidth=3, label="limit")
    axes.axvline(1, color="black", linewidth=1)
    axes.set(xscale="log", xlabel="times as fast as what one would run instead")
    axes.xaxis.set_major_formatter("{x:g}")
    axes.invert_yaxis()
    axes.legend(frameon=False)
    figure.savefig(path, dpi=120)
