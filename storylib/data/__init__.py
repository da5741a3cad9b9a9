"""One module per corpus; each has a `load` that gives a `datasets.DatasetDict` with `prompt` and `completion`."""

from difflib import get_close_matches
from importlib import import_module

from storylib.errors import UserError

CORPORA = {"emoji": "storylib.data.emoji_stories"}  # imported when asked for: `datasets` takes seconds


def load(corpus: str, **options):
    """The corpus of that name as a `datasets.DatasetDict`; `options` go to its module's `load`.

    Raises UserError for an unknown name, and what that module's `load` raises.
    """
    if corpus not in CORPORA:
        near = get_close_matches(corpus, CORPORA, n=1, cutoff=0)
        raise UserError(f"no corpus {corpus!r}; there are {', '.join(CORPORA)}; nearest: {near[0]}")
    return import_module(CORPORA[corpus]).load(**options)
