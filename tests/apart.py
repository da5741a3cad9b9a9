"""Fine-tuning in processes of its own, to be killed: each is forked from a server that has the libraries loaded."""

# ruff: noqa: E402, I001
from storylib.runtime import quiet

quiet()  # before the libraries it quietens

import multiprocessing
import os
import socket
from collections.abc import Sequence

import datasets

from storylib.training import finetune

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["tests.apart"])  # from the repository: the server has no other path yet


def started(recipe, folder, rows, **options) -> multiprocessing.Process:
    """A process at work on a run."""
    process = CONTEXT.Process(target=train, args=(recipe, folder, rows, options))
    process.start()
    return process


def train(recipe, folder, rows, options, environ=()) -> None:
    os.environ.update(environ)
    finetune(recipe, folder, as_splits(rows), say=lambda text: None, **options)


def as_splits(rows) -> datasets.DatasetDict:
    return datasets.DatasetDict({split: datasets.Dataset.from_list(told) for split, told in rows.items()})


def launched(recipe, folder, rows, number: int, **options) -> Sequence[multiprocessing.Process]:
    """As many processes at work on one run together, as `accelerate launch` would start them."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(number)}
    processes = []
    for rank in range(number):
        environ = shared | {"RANK": str(rank), "LOCAL_RANK": str(rank), "LOCAL_WORLD_SIZE": str(number)}
        processes.append(CONTEXT.Process(target=train, args=(recipe, folder, rows, options, environ)))
        processes[-1].start()
    return processes
