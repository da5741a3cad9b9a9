"""Which machine is this: device, precision, memory, Colab or Kaggle, and so which profile."""

from __future__ import annotations

import logging
import os
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from storylib.errors import UserError

if TYPE_CHECKING:
    import torch

Capability = tuple[int, int]  # of a CUDA GPU: (7, 5) is a T4, (8, 0) an A100


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What a run can count on; memory in bytes, that of a GPU for one of them."""

    device: str  # "cuda" or "cpu"
    name: str
    where: str = "laptop"  # "colab", "kaggle", or "laptop" for any machine of one's own
    capability: Capability | None = None  # of the GPU
    lowest: Capability | None = None  # the oldest GPU that the installed torch has kernels for
    gpus: int = 0
    memory: int = 0
    free_memory: int = 0
    ram: int
    free_ram: int

    @property
    def precision(self) -> str:
        return precision(self.capability)

    @property
    def profile(self) -> str:
        """The kind of recipe that suits: `t4` for any GPU, for it fits the smallest that is handed out."""
        return "t4" if self.device == "cuda" else "cpu"

    @property
    def room(self) -> int:
        """Free bytes where a model and its training would lie."""
        return self.free_memory if self.device == "cuda" else self.free_ram

    def check(self) -> None:
        """UserError for a GPU that the installed torch has no kernels for, such as Kaggle's P100."""
        if self.capability and self.lowest and self.capability < self.lowest:
            raise UserError(
                f"{self.name} has compute capability {dotted(self.capability)}, and the installed torch has kernels "
                f"from {dotted(self.lowest)} on; choose another accelerator (on Kaggle: GPU T4 x2), "
                "or set CUDA_VISIBLE_DEVICES= (empty) to run on the CPU"
            )

    def __str__(self) -> str:
        memory = f"{gib(self.free_ram)} of {gib(self.ram)} RAM free"
        if self.device == "cuda":
            times = f"{self.gpus} x " if self.gpus > 1 else ""
            gpu = f"{times}{self.name} (capability {dotted(self.capability)}), "
            memory = f"{gpu}{gib(self.free_memory)} of {gib(self.memory)} free, {memory}"
        else:
            memory = f"{self.name}, {memory}"
        return f"{self.where}: {memory}; {self.precision}, profile {self.profile}"


# What the free runtimes of Colab and Kaggle hand out, to plan for one from elsewhere.
T4 = Machine(
    device="cuda",
    name="Tesla T4",
    where="colab",
    capability=(7, 5),
    gpus=1,
    memory=15_828_320_256,
    free_memory=15_720_000_000,
    ram=13_600_000_000,
    free_ram=12_000_000_000,
)


def machine(cuda=None, memory=None, environ: Mapping[str, str] = os.environ) -> Machine:
    """This machine. `cuda` stands in for `torch.cuda`, `memory` for what psutil says of the RAM."""
    if cuda is None:
        from torch import cuda
    if memory is None:
        import psutil

        memory = psutil.virtual_memory()
    shared = {"where": where(environ), "ram": memory.total, "free_ram": memory.available}
    if not cuda.is_available():
        return Machine(device="cpu", name=f"CPU with {os.cpu_count()} cores", **shared)
    free, total = cuda.mem_get_info()
    return Machine(
        device="cuda",
        name=cuda.get_device_name(),
        capability=tuple(cuda.get_device_capability()),
        lowest=lowest_capability(cuda.get_arch_list()),
        gpus=cuda.device_count(),
        memory=total,
        free_memory=free,
        **shared,
    )


def where(environ: Mapping[str, str] = os.environ) -> str:
    """ "kaggle", "colab", or "laptop" for any other machine. Kaggle's image is made from Colab's: it is asked first."""
    marks = {"kaggle": "KAGGLE_KERNEL_RUN_TYPE", "colab": "COLAB_RELEASE_TAG"}
    return next((place for place, mark in marks.items() if mark in environ), "laptop")


def lowest_capability(architectures: list[str]) -> Capability | None:
    """The oldest of torch's list of architectures; None where it has none of CUDA's (AMD's are named otherwise).

    >>> lowest_capability(["sm_75", "sm_80", "sm_90a", "sm_120", "compute_120"])
    (7, 5)
    """
    found = [re.match(r"sm_(\d+)(\d)", name) for name in architectures]
    return min(((int(match[1]), int(match[2])) for match in found if match), default=None)


def precision(capability: Capability | None) -> str:
    """bf16 on GPUs that have it, fp16 on older ones such as a T4, fp32 on a CPU (no capability).

    Ask for the capability: on a T4 `torch.cuda.is_bf16_supported()` can say yes, by slow emulation.
    """
    if capability is None:
        return "float32"
    return "bfloat16" if tuple(capability) >= (8, 0) else "float16"


def device() -> torch.device:
    """This process's GPU (each one's own under `accelerate launch`), or the CPU."""
    import torch  # here, not above: it takes seconds, and quiet() must come before it

    if not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))


def sharded() -> bool:
    """Whether each process holds a part of the model only (FSDP), so that all have to take part in all it does."""
    return os.environ.get("ACCELERATE_USE_FSDP", "false") == "true"


def compute_dtype() -> torch.dtype:
    """The precision of this machine as a torch dtype."""
    import torch

    return getattr(torch, precision(torch.cuda.get_device_capability() if torch.cuda.is_available() else None))


def dotted(capability: Capability) -> str:
    return ".".join(map(str, capability))


def gib(size: float) -> str:
    """Bytes to be read by people.

    >>> gib(15 * 2**30), gib(27.5 * 2**20)
    ('15.0 GiB', '27.5 MiB')
    """
    return f"{size / 2**30:.1f} GiB" if size >= 2**30 else f"{size / 2**20:.1f} MiB"


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
