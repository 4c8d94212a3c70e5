"""What an action means: each control turns it into joint targets, which then go through the safety filter.

An action of `joint_position` is the targets themselves, in the units of the robot. The others are numbers in [-1, 1]
that move the last command sent, so an environment shows them that command (observation field `command`).
Legend: J joints; (...) any leading batch shape.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from robolearn.errors import UnknownNameError
from robolearn.specs import ArraySpec, RobotSpec


class Control(Protocol):
    """spec: of an action. relative: whether it moves the last command rather than replacing it."""

    spec: ArraySpec
    relative: bool

    def targets(self, action: NDArray, sent: NDArray[np.float32]) -> NDArray[np.float32]:
        """Joint targets (..., J) for an action (..., A) after the command `sent` (..., J). A NaN stays one."""
        ...


class JointPosition:
    """Joint targets, in the units of the robot's spec."""

    relative = False

    def __init__(self, robot: RobotSpec, period_s: float) -> None:
        self.spec = robot.action_spec

    def targets(self, action: NDArray, sent: NDArray[np.float32]) -> NDArray[np.float32]:
        return action


class JointVelocity:
    """Joint velocities as shares of each joint's max_speed: the command moves by as much as that is in one period."""

    relative = True

    def __init__(self, robot: RobotSpec, period_s: float) -> None:
        names = tuple(f"{joint}.velocity" for joint in robot.joint_names)
        ones = (1.0,) * len(names)
        self.spec = ArraySpec(
            (len(names),), unit="share of max_speed", names=names, low=tuple(-x for x in ones), high=ones
        )
        self._step = np.array(robot.max_speed) * period_s
        self._low, self._high = np.array(robot.position_low), np.array(robot.position_high)

    def targets(self, action: NDArray, sent: NDArray[np.float32]) -> NDArray[np.float32]:
        moved = sent + np.clip(action, -1.0, 1.0) * self._step
        return np.clip(moved, self._low, self._high).astype(np.float32)


CONTROLS: dict[str, Callable[[RobotSpec, float], Control]] = {
    "joint_position": JointPosition,
    "joint_velocity": JointVelocity,
}


def make_control(name: str, robot: RobotSpec, period_s: float) -> Control:
    """The control of this name. Raises UnknownNameError."""
    if name not in CONTROLS:
        raise UnknownNameError("control", name, CONTROLS)
    return CONTROLS[name](robot, period_s)
