"""Multi-layer perceptron."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

SMALL = 128 * 128  # weights of a layer: with fewer, it takes longer to round its factors than they save


def exact_layers(sizes: Sequence[int]) -> list[bool]:
    """Which layers of a perceptron are exact: the first, the last and small ones."""
    weights = [fan_in * fan_out for fan_in, fan_out in pairwise(sizes)]
    return [i in (0, len(weights) - 1) or number < SMALL for i, number in enumerate(weights)]


class Linear(nn.Linear):
    """A linear layer whose bias is added outside of the product, where a compiler fuses it with what follows.

    exact: computed in the precision of its weight also under autocast, as it should be where numbers enter and leave a
    network; between them little is lost by rounding the factors.
    """

    def __init__(self, fan_in: int, fan_out: int, exact: bool = False) -> None:
        super().__init__(fan_in, fan_out)
        self.exact = exact

    def forward(self, value: Tensor) -> Tensor:
        if not self.exact:
            return value @ self.weight.T + self.bias
        with torch.autocast(value.device.type, enabled=False):
            return value.to(self.weight.dtype) @ self.weight.T + self.bias


def mlp(sizes: Sequence[int], activation: type[nn.Module] = nn.ReLU, layer_norm: bool = False) -> nn.Sequential:
    """Linear layers from `sizes[0]` inputs to `sizes[-1]` outputs, with the activation between them.

    layer_norm: normalise what goes into each activation.
    """
    layers: list[nn.Module] = []
    last, exact = len(sizes) - 2, exact_layers(sizes)
    for i, (fan_in, fan_out) in enumerate(pairwise(sizes)):
        layers.append(Linear(fan_in, fan_out, exact[i]))
        if i < last:
            layers += [nn.LayerNorm(fan_out), activation()] if layer_norm else [activation()]
    return nn.Sequential(*layers)
