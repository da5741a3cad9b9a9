"""Execute the lessons beside the packages of a hosted runtime: hosted.py FREEZE ENVIRONMENT NOTEBOOK…

FREEZE is what `pip freeze` says there. Those of its packages that the course uses go into ENVIRONMENT (torch in its
build for the CPU, where TORCH_INDEX names one); the lessons' own set-up cell adds what the runtime lacks.
"""

import os
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from storylib import hosted  # noqa: E402

KERNEL = ("ipykernel", "ipython", "ipywidgets", "nbclient", "nbformat", "psutil")  # those of the runtime's own notebook


def pins(freeze: Path) -> dict[str, str]:
    """Name -> name==version for every package, without the mark of a GPU build."""
    lines = (line.strip() for line in freeze.read_text(encoding="utf-8").splitlines())
    pairs = (line.split("==") for line in lines if "==" in line and not line.startswith("#"))
    return {name.lower().replace("_", "-"): f"{name}=={version.partition('+')[0]}" for name, version in pairs}


def build(freeze: Path, folder: Path) -> Path:
    """The Python of an environment with the runtime's packages."""
    python = folder / "bin" / "python"
    done = folder / ".ready"
    if done.exists() and done.read_text(encoding="utf-8") == freeze.read_text(encoding="utf-8"):
        return python
    venv.create(folder, with_pip=True, clear=True)
    there = pins(freeze)
    if "TORCH" in os.environ:  # such as torch==2.13.0, where the runtime's own has no build for the CPU
        there["torch"] = os.environ["TORCH"]
        there.pop("setuptools", None)  # each torch wants its own
    wanted = [requirement.name.lower().replace("_", "-") for requirement in hosted.requirements()]
    names = [name for name in (*wanted, *KERNEL) if name in there]
    with tempfile.NamedTemporaryFile("w", suffix=".txt", encoding="utf-8") as constraints:
        constraints.write("\n".join(there.values()))
        constraints.flush()
        index = os.environ.get("TORCH_INDEX", "").split()
        pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-c", constraints.name]
        subprocess.run([*pip, *index, *names, "nbclient", "nbformat"], check=True)
    done.write_text(freeze.read_text(encoding="utf-8"), encoding="utf-8")
    return python


def versions(python: Path) -> dict[str, str]:
    listed = subprocess.run(
        [python, "-m", "pip", "list", "--format=freeze"], capture_output=True, text=True, check=True
    )
    return dict(line.split("==") for line in listed.stdout.splitlines() if "==" in line)


def main(freeze: str, folder: str, *notebooks: str) -> None:
    if not Path(freeze).exists():
        sys.exit(
            f"{freeze} is missing: save what `pip freeze` says on the runtime, then: make test-hosted HOSTED=that.txt"
        )
    python = build(Path(freeze), Path(folder).resolve())
    before = versions(python)
    environment = os.environ | {"COLAB_RELEASE_TAG": "release", "PYTHONPATH": str(ROOT)}
    subprocess.run([python, "-m", "storylib.reports", "check", *notebooks], check=True, env=environment)
    after = versions(python)
    moved = {name: (version, after.get(name)) for name, version in before.items() if after.get(name) != version}
    sys.exit(f"moved: {moved}" if moved else None)


if __name__ == "__main__":
    main(*sys.argv[1:])
