"""One run in several processes, as `accelerate launch` starts them: each trains on its share, one writes."""

from dataclasses import replace
from math import gcd

import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list, reduce

from storylib.config import TrainSettings
from storylib.errors import UserError
from storylib.runtime import device


def processes() -> PartialState:
    """The processes of this run, met on the first call; one alone where it was not launched in several."""
    return PartialState(cpu=device().type == "cpu")


def shared_out(settings: TrainSettings, among: int) -> TrainSettings:
    """The settings of each of `among` processes, so that together they take the same steps as one.

    >>> shared_out(TrainSettings(batch_size=16, accumulate=1), 2).batch_size
    8

    Raises UserError for a batch that cannot be shared evenly.
    """
    common = gcd(settings.accumulate, among)  # passes first: a smaller batch uses a GPU less well
    if settings.batch_size % (among // common):
        size = f"{settings.batch_size} x {settings.accumulate}"
        raise UserError(f"a batch of {size} stories cannot be shared by {among} processes; launch another number")
    return replace(
        settings, accumulate=settings.accumulate // common, batch_size=settings.batch_size // (among // common)
    )


def any_of_them(flag: bool) -> bool:
    """Whether `flag` is set in any of the processes: those that took different turns would wait for ever."""
    state = processes()
    if state.num_processes == 1:
        return flag
    return bool(reduce(torch.tensor(float(flag), device=state.device), "sum"))


def as_main_says(value: object) -> object:
    """The main process's `value`, in all of them."""
    return broadcast_object_list([value])[0] if processes().num_processes > 1 else value
