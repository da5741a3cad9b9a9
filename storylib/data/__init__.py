"""One module per corpus, each with the same face: `load` gives a `datasets.DatasetDict` with `prompt` and `completion`,
and `prepare` turns raw files into a folder that `load` reads."""

from difflib import get_close_matches
from importlib import import_module
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

    Raises UserError for an unknown name, and what that module's `load` raises.
    """
    return module(corpus).load(**options)


def prepare(corpus: str, source: str | Path, out: str | Path, **options):
    """Turn raw files into the folder `out`, which `load(corpus, source=out)` reads; `options` go to its `prepare`.

    Returns a `corpus.Report`. Raises UserError for an unknown name, for an `out` that exists, and what that module's
    `prepare` raises.
    """
    return module(corpus).prepare(Path(source).expanduser(), new_folder(out), **options)


def module(corpus: str):
    """The module of a corpus. Raises UserError for an unknown name."""
    if corpus not in CORPORA:
        near = get_close_matches(corpus, CORPORA, n=1, cutoff=0)
        raise UserError(f"no corpus {corpus!r}; there are {', '.join(CORPORA)}; nearest: {near[0]}")
    return import_module(CORPORA[corpus])
