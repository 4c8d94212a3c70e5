"""Behaviour cloning of single actions from vectors.

Pomerleau, "ALVINN", 1989; the mixture head is Bishop's mixture density network (1994), as in robomimic (Mandlekar et
al. 2021). It is what a dataset gives without rewards, and what offline reinforcement learning has to beat.

    loss = mean of -log pi(a | s)

pi is the policy's distribution: `clipped`, one Gaussian of the same width everywhere, or `mixture`, several, of which
the data's ways of doing a thing can have one each. The learning rate falls by a cosine over `decay_steps`.
Differences: the width of a Gaussian has a lower limit, so that a dataset without noise does not make the loss endless.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from robolearn.algorithms.algorithm import Batch, DataKind, Metrics
from robolearn.algorithms.compile import Wrapper, plain
from robolearn.algorithms.optimizer import Adam, cosine_learning_rate
from robolearn.algorithms.state import load_state, state_of
from robolearn.networks.augmentation import shifted_at
from robolearn.networks.normalizer import Statistics
from robolearn.policies.gaussian import GaussianPolicy, GaussianPolicyConfig
from robolearn.specs import InterfaceSpec


@dataclass(frozen=True)
class StateBCConfig:
    """Settings of StateBC."""

    distributions: ClassVar[tuple[str, ...]] = ("squashed", "clipped", "mixture")  # that `policy.distribution` may be

    policy: GaussianPolicyConfig = field(
        default_factory=lambda: GaussianPolicyConfig(distribution="mixture", log_std_low=-4.0)
    )
    steps: int = 10_000  # gradient steps of a run
    batch_size: int = 256  # of each update
    discount: float = 0.99  # of the return to go, which cloning does not look at
    learning_rate: float = 1e-3  # where it begins
    decay_steps: int = 0  # over which the learning rate falls to 0; 0: it stays; -1: over a run
    episodes: Literal["successful", "all"] = "successful"  # which ones are imitated
    max_shift_px: int = 2  # random shift of images, where the policy sees some; 0 for none


class StateBC:
    """Clones the actions of a dataset."""

    config_type: ClassVar[Any] = StateBCConfig
    learns_from: ClassVar[DataKind] = "transitions"
    sees_images: ClassVar[bool] = True
    metrics: ClassVar[tuple[str, ...]] = ("clone_loss", "action_error")

    def __init__(
        self,
        spec: InterfaceSpec,
        statistics: Statistics,
        config: StateBCConfig,
        seed: int = 0,
        device: str = "cpu",
        wrapper: Wrapper = plain,
    ) -> None:
        self.config = config
        self.gradient_step, self._seed = 0, seed
        self.actor = GaussianPolicy(spec, statistics, config.policy, seed).to(device)
        self._adam = Adam(self.actor.parameters(), config.learning_rate)
        self._step = wrapper(self._gradient_step)

    def loss(self, batch: Batch) -> tuple[Tensor, Metrics]:
        """Surprise at the data's actions, and the mean distance of the likeliest action from them, in [-1, 1]."""
        state, action = self.actor.features(batch), self.actor.normalized_action(batch["action"])
        loss = -self.actor.log_prob(state, action).mean()
        error = (self.actor.mode(state).detach() - action).abs().mean()
        return loss, {"clone_loss": loss.detach(), "action_error": error}

    def _gradient_step(self, batch: Batch) -> Metrics:
        loss, metrics = self.loss(batch)
        self._adam.step(loss)
        return metrics

    def update(self, batch: Batch) -> Metrics:
        size = self.config.batch_size
        metrics: Metrics = {}
        for i in range(len(batch["action"]) // size):
            if self.config.decay_steps > 0:
                self._adam.learning_rate.fill_(
                    cosine_learning_rate(self.gradient_step, self.config.learning_rate, 0, self.config.decay_steps)
                )
            rows = {name: values[i * size : (i + 1) * size] for name, values in batch.items()}
            shift_px = self.config.max_shift_px
            metrics = self._step(shifted_at(rows, self.actor.cameras, shift_px, self._seed, self.gradient_step))
            self.gradient_step += 1
        return metrics

    def validate(self, batch: Batch) -> Metrics:
        with torch.no_grad():
            return self.loss(batch)[1]

    def policy(self) -> GaussianPolicy:
        return self.actor

    def _parts(self) -> dict[str, Any]:
        return {"actor": self.actor, "adam": self._adam}

    def state_dict(self) -> dict[str, Tensor]:
        return state_of(self._parts(), self.gradient_step)

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        self.gradient_step = load_state(state, self._parts())
