"""Perceptrons of one shape, computed as one. Legend: E ensemble, B batch.

A layer of the whole ensemble is one batched product, which is several times faster than E small ones.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from robolearn.networks.mlp import exact_layers


class EnsembleLayer(nn.Module):
    """E linear layers, (E, B, fan_in) -> (E, B, fan_out), each normalised over its outputs on request.

    Every member starts as `nn.Linear` would. exact: see `mlp.Linear`.
    """

    def __init__(self, size: int, fan_in: int, fan_out: int, layer_norm: bool = False, exact: bool = False) -> None:
        super().__init__()
        self.exact = exact
        bound = 1.0 / math.sqrt(fan_in)
        self.weight = nn.Parameter(torch.empty(size, fan_in, fan_out).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(size, 1, fan_out).uniform_(-bound, bound))
        self.scale = nn.Parameter(torch.ones(size, 1, fan_out)) if layer_norm else None
        self.shift = nn.Parameter(torch.zeros(size, 1, fan_out)) if layer_norm else None

    def forward(self, value: Tensor, members: Tensor | None = None) -> Tensor:
        """`members`, indices (M,), computes only those: (M, B, fan_out)."""

        def chosen(parameter: Tensor) -> Tensor:
            return parameter if members is None else parameter.index_select(0, members)

        weight = chosen(self.weight)
        if self.exact:
            with torch.autocast(value.device.type, enabled=False):
                value = torch.bmm(value.to(weight.dtype), weight) + chosen(self.bias)
        else:
            value = torch.bmm(value, weight) + chosen(self.bias)
        if self.scale is None or self.shift is None:
            return value
        return functional.layer_norm(value, value.shape[-1:]) * chosen(self.scale) + chosen(self.shift)

    def normalised(self, value: Tensor) -> Tensor:
        """(E, B, N, fan_out) normalised over its outputs, where this layer does."""
        if self.scale is None or self.shift is None:
            return value
        return functional.layer_norm(value, value.shape[-1:]) * self.scale[:, None] + self.shift[:, None]


class EnsembleMLP(nn.Module):
    """E perceptrons with ReLU between their layers: (B, sizes[0]), the same for all, -> (E, B, sizes[-1])."""

    def __init__(self, size: int, sizes: Sequence[int], layer_norm: bool = False) -> None:
        super().__init__()
        last, exact = len(sizes) - 2, exact_layers(sizes)
        self.size = size
        self.layers = nn.ModuleList(
            EnsembleLayer(size, fan_in, fan_out, layer_norm and i < last, exact[i])
            for i, (fan_in, fan_out) in enumerate(pairwise(sizes))
        )

    def forward(self, value: Tensor, members: Tensor | None = None) -> Tensor:
        """`members`, indices (M,), computes only those: (M, B, sizes[-1])."""
        value = value.expand(self.size if members is None else len(members), *value.shape)
        for i, layer in enumerate(self.layers):
            value = layer(value if i == 0 else torch.relu(value), members)
        return value
