"""Action values by an ensemble. Legend: E ensemble, B batch, S state, A action."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from robolearn.networks.ensemble import EnsembleMLP
from robolearn.networks.many_actions import values_of_many


class Critic(nn.Module):
    """Values (E, B) of actions (B, A) in states (B, S); with `outputs` above 1, (E, B, outputs)."""

    def __init__(
        self,
        size: int,
        state_size: int,
        action_size: int,
        hidden_sizes: Sequence[int],
        layer_norm: bool = False,
        outputs: int = 1,
    ) -> None:
        super().__init__()
        self.ensemble = EnsembleMLP(size, (state_size + action_size, *hidden_sizes, outputs), layer_norm)
        self.outputs = outputs

    def forward(self, state: Tensor, action: Tensor, members: Tensor | None = None) -> Tensor:
        values = self.ensemble(torch.cat([state, action], dim=-1), members)
        return values.squeeze(-1) if self.outputs == 1 else values

    def of_many(self, state: Tensor, actions: Tensor) -> Tensor:
        """Values (E, B, N) of many actions (B, N, A) in each of the states (B, S); of critics with one output."""
        return values_of_many(self.ensemble, state, actions)
