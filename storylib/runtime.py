"""Which machine is this: device and precision."""

import logging
import os
import warnings

import torch


def device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def compute_dtype() -> torch.dtype:
    """bf16 on GPUs that have it, fp16 on older ones such as a T4, fp32 on a CPU."""
    if not torch.cuda.is_available():
        return torch.float32
    # Ask for the capability: on a T4 is_bf16_supported() can say yes, by slow emulation.
    return torch.bfloat16 if torch.cuda.get_device_capability() >= (8, 0) else torch.float16


def quiet() -> None:
    """Keep the libraries' notices and bars off the screen; their errors still show."""
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")
    warnings.filterwarnings("ignore")
    for name in ("bitsandbytes", "transformers", "peft", "trl", "accelerate", "datasets"):
        logging.getLogger(name).setLevel(logging.ERROR)
