"""Values of states on their way to a goal. Legend: B batch, S state, R representation of a goal."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from robolearn.networks.ensemble import EnsembleMLP
from robolearn.networks.mlp import mlp


class GoalValue(nn.Module):
    """Two values of a state and a goal, which sees the goal through a small representation of both."""

    def __init__(self, state_size: int, hidden_sizes: Sequence[int], representation_size: int) -> None:
        super().__init__()
        self.encoder = mlp((2 * state_size, *hidden_sizes, representation_size), layer_norm=True)
        self.ensemble = EnsembleMLP(2, (state_size + representation_size, *hidden_sizes, 1), layer_norm=True)

    def represent(self, state: Tensor, goal: Tensor) -> Tensor:
        """Where the goal (B, S) lies, seen from the state: (B, R), of length sqrt(R)."""
        return of_one_length(self.encoder(torch.cat([state, goal], dim=-1)))

    def forward(self, state: Tensor, goal: Tensor) -> Tensor:
        """Values (2, B) of states (B, S) for goals (B, S)."""
        return self.ensemble(torch.cat([state, self.represent(state, goal)], dim=-1)).squeeze(-1)


def of_one_length(vectors: Tensor) -> Tensor:
    """Vectors (B, R) at the length sqrt(R)."""
    return vectors * (vectors.shape[-1] ** 0.5 / vectors.norm(dim=-1, keepdim=True).clamp_min(1e-6))
