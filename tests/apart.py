"""Fine-tuning in processes of its own, to be killed: each is forked from a server that has the libraries loaded."""

# ruff: noqa: E402, I001
from storylib.runtime import quiet

quiet()  # before the libraries it quietens

import multiprocessing
import os
import socket

import datasets
import torch
from accelerate import PartialState
from accelerate.utils import DistributedType

from storylib.preference import finetune_from_feedback
from storylib.training import finetune

FSDP = {  # what accelerate makes of configs/fsdp.yaml
    "ACCELERATE_USE_FSDP": "true",
    "FSDP_VERSION": "2",
    "FSDP_AUTO_WRAP_POLICY": "TRANSFORMER_BASED_WRAP",
    "FSDP_RESHARD_AFTER_FORWARD": "true",
    "FSDP_STATE_DICT_TYPE": "FULL_STATE_DICT",
    "FSDP_CPU_RAM_EFFICIENT_LOADING": "true",
    "FSDP_SYNC_MODULE_STATES": "true",
}
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


def train_part(recipe, folder, rows, options, environ) -> None:
    """As `train`, of a model that is dealt out: accelerate does that without GPUs too, if it believes to have some."""
    os.environ.update(environ)
    torch.distributed.init_process_group("gloo")
    PartialState._prepare_backend = lambda *_: ("gloo", DistributedType.MULTI_GPU)
    PartialState.set_device = lambda self: setattr(self, "device", torch.device("cpu"))
    train(recipe, folder, rows, options)


def train_pairs(recipe, folder, rows, options, environ) -> None:
    """As `train`, from feedback: rows are an adapter and its pairs."""
    os.environ.update(environ)
    adapter, pairs = rows
    finetune_from_feedback(recipe, adapter, datasets.Dataset.from_list(pairs), folder, say=lambda text: None, **options)


def launched(
    recipe, folder, rows, number: int, fsdp: bool = False, work=None, **options
) -> list[multiprocessing.Process]:
    """As many processes at work on one run together, as `accelerate launch` would start them."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(number)}
    shared |= FSDP if fsdp else {}
    processes = []
    for rank in range(number):
        environ = shared | {"RANK": str(rank), "LOCAL_RANK": str(rank), "LOCAL_WORLD_SIZE": str(number)}
        work = work or (train_part if fsdp else train)
        processes.append(CONTEXT.Process(target=work, args=(recipe, folder, rows, options, environ)))
        processes[-1].start()
    return processes
