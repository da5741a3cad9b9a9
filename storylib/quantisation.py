"""What four bits cost: the error of NF4 in weights and in what a model says, and the memory that it saves."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from storylib.models import load_base, load_tokenizer
from storylib.perplexity import perplexity

BLOCK = 64  # weights that share a scale


@dataclass(frozen=True)
class Precision:
    """A base as it was loaded: bytes of its weights, perplexity of texts, error of a matrix in the mean and at most."""

    name: str
    bytes: int
    matrix_bytes: int  # of the linear layers alone, which are what is put in 4 bits
    perplexity: float
    error: float  # root mean square of the matrices' error, as a share of that of their weights

    @property
    def row(self) -> dict[str, str]:
        """For a table."""
        return {
            "weights as": self.name,
            "all, MiB": f"{self.bytes / 2**20:.2f}",
            "linear layers, MiB": f"{self.matrix_bytes / 2**20:.2f}",
            "error of the weights": f"{self.error:.2%}",
            "perplexity": f"{self.perplexity:.3f}",
        }


def compare_precisions(base: str, texts: Sequence[str]) -> list[Precision]:
    """The base in bf16, as it is stored, and with its linear layers in NF4, on the same texts."""
    tokenizer, found = load_tokenizer(base), []
    plain = load_base(base, four_bit=False, dtype=torch.bfloat16)
    matrices = {name: layer.weight.detach().float() for name, layer in linear_layers(plain)}
    for name, four_bit in (("bf16", False), ("NF4", True)):
        model = load_base(base, four_bit=True, dtype=torch.bfloat16) if four_bit else plain
        layers = dict(linear_layers(model))
        size = sum(stored_bytes(layer) for layer in layers.values())
        packed = {id(layer.weight) for layer in layers.values()}
        rest = sum(tensor.nbytes for tensor in model.parameters() if id(tensor) not in packed)
        squares = sum(float(((whole(layers[key]) - weight) ** 2).sum()) for key, weight in matrices.items())
        norm = sum(float((weight**2).sum()) for weight in matrices.values())
        said = perplexity(model, tokenizer, texts).perplexity
        found.append(Precision(name, size + rest, size, said, (squares / norm) ** 0.5))
    return found


def linear_layers(model: nn.Module) -> list[tuple[str, nn.Linear]]:
    """The linear layers but the head: those that 4 bits are for."""
    head = model.get_output_embeddings()
    return [
        (name, layer) for name, layer in model.named_modules() if isinstance(layer, nn.Linear) and layer is not head
    ]


def stored_bytes(layer: nn.Linear) -> int:
    """What a layer's matrix takes, the scales of its blocks included."""
    state = getattr(layer.weight, "quant_state", None)
    scales = sum(tensor.nbytes for tensor in state.as_dict(packed=True).values()) if state else 0
    return layer.weight.nbytes + scales


def whole(layer: nn.Linear) -> torch.Tensor:
    """A layer's matrix as it counts in a product, in fp32."""
    from bitsandbytes.functional import dequantize_4bit

    state = getattr(layer.weight, "quant_state", None)
    return (dequantize_4bit(layer.weight.data, state) if state else layer.weight.detach()).float()


def levels() -> list[float]:
    """The sixteen values of NF4, as shares of the largest weight in a block."""
    from bitsandbytes.functional import get_4bit_type

    return get_4bit_type("nf4", device="cpu").tolist()


def shares_of_largest(weights: torch.Tensor) -> list[float]:
    """Each weight as a share of the largest in its block, which is what NF4 rounds."""
    rows = weights.detach().float().flatten()
    rows = rows[: len(rows) // BLOCK * BLOCK].view(-1, BLOCK)  # (blocks, 64)
    return (rows / rows.abs().amax(dim=1, keepdim=True).clamp(min=1e-12)).flatten().tolist()
