"""Out of memory: smaller batches, the same step, nothing held from the attempt before."""

import weakref

import pytest
import torch

from storylib.batching import memory_named, with_smaller_batches
from storylib.config import TrainSettings
from storylib.errors import UserError

CUDA = (
    "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 14.74 GiB of which 1.2 GiB is free."
)
CPU = "[enforce fail at alloc_cpu.cpp:117] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to allocate"


def fits_from(size, error, tried):
    def train(settings):
        tried.append((settings.batch_size, settings.accumulate))
        if settings.batch_size > size:
            raise error
        return "trained"

    return train


@pytest.mark.parametrize("error", [torch.OutOfMemoryError(CUDA), RuntimeError(CPU)])
def test_batch_halves_and_accumulation_doubles_until_it_fits(error):
    tried, said = [], []
    settings = TrainSettings(batch_size=16, accumulate=2)
    assert with_smaller_batches(fits_from(4, error, tried), settings, said.append) == "trained"
    assert tried == [(16, 2), (8, 4), (4, 8)]
    assert said == [
        "out of memory: going on with 8 stories at a time and 4 times per step, so that a step still sees 32",
        "out of memory: going on with 4 stories at a time and 8 times per step, so that a step still sees 32",
    ]


def test_odd_batches_keep_the_effective_batch():
    tried = []
    with_smaller_batches(fits_from(1, RuntimeError(CPU), tried), TrainSettings(batch_size=6), lambda text: None)
    assert tried == [(6, 1), (3, 2), (1, 6)]


def test_a_single_story_that_does_not_fit_names_what_to_change():
    tried = []
    with pytest.raises(UserError, match=r"one story of up to 512 tokens.*lora\.rank.*smaller base"):
        with_smaller_batches(fits_from(0, RuntimeError(CPU), tried), TrainSettings(batch_size=2), lambda text: None)
    assert [size for size, _ in tried] == [2, 1]


@pytest.mark.parametrize(
    ("size", "said"), [(1, "one story of .*; make train.window"), (2, "2 stories of .*batch_size")]
)
def test_where_nothing_can_begin_again_what_to_change_is_named_at_once(size, said):
    with pytest.raises(UserError, match=said), memory_named(TrainSettings(batch_size=size)):
        raise torch.OutOfMemoryError(CUDA)
    with pytest.raises(RuntimeError, match="shapes"), memory_named(TrainSettings()):
        raise RuntimeError("shapes differ")


def test_other_errors_are_not_retried():
    tried = []
    with pytest.raises(RuntimeError, match="shapes"):
        with_smaller_batches(fits_from(1, RuntimeError("shapes differ"), tried), TrainSettings(), lambda text: None)
    assert len(tried) == 1


def test_what_the_failed_attempt_held_is_given_back_before_the_next():
    held = []

    def train(settings):
        assert all(model() is None for model in held)
        model = torch.nn.Linear(2, 2)
        held.append(weakref.ref(model))
        if settings.batch_size > 1:
            raise RuntimeError(CPU)
        return len(held)

    assert with_smaller_batches(train, TrainSettings(batch_size=4), lambda text: None) == 3
