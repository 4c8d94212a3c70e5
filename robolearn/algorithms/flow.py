"""Flow matching of action chunks, the diffusion family of imitation.

Lipman et al., "Flow matching for generative modeling", ICLR 2023; Chi et al., "Diffusion policy", RSS 2023; Black et
al., "pi_0", 2024. Where demonstrations do one thing or another, cloning by a distance answers what lies between them;
a flow answers one of them. Legend: a demonstrated chunk, normalised; z noise; t in [0, 1); w weight, mean 1.

    x_t  = (1 - t) z + t a
    loss = mean over the mask of w |end(x_t, t, o) - a|^2

Differences: the network tells the end of the path in the place of its velocity (end - x_t) / (1 - t), which weighs the
times of a path by (1 - t)^2 and starts the network at "stay where you are"; a perceptron on keypoints of the images in
the place of a U-Net or transformer; the noise of an episode is drawn once. Steps that the mask hides are neither
learned nor shown: the last step before them stands there.
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
from robolearn.networks.chunks import held
from robolearn.networks.normalizer import Statistics
from robolearn.policies.flow import FlowPolicy, FlowPolicyConfig
from robolearn.specs import InterfaceSpec


@dataclass(frozen=True, kw_only=True)
class FlowConfig(ImitationConfig):
    """Settings of Flow."""

    policy: FlowPolicyConfig = field(default_factory=FlowPolicyConfig)
    steps: int = 4000
    draws: int = 8  # of noise and time for each sample: the images, which cost most, are looked at once for all


class Flow:
    """Learns the distribution of a dataset's action chunks."""

    config_type: ClassVar[Any] = FlowConfig
    learns_from: ClassVar[DataKind] = "chunks"
    metrics: ClassVar[tuple[str, ...]] = ("loss", "grad_norm", "learning_rate")

    def __init__(
        self,
        spec: InterfaceSpec,
        statistics: Statistics,
        config: FlowConfig,
        seed: int = 0,
        device: str = "cpu",
        wrapper: Wrapper = plain,
    ) -> None:
        self.config = config
        self._policy = FlowPolicy(spec, statistics, config.policy, seed).to(device)
        self._imitation = Imitation(self._policy, self.loss, config, seed, device, wrapper)

    def loss(self, batch: Batch, noise: Tensor, time: Tensor) -> tuple[Tensor, Metrics]:
        """Masked, weighted mean squared distance of the end that is told from the demonstration's chunk, of noise
        (D, B, K, A) that stands at the times (D, B)."""
        features = self._policy.features
        seen, here = torch.cat(features(batch), dim=1), features.here(batch)
        target = held(features.action_normalizer(batch["action"]), batch["action_mask"], here)
        chunk = noise.lerp(target, time[..., None, None])
        draws = len(noise)
        end = self._policy.end(seen.repeat(draws, 1), here.repeat(draws, 1), chunk.flatten(0, 1), time.flatten())
        loss = masked_mean((end.unflatten(0, (draws, -1)) - target).square().mean((0, -1)), batch)
        return loss, {"loss": loss.detach()}

    def update(self, batch: Batch) -> Metrics:
        batch = self._imitation.augmented(batch)
        return self._imitation.update(batch, *self._noise(batch, self._imitation.generator))

    @torch.no_grad()
    def validate(self, batch: Batch) -> Metrics:
        """With the same noise every time, so that losses can be compared."""
        generator = torch.Generator(self._imitation.generator.device).manual_seed(0)
        return self.loss(batch, *self._noise(batch, generator))[1]

    def _noise(self, batch: Batch, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Where paths begin, and how far along them to look."""
        shape = (self.config.draws, *batch["action"].shape)
        noise = torch.randn(shape, generator=generator, device=generator.device)
        return noise, torch.rand(shape[:2], generator=generator, device=generator.device)

    @property
    def gradient_step(self) -> int:
        return self._imitation.gradient_step

    def policy(self) -> FlowPolicy:
        return self._policy

    def state_dict(self) -> dict[str, Tensor]:
        return self._imitation.state_dict()

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        self._imitation.load_state_dict(state)
