"""Which machine is this: device and precision."""

from __future__ import annotations

import logging
import os
import warnings
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def device() -> torch.device:
    import torch  # here, not above: it takes seconds, and quiet() must come before it

    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def compute_dtype() -> torch.dtype:
    """bf16 on GPUs that have it, fp16 on older ones such as a T4, fp32 on a CPU."""
    import torch

    if not torch.cuda.is_available():
        return torch.float32
    # Ask for the capability: on a T4 is_bf16_supported() can say yes, by slow emulation.
    return torch.bfloat16 if torch.cuda.get_device_capability() >= (8, 0) else torch.float16


def quiet() -> None:
    """Keep the libraries' notices and bars off the screen, called before they are imported; their errors still show."""
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("DATASETS_VERBOSITY", "error")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
    warnings.filterwarnings("ignore")
    for name in ("bitsandbytes", "peft", "trl", "accelerate"):
        logging.getLogger(name).setLevel(logging.ERROR)
