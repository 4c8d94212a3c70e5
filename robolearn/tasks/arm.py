"""What a task knows of the arm that it is done with: its joints, its kinematics and its jaws.

Frames: the scene's has its origin on the table, x away from the robot and z up; the base's is the arm's own. The
tool's x runs along the fingers, its z is the direction in which the jaws open. Legend: q arm joints (N,) [rad], the
gripper not among them; (...) any leading batch shape.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import atan2, pi, remainder
from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from robolearn.specs import RobotSpec

Facts: TypeAlias = Mapping[str, NDArray]
"""`proprio` (..., 2J) and `pose_<body>` (..., 7) for each of the task's bodies."""


class Kinematics(Protocol):
    """Where the tool is, and which joints bring it somewhere, in the base frame."""

    @property
    def pan_x(self) -> float:
        """Of the first axis, which is vertical [m]."""
        ...

    def forward(self, q: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Tool position (3,) [m] and rotation (3, 3) for joint positions (N,) or longer."""
        ...

    def inverse(self, position: ArrayLike, yaw: float, near: ArrayLike) -> NDArray[np.float64]:
        """Joint positions (N,) within the limits that bring a tool that points down to `position` (3,) [m], its jaws
        opening in the direction `yaw` [rad]. Of several postures the one near the joint positions `near` (N,)."""
        ...

    def kept_yaw(self, q: ArrayLike, position: ArrayLike) -> float:
        """The yaw [rad] at `position` (3,) with the wrist as it is in the posture `q` (N,)."""
        ...


@dataclass(frozen=True)
class Gripper:
    """The last joint of an arm. An opening is how far it is from where the jaws are closed, in its own unit, and grows
    as they open."""

    open: float  # 6 cm between the jaws
    closed: float  # closed on anything that is between them
    fork: float  # 3 cm between the jaws
    block: tuple[float, float]  # where they come to rest on a block of 3 cm, roughly
    hold: float  # they lie against a block of 3 cm without pressing
    rest_speed: float  # slower than this, they rest
    lead: float  # how far ahead of the joint a command may run
    gap_m: tuple[float, float]  # where a block may lie, along the tool's z, for the jaws to close on it
    clearance_m: float  # of the tool from a block's centre, along the tool's z, while the jaws come down around it
    tip_m: float  # from the tool frame to the end of the fingers
    zero: float = 0.0  # position of the joint where the jaws are closed
    sign: float = 1.0  # -1: they open as the position falls


@dataclass(frozen=True)
class Arm:
    """One arm of a robot. `spec` is the whole robot's; this arm's joints begin at `first`, its gripper is the last."""

    name: str  # of the robot: a folder of sim_assets/robots, or the path of a model
    spec: RobotSpec
    kinematics: Kinematics
    gripper: Gripper
    rest: tuple[float, ...]  # a posture [rad] in the middle of the work, for arms that can choose
    joints: int  # N, without the gripper
    first: int = 0
    grips: bool = True  # False: there is no gripper, and joint vectors end with the last of the N
    tool: str = "tool"  # body of the tool frame
    cameras: tuple[str, ...] = ("wrist",)  # on the arm
    mount: tuple[float, float, float] = (0.0, 0.0, 0.0)  # of the arm's base in the scene [m]
    robot_at: tuple[float, float, float] = (0.0, 0.0, 0.0)  # where the robot's file is set in the scene [m]

    def positions(self, facts: Facts) -> NDArray[np.float64]:
        """Joint positions (..., N + 1), the gripper last."""
        return np.asarray(facts["proprio"], dtype=np.float64)[..., self._mine]

    @property
    def _mine(self) -> slice:
        return slice(self.first, self.first + self.joints + self.grips)

    @property
    def limits(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Lowest and highest joint positions (N + 1,), the gripper last."""
        return np.array(self.spec.position_low[self._mine]), np.array(self.spec.position_high[self._mine])

    def opening(self, position: ArrayLike) -> NDArray[np.float64]:
        """Opening (...,) at positions (...,) of the gripper's joint."""
        return self.gripper.sign * (np.asarray(position, dtype=np.float64) - self.gripper.zero)

    def opened(self, facts: Facts) -> NDArray[np.float64]:
        """Opening (...,) of the gripper; without one, 0."""
        proprio = np.asarray(facts["proprio"], dtype=np.float64)
        return self.opening(proprio[..., self.first + self.joints]) if self.grips else np.zeros(proprio.shape[:-1])

    def opening_speed(self, facts: Facts) -> NDArray[np.float64]:
        """Speed (...,) at which the gripper opens; without one, 0."""
        proprio = np.asarray(facts["proprio"], dtype=np.float64)
        index = proprio.shape[-1] // 2 + self.first + self.joints
        return self.gripper.sign * proprio[..., index] if self.grips else np.zeros(proprio.shape[:-1])

    def with_gripper(self, joints: NDArray[np.float64], opening: float) -> NDArray[np.float64]:
        """Joint positions (N + 1,) from those of the arm (N,), last the gripper's at this opening if there is one."""
        return np.append(joints, self.gripper.zero + self.gripper.sign * opening) if self.grips else joints

    def forward(self, q: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Tool position (3,) [m] and rotation (3, 3) in the scene."""
        position, rotation = self.kinematics.forward(q)
        return position + self.mount, rotation

    def where(self, facts: Facts) -> NDArray[np.float64]:
        """Tool position (3,) [m] in the scene, from the joints."""
        return self.forward(self.positions(facts))[0]

    def inverse(self, position: ArrayLike, yaw: float, near: ArrayLike | None = None) -> NDArray[np.float64]:
        """Joint positions (N,) for a place (3,) [m] in the scene, see `Kinematics.inverse`."""
        return self.kinematics.inverse(np.asarray(position) - self.mount, yaw, self.rest if near is None else near)

    def kept_yaw(self, q: ArrayLike, position: ArrayLike) -> float:
        """See `Kinematics.kept_yaw`; `position` (3,) [m] in the scene."""
        return self.kinematics.kept_yaw(q, np.asarray(position) - self.mount)

    def azimuth(self, position: ArrayLike) -> float:
        """Direction [rad] of a place in the scene seen from the first axis."""
        x, y = (float(v) for v in np.asarray(position)[:2])
        return atan2(y - self.mount[1], x - self.mount[0] - self.kinematics.pan_x)

    def grasp_yaw(self, position: ArrayLike, object_yaw: float) -> float:
        """Yaw [rad] at which the jaws meet two faces of a square object at `position`, the wrist turned the least."""
        ahead = self.azimuth(position)
        return ahead + remainder(object_yaw - ahead, pi / 2)

    def across(self, position: ArrayLike, direction: ArrayLike) -> float:
        """Yaw [rad] at which the jaws lie side by side across a direction (2,), the wrist turned the least."""
        ahead = self.azimuth(position)
        x, y = (float(v) for v in np.asarray(direction))
        return ahead + remainder(atan2(y, x) + pi / 2 - ahead, pi)
