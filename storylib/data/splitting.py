"""Which split a row belongs to: decided by its key alone, so no row moves when a corpus is reordered or grows."""

import hashlib

from storylib.errors import UserError


def share(key: str) -> float:
    """A number in [0, 1) that depends on the key alone: about a tenth of all keys are under 0.1.

    >>> round(share("The Frog King"), 3)
    0.386
    """
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:6], "big") / 2**48


def split_of(key: str, validation: float = 0.1, test: float = 0.1) -> str:
    """The split of a key: "train", "validation" or "test", by the shares of keys that the last two are to have.

    Rows that must stay together (of one tale, of one prompt) share a key. Raises UserError for shares that leave
    nothing to train on.

    >>> [split_of(key) for key in ("a", "b", "c")]
    ['train', 'train', 'validation']
    """
    if validation < 0 or test < 0 or validation + test >= 1:
        raise UserError(f"validation={validation} and test={test} leave no rows to train on; try 0.1 and 0.1")
    place = share(key)
    return "test" if place < test else "validation" if place < test + validation else "train"
