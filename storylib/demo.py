"""A notebook as a page of its own, served by Voilà: its cells tagged `page`, without their code.

    python -m storylib.demo notebooks/04_generation.ipynb

Of a notebook in which no cell is tagged so, all cells make the page.
"""

import argparse
import os
from pathlib import Path

from storylib.files import DATA

TAG = "page"


def only_page(handler, notebook, cwd):
    """The notebook with no cells but those of the page; Voilà calls this for each visit."""
    tagged = [cell for cell in notebook.cells if TAG in cell.metadata.get("tags", ())]
    notebook.cells = tagged or notebook.cells
    return notebook


def serve(notebook: Path, port: int, title: str, browser: bool) -> None:
    """Serve until Ctrl-C, to this machine alone; each visitor gets a kernel of their own."""
    from traitlets.config import Config
    from voila.app import Voila

    search = [str(DATA.parent), os.environ.get("PYTHONPATH", "")]  # the page's kernel must find storylib too
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, search))
    settings = Config()
    settings.VoilaConfiguration.prelaunch_hook = only_page
    settings.VoilaConfiguration.resources = {"metadata": {"name": title}}  # the title of the page
    settings.VoilaConfiguration.theme = "light"
    Voila.launch_instance(
        [str(notebook), f"--port={port}", *([] if browser else ["--no-browser"])],
        config=settings,
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("notebook", type=Path)
    parser.add_argument("--port", type=int, default=8866)
    parser.add_argument("--title", default="Three emojis, one bedtime story")
    parser.add_argument("--no-browser", action="store_true")
    given = parser.parse_args()
    serve(given.notebook, given.port, given.title, not given.no_browser)
