"""Success classifier of vectors: is the task done in this state?

What `success.py` is for images: one logit, half of each batch successes, a threshold chosen on held-out episodes for a
stated false-positive rate, and decisions by m frames in a row (`success.decisions`). An ensemble, whose least sure
member decides, because a learner looks for the states that a single one is wrong about. Legend: N frames, S state.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from robolearn.networks.ensemble import EnsembleMLP
from robolearn.rewards.reward_model import initial_weights, version_of
from robolearn.rewards.success import area_under_roc, balanced_rows, threshold_for

MIN_FOUND = 0.8  # of the frames of success, whatever false-positive rate that takes


@dataclass(frozen=True)
class StateSuccessConfig:
    """Settings of StateSuccess."""

    size: int = 0  # S, of the vectors
    mean: tuple[float, ...] = ()  # (S,) that the vectors are normalised by
    std: tuple[float, ...] = ()
    hidden_sizes: tuple[int, ...] = (64, 64)
    members: int = 5
    threshold: float = 0.5  # of the probability, for a frame to count
    steps: int = 1000  # gradient steps
    batch_size: int = 256
    learning_rate: float = 1e-3
    noise: float = 0.02  # added to the normalised vectors while training
    seed: int = 0


class StateSuccess(nn.Module):
    """The probability that the task is done, by the least sure of several networks."""

    config_type: ClassVar = StateSuccessConfig

    def __init__(self, config: StateSuccessConfig) -> None:
        super().__init__()
        self.config = config
        with initial_weights(config.seed):
            self.network = EnsembleMLP(config.members, (config.size, *config.hidden_sizes, 1))
        self.register_buffer("mean", torch.tensor(config.mean), persistent=False)
        self.register_buffer("std", torch.tensor(config.std), persistent=False)

    @property
    def version(self) -> str:
        return version_of(self.config, self.state_dict())

    def forward(self, state: Tensor) -> Tensor:
        """Logits (members, N) of normalised vectors (N, S)."""
        return self.network(state)[..., 0]

    def normalized(self, state: Tensor) -> Tensor:
        return (state - self.get_buffer("mean")) / self.get_buffer("std")

    @torch.no_grad()
    def probability(self, state: NDArray[np.float32]) -> NDArray[np.float32]:
        """(N,) of vectors (N, S)."""
        return torch.sigmoid(self(self.normalized(torch.from_numpy(state))).amin(0)).numpy()

    def done(self, state: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Which frames (N,) of vectors (N, S) count as done."""
        return self.probability(state) > self.config.threshold


def train_state_success(
    train: tuple[NDArray[np.float32], NDArray[np.bool_]],
    held_out: tuple[NDArray[np.float32], NDArray[np.bool_]],
    config: StateSuccessConfig,
    false_positive_rate: float,
) -> tuple[StateSuccess, Mapping[str, float]]:
    """Train on vectors (N, S) with their labels (N,), and choose the threshold on the held-out ones: for that rate, or,
    where few successes would be found then (some failures look like one), for a share MIN_FOUND of them.

    The second answer tells how it did on those: `area_under_roc`, `threshold`, `false_positive_rate` and
    `true_positive_rate`. Raises SpecError where a side is empty, or the rate cannot be shown by so few failures.
    """
    state, done = train
    std = np.maximum(state.std(0), 0.01 * float(state.std(0).max()))
    config = replace(config, size=state.shape[1], mean=tuple(map(float, state.mean(0))), std=tuple(map(float, std)))
    model = StateSuccess(config)
    rng = np.random.default_rng(config.seed)
    generator = torch.Generator().manual_seed(config.seed)
    normal, label = model.normalized(torch.from_numpy(state)), torch.from_numpy(done.astype(np.float32))
    optimizer = torch.optim.Adam(model.parameters(), config.learning_rate)
    for _ in range(config.steps):
        rows = torch.from_numpy(balanced_rows(rng, done, config.batch_size))
        batch = normal[rows]
        logit = model(batch + config.noise * torch.randn(batch.shape, generator=generator))
        loss = nn.functional.binary_cross_entropy_with_logits(logit, label[rows].expand_as(logit))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    probability = model.probability(held_out[0])
    strict = threshold_for(probability, held_out[1], false_positive_rate)
    found = float(np.quantile(probability[held_out[1]], 1.0 - MIN_FOUND))
    threshold = max(min(strict, found), 0.5)
    chosen = StateSuccess(replace(config, threshold=threshold))
    chosen.load_state_dict(model.state_dict())
    above = probability > threshold
    return chosen.eval(), {
        "area_under_roc": area_under_roc(probability, held_out[1]),
        "threshold": threshold,
        "false_positive_rate": float(above[~held_out[1]].mean()),
        "true_positive_rate": float(above[held_out[1]].mean()),
    }
