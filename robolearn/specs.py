"""Specs: shape, names, unit and limits of every array that crosses a boundary."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from math import prod
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from robolearn.errors import SpecError

DTYPE_KINDS = "biuf"  # bool, integers, floats; bytes that are read as objects of Python would be addresses
MOST_AXES, MOST_NUMBERS = 16, 1 << 40


@dataclass(frozen=True)
class ArraySpec:
    """One array: `names` label the last axis (empty for images), `low` and `high` are inclusive limits per name."""

    shape: tuple[int, ...]
    dtype: str = "float32"
    unit: str = ""
    names: tuple[str, ...] = ()
    low: tuple[float, ...] | None = None
    high: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        if np.dtype(self.dtype).kind not in DTYPE_KINDS:
            raise SpecError(f"spec has dtype {self.dtype}, expected that of numbers, such as float32 or uint8")
        if not all(isinstance(text, str) for text in (self.unit, *self.names)):
            raise SpecError(f"spec has unit {self.unit!r} and names {self.names}, expected text")
        whole = all(isinstance(length, int | np.integer) and length >= 0 for length in self.shape)
        if not whole or len(self.shape) > MOST_AXES or prod(self.shape) > MOST_NUMBERS:
            raise SpecError(
                f"spec has shape {self.shape}, expected up to {MOST_AXES} whole numbers, together {MOST_NUMBERS}"
            )
        for what, values in (("names", self.names or None), ("low", self.low), ("high", self.high)):
            if values is not None and self.shape[-1:] != (len(values),):
                raise SpecError(f"spec has {len(values)} {what} for the last axis of shape {self.shape}")

    def check(self, what: str, value: ArrayLike) -> NDArray:
        """Return `value` as an array of this spec's dtype, or raise SpecError: shape, dtype kind, finiteness."""
        array = np.asarray(value)
        if array.shape != self.shape:
            raise SpecError(f"{what} has shape {array.shape}, expected {self.shape}{self._describe()}")
        wanted = np.dtype(self.dtype)
        if array.dtype != wanted:
            if not np.can_cast(array.dtype, wanted, casting="same_kind"):
                raise SpecError(f"{what} has dtype {array.dtype}, expected {wanted}{self._describe()}")
            array = array.astype(wanted)
        if wanted.kind == "f" and not np.isfinite(array).all():
            bad = [self.names[i] if self.names else str(i) for i in np.unique(np.argwhere(~np.isfinite(array))[:, -1])]
            raise SpecError(f"{what} is not finite in {', '.join(bad)}; expected numbers{self._unit()}")
        return array

    def _describe(self) -> str:
        names = f" ({', '.join(self.names)})" if self.names else ""
        return names + self._unit()

    def _unit(self) -> str:
        return f" [{self.unit}]" if self.unit else ""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> ArraySpec:
        as_tuple = {k: tuple(v) for k, v in data.items() if isinstance(v, (list, tuple))}
        return cls(**{**data, **as_tuple})


INSTRUCTION = "instruction"
"""Observation field of a policy that follows words: the vector of a sentence; its unit names who makes that."""

GOAL_PREFIX = "goal_"
"""Before the name of a field: what that is to be, for a policy that is told where to get to."""

POSE_SPEC = ArraySpec(shape=(7,), unit="m, quaternion wxyz", names=("x", "y", "z", "qw", "qx", "qy", "qz"))
"""Spec of a body's pose: position, then quaternion."""


def image_spec(height: int, width: int) -> ArraySpec:
    """Spec of an RGB image (H, W, 3) uint8."""
    return ArraySpec(shape=(height, width, 3), dtype="uint8")


def depth_spec(height: int, width: int) -> ArraySpec:
    """Spec of a depth image (H, W) uint16 [mm], along the camera's axis; 0 where nothing was measured (REP 118)."""
    return ArraySpec(shape=(height, width), dtype="uint16", unit="mm")


SEEN_PX = 96
"""Of the shorter side of a picture, what a policy that learns to look is shown at least."""


def block_px(shape: tuple[int, ...], shrink: int) -> int:
    """Side of the blocks of pixels that are averaged to one for a policy, of a picture (H, W, ...): `shrink`, or where
    that is 0 as much as leaves SEEN_PX of the shorter side. What is over at the right and below is cut off.

    Raises SpecError where nothing would be left.
    """
    shorter = min(shape[:2])
    if not 0 <= shrink <= shorter:
        raise SpecError(f"policy.shrink is {shrink}, for a picture of {shape[0]} x {shape[1]}; expected 0 to {shorter}")
    return shrink or max(1, shorter // SEEN_PX)


@dataclass(frozen=True)
class RobotSpec:
    """A robot as the rest of the platform sees it. Limits are per joint, J long, in `unit` (rad; m for sliders)."""

    name: str
    joint_names: tuple[str, ...]
    position_low: tuple[float, ...]
    position_high: tuple[float, ...]
    max_speed: tuple[float, ...]  # [unit/s], of a command between two ticks
    unit: str = "rad"

    @property
    def action_spec(self) -> ArraySpec:
        """Joint position targets (J,)."""
        return ArraySpec(
            shape=(len(self.joint_names),),
            unit=self.unit,
            names=self.joint_names,
            low=self.position_low,
            high=self.position_high,
        )

    @property
    def proprio_spec(self) -> ArraySpec:
        """Joint positions, then joint velocities (2J,)."""
        names = tuple(f"{j}.position" for j in self.joint_names) + tuple(f"{j}.velocity" for j in self.joint_names)
        return ArraySpec(shape=(len(names),), unit=f"{self.unit}, {self.unit}/s", names=names)


@dataclass(frozen=True)
class CameraSpec:
    """Size in pixels and rate of a camera; its images are the observation field `image_<name>`, what it measures of
    depth is the dataset field `depth_<name>`, of the same size."""

    name: str
    height: int
    width: int
    rate_hz: float
    depth: bool = False  # whether it gives depth with every picture


@dataclass(frozen=True)
class InterfaceSpec:
    """What goes into and out of a policy, an environment or a dataset: observation fields by name, and the action."""

    observation: dict[str, ArraySpec]
    action: ArraySpec
    control_hz: float
    observation_steps: int = 1  # that a policy wants at once: those up to now, one a tick

    @property
    def shown(self) -> dict[str, ArraySpec]:
        """The fields as a policy is shown them: above one step with a leading axis, oldest first."""
        steps = self.observation_steps
        if steps == 1:
            return self.observation
        return {name: replace(field, shape=(steps, *field.shape)) for name, field in self.observation.items()}

    def to_json(self) -> dict[str, Any]:
        return {
            "observation": {k: v.to_json() for k, v in self.observation.items()},
            "action": self.action.to_json(),
            "control_hz": self.control_hz,
            "observation_steps": self.observation_steps,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> InterfaceSpec:
        return cls(
            observation={k: ArraySpec.from_json(v) for k, v in data["observation"].items()},
            action=ArraySpec.from_json(data["action"]),
            control_hz=float(data["control_hz"]),
            observation_steps=int(data.get("observation_steps", 1)),
        )

    def require(self, other: InterfaceSpec, ours: str, theirs: str) -> None:
        """Raise SpecError unless `other` (called `theirs`) supplies what this spec (called `ours`) needs.

        The instruction, goals and observations of the past come from whoever runs the policy.
        """
        for name, spec in self.observation.items():
            if name == INSTRUCTION or name.startswith(GOAL_PREFIX):
                continue
            if name not in other.observation:
                raise SpecError(f"{ours} needs observation field {name!r}; {theirs} has {', '.join(other.observation)}")
            theirs_spec = other.observation[name]
            if theirs_spec.shape != spec.shape:
                size = " x ".join(map(str, spec.shape[:2]))
                remedy = f"use an image size of {size}" if name.startswith("image_") else "use the robot that it is of"
                raise SpecError(
                    f"{ours} wants {name} of shape {spec.shape}, {theirs} has {theirs_spec.shape}; {remedy}"
                )
        if self.action.shape != other.action.shape or self.action.names != other.action.names:
            raise SpecError(
                f"{ours} has action {self.action.shape}{self.action._describe()}, "
                f"{theirs} wants {other.action.shape}{other.action._describe()}; train for this robot"
            )
        if self.action.unit != other.action.unit:
            raise SpecError(
                f"{ours} has actions in {self.action.unit or 'an unknown unit'}, {theirs} wants them in "
                f"{other.action.unit or 'an unknown unit'}; train on data in that unit"
            )
        for name, spec in self.observation.items():
            seen = other.observation.get(name, spec)
            if spec.names and seen.names and spec.names != seen.names:
                raise SpecError(
                    f"{ours} wants {name}{spec._describe()}, {theirs} has it as{seen._describe()}; use the robot "
                    "that it is of"
                )
        self.require_rate(other.control_hz, ours, theirs)

    def require_rate(self, control_hz: float, ours: str, theirs: str) -> None:
        """Raise SpecError unless what is called `theirs` runs at the rate of this spec, too."""
        if abs(self.control_hz - control_hz) > 1e-6:
            raise SpecError(
                f"{ours} runs at {self.control_hz:g} Hz, {theirs} at {control_hz:g} Hz; one rate is wanted of both"
            )
