"""Success classifier of vectors: is the task done in this state?

What `success.py` is for images: one logit, half of each batch successes, a threshold chosen on held-out failures,
episode by episode as they would be decided, for a stated false-positive rate, and decisions by m frames in a row
(`success.decisions`). An ensemble, whose least sure member decides, because a learner looks for the states that a
single one is wrong about. Legend: N frames, T steps of an episode, S state.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from robolearn.networks.ensemble import EnsembleMLP
from robolearn.rewards.reward_model import initial_weights, version_of
from robolearn.rewards.success import balanced_rows, decision_strength, threshold_between, threshold_in_words


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


@dataclass(frozen=True)
class Chosen:
    """How the threshold does on the episodes that it was chosen on."""

    threshold: float
    failed: int  # episodes
    called_done: int  # of those
    succeeded: int
    found: int  # of those

    def __str__(self) -> str:
        words = threshold_in_words(self.threshold, self.called_done, self.failed)
        return f"finds {self.found} of {self.succeeded} held-out successes, {words}"


def train_state_success(
    state: NDArray[np.float32], done: NDArray[np.bool_], config: StateSuccessConfig
) -> StateSuccess:
    """Train on vectors (N, S) with their labels (N,). Raises SpecError where a side is empty."""
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
    return model.eval()


def choose_threshold(
    model: StateSuccess,
    failed: Sequence[NDArray[np.float32]],
    succeeded: Sequence[NDArray[np.float32]],
    consecutive: int,
    false_positive_rate: float,
) -> Chosen:
    """Give the model `threshold_between` the failed episodes, (T, S) each, and the successes, of at least one half;
    `consecutive` frames in a row decide. Without failures it stays what it is.

    succeeded: the frames of each success, one or more, that are done. It is found where all of them count.
    """
    strength = np.array([_strength(model, states, consecutive) for states in failed])
    least = np.array([_strength(model, states, len(states)) for states in succeeded])
    if len(failed):
        threshold = max(threshold_between(strength, least, false_positive_rate), 0.5)
        model.config = replace(model.config, threshold=threshold)
    threshold = model.config.threshold
    called, found = int((strength > threshold).sum()), int((least > threshold).sum())
    return Chosen(threshold, len(strength), called, len(least), found)


def _strength(model: StateSuccess, states: NDArray[np.float32], consecutive: int) -> float:
    return float(decision_strength(torch.from_numpy(model.probability(states))[None], consecutive)[0])
