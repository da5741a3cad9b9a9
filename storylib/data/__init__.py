"""One module per corpus, each with the same face: `load` gives a `datasets.DatasetDict` with `prompt` and `completion`,
and `prepare` turns raw files into a folder that `load` reads."""

from collections.abc import Iterable
from difflib import get_close_matches
from importlib import import_module
from inspect import signature
from pathlib import Path

from storylib.data.corpus import new_folder
from storylib.errors import UserError

CORPORA = {  # imported when asked for: `datasets` takes seconds
    "emoji": "storylib.data.emoji_stories",
    "genres": "storylib.data.genres",
    "personal": "storylib.data.writing_prompts",
    "languages": "storylib.data.languages",
}


def load(corpus: str, **options):
    """The corpus of that name as a `datasets.DatasetDict`; `options` go to its module's `load`.

    Raises UserError for an unknown name or option, and what that module's `load` raises.
    """
    return job(corpus, "load", options)(**options)


def prepare(corpus: str, source: str | Path, out: str | Path, **options):
    """Turn raw files into the folder `out`, which `load(corpus, source=out)` reads; `options` go to its `prepare`.

    Returns a `corpus.Report`. Raises UserError for an unknown name or option, for an `out` that exists, and what that
    module's `prepare` raises.
    """
    return job(corpus, "prepare", options)(Path(source).expanduser(), new_folder(out), **options)


def job(corpus: str, name: str, options: Iterable[str]):
    """A corpus' function of that name. Raises UserError for an unknown corpus, and for options that it has not."""
    if corpus not in CORPORA:
        near = get_close_matches(corpus, CORPORA, n=1, cutoff=0)
        raise UserError(f"no corpus {corpus!r}; there are {', '.join(CORPORA)}; nearest: {near[0]}")
    function = getattr(import_module(CORPORA[corpus]), name)
    known = [option for option in signature(function).parameters if option not in ("source", "out") or name == "load"]
    if unknown := [option for option in options if option not in known]:
        takes = ", ".join(known) or "no options"
        raise UserError(f"{corpus} has no option {' or '.join(unknown)} in {name}; it takes {takes}")
    return function
