"""Precision follows what the device can do, not what it says."""

import pytest
import torch

from storylib import runtime


@pytest.mark.parametrize(
    ("capability", "dtype"), [((7, 5), torch.float16), ((8, 0), torch.bfloat16), ((9, 0), torch.bfloat16)]
)
def test_gpu_precision_by_capability(monkeypatch, capability, dtype):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: capability)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda *args: True)  # a T4 says so, by emulation
    assert runtime.compute_dtype() == dtype


def test_cpu_is_fp32(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert runtime.compute_dtype() == torch.float32 and runtime.device().type == "cpu"
