"""The repository's public address: one line in pyproject.toml; `make address` writes it where it is needed."""

import re
from collections.abc import Iterable
from pathlib import Path

from storylib.errors import UserError
from storylib.files import DATA, write_text

ROOT = DATA.parent
LINE = re.compile(r'^Repository = "https://github\.com/([\w.-]+/[\w.-]+?)/?"', re.MULTILINE)
PLACES = re.compile(  # where owner and name of the repository stand, between what tells the place
    r'((?:colab\.research\.google\.com/github/|kaggle\.com/kernels/welcome\?src=https://github\.com/)|REPOSITORY = \\?"https://github\.com/)'
    r'[\w.-]+/[\w.-]+(?=/blob/|\\?")'
)


def repository(root: Path = ROOT) -> str:
    """ "owner/name" on GitHub, which Colab and Kaggle open notebooks from. Raises UserError where it is not told."""
    found = LINE.search((root / "pyproject.toml").read_text(encoding="utf-8"))
    if not found:
        raise UserError('pyproject.toml needs a line: Repository = "https://github.com/owner/name"')
    return found[1]


def readdressed(text: str, name: str) -> str:
    """The text with the repository `name` in its badges and its set-up cell.

    >>> readdressed('[Colab](https://colab.research.google.com/github/a/b/blob/main/1.ipynb)', "you/fork")
    '[Colab](https://colab.research.google.com/github/you/fork/blob/main/1.ipynb)'
    """
    return PLACES.sub(lambda place: place[1] + name, text)


def pages(root: Path = ROOT) -> list[Path]:
    """The files in which the address stands."""
    return [root / "README.md", *sorted((root / "notebooks").rglob("*.ipynb"))]


def write_address(paths: Iterable[Path], name: str) -> list[Path]:
    """Put the repository `name` into the files; those that changed."""
    changed = []
    for path in paths:
        text = path.read_text(encoding="utf-8")
        if (new := readdressed(text, name)) != text:
            write_text(path, new)
            changed.append(path)
    return changed


if __name__ == "__main__":
    for path in write_address(pages(), repository()):
        print(f"{path.relative_to(ROOT)}: {repository()}")
