"""NF4's cost by an independent count."""

import pytest
import torch

from storylib import config, quantisation
from storylib.models import load_base
from storylib.sizes import nf4_bytes


def test_sizes_and_errors_of_the_embedded_base():
    bf16, nf4 = quantisation.compare_precisions(config.EMBEDDED_BASE, ["The fox sat in the garden."])
    layers = quantisation.linear_layers(load_base(config.EMBEDDED_BASE, four_bit=False))
    weights = [layer.weight.numel() for _, layer in layers]
    assert len(layers) == 4 * 7 and bf16.matrix_bytes == 2 * sum(weights)
    counted = sum(map(nf4_bytes, weights))
    assert counted <= nf4.matrix_bytes < 1.05 * counted  # the tables of the scales' values lie beside
    assert bf16.bytes - bf16.matrix_bytes == pytest.approx(nf4.bytes - nf4.matrix_bytes, rel=0.01)
    assert bf16.error == 0 and 0.05 < nf4.error < 0.15 and nf4.perplexity != bf16.perplexity


def test_levels_are_sixteen_and_dense_around_zero():
    levels = quantisation.levels()
    steps = [b - a for a, b in zip(levels, levels[1:], strict=False)]
    assert len(levels) == 16 and levels[0] == -1 and levels[-1] == 1 and 0 in levels
    assert max(steps[:2]) > max(steps[6:9])


def test_shares_of_the_largest_in_each_block():
    shares = quantisation.shares_of_largest(torch.cat([torch.full((64,), 2.0), torch.arange(64.0)]))
    assert shares[:64] == [1.0] * 64 and shares[64] == 0 and shares[-1] == 1 and len(shares) == 128
