"""Make a notebook's machine ready: install what it lacks, move nothing that it has, and show what it can do.

Read before anything is installed, so at the top it imports the standard library alone.
"""

from __future__ import annotations

import importlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from importlib import metadata
from pathlib import Path

from storylib.errors import UserError

ROOT = Path(__file__).resolve().parents[1]
REQUIREMENTS, CONSTRAINTS = ROOT / "requirements.txt", ROOT / "constraints.txt"
OLDEST, NEWEST = (3, 10), (3, 13)  # versions of Python
TESTED = "3.10 to 3.13"
SHOWN = ("torch", "transformers", "trl", "peft", "bitsandbytes", "datasets", "ipywidgets")
OWN_NEEDS = ("torch",)  # its libraries come with it, under names that differ from build to build
DISK = {"cpu": 1, "t4": 20}  # GiB: checkpoints of a small model; a 7B base as it is downloaded, and its checkpoints
NETWORK = {"kaggle": "turn on Internet in the notebook's settings (it needs a verified phone number)"}
DRIVE = "lost when the session ends, unless you mount Drive first: from google.colab import drive; drive.mount"

Find = Callable[[str], metadata.Distribution]
Row = tuple[str, str, str]  # what, what was found, a remark


def set_up(profile: str | None = None) -> str:
    """Install what a hosted notebook lacks, print what this machine is, and return its profile: "cpu" or "t4".

    profile: the one to take whatever the machine, such as "cpu" on a GPU. Safe to call again. Raises UserError, with
    what to do, for a machine that the course can't run on.
    """
    check_python(sys.version_info[:2])
    from storylib.runtime import machine, quiet, where

    quiet()
    place = where()
    complete(place)
    found = machine()
    found.check()
    chosen, why = choose(found, profile)
    rows = [*version_rows(), *machine_rows(found), *folder_rows(place, chosen), token_row(place)]
    print(table([*rows, ("profile", chosen, why)]))
    return chosen


def check_python(version: tuple[int, int]) -> None:
    """UserError for a Python that is too old. A newer one than was tested may do, and the table says so."""
    if version < OLDEST:
        raise UserError("this is Python {}.{}; the course needs {}".format(*version, TESTED))


def complete(place: str, find: Find = metadata.distribution, run: Callable[..., object] = subprocess.run) -> None:
    """Install what is missing, on Colab and Kaggle; UserError where that can't be, and for what is too old."""
    if old := outdated(find):
        raise UserError(f"{'; '.join(old)}: choose the newest runtime that is offered, or make a new environment")
    while names := missing(find):  # what was installed may have needs of its own
        if place == "laptop":
            raise UserError(
                f"{', '.join(names)} not installed here; run: {sys.executable} -m pip install -r {REQUIREMENTS}"
            )
        install(names, place, run)
        if (after := missing(find)) and set(after) >= set(names):
            raise UserError(f"pip installed {', '.join(names)}, and Python doesn't find it; restart the runtime")


def install(names: Sequence[str], place: str, run: Callable[..., object] = subprocess.run) -> None:
    """Install these packages alone, in the versions that the tests last passed with: nothing else is touched."""
    print(f"installing {', '.join(names)} …", flush=True)
    done = run(command(names), capture_output=True, text=True)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise UserError(
            f"pip could not install {', '.join(names)} ({reason}); {NETWORK.get(place, 'check the network')}"
        )
    importlib.invalidate_caches()


def command(names: Sequence[str]) -> list[str]:
    """The call of pip. Without --no-deps trl would replace pyarrow under the running kernel."""
    patience = ["--retries", "1", "--timeout", "15"]  # else pip waits for minutes where there is no network
    quiet = ["--quiet", "--disable-pip-version-check", "--root-user-action", "ignore"]
    return [sys.executable, "-m", "pip", "install", *quiet, *patience, "--no-deps", "-c", str(CONSTRAINTS), *names]


def requirements() -> list:
    """What the course needs, as `packaging` reads it."""
    from packaging.requirements import Requirement  # every notebook's kernel has it

    lines = (line.partition("#")[0].strip() for line in REQUIREMENTS.read_text(encoding="utf-8").splitlines())
    return [Requirement(line) for line in lines if line]


def missing(find: Find = metadata.distribution) -> list[str]:
    """The packages that the course needs, or one of those needs, and that are not there in any version."""
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    waiting, seen, absent = requirements(), set(), []
    while waiting:
        requirement = waiting.pop(0)
        name = canonicalize_name(requirement.name)
        if name in seen or (requirement.marker and not requirement.marker.evaluate({"extra": ""})):
            continue
        seen.add(name)
        try:
            found = find(name)
        except metadata.PackageNotFoundError:
            absent.append(name)
            continue
        if name not in OWN_NEEDS:
            waiting += [Requirement(line) for line in found.requires or ()]
    return absent


def outdated(find: Find = metadata.distribution) -> list[str]:
    """What is there in a version below the one required, in words."""
    found = []
    for requirement in requirements():
        try:
            version = find(requirement.name).version
        except metadata.PackageNotFoundError:
            continue
        if not requirement.specifier.contains(version.partition("+")[0], prereleases=True):
            found.append(f"{requirement.name} {version} is installed, {requirement.specifier} is needed")
    return found


def choose(found, asked: str | None = None) -> tuple[str, str]:
    """The profile for a machine, and why."""
    if asked not in (None, *DISK):
        raise UserError(f"no profile {asked!r}; there are {' and '.join(DISK)}")
    if asked or found.profile == "cpu":
        return asked or "cpu", "as asked" if asked else "the embedded model; for 7B models choose a GPU runtime"
    from storylib.runtime import gib
    from storylib.sizes import estimate_memory

    estimate = estimate_memory("emoji/t4", found)
    sizes = f"training a 7B model takes {gib(estimate.total)}, {gib(estimate.free)} are free"
    return ("t4", sizes) if estimate.fits else ("cpu", f"{sizes}; so the embedded model")


def version_rows(find: Find = metadata.distribution) -> list[Row]:
    from storylib import __version__

    remark = "" if sys.version_info[:2] <= NEWEST else f"not tested; {TESTED} are"
    rows = [("storylib", __version__, ""), ("Python", ".".join(map(str, sys.version_info[:3])), remark)]
    for name in SHOWN:
        try:
            rows.append((name, find(name).version, ""))
        except metadata.PackageNotFoundError:
            rows.append((name, "none", "the buttons stay away; the plain calls beside them work"))
    return rows


def machine_rows(found) -> list[Row]:
    from storylib.runtime import dotted, gib

    rows = [("machine", found.where, found.name if found.device == "cpu" else "")]
    if found.device == "cuda":
        times = f"{found.gpus} x " if found.gpus > 1 else ""
        memory = f"{gib(found.free_memory)} of {gib(found.memory)} free"
        rows.append(("GPU", f"{times}{found.name}", f"capability {dotted(found.capability)}, {memory}"))
    return [*rows, ("precision", found.precision, ""), ("RAM", f"{gib(found.free_ram)} free", f"of {gib(found.ram)}")]


def folder_rows(place: str, profile: str) -> list[Row]:
    """Where runs go and what room there is; UserError where nothing can be written or the disk is full."""
    from storylib.runs import runs_folder

    folder = runs_folder()
    there = next(path for path in [folder.absolute(), *folder.absolute().parents] if path.exists())
    if not os.access(there, os.W_OK):
        raise UserError(f"{there} can't be written to, and runs go there; start Jupyter in a folder of your own")
    free = shutil.disk_usage(there).free / 2**30
    if free < DISK["cpu"]:
        raise UserError(f"{free:.1f} GiB are free on the disk of {there}, {DISK['cpu']} are needed; remove old runs")
    short = f"the {profile} profile takes up to {DISK[profile]}" if free < DISK[profile] else ""
    kept = DRIVE if place == "colab" and "MyDrive" not in folder.parts else ""
    return [("disk", f"{free:.0f} GiB free", short), ("runs go to", str(folder), kept)]


def token_row(place: str) -> Row:
    from huggingface_hub import get_token

    from storylib.hub import give_token, use_secret

    use_secret(place)
    return (
        ("token", "found", "") if get_token() else ("token", "none", f"only gated models need one: {give_token(place)}")
    )


def table(rows: Iterable[Row]) -> str:
    """Rows as aligned text.

    >>> print(table([("Python", "3.11.7", ""), ("RAM", "9.1 GiB free", "of 15.6 GiB")]))
    Python  3.11.7
    RAM     9.1 GiB free  of 15.6 GiB
    """
    rows = list(rows)
    first, second = (max(len(row[place]) for row in rows) for place in (0, 1))
    return "\n".join(f"{what:<{first}}  {found:<{second}}  {remark}".rstrip() for what, found, remark in rows)
