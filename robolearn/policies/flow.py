"""A policy that answers with one of the action chunks that the demonstrations allow: conditional flow matching.

The network is shown an observation and a chunk on its way from noise (t = 0) to an answer (t = 1), and tells where it
ends. Legend: B batch, K chunk, A action, P proprio.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from robolearn.networks.mlp import mlp
from robolearn.networks.normalizer import Statistics
from robolearn.policies.robot_features import FeaturesConfig, RobotFeatures, policy_spec
from robolearn.policies.tensors import answer_chunks
from robolearn.specs import InterfaceSpec
from robolearn.types import ActionChunk, Observation

FREQUENCIES = 4  # of the embedding of t


@dataclass(frozen=True)
class FlowPolicyConfig(FeaturesConfig):
    """Shape of a FlowPolicy."""

    chunk_steps: int = 16  # K: actions predicted from one observation
    hidden_sizes: tuple[int, ...] = (256, 256, 256)  # perceptron
    flow_steps: int = 16  # from noise to an answer


class FlowPolicy(nn.Module):
    """Implements `Policy`. The noise is drawn once an episode, by the seed of `reset`: so chunks that follow each other
    come from the same way of doing it, and an answer follows from its observation alone.

    `statistics` are of the fields `proprio` and `action`. `seed` fixes the initial weights.
    """

    config_type: ClassVar = FlowPolicyConfig

    def __init__(self, spec: InterfaceSpec, statistics: Statistics, config: FlowPolicyConfig, seed: int = 0) -> None:
        super().__init__()
        self.spec = policy_spec(spec, config)
        self.statistics = {name: statistics[name] for name in ("proprio", "action")}
        self.config = config
        size = config.chunk_steps * self.spec.action.shape[0]
        with torch.random.fork_rng(devices=[]):  # the caller's random numbers stay as they were
            torch.manual_seed(seed)
            self.features = RobotFeatures(self.spec, statistics, config)
            self.head = mlp((sum(self.features.sizes) + size + 2 * FREQUENCIES, *config.hidden_sizes, size))
        self.register_buffer("noise", torch.zeros(1, config.chunk_steps, self.spec.action.shape[0]), persistent=False)
        self.register_buffer("frequencies", math.pi * 2.0 ** torch.arange(FREQUENCIES), persistent=False)
        self.reset()

    def end(self, seen: Tensor, here: Tensor, chunk: Tensor, time: Tensor) -> Tensor:
        """Where a chunk (B, K, A) ends that is on its way at `time` (B,): normalised actions (B, K, A).

        seen: the vectors of `features` as one (B, F); here: the measured position (B, A), to which the answer is added.
        """
        angle = time[:, None] * self.get_buffer("frequencies")
        inputs = [seen, chunk.flatten(1), torch.sin(angle), torch.cos(angle)]
        return here[:, None, :] + self.head(torch.cat(inputs, dim=1)).view_as(chunk)

    @torch.no_grad()
    def best(self, observation: Mapping[str, Tensor]) -> Tensor:
        """Actions (B, K, A) in the units of the action spec, by Euler's steps from the noise of the episode.

        At t the velocity is (end - chunk) / (1 - t); the last step arrives at the end itself.
        """
        seen, here = torch.cat(self.features(observation), dim=1), self.features.here(observation)
        chunk = self.get_buffer("noise").expand(seen.shape[0], -1, -1)
        steps = self.config.flow_steps
        for i in range(steps):
            end = self.end(seen, here, chunk, torch.full((seen.shape[0],), i / steps, device=seen.device))
            chunk = chunk + (end - chunk) / (steps - i)
        return self.features.action_normalizer.inverse(chunk)

    def reset(self, seed: int = 0) -> None:
        """Draw the noise of the episode."""
        noise = self.get_buffer("noise")
        noise.copy_(torch.randn(noise.shape, generator=torch.Generator().manual_seed(seed)))

    def act(self, observation: Observation, stamp_ns: int) -> ActionChunk:
        """Actions (K, A) within the limits of the action spec. Raises SpecError for a wrong observation."""
        return self.act_many([observation], [stamp_ns])[0]

    def act_many(self, observations: Sequence[Observation], stamps_ns: Sequence[int]) -> list[ActionChunk]:
        """As `act`, of several observations in one batch."""
        return answer_chunks(self, observations, stamps_ns)
