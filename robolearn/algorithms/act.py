"""Action chunking with transformers.

Zhao et al., "Learning fine-grained bimanual manipulation with low-cost hardware", RSS 2023: a conditional variational
autoencoder whose decoder is the policy. Legend: a demonstrated chunk, normalised; o observation; z latent; w weight,
mean 1.

    z    ~ N(mu, sigma^2),  mu and sigma from a and the proprio of o
    loss = mean over the mask of w |pi(o, z) - a| + kl_weight * mean of w KL(N(mu, sigma^2) || N(0, 1))

Differences: keypoints of a small convolutional encoder, one token a camera, in the place of the maps of ResNet-18;
smaller transformers; no temporal ensembling, because who serves the policy blends its chunks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor

from robolearn.algorithms.algorithm import Batch, DataKind, Metrics
from robolearn.algorithms.compile import Wrapper, plain
from robolearn.algorithms.imitation import Imitation, ImitationConfig, masked_mean
from robolearn.algorithms.parallel import weighted_mean
from robolearn.networks.chunks import held
from robolearn.networks.normalizer import Statistics
from robolearn.policies.act import ACTPolicy, ACTPolicyConfig
from robolearn.specs import InterfaceSpec


@dataclass(frozen=True, kw_only=True)
class ACTConfig(ImitationConfig):
    """Settings of ACT."""

    policy: ACTPolicyConfig = field(default_factory=ACTPolicyConfig)
    steps: int = 3000
    learning_rate: float = 5e-4
    kl_weight: float = 10.0


class ACT:
    """Clones the actions of a dataset."""

    config_type: ClassVar[Any] = ACTConfig
    learns_from: ClassVar[DataKind] = "chunks"
    metrics: ClassVar[tuple[str, ...]] = ("loss", "divergence", "grad_norm", "learning_rate")

    def __init__(
        self,
        spec: InterfaceSpec,
        statistics: Statistics,
        config: ACTConfig,
        seed: int = 0,
        device: str = "cpu",
        wrapper: Wrapper = plain,
    ) -> None:
        self.config = config
        self._policy = ACTPolicy(spec, statistics, config.policy, seed).to(device)
        self._imitation = Imitation(self._policy, self.loss, config, seed, device, wrapper)

    def loss(self, batch: Batch, noise: Tensor) -> tuple[Tensor, Metrics]:
        """Masked, weighted mean distance from the demonstration's chunk, and the divergence. noise: (B, L)."""
        features, mask = self._policy.features, batch["action_mask"]
        seen, here = features(batch), features.here(batch)
        target = features.action_normalizer(batch["action"])
        mean, log_variance = self._policy.latent(seen[0], held(target, mask, here), mask)
        chunk = self._policy.chunk(seen, here, mean + noise * (0.5 * log_variance).exp())
        clone = masked_mean((chunk - target).abs().mean(-1), batch)
        divergence = 0.5 * (mean.square() + log_variance.exp() - 1.0 - log_variance).sum(-1)
        divergence = weighted_mean(divergence, batch.get("weight", torch.ones_like(divergence)))
        return clone + self.config.kl_weight * divergence, {"loss": clone.detach(), "divergence": divergence.detach()}

    def update(self, batch: Batch) -> Metrics:
        batch, generator = self._imitation.augmented(batch), self._imitation.generator
        shape = (len(batch["action"]), self.config.policy.latent_size)
        return self._imitation.update(batch, torch.randn(shape, generator=generator, device=generator.device))

    @torch.no_grad()
    def validate(self, batch: Batch) -> Metrics:
        """The distance of what the policy does outside of training, by the latent 0."""
        normalized = self._policy.features.action_normalizer
        error = normalized(self._policy.best(batch)) - normalized(batch["action"])
        return {"loss": masked_mean(error.abs().mean(-1), batch)}

    @property
    def gradient_step(self) -> int:
        return self._imitation.gradient_step

    def policy(self) -> ACTPolicy:
        return self._policy

    def state_dict(self) -> dict[str, Tensor]:
        return self._imitation.state_dict()

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        self._imitation.load_state_dict(state)
