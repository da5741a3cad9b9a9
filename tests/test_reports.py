"""Notebooks are saved without litter and exported as pages that need nothing else."""

import json
import re

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from storylib import reports
from storylib.address import LINE, ROOT, pages, readdressed, repository, write_address
from storylib.errors import UserError
from storylib.live import follow
from storylib.plots import picture, training_curve
from storylib.tables import Table

LOG = [{"step": 1, "loss": 3.0, "grad_norm": 1.0}, {"step": 2, "loss": 2.0, "grad_norm": 0.5}]


def shown(thing, **metadata):
    data, about = thing._repr_mimebundle_()
    return new_output("display_data", data=data, metadata=about | metadata)


@pytest.fixture
def notebook():
    cell = new_code_cell("1", execution_count=1, metadata={"tags": ["a"], "execution": {"start": "now"}})
    cell.outputs = [
        new_output("stream", name="stdout", text="one\n"),
        new_output("stream", name="stderr", text="100%|████|"),
        new_output("display_data", data={"application/vnd.jupyter.widget-view+json": {}, "text/plain": "IntProgress"}),
        new_output("stream", name="stdout", text="two\n"),
        shown(picture(training_curve(LOG), "Loss falls")),
    ]
    made = new_notebook(cells=[new_markdown_cell("# A lesson\n[next](02_base_model.ipynb)"), cell])
    made.metadata["widgets"] = {"application/vnd.jupyter.widget-state+json": {}}
    return made


def test_litter_is_swept(notebook):
    cleaned = reports.clean(notebook)
    assert [output.get("text", "picture") for output in cleaned.cells[1].outputs] == ["one\ntwo\n", "picture"]
    assert "widgets" not in cleaned.metadata and cleaned.cells[1].metadata == {"tags": ["a"]}
    assert list(reports.unfit(cleaned)) == [] and nbformat.validate(cleaned) is None


@pytest.mark.parametrize(
    ("output", "fault"),
    [
        (new_output("stream", name="stdout", text="saved in /home/me/runs"), "shows '/home/me'"),
        (new_output("stream", name="stdout", text="<Model at 0x7fe6a9f2bc50>"), "shows ' at 0x"),
        (new_output("error", ename="ValueError", evalue="", traceback=[]), "has an error"),
        (new_output("display_data", data={"image/png": "aaaa"}), "without alt text"),
        (new_output("display_data", data={"text/plain": "x" * 1_000_000}), "bytes, and less than"),
    ],
)
def test_what_may_not_be_committed(notebook, output, fault):
    cleaned = reports.clean(notebook)
    cleaned.cells[1].outputs.append(output)
    assert fault in "; ".join(reports.unfit(cleaned))


def test_cells_run_out_of_order(notebook):
    cleaned = reports.clean(notebook)
    cleaned.cells[1].execution_count = 3
    assert list(reports.unfit(cleaned)) == ["cells were executed in the order [3]"]


def test_links_are_no_paths():
    assert not reports.PATHS.search("https://example.org/home/page, runs/x, 3/4 and /s")


def test_page_needs_nothing_else(notebook):
    page = reports.page(reports.clean(notebook))
    assert page.startswith("<!DOCTYPE html>") and '<html lang="en">' in page and "<title>A lesson</title>" in page
    assert 'href="02_base_model.html"' in page and 'alt="Loss falls"' in page and "data:image/png;base64," in page
    assert "@media print" in page and not re.search(r"""(?:src|href)=["']https?:|<script|@import|url\(""", page)


def test_badges_become_words(notebook):
    notebook.cells[0].source += "\n[![Open in Colab](https://x.org/badge.svg)](https://colab.research.google.com/a)"
    page = reports.page(reports.clean(notebook))
    assert ">Open in Colab</a>" in page and "badge.svg" not in page


def test_figures_are_those_of_the_last_run(notebook, tmp_path):
    (tmp_path / "a-2.png").write_bytes(b"old")
    (path,) = reports.write_figures(notebook, "a", tmp_path)
    assert path.name == "a-1.png" and path.read_bytes().startswith(b"\x89PNG") and list(tmp_path.iterdir()) == [path]


def test_execution_is_offline_and_leaves_no_trace(tmp_path):
    path = tmp_path / "a.ipynb"
    code = "import os, storylib\nopen('left', 'w')\nprint(os.environ['HF_HUB_OFFLINE'], os.listdir())"
    nbformat.write(new_notebook(cells=[new_code_cell(code)]), path)
    done = reports.execute(path, say=lambda text: None)
    assert done.cells[0].outputs[0].text == "1 ['left']\n" and [p.name for p in tmp_path.iterdir()] == ["a.ipynb"]


def test_users_mistakes_are_plain_sentences_in_a_notebook(tmp_path):
    from nbclient.exceptions import CellExecutionError

    path = tmp_path / "a.ipynb"
    nbformat.write(new_notebook(cells=[new_code_cell("from storylib import config\nconfig.recipe('emoij')")]), path)
    with pytest.raises(CellExecutionError, match="no recipe 'emoij'; did you mean") as failed:
        reports.execute(path, say=lambda text: None)
    assert "Traceback" not in failed.value.traceback


def test_a_run_is_followed_while_it_grows(tmp_path, monkeypatch):
    import IPython.display

    seen = []

    class Handle:
        def update(self, drawn):
            seen.append(drawn)

    monkeypatch.setattr(IPython.display, "display", lambda *a, **k: Handle())
    with follow(tmp_path, len, seconds=0.01):
        (tmp_path / "log.jsonl").write_text(json.dumps(LOG[0]) + "\n")
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in LOG))
    assert seen[-1] == 1
    with follow(tmp_path, len, seconds=60):
        pass
    assert seen[-1] == 2


def test_tables_escape_what_they_show():
    page = Table([{"<b>": "<script>"}])._repr_html_()
    assert "<script>" not in page and "&lt;script&gt;" in page
    with pytest.raises(UserError, match="at least one row"):
        Table([])


def test_the_address_stands_in_one_place_and_goes_everywhere(tmp_path):
    name = repository()
    for path in pages():
        text = path.read_text(encoding="utf-8")
        assert readdressed(text, name) == text, f"run: make address ({path.name})"
    lesson = pages()[-1]
    copy = tmp_path / lesson.name
    copy.write_text(lesson.read_text(encoding="utf-8"), encoding="utf-8")
    assert write_address([copy], "you/fork") == [copy] and write_address([copy], "you/fork") == []
    text = copy.read_text(encoding="utf-8")
    assert text.count("you/fork") == 3 and name not in text  # Colab, Kaggle, set-up
    json.loads(text)


def test_a_missing_address_is_said(tmp_path):
    (tmp_path / "pyproject.toml").write_text("[project]\n")
    with pytest.raises(UserError, match="pyproject.toml needs a line"):
        repository(tmp_path)
    assert LINE.search((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
