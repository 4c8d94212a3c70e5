"""What a policy of chunks sees, as vectors for its network. Legend: B batch, O observations of a history, A action, P
proprio, F keypoints of a camera, E instruction.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from robolearn.errors import SpecError
from robolearn.networks.encoders import FrozenEncoder, ImageEncoder
from robolearn.networks.normalizer import Normalizer, ObservationNormalizer, Statistics
from robolearn.policies.instruction import instruction_spec
from robolearn.specs import INSTRUCTION, InterfaceSpec, block_px


@dataclass(frozen=True, kw_only=True)
class FeaturesConfig:
    """What a policy of chunks looks at."""

    older: ClassVar[Mapping[str, Any]] = {"shrink": 1}
    velocity: bool = False  # feed the joint velocities too; they let cloning copy its own past instead of looking
    observation_steps: int = 1  # O: observations up to now, one a tick
    encoder_channels: tuple[int, ...] = (16, 32, 32)  # convolutions of each camera's encoder
    shrink: int = 0  # each block of so many by so many pixels is averaged to one; 0: down to SEEN_PX
    trunk: str = ""  # a frozen network of open_clip in the place of convolutions: MODEL/TAG or a folder
    instruction: str = ""  # who makes a vector of the task's words: `words`, or as for `trunk`; empty: it is not read


class RobotFeatures(nn.Module):
    """Normalised proprio, what every camera shows, and the instruction: one vector each.

    `spec` is of `policy_spec`; `statistics` are of the fields `proprio` and `action`.
    """

    def __init__(self, spec: InterfaceSpec, statistics: Statistics, config: FeaturesConfig) -> None:
        super().__init__()
        self.steps = config.observation_steps
        self.cameras = tuple(name for name in spec.observation if name.startswith("image_"))
        proprio = spec.observation["proprio"]
        names = proprio.names or ("",) * proprio.shape[0]
        joints = [f"{joint}.position" for joint in spec.action.names] or [""] * spec.action.shape[0]
        measured = [bool(joint) and joint in names for joint in joints]
        positions = [names.index(joint) if there else 0 for joint, there in zip(joints, measured, strict=True)]
        inputs = [i for i, name in enumerate(names) if config.velocity or not name.endswith(".velocity")]
        self.register_buffer("position_index", torch.tensor(positions), persistent=False)
        self.register_buffer("measured", torch.tensor(measured, dtype=torch.float32), persistent=False)
        self.register_buffer("input_index", torch.tensor(inputs), persistent=False)
        self.proprio_normalizer = ObservationNormalizer(statistics["proprio"].select(inputs))
        self.action_normalizer = Normalizer(statistics["action"])
        seen = 2 * config.encoder_channels[-1]
        self.encoders = nn.ModuleDict()
        for name in self.cameras:
            height, width, _ = spec.observation[name].shape
            self.encoders[name] = (
                FrozenEncoder(config.trunk, seen)
                if config.trunk
                else ImageEncoder(height, width, config.encoder_channels, block_px((height, width), config.shrink))
            )
        self.sizes = (self.steps * len(inputs), *(self.steps * seen for _ in self.cameras))
        self.instructed = INSTRUCTION in spec.observation
        if self.instructed:
            self.sizes += spec.observation[INSTRUCTION].shape

    def forward(self, observation: Mapping[str, Tensor]) -> list[Tensor]:
        """Vectors (B, sizes[i]) from `proprio` (B, P), `image_<camera>` (B, H, W, 3) uint8 and `instruction` (B, E); of
        a history each (B, O, ...)."""
        proprio = self.proprio_normalizer(observation["proprio"][..., self.get_buffer("input_index")])
        vectors = [proprio.flatten(1), *(self._seen(name, observation[name]) for name in self.cameras)]
        return [*vectors, self._newest(observation[INSTRUCTION])] if self.instructed else vectors

    def here(self, observation: Mapping[str, Tensor]) -> Tensor:
        """The action that stays where it is, normalised (B, A): the measured positions of joints, and the mean of what
        is no target of a joint whose position is seen, as of a step of the tool."""
        positions = self._newest(observation["proprio"])[:, self.get_buffer("position_index")]
        return self.action_normalizer(positions) * self.get_buffer("measured")

    def _seen(self, camera: str, images: Tensor) -> Tensor:
        if self.steps == 1:
            return self.encoders[camera](images)
        return self.encoders[camera](images.flatten(0, 1)).unflatten(0, (-1, self.steps)).flatten(1)

    def _newest(self, values: Tensor) -> Tensor:
        return values if self.steps == 1 else values[:, -1]


def policy_spec(spec: InterfaceSpec, config: FeaturesConfig) -> InterfaceSpec:
    """The part of an environment's or dataset's spec that a policy may use, proprio and cameras, nothing privileged;
    with the instruction and the history that it wants."""
    fields = {k: v for k, v in spec.observation.items() if k == "proprio" or k.startswith("image_")}
    if "proprio" not in fields:
        raise SpecError(f"a policy needs the field 'proprio'; the spec has {', '.join(spec.observation)}")
    if config.observation_steps < 1:
        raise SpecError(f"policy.observation_steps is {config.observation_steps}; expected at least 1")
    if config.instruction:
        fields[INSTRUCTION] = instruction_spec(config.instruction)
    return replace(spec, observation=fields, observation_steps=config.observation_steps)
