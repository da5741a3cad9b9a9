"""Precision follows what the device can do, not what it says; the machine is known before anything is loaded."""

from types import SimpleNamespace

import pytest
import torch

from storylib import runtime
from storylib.errors import UserError
from storylib.runtime import T4, machine

HOSTED = ["sm_70", "sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120", "compute_120"]
RAM = SimpleNamespace(total=32 * 2**30, available=30 * 2**30)


def gpus(name, capability, number=1, architectures=HOSTED):
    """What `torch.cuda` says on a machine with such GPUs."""
    return SimpleNamespace(
        is_available=lambda: True,
        mem_get_info=lambda: (14 * 2**30, 15 * 2**30),
        get_device_name=lambda: name,
        get_device_capability=lambda: capability,
        get_arch_list=lambda: architectures,
        device_count=lambda: number,
        is_bf16_supported=lambda *args: True,  # a T4 says so, by emulation
    )


NO_GPU = SimpleNamespace(is_available=lambda: False)


@pytest.mark.parametrize(
    ("capability", "dtype"), [((7, 5), torch.float16), ((8, 0), torch.bfloat16), ((9, 0), torch.bfloat16)]
)
def test_gpu_precision_by_capability(monkeypatch, capability, dtype):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: capability)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda *args: True)  # a T4 says so, by emulation
    assert runtime.compute_dtype() == dtype
    assert getattr(torch, machine(gpus("GPU", capability), RAM, {}).precision) == dtype


def test_cpu_is_fp32(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert runtime.compute_dtype() == torch.float32 and runtime.device().type == "cpu"


def test_each_launched_process_has_its_own_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    assert runtime.device() == torch.device("cuda", 0)
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert runtime.device() == torch.device("cuda", 1)


def test_two_t4s_on_kaggle():
    kaggle = {"KAGGLE_KERNEL_RUN_TYPE": "Interactive", "COLAB_RELEASE_TAG": "release"}  # its image is Colab's
    found = machine(gpus("Tesla T4", (7, 5), number=2), RAM, kaggle)
    assert (found.where, found.profile, found.gpus, found.precision) == ("kaggle", "t4", 2, "float16")
    assert found.room == 14 * 2**30 and found.ram == 32 * 2**30
    found.check()
    assert str(found) == (
        "kaggle: 2 x Tesla T4 (capability 7.5), 14.0 GiB of 15.0 GiB free, 30.0 GiB of 32.0 GiB RAM free; "
        "float16, profile t4"
    )


def test_colab_without_a_gpu():
    found = machine(NO_GPU, RAM, {"COLAB_RELEASE_TAG": "release"})
    assert (found.where, found.device, found.profile, found.precision) == ("colab", "cpu", "cpu", "float32")
    assert found.room == 30 * 2**30 and found.gpus == 0 and found.capability is None
    found.check()


def test_gpu_without_kernels_is_refused_with_a_way_out():
    old = machine(gpus("Tesla P100-PCIE-16GB", (6, 0)), RAM, {"KAGGLE_KERNEL_RUN_TYPE": "Batch"})
    with pytest.raises(UserError, match=r"P100.* capability 6\.0.* from 7\.0 on; .*GPU T4 x2"):
        old.check()


def test_amd_gpus_are_not_judged_by_cudas_numbers():
    machine(gpus("AMD", (9, 0), architectures=["gfx90a", "gfx1100"]), RAM, {}).check()


def test_this_machine():
    found = machine()
    assert 0 < found.free_ram <= found.ram and found.room > 0
    assert getattr(torch, found.precision) == runtime.compute_dtype()


def test_a_t4_to_plan_for():
    assert T4.precision == "float16" and 14.5 * 2**30 < T4.room < T4.memory < 15 * 2**30
