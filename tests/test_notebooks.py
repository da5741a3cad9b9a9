"""The lessons: short cells, one set-up, outputs that belong to the code, links that lead somewhere, and they run."""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote

import nbformat
import pytest

from storylib import reports
from storylib.address import repository

ROOT = reports.ROOT
FOLDER = ROOT / "notebooks"
LESSONS = sorted(FOLDER.glob("[0-9][0-9]_*.ipynb"))
LONGEST = 10  # lines of code in a cell
LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s]+)\)")
SECRET = re.compile(
    r"\bhf_[A-Za-z0-9]{30,}|\bsk-[A-Za-z0-9_-]{20,}|\bgh[pousr]_[A-Za-z0-9]{30,}|\bgithub_pat_\w{40,}|\bKGAT_\w{20,}"
    r"|\bAKIA[0-9A-Z]{16}\b|\bAIza[\w-]{35}|\bxox[bp]-[\w-]{20,}|-----BEGIN [A-Z ]*PRIVATE KEY-----"
)

lesson = pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)


def read(path):
    return nbformat.read(path, as_version=4)


def code_cells(path):
    return [cell for cell in read(path).cells if cell.cell_type == "code"]


def prose(path):
    if path.suffix != ".ipynb":
        return path.read_text(encoding="utf-8")
    return "\n".join(cell.source for cell in read(path).cells if cell.cell_type == "markdown")


def test_there_are_lessons():
    assert [path.name[:2] for path in LESSONS] == [f"{number:02d}" for number in range(1, len(LESSONS) + 1)] and LESSONS


@lesson
def test_cells_are_short_and_define_nothing(path):
    for cell in code_cells(path):
        lines = [line for line in cell.source.splitlines() if line.strip()]
        assert len(lines) <= LONGEST, cell.source
        kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)
        assert not any(isinstance(node, kinds) for node in ast.walk(ast.parse(cell.source))), cell.source


def test_the_set_up_is_one_text():
    cells = {code_cells(path)[0].source for path in LESSONS}
    assert len(cells) == 1 and f'REPOSITORY = "https://github.com/{repository()}"' in cells.pop()


@lesson
def test_head_says_what_where_and_what_is_around(path):
    head, place = read(path).cells[0].source, f"{repository()}/blob/main/notebooks/{path.name}"
    assert re.match(rf"# {int(path.name[:2])}\. \S", head) and "**You will**" in head and "**Needs**" in head
    assert f"(https://colab.research.google.com/github/{place})" in head
    assert f"(https://kaggle.com/kernels/welcome?src=https://github.com/{place})" in head
    number = LESSONS.index(path)
    for neighbour in LESSONS[max(0, number - 1) : number] + LESSONS[number + 1 : number + 2]:
        assert f"({neighbour.name})" in head, f"{path.name} doesn't link to {neighbour.name}"


@lesson
def test_each_result_is_expected_before_and_read_after(path):
    text = prose(path).lower()
    assert text.count("expect**") >= 4 and text.count("it shows**") >= 4


@lesson
def test_a_lesson_ends_with_exercises_that_are_solved(path):
    last = read(path).cells[-1].source
    assert last.startswith("## Exercises") and re.search(r"^2\. ", last, re.MULTILINE)
    solutions = FOLDER / "solutions" / f"{path.stem}.md"
    assert f"(solutions/{solutions.name})" in last
    asked, solved = (re.findall(r"^(?:## )?(\d)\. ", text, re.MULTILINE) for text in (last, prose(solutions)))
    assert asked == solved
    for block in re.findall(r"```python\n(.*?)```", prose(solutions), re.DOTALL):
        compile(block, str(solutions), "exec")


@lesson
def test_outputs_are_fit_to_be_committed_and_those_of_the_code(path):
    notebook = read(path)
    nbformat.validate(notebook)
    assert list(reports.unfit(notebook)) == []
    assert notebook.metadata["storylib"]["code"] == reports.code_hash(notebook), "run: make notebooks"
    assert "widgets" not in notebook.metadata


@lesson
def test_figures_are_those_in_the_lesson(path, tmp_path):
    made = reports.write_figures(read(path), path.stem, tmp_path)
    assert {file.name for file in (ROOT / "figures").glob(f"{path.stem}-*.png")} == {file.name for file in made}
    for file in made:
        assert file.read_bytes() == (ROOT / "figures" / file.name).read_bytes()


@pytest.mark.parametrize(
    "path",
    [*LESSONS, *sorted(FOLDER.glob("solutions/*.md")), *sorted(ROOT.glob("*.md")), FOLDER / "README.md"],
    ids=lambda path: path.name,
)
def test_links_lead_to_files_and_pictures_have_alt_texts(path):
    for picture, text, target in LINK.findall(prose(path)):
        assert text or not picture, f"a picture without alt text: {target}"
        if not re.match(r"https?:|mailto:|#", target):
            assert (path.parent / unquote(target).partition("#")[0]).exists(), target


def test_no_secrets_in_the_tree():
    listed = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], capture_output=True, text=True, cwd=ROOT)
    names = listed.stdout.splitlines() or [str(path.relative_to(ROOT)) for path in FOLDER.rglob("*.*")]
    for name in names:
        path = ROOT / name
        if path.is_file() and path.suffix not in (".png", ".safetensors"):
            found = SECRET.search(path.read_text(encoding="utf-8", errors="replace"))
            assert not found, f"{name} holds what looks like a secret: {found[0][:6]}…"


def test_secrets_would_be_found():
    for secret in ("hf_" + "a" * 34, "sk-" + "b" * 40, "ghp_" + "c" * 36, "-----BEGIN RSA " + "PRIVATE KEY-----"):
        assert SECRET.search(f"token = '{secret}'")
    assert not SECRET.search("hf_hub_download, sk-learn, HF_TOKEN")


@lesson
def test_pages_stand_alone(path):
    page = reports.page(read(path))
    assert not re.search(r"""<(?:script|link|iframe)\b|<img[^>]*src=["']https?:""", page)
    assert len(re.findall("<img", page)) == len(re.findall(r"<img[^>]*alt=", page))


@pytest.mark.notebooks
@lesson
def test_a_lesson_runs_from_the_top(path):
    done = reports.execute(path)
    shown = [cell for cell in done.cells if cell.cell_type == "code" and cell.outputs]
    assert len(shown) >= 0.7 * len(code_cells(path)), "most cells show something"


def test_the_set_up_runs_twice_and_without_a_clone(tmp_path):
    """From an empty folder it fetches the course; where that fails, one sentence says what to do."""
    source = code_cells(LESSONS[0])[0].source
    nowhere = source.replace("https://github.com/", "file:///nowhere/")
    alone = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    command = [sys.executable, "-I", "-c", nowhere]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=alone)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("The course could not be fetched: turn on Internet")
    twice = tmp_path / "twice.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source)] * 2), twice)
    first, second = reports.execute(twice, say=lambda text: None).cells
    assert first.outputs[0].text.splitlines()[0] == second.outputs[0].text.splitlines()[0]
    assert not Path(tmp_path / "storylib").exists()
