"""Behaviour cloning of action chunks.

Pomerleau, "ALVINN", 1989 (cloning); Zhao et al., "Learning fine-grained bimanual manipulation with low-cost hardware",
2023 (chunks and the L1 loss). Differences from the latter (ACT): a convolutional encoder with spatial-softmax
keypoints in the place of ResNet-18 and the transformer, no latent variable, no temporal ensembling.

    loss = mean over the mask of w |a - pi(o)|     a: K next actions of the demonstration, normalised; w: weight, mean 1
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from robolearn.algorithms.algorithm import Batch, DataKind, Metrics
from robolearn.algorithms.compile import Wrapper, plain
from robolearn.algorithms.imitation import Imitation, ImitationConfig, masked_mean
from robolearn.networks.normalizer import Statistics
from robolearn.policies.chunking import ChunkPolicy, ChunkPolicyConfig
from robolearn.specs import InterfaceSpec


@dataclass(frozen=True, kw_only=True)
class BCConfig(ImitationConfig):
    """Settings of BC."""

    policy: ChunkPolicyConfig = field(default_factory=ChunkPolicyConfig)
    loss: Literal["l1", "mse"] = "l1"


class BC:
    """Clones the actions of a dataset."""

    config_type: ClassVar[Any] = BCConfig
    learns_from: ClassVar[DataKind] = "chunks"
    metrics: ClassVar[tuple[str, ...]] = ("loss", "grad_norm", "learning_rate")

    def __init__(
        self,
        spec: InterfaceSpec,
        statistics: Statistics,
        config: BCConfig,
        seed: int = 0,
        device: str = "cpu",
        wrapper: Wrapper = plain,
    ) -> None:
        self.config = config
        self._policy = ChunkPolicy(spec, statistics, config.policy, seed).to(device)
        self._imitation = Imitation(self._policy, self.loss, config, seed, device, wrapper)

    def loss(self, batch: Batch) -> tuple[Tensor, Metrics]:
        """Masked, weighted mean distance between the policy's and the demonstration's normalised actions."""
        error = self._policy(batch) - self._policy.features.action_normalizer(batch["action"])
        distance = error.abs() if self.config.loss == "l1" else error.square()
        loss = masked_mean(distance.mean(-1), batch)
        return loss, {"loss": loss.detach()}

    def update(self, batch: Batch) -> Metrics:
        return self._imitation.update(self._imitation.augmented(batch))

    @torch.no_grad()
    def validate(self, batch: Batch) -> Metrics:
        return self.loss(batch)[1]

    @property
    def gradient_step(self) -> int:
        return self._imitation.gradient_step

    def policy(self) -> ChunkPolicy:
        return self._policy

    def state_dict(self) -> dict[str, Tensor]:
        return self._imitation.state_dict()

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        self._imitation.load_state_dict(state)
