"""How large a recipe's model is and what training it takes, said before anything is loaded."""

import copy
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import torch
from torch import nn
from transformers import AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel
from transformers.pytorch_utils import Conv1D

from storylib import config
from storylib.architectures import architecture, quantisable_falcon
from storylib.config import LoraSettings, Recipe
from storylib.errors import UserError
from storylib.footprint import step_bytes
from storylib.hub import open_copy, shipped
from storylib.runtime import Machine, gib, machine

CONTEXT = 500 * 2**20  # bytes of a GPU that CUDA and its libraries take for themselves
WASTE = 0.1  # of what comes and goes, lost between blocks of memory
DOUBT = 0.1  # of the estimate
SMALL = 2**30  # bytes that are held all the time
SMALLEST_WINDOW = 128  # tokens; a shorter one holds no story
SMALLEST_RANK = 4


@dataclass(frozen=True)
class ParameterCount:
    """Weights of a model with its adapter."""

    trainable: int
    total: int  # the trainable ones included
    stored: int  # numbers in memory: a 4-bit weight is half a one

    @property
    def share(self) -> float:
        """The trainable ones among all."""
        return self.trainable / self.total

    @property
    def reported_share(self) -> float:
        """What comes out when stored numbers are counted for weights, as many reports of 4-bit training do."""
        return self.trainable / self.stored

    @property
    def note(self) -> str:
        """Why a report may give another share; empty where it can't."""
        if self.stored == self.total:
            return ""
        return (
            f"{self.share:.3%} of all weights are trained. Counting stored numbers would give "
            f"{self.reported_share:.2%}: 4-bit weights lie two to a byte, so that {self.total:,} look like "
            f"{self.stored:,}."
        )


def count_parameters(recipe: str | Recipe, tokens: Sequence[int] = ()) -> ParameterCount:
    """The weights that `recipe` trains, and all there are; nothing is loaded, nor fetched for a known architecture.

    `tokens` are those with embeddings of their own. A 4-bit weight counts as one weight. Tools that ask each tensor
    for its number of elements count it as half a one, since two lie in a byte: for Falcon-7B with rank 16 they
    report 0.13 % where 0.068 % is true.
    """
    recipe = config.recipe(recipe) if isinstance(recipe, str) else recipe
    model = skeleton(recipe.base, recipe.lora, tuple(tokens))
    weights = list(model.parameters())
    total = sum(weight.numel() for weight in weights)
    halves = sum(weight.numel() // 2 for weight in packed_weights(model)) if recipe.four_bit else 0
    return ParameterCount(sum(weight.numel() for weight in weights if weight.requires_grad), total, total - halves)


@dataclass(frozen=True)
class MemoryEstimate:
    """Bytes that training takes at its peak, part by part, beside what is free."""

    weights: int  # of the base, as they lie in memory
    adapter: int  # weights that are trained, in fp32
    gradients: int
    optimizer: int
    paged: int  # more of the optimizer's, which moves to RAM when room is short: not in the total
    activations: int  # what a step keeps for its way back, the loss included
    overhead: int
    free: int
    checkpointing: bool  # activations within a layer are computed again on the way back
    advice: str = ""  # what to change; empty where it fits

    @property
    def total(self) -> int:
        return self.weights + self.adapter + self.gradients + self.optimizer + self.activations + self.overhead

    @property
    def fits(self) -> bool:
        return self.total <= self.free

    @property
    def table(self) -> list[tuple[str, str]]:
        """Rows to print: part, size."""
        again = "computed again layer by layer" if self.checkpointing else "all kept"
        rows = [
            ("base weights", self.weights),
            ("trained weights (fp32)", self.adapter),
            ("their gradients", self.gradients),
            ("optimizer", self.optimizer),
            (f"activations and loss ({again})", self.activations),
            ("libraries and waste", self.overhead),
            ("total", self.total),
            ("free", self.free),
        ]
        if self.paged:
            rows.insert(4, ("optimizer, paged to RAM when room is short (not in the total)", self.paged))
        return [(name, gib(size)) for name, size in rows]

    def __str__(self) -> str:
        width = max(len(name) for name, _ in self.table)
        lines = [f"{name:<{width}} {size:>10}" for name, size in self.table]
        return "\n".join([*lines, "it fits" if self.fits else self.advice])


def estimate_memory(recipe: str | Recipe, on: Machine | None = None, tokens: Sequence[int] = ()) -> MemoryEstimate:
    """What training by `recipe` takes on a machine (this one), and what to change where it does not fit.

    Taken at its worst: each batch full of stories as long as the window. `storylib.runtime.T4` stands for a free T4.
    Nothing is loaded; it takes seconds.
    """
    recipe = config.recipe(recipe) if isinstance(recipe, str) else recipe
    on = on or machine()
    estimate = measure(recipe, on, tuple(tokens))
    return estimate if estimate.fits else replace(estimate, advice=advise(estimate, recipe, on, tuple(tokens)))


def check_room(recipe: Recipe, on: Machine | None = None, tokens: Sequence[int] = ()) -> str:
    """The machine, its precision and what training takes, in a line. Nothing is loaded.

    Raises UserError for a GPU without kernels, and with what to change where not even one story at a time fits: a
    batch that is too large is no reason, for it is halved when memory runs out.
    """
    on = on or machine()
    on.check()
    held = measure(recipe, on, tuple(tokens), stepping=False).total
    if on.device == "cpu" and held < SMALL:  # the estimate of a step takes seconds, and small bases fit everywhere
        return f"{on}; training takes {gib(held)} and what a step needs"
    estimate = estimate_memory(recipe, on, tokens)
    single = replace(recipe.train, batch_size=1, accumulate=recipe.train.effective_batch)
    least = estimate if estimate.fits else measure(replace(recipe, train=single), on, tuple(tokens))
    if least.total > (1 + DOUBT) * (on.room if on.device == "cuda" else on.ram):  # RAM can be freed or swapped
        raise UserError(f"{recipe.name} does not fit {on.name}: {estimate.advice}")
    return f"{on}; training takes {gib(estimate.total)}" + (f", {estimate.advice}" if estimate.advice else "")


def measure(recipe: Recipe, on: Machine, tokens: tuple[int, ...] = (), stepping: bool = True) -> MemoryEstimate:
    """The estimate without advice; not `stepping`, without what a step needs."""
    model = skeleton(recipe.base, recipe.lora, tokens, on.precision)
    trained = [weight.numel() for weight in model.parameters() if weight.requires_grad]
    kept, paged = optimizer_bytes(trained, recipe.train.optimizer, on.device)
    width = getattr(torch, on.precision).itemsize
    copies = sum(trained) * width if width < 4 else 0  # of the trained weights, which autocast makes
    unpacked = max((weight.numel() * width for weight in packed_weights(model)), default=0) if recipe.four_bit else 0
    activations = activation_bytes(recipe, on, tokens) + copies + unpacked if stepping else 0
    return MemoryEstimate(
        weights=weight_bytes(model, recipe.four_bit),
        adapter=4 * sum(trained),
        gradients=4 * sum(trained),
        optimizer=kept,
        paged=paged,
        activations=activations,
        overhead=round(WASTE * activations) + (CONTEXT if on.device == "cuda" else 0),
        free=on.room,
        checkpointing=on.device == "cuda",
    )


def skeleton(
    base: str,
    lora: LoraSettings | None,
    tokens: tuple[int, ...] = (),
    precision: str = "float32",
    layers: int | None = None,
) -> PreTrainedModel:
    """A base with its adapter on the meta device: all shapes, no weights; with fewer `layers` if asked.

    The frozen weights have `precision`, those that are trained fp32, as training has them.
    """
    from storylib.models import attach_lora, trainable_in_fp32  # here: it imports this module

    quantisable_falcon()
    shape = shape_of(base)
    if layers:
        shape.num_hidden_layers = layers
        if getattr(shape, "layer_types", None):
            shape.layer_types = shape.layer_types[:layers]
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(shape, dtype=getattr(torch, precision))
        if lora:
            return attach_lora(model, lora, tokens)
    trainable_in_fp32(model)
    return model


def shape_of(base: str) -> PreTrainedConfig:
    from storylib.models import resolve  # here: it imports this module

    return copy.deepcopy(architecture(resolve(base)))


def packed_weights(model: PreTrainedModel) -> list[nn.Parameter]:
    """The frozen matrices that 4 bits are for: those of all linear layers but the head.

    As transformers does it: the very classes Linear and Conv1D, no subclass of theirs.
    """
    layers = [module for module in model.modules() if type(module) in (nn.Linear, Conv1D)]
    head = model.get_output_embeddings().weight
    return [layer.weight for layer in layers if layer.weight is not head and not layer.weight.requires_grad]


def weight_bytes(model: PreTrainedModel, four_bit: bool) -> int:
    """What lies in memory of a model, trained weights left out."""
    packed = {id(weight) for weight in packed_weights(model)} if four_bit else set()
    frozen = [weight for weight in model.parameters() if not weight.requires_grad]
    matrices = sum(nf4_bytes(weight.numel()) for weight in frozen if id(weight) in packed)
    return matrices + sum(tensor.nbytes for tensor in [*frozen, *model.buffers()] if id(tensor) not in packed)


def nf4_bytes(weights: int) -> int:
    """A matrix in NF4 with double quantisation (arXiv 2305.14314): half a byte per weight, and about 1/64 more.

    Each block of 64 weights has a scale of one byte; each 256 scales have one of their own in fp32; then an fp32 mean
    of the scales and the 16 fp32 values that the 4 bits stand for.

    >>> nf4_bytes(64 * 256)  # half a byte each, 256 scales, their own one, the mean, 16 values
    8520
    """
    scales = math.ceil(weights / 64)
    return math.ceil(weights / 2) + scales + 4 * math.ceil(scales / 256) + 4 * (1 + 16)


def optimizer_bytes(sizes: Sequence[int], name: str, device: str) -> tuple[int, int]:
    """What an AdamW called `name` keeps for trained matrices of `sizes` weights: bytes that stay, bytes that page.

    8 bytes a weight: two running means in fp32. Those of bitsandbytes in 8 bits take two, and two fp32 scales for each
    256 weights, but for matrices of fewer than 4096; its paged ones page matrices of 100,000 weights and more, on a
    GPU. Any other optimizer counts as AdamW, the largest in use.
    """
    paged = name.startswith("paged") and device == "cuda"
    kept = moved = 0
    for size in sizes:
        small = size < 4096 or "8bit" not in name
        scales = 0 if small else 2 * 4 * math.ceil(size / 256)
        means = size * (8 if small else 2)
        pages = paged and size >= 100_000
        moved += means if pages else 0
        kept += scales if pages else scales + means
    return kept, moved


def activation_bytes(recipe: Recipe, on: Machine, tokens: tuple[int, ...] = ()) -> int:
    """What one step of a full batch holds at its peak, weights, gradients and optimizer aside.

    Run on two and on three layers: every further one adds the same.
    """
    shape = shape_of(recipe.base)
    window = min(recipe.train.window, shape.max_position_embeddings)
    two, three = (
        shallow_step(recipe.base, recipe.lora, tokens, layers, recipe.train.batch_size, window, on.precision, on.device)
        for layers in (2, 3)
    )
    return two + (shape.num_hidden_layers - 2) * (three - two)


@lru_cache(maxsize=256)  # advice asks for the same ones again
def shallow_step(base, lora, tokens, layers: int, batch: int, window: int, precision: str, device: str) -> int:
    """`step_bytes` of a base cut down to its first `layers`."""
    model = skeleton(base, lora, tokens, precision, layers)
    checkpointing, on_cpu = device == "cuda", device == "cpu"
    return step_bytes(model, batch, window, getattr(torch, precision), checkpointing, on_cpu)


def advise(estimate: MemoryEstimate, recipe: Recipe, on: Machine, tokens: tuple[int, ...]) -> str:
    """The first change that makes the recipe fit, in the order of what it costs."""
    over = f"{gib(estimate.total)} are needed, {gib(on.room)} are free"
    kept = " (gradient checkpointing is on already)" if estimate.checkpointing else ""
    for change, changed in changes(recipe):
        smaller = measure(changed, on, tokens if changed.base == recipe.base else ())
        if smaller.fits:
            return f"{over}{kept}; it fits with {change}: {gib(smaller.total)}"
    return f"{over}{kept}; nothing smaller fits either: choose another machine"


def changes(recipe: Recipe) -> Iterator[tuple[str, Recipe]]:
    """Ways to make a recipe smaller, each with its name: 4 bits, batch, window, rank, base."""
    if recipe.lora and not recipe.four_bit:
        recipe = replace(recipe, four_bit=True)
        yield "four_bit=true", recipe
    asked, train, said = recipe, recipe.train, []
    while train.batch_size % 2 == 0:
        train = replace(train, batch_size=train.batch_size // 2, accumulate=train.accumulate * 2)
        said = [f"train.batch_size={train.batch_size}, train.accumulate={train.accumulate}"]
        yield said[0], replace(recipe, train=train)
    while train.window // 2 >= SMALLEST_WINDOW:
        train = replace(train, window=train.window // 2)
        yield ", ".join([*said, f"train.window={train.window}"]), replace(recipe, train=train)
    said.append(f"train.window={train.window}")
    recipe = replace(recipe, train=train)
    while recipe.lora and recipe.lora.rank // 2 >= SMALLEST_RANK:
        recipe = replace(recipe, lora=replace(recipe.lora, rank=recipe.lora.rank // 2))
        yield ", ".join([*said, f"lora.rank={recipe.lora.rank}"]), recipe
    weights = sum(weight.numel() for weight in skeleton(asked.base, None).parameters())
    for known in reversed(shipped()):
        if known["parameters"] < weights:
            base = open_copy(known["repositories"][0]) or known["repositories"][0]
            lora = asked.lora and replace(asked.lora, targets="all-linear")
            yield (
                f"a smaller base, base={base}" + (", lora.targets=all-linear" if lora else ""),
                replace(asked, base=base, lora=lora),
            )
