"""A policy that answers proprio and images with a chunk of actions.

One image encoder per camera, keypoints and proprio into one perceptron, K x A actions out. Legend: B batch, K chunk, A
action, P proprio.
"""

from __future__ import annotations

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


@dataclass(frozen=True)
class ChunkPolicyConfig(FeaturesConfig):
    """Shape of a ChunkPolicy."""

    chunk_steps: int = 16  # K: actions predicted from one observation
    hidden_sizes: tuple[int, ...] = (256, 256)  # perceptron


class ChunkPolicy(nn.Module):
    """Deterministic action chunks. Implements `Policy`; freshly made, it is the untrained policy.

    `statistics` are of the fields `proprio` and `action`.

    The perceptron's output is added to the measured joint positions, so that it starts at "stay where you are" and
    has only to learn where to go. `seed` fixes the initial weights.
    """

    config_type: ClassVar = ChunkPolicyConfig

    def __init__(self, spec: InterfaceSpec, statistics: Statistics, config: ChunkPolicyConfig, seed: int = 0) -> None:
        super().__init__()
        self.spec = policy_spec(spec, config)
        self.statistics = {name: statistics[name] for name in ("proprio", "action")}
        self.config = config
        with torch.random.fork_rng(devices=[]):  # the caller's random numbers stay as they were
            torch.manual_seed(seed)
            self.features = RobotFeatures(self.spec, statistics, config)
            outputs = config.chunk_steps * self.spec.action.shape[0]
            self.head = mlp((sum(self.features.sizes), *config.hidden_sizes, outputs))

    def forward(self, observation: Mapping[str, Tensor]) -> Tensor:
        """Normalised actions (B, K, A) from `proprio` (B, P) and `image_<camera>` (B, H, W, 3) uint8."""
        move = self.head(torch.cat(self.features(observation), dim=1))
        return self.features.here(observation)[:, None, :] + move.unflatten(1, (self.config.chunk_steps, -1))

    @torch.no_grad()
    def best(self, observation: Mapping[str, Tensor]) -> Tensor:
        """Actions (B, K, A) in the units of the action spec."""
        return self.features.action_normalizer.inverse(self(observation))

    def reset(self, seed: int = 0) -> None:
        """Nothing to forget: every chunk follows from one observation."""

    def act(self, observation: Observation, stamp_ns: int) -> ActionChunk:
        """Actions (K, A) within the limits of the action spec. Raises SpecError for a wrong observation."""
        return self.act_many([observation], [stamp_ns])[0]

    def act_many(self, observations: Sequence[Observation], stamps_ns: Sequence[int]) -> list[ActionChunk]:
        """As `act`, of several observations in one batch."""
        return answer_chunks(self, observations, stamps_ns)
