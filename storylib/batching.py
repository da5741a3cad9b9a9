"""Out of memory: the same step in smaller batches."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TypeVar

from accelerate.utils import release_memory
from accelerate.utils.memory import should_reduce_batch_size

from storylib.config import TrainSettings
from storylib.errors import UserError

T = TypeVar("T")


def with_smaller_batches(
    train: Callable[[TrainSettings], T], settings: TrainSettings, say: Callable[[str], None] = print
) -> T:
    """What `train` returns for the settings, or for the first smaller batches that fit into memory.

    Each time memory runs out, `train` is called again with half the stories per pass and twice the passes per step, so
    that each step still learns from as many stories. It has to begin anew or from a checkpoint of its own; what it
    held is given back first. Raises UserError where a single story at a time is too much.
    """
    while True:
        try:
            return train(settings)
        except RuntimeError as error:
            if not should_reduce_batch_size(error):
                raise
            if settings.batch_size == 1:
                raise UserError(too_much(settings)) from error
        # Out of the except block: the error holds the frames of `train`, and they the model.
        release_memory()
        settings = smaller(settings)
        say(
            f"out of memory: going on with {settings.batch_size} stories at a time and {settings.accumulate} times "
            f"per step, so that a step still sees {settings.effective_batch}"
        )


def smaller(settings: TrainSettings) -> TrainSettings:
    """Half the batch and twice the accumulation; an odd batch is divided by its smallest divisor.

    >>> smaller(TrainSettings(batch_size=9, accumulate=2)).batch_size
    3
    """
    parts = next(number for number in range(2, settings.batch_size + 1) if settings.batch_size % number == 0)
    return replace(settings, batch_size=settings.batch_size // parts, accumulate=settings.accumulate * parts)


@contextmanager
def memory_named(settings: TrainSettings) -> Iterator[None]:
    """UserError, with what to change, where memory runs out and training cannot begin again in smaller batches."""
    try:
        yield
    except RuntimeError as error:
        if not should_reduce_batch_size(error):
            raise
        raise UserError(too_much(settings)) from error


def too_much(settings: TrainSettings) -> str:
    one = settings.batch_size == 1
    stories, smaller_batch = ("one story", "") if one else (f"{settings.batch_size} stories", "train.batch_size, ")
    return (
        f"out of memory with {stories} of up to {settings.window} tokens at a time; "
        f"make {smaller_batch}train.window or lora.rank smaller, set four_bit=true, or choose a smaller base"
    )
