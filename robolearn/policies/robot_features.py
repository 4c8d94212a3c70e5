"""What a policy of chunks sees, as vectors for its network. Legend: B batch, A action, P proprio, F feature maps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from robolearn.errors import SpecError
from robolearn.networks.encoders import ImageEncoder
from robolearn.networks.normalizer import Normalizer, Statistics
from robolearn.specs import InterfaceSpec


class RobotFeatures(nn.Module):
    """Normalised proprio, and keypoints of every camera: one vector each.

    `statistics` are of the fields `proprio` and `action`. velocity: whether proprio includes the joint velocities.
    """

    def __init__(
        self, spec: InterfaceSpec, statistics: Statistics, velocity: bool, encoder_channels: Sequence[int]
    ) -> None:
        super().__init__()
        self.cameras = tuple(name for name in spec.observation if name != "proprio")
        names = spec.observation["proprio"].names
        positions = [names.index(f"{joint}.position") for joint in spec.action.names]
        inputs = list(range(len(names))) if velocity else positions
        self.register_buffer("position_index", torch.tensor(positions), persistent=False)
        self.register_buffer("input_index", torch.tensor(inputs), persistent=False)
        self.proprio_normalizer = Normalizer(statistics["proprio"].select(inputs))
        self.action_normalizer = Normalizer(statistics["action"])
        shapes = {name: spec.observation[name].shape for name in self.cameras}
        self.encoders = nn.ModuleDict(
            {name: ImageEncoder(shape[0], shape[1], encoder_channels) for name, shape in shapes.items()}
        )
        self.sizes = (len(inputs), *(2 * encoder_channels[-1] for _ in self.cameras))

    def forward(self, observation: Mapping[str, Tensor]) -> list[Tensor]:
        """Vectors (B, sizes[i]) from `proprio` (B, P) and `image_<camera>` (B, H, W, 3) uint8."""
        proprio = self.proprio_normalizer(observation["proprio"][:, self.get_buffer("input_index")])
        return [proprio, *(self.encoders[name](observation[name]) for name in self.cameras)]

    def here(self, observation: Mapping[str, Tensor]) -> Tensor:
        """The measured joint positions as a normalised action (B, A)."""
        return self.action_normalizer(observation["proprio"][:, self.get_buffer("position_index")])


def policy_spec(spec: InterfaceSpec) -> InterfaceSpec:
    """The part of an environment's or dataset's spec that a policy may use: proprio and cameras, nothing privileged."""
    fields = {k: v for k, v in spec.observation.items() if k == "proprio" or k.startswith("image_")}
    if "proprio" not in fields:
        raise SpecError(f"a policy needs the field 'proprio'; the spec has {', '.join(spec.observation)}")
    missing = [j for j in spec.action.names if f"{j}.position" not in fields["proprio"].names]
    if missing or not spec.action.names:
        raise SpecError(f"proprio does not name the position of {', '.join(missing) or 'any joint'}")
    return replace(spec, observation=fields)
