"""The nouns that cross every boundary. Legend: A action, P proprio, K chunk, H W image."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Observation: TypeAlias = dict[str, NDArray]
"""All that a policy may see at one step, by field name: `proprio` (P,) float32, `image_<camera>` (H, W, 3) uint8 RGB.
Privileged fields (`pose_<body>` (7,) float32, position [m] then quaternion wxyz) exist in simulation only and are seen
by scripted policies, and by learned ones that were asked to be privileged."""


MAX_DEPTH_MM = 65_535


class ActionSource(IntEnum):
    """Who chose the action of a step. Stored as uint8 in the dataset."""

    HUMAN = 0
    POLICY = 1
    SCRIPT = 2
    INTERVENTION = 3
    PERTURBATION = 4  # noise put in on purpose while collecting; never imitated


PEOPLE = (ActionSource.HUMAN, ActionSource.INTERVENTION)


@dataclass(frozen=True)
class ActionChunk:
    """K consecutive actions.

    actions: (K, A) float32 in the units of the action spec.
    stamp_ns: capture time of the observation that the chunk was made from.
    start_ns: when the first action is due.
    period_ns: time between two actions.
    """

    actions: NDArray[np.float32]
    stamp_ns: int
    start_ns: int
    period_ns: int
    source: ActionSource = ActionSource.POLICY


@dataclass(frozen=True)
class RobotState:
    """What a robot measured at one instant: position and velocity (J,) float32 in the units of its spec."""

    joint_position: NDArray[np.float32]
    joint_velocity: NDArray[np.float32]
    stamp_ns: int

    def proprio(self) -> NDArray[np.float32]:
        """The proprio field (2J,): joint positions, then joint velocities."""
        return np.concatenate([self.joint_position, self.joint_velocity]).astype(np.float32, copy=False)


@dataclass(frozen=True)
class Frame:
    """One camera picture: image (H, W, 3) uint8 RGB with its capture time.

    depth: (H, W) uint16 [mm], what each pixel of the image shows is so far away along the camera's axis; 0: not
    measured. None of a camera that does not give it.
    """

    image: NDArray[np.uint8]
    stamp_ns: int
    depth: NDArray[np.uint16] | None = None


def depth_mm(measured: NDArray, unit_m: float) -> NDArray[np.uint16]:
    """Depth in whole millimetres, of measurements in `unit_m` [m]; 0 for what is NaN, infinite, negative or too far to
    be told in 16 bit."""
    with np.errstate(over="ignore"):
        depth = np.rint(np.asarray(measured, np.float32) * np.float32(1000 * unit_m))
    return np.where((depth > 0) & (depth <= MAX_DEPTH_MM), depth, 0).astype(np.uint16)


@dataclass(frozen=True)
class EpisodeOutcome:
    """How an episode ended. `reason` is empty when nothing went wrong."""

    success: bool | None
    terminated: bool
    truncated: bool
    reason: str = ""
