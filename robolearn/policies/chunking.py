"""A policy that answers proprio and images with a chunk of actions.

One image encoder per camera, keypoints and proprio into one perceptron, K x A actions out. Legend: B batch, K chunk, A
action, P proprio.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor, nn

from robolearn.errors import SpecError
from robolearn.networks.encoders import ImageEncoder
from robolearn.networks.mlp import mlp
from robolearn.networks.normalizer import Normalizer, Statistics
from robolearn.policies.tensors import action_chunk, observation_tensors
from robolearn.specs import InterfaceSpec
from robolearn.types import ActionChunk, Observation


@dataclass(frozen=True)
class ChunkPolicyConfig:
    """Shape of a ChunkPolicy."""

    chunk_steps: int = 16  # K: actions predicted from one observation
    velocity: bool = False  # feed the joint velocities too; they let cloning copy its own past instead of looking
    encoder_channels: tuple[int, ...] = (16, 32, 32)  # convolutions of each camera's encoder
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
        self.spec = policy_spec(spec)
        self.statistics = {name: statistics[name] for name in ("proprio", "action")}
        self.config = config
        self.cameras = tuple(name for name in self.spec.observation if name != "proprio")
        self.action_size = self.spec.action.shape[0]
        names = self.spec.observation["proprio"].names
        positions = [names.index(f"{joint}.position") for joint in self.spec.action.names]
        inputs = list(range(len(names))) if config.velocity else positions
        self.register_buffer("position_index", torch.tensor(positions), persistent=False)
        self.register_buffer("input_index", torch.tensor(inputs), persistent=False)
        self.proprio_normalizer = Normalizer(statistics["proprio"].select(inputs))
        self.action_normalizer = Normalizer(statistics["action"])
        with torch.random.fork_rng(devices=[]):  # the caller's random numbers stay as they were
            torch.manual_seed(seed)
            shapes = {name: self.spec.observation[name].shape for name in self.cameras}
            self.encoders = nn.ModuleDict(
                {name: ImageEncoder(shape[0], shape[1], config.encoder_channels) for name, shape in shapes.items()}
            )
            features = len(inputs) + 2 * config.encoder_channels[-1] * len(self.cameras)
            outputs = config.chunk_steps * self.action_size
            self.head = mlp((features, *config.hidden_sizes, outputs))

    def forward(self, observation: Mapping[str, Tensor]) -> Tensor:
        """Normalised actions (B, K, A) from `proprio` (B, P) and `image_<camera>` (B, H, W, 3) uint8."""
        proprio = observation["proprio"]
        features = [self.proprio_normalizer(proprio[:, self.get_buffer("input_index")])]
        features += [self.encoders[name](observation[name]) for name in self.cameras]
        move = self.head(torch.cat(features, dim=1)).view(-1, self.config.chunk_steps, self.action_size)
        here = self.action_normalizer(proprio[:, self.get_buffer("position_index")])
        return here[:, None, :] + move

    def reset(self, seed: int = 0) -> None:
        """Nothing to forget: every chunk follows from one observation."""

    @torch.no_grad()
    def act(self, observation: Observation, stamp_ns: int) -> ActionChunk:
        """Actions (K, A) within the limits of the action spec. Raises SpecError for a wrong observation."""
        batch = observation_tensors(self.spec, observation, self.get_buffer("position_index").device)
        return action_chunk(self.spec, self.action_normalizer.inverse(self(batch))[0], stamp_ns)

    @torch.no_grad()
    def act_many(self, observations: Sequence[Observation], stamps_ns: Sequence[int]) -> list[ActionChunk]:
        """As `act`, of several observations in one batch."""
        device = self.get_buffer("position_index").device
        rows = [observation_tensors(self.spec, observation, device) for observation in observations]
        batch = {name: torch.cat([row[name] for row in rows]) for name in self.spec.observation}
        actions = self.action_normalizer.inverse(self(batch))
        return [action_chunk(self.spec, a, stamp_ns) for a, stamp_ns in zip(actions, stamps_ns, strict=True)]


def policy_spec(spec: InterfaceSpec) -> InterfaceSpec:
    """The part of an environment's or dataset's spec that a policy may use: proprio and cameras, nothing privileged."""
    fields = {k: v for k, v in spec.observation.items() if k == "proprio" or k.startswith("image_")}
    if "proprio" not in fields:
        raise SpecError(f"a policy needs the field 'proprio'; the spec has {', '.join(spec.observation)}")
    missing = [j for j in spec.action.names if f"{j}.position" not in fields["proprio"].names]
    if missing or not spec.action.names:
        raise SpecError(f"proprio does not name the position of {', '.join(missing) or 'any joint'}")
    return replace(spec, observation=fields)
