"""Execute the notebooks, keep what is fit to be committed, and export them as pages that stand alone.

`python -m storylib.reports run notebooks/*.ipynb` and `… html --out reports notebooks/*.ipynb`; make calls both.
"""

import argparse
import base64
import hashlib
import html
import os
import re
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from storylib.files import DATA, write_text

ROOT = DATA.parent
PATIENCE = 900  # seconds for one cell: the machine may be busy
LARGEST = 1_000_000  # bytes of a notebook; above it the repository's page won't show it
WIDGETS = "application/vnd.jupyter"
PATHS = re.compile(r"(?<![\w.:/])/(?:home|root|tmp|work|usr|opt|private|Users|var|mnt|content)/[\w.-]+|[A-Z]:\\\\Users")
ADDRESS = re.compile(r" at 0x[0-9a-f]{6,}")
BADGE = re.compile(r"\[!\[([^\]]*)\]\([^)]*\)\]")  # a linked picture from elsewhere


def execute(path: Path, say=print) -> NotebookNode:
    """The notebook at `path` with fresh outputs, run from the top in a new kernel, offline, in an empty folder.

    Raises nbclient's CellExecutionError for a cell that fails, and ValueError for what may not be committed.
    """
    from nbclient import NotebookClient  # only those who run notebooks need it

    notebook, started = nbformat.read(path, as_version=4), time.monotonic()
    environment = os.environ | {"PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1", "PYTHONHASHSEED": "0"}
    with tempfile.TemporaryDirectory() as folder:
        client = NotebookClient(
            notebook, timeout=PATIENCE, kernel_name="python3", resources={"metadata": {"path": folder}}
        )
        client.execute(env=environment)
    say(f"{path.name}: {time.monotonic() - started:.0f} s")
    notebook = clean(notebook)
    if faults := list(unfit(notebook)):
        raise ValueError(f"{path.name}: {'; '.join(faults)}")
    return notebook


def clean(notebook: NotebookNode) -> NotebookNode:
    """The notebook with what a reader needs: no widget state, progress bars, timings or settings of one machine."""
    notebook.metadata = NotebookNode(
        kernelspec={"name": "python3", "display_name": "Python 3", "language": "python"},
        language_info={"name": "python"},
        storylib={"code": code_hash(notebook)},
    )
    for cell in notebook.cells:
        cell.metadata = NotebookNode({"tags": cell.metadata["tags"]} if cell.metadata.get("tags") else {})
        if cell.cell_type == "code":
            cell.outputs = joined(output for output in cell.outputs if kept(output))
    return notebook


def kept(output: NotebookNode) -> bool:
    """Whether an output says something still when it stands: bars and widgets don't."""
    if output.output_type == "stream":
        return output.name == "stdout"
    return not any(kind.startswith(WIDGETS) for kind in output.get("data", {}))


def joined(outputs: Iterable[NotebookNode]) -> list[NotebookNode]:
    """Streams that follow each other are one."""
    found: list[NotebookNode] = []
    for output in outputs:
        if found and output.output_type == found[-1].output_type == "stream":
            found[-1].text += output.text
        else:
            found.append(output)
    return found


def code_hash(notebook: NotebookNode) -> str:
    """Of all code, so that outputs can be told from those of an earlier version of it."""
    code = "\0".join(cell.source for cell in notebook.cells if cell.cell_type == "code")
    return hashlib.sha256(code.encode()).hexdigest()[:16]


def unfit(notebook: NotebookNode) -> Iterator[str]:
    """What keeps a notebook from being committed, in words."""
    text = nbformat.writes(notebook)
    if len(text.encode()) >= LARGEST:
        yield f"{len(text.encode()):,} bytes, and less than {LARGEST:,} are shown"
    if WIDGETS in text:
        yield "it has widget state"
    counts = [cell.execution_count for cell in notebook.cells if cell.cell_type == "code"]
    if counts != list(range(1, len(counts) + 1)):
        yield f"cells were executed in the order {counts}"
    for number, output in outputs(notebook):
        if output.output_type == "error" or (output.output_type == "stream" and output.name == "stderr"):
            yield f"cell {number} has an error"
        shown = output.get("text", "") + "".join(
            str(value) for kind, value in output.get("data", {}).items() if kind.startswith("text/")
        )
        if found := PATHS.search(shown) or ADDRESS.search(shown):
            yield f"cell {number} shows {found[0]!r}, which is of one machine"
        if "image/png" in output.get("data", {}) and not alt_text(output):
            yield f"cell {number} has a picture without alt text; show it with plots.picture"


def outputs(notebook: NotebookNode) -> Iterator[tuple[int, NotebookNode]]:
    """Each output with the number of its cell."""
    for number, cell in enumerate(notebook.cells):
        for output in cell.get("outputs", ()):
            yield number, output


def alt_text(output: NotebookNode) -> str:
    return output.get("metadata", {}).get("image/png", {}).get("alt", "")


def write_figures(notebook: NotebookNode, stem: str, folder: Path) -> list[Path]:
    """The pictures of a notebook as files, numbered in their order; those of an earlier run are removed."""
    folder.mkdir(exist_ok=True)
    for old in folder.glob(f"{stem}-*.png"):
        old.unlink()
    pictures = [output.data["image/png"] for _, output in outputs(notebook) if "image/png" in output.get("data", {})]
    paths = [folder / f"{stem}-{number}.png" for number in range(1, len(pictures) + 1)]
    for path, picture in zip(paths, pictures, strict=True):
        path.write_bytes(base64.b64decode(picture))
    return paths


def page(notebook: NotebookNode) -> str:
    """The notebook as one HTML page that needs nothing else, fit to be printed."""
    from nbconvert import HTMLExporter
    from pygments.formatters import HtmlFormatter

    notebook = nbformat.from_dict(notebook)
    for cell in notebook.cells:
        if cell.cell_type == "markdown":  # badges are pictures from elsewhere, and the other lessons are pages here
            cell.source = re.sub(r"(\]\(\d\d_\w+)\.ipynb\)", r"\1.html)", BADGE.sub(r"[\1]", cell.source))
    exporter = HTMLExporter(template_name="basic", exclude_input_prompt=True, exclude_output_prompt=True)
    body = exporter.from_notebook_node(notebook)[0]
    style = Path(__file__).with_name("report.css").read_text(encoding="utf-8")
    code = HtmlFormatter(style="default").get_style_defs(".highlight")
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n<title>{html.escape(title(notebook))}'
        f"</title>\n<style>\n{code}\n{style}</style>\n</head>\n<body>\n{body}\n</body>\n</html>\n"
    )


def title(notebook: NotebookNode) -> str:
    return notebook.cells[0].source.splitlines()[0].lstrip("# ")


def main(arguments: list[str] | None = None) -> None:
    """The command line: `run` saves notebooks with their outputs and figures, `check` only runs, `html` exports."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("job", choices=["run", "check", "html"])
    parser.add_argument("notebooks", nargs="+", type=Path)
    parser.add_argument("--out", type=Path, default=Path("reports"), help="folder of the HTML pages")
    given = parser.parse_args(arguments)
    for path in given.notebooks:
        if given.job == "html":
            given.out.mkdir(parents=True, exist_ok=True)
            write_text(given.out / f"{path.stem}.html", page(nbformat.read(path, as_version=4)))
            print(given.out / f"{path.stem}.html")
            continue
        notebook = execute(path, lambda text: print(text, file=sys.stderr, flush=True))
        if given.job == "run":
            write_text(path, nbformat.writes(notebook) + "\n")
            write_figures(notebook, path.stem, ROOT / "figures")


if __name__ == "__main__":
    main()
