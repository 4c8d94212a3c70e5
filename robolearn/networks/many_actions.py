"""An ensemble of critics asked for many actions in each state, as conservative algorithms do.

Legend: E ensemble, B states of size S, N actions of size A in each, H outputs of a layer.

What the state adds to the first layer is computed once, and gradients are summed up over the actions of a state before
they are over the states: N rows of a layer fit into a core's cache, where B * N rows do not. Values and gradients are
those of `EnsembleMLP` to rounding.
"""

from __future__ import annotations

from functools import reduce

import torch
from torch import Tensor

from robolearn.networks.ensemble import EnsembleLayer, EnsembleMLP

FEW = 8  # inputs of a product that a compiler fuses with what follows; above, a library's product is faster


def values_of_many(ensemble: EnsembleMLP, state: Tensor, actions: Tensor) -> Tensor:
    """Values (E, B, N) of actions (B, N, A) in states (B, S), by networks of one output."""
    first, *hidden, last = (layer for layer in ensemble.layers if isinstance(layer, EnsembleLayer))
    kind = state.device.type
    rounds = torch.is_autocast_enabled(kind) and not all(layer.exact for layer in hidden)
    with torch.autocast(kind, torch.get_autocast_dtype(kind), rounds):
        value = _activated(first.normalised(_first(first, state, actions)))
        for layer in hidden:
            product = torch.bmm(value.flatten(1, 2), layer.weight).unflatten(1, actions.shape[:2])
            value = _activated(layer.normalised(product + _by_state(layer.bias, len(state))))
        return (value * _by_state(last.weight.mT, len(state))).sum(-1) + last.bias


def _first(layer: EnsembleLayer, state: Tensor, actions: Tensor) -> Tensor:
    """(E, B, N, H), like all first layers in the precision of the weights."""
    size, count = state.shape[-1], actions.shape[-1]
    # By `split`, whose gradient is one concatenation; that of slices is a sum of as many matrices.
    with torch.autocast(state.device.type, enabled=False):
        if not torch.compiler.is_compiling() or state.device.type != "cpu" or count > FEW:
            shared, own = layer.weight.split([size, count], dim=1)
            value = (torch.matmul(state, shared) + layer.bias)[:, :, None]
            rows = actions.flatten(0, 1).expand(len(own), -1, -1)
            return value + torch.bmm(rows, own).unflatten(1, actions.shape[:2])
        shared, *columns = layer.weight.split([size] + [1] * count, dim=1)
        weights = [_by_state(column, len(state)) for column in columns]
        # The state's part as the weight of one more input, which is 1: all gradients are then summed in one pass.
        weights.append((torch.matmul(state, shared) + layer.bias)[:, :, None])
        inputs = torch.cat([actions, torch.ones_like(actions[..., :1])], dim=-1)
        return reduce(torch.add, (inputs[..., i : i + 1] * weight for i, weight in enumerate(weights)))


def _activated(value: Tensor) -> Tensor:
    """Rounded first, where products are: half of the memory to write, and the gradient's mask is read from it too."""
    kind = value.device.type
    return torch.relu(value.to(torch.get_autocast_dtype(kind)) if torch.is_autocast_enabled(kind) else value)


def _by_state(parameter: Tensor, states: int) -> Tensor:
    """(E, X, H) -> (E, B, X, H)."""
    return parameter[:, None].expand(-1, states, -1, -1)
