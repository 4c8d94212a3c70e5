"""What an action means: each control turns it into joint targets, which then go through the safety filter.

An action of `joint_position` is the targets themselves, in the units of the robot. The others are numbers in [-1, 1]
that move the last command sent, so an environment shows them that command (observation field `command`).
Legend: J joints; (...) any leading batch shape.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from robolearn.errors import SpecError, UnknownNameError
from robolearn.robots.kinematics import damped_joint_step
from robolearn.specs import ArraySpec
from robolearn.tasks.arm import Arm

TOOL_STEP_M, TOOL_TURN_RAD = 0.012, 0.12
TURN_WEIGHT_M = 0.02  # metres that a radian of the tool's rotation counts as
DAMPING_M = 0.01


class MovedArm(Protocol):
    """A twin, or many: knows how its tool moves with its joints."""

    def tool_jacobian(self) -> NDArray[np.float64]:
        """Of the tool's place [m] and rotation [rad] in the scene by the joints (..., 6, J), now."""
        ...


class Control(Protocol):
    """spec: of an action. relative: whether it moves the last command rather than replacing it."""

    spec: ArraySpec
    relative: bool

    def targets(self, action: NDArray, sent: NDArray[np.float32], arm: MovedArm) -> NDArray[np.float32]:
        """Joint targets (..., J) for an action (..., A) after the command `sent` (..., J). What is not finite gives
        NaN, which the safety filter refuses."""
        ...


class JointPosition:
    """Joint targets, in the units of the robot's spec."""

    relative = False

    def __init__(self, arms: Sequence[Arm], period_s: float) -> None:
        self.spec = arms[0].spec.action_spec

    def targets(self, action: NDArray, sent: NDArray[np.float32], arm: MovedArm) -> NDArray[np.float32]:
        return action


class JointVelocity:
    """Joint velocities as shares of each joint's max_speed: the command moves by as much as that is in one period."""

    relative = True

    def __init__(self, arms: Sequence[Arm], period_s: float) -> None:
        robot = arms[0].spec
        names = tuple(f"{joint}.velocity" for joint in robot.joint_names)
        ones = (1.0,) * len(names)
        self.spec = ArraySpec(
            (len(names),), unit="share of max_speed", names=names, low=tuple(-x for x in ones), high=ones
        )
        self._step = np.array(robot.max_speed) * period_s
        self._low, self._high = np.array(robot.position_low), np.array(robot.position_high)

    def targets(self, action: NDArray, sent: NDArray[np.float32], arm: MovedArm) -> NDArray[np.float32]:
        moved = sent + _shares(action) * self._step
        return np.clip(moved, self._low, self._high).astype(np.float32)


class CartesianDelta:
    """A step of the tool in the scene's frame, (x, y, z), a turn of it about the scene's axes, and the gripper's speed
    where there is a gripper. Raises SpecError for a robot with several arms.

    1 is TOOL_STEP_M, TOOL_TURN_RAD, and the gripper's max_speed. The joint step is damped least squares (Nakamura and
    Hanafusa 1986), which is what differential inverse kinematics as a quadratic program gives where no limit is met;
    limits are the safety filter's. An arm of less than six joints gives up the turn first.
    """

    relative = True

    def __init__(self, arms: Sequence[Arm], period_s: float) -> None:
        robot, self._joints = arms[0].spec, arms[0].joints
        if len(arms) > 1:
            raise SpecError(
                f"cartesian_delta moves one arm, {robot.name} has {len(arms)}; use joint_velocity or joint_position"
            )
        grippers = tuple(f"{joint}.velocity" for joint in robot.joint_names[self._joints :])
        names = (*(f"tool.{axis}" for axis in ("x", "y", "z", "rx", "ry", "rz")), *grippers)
        ones = (1.0,) * len(names)
        self.spec = ArraySpec((len(names),), unit="share", names=names, low=tuple(-x for x in ones), high=ones)
        self._step = np.array([TOOL_STEP_M] * 3 + [TOOL_TURN_RAD] * 3)
        self._weight = np.array([1.0] * 3 + [TURN_WEIGHT_M] * 3)
        self._joint_step = np.array(robot.max_speed) * period_s
        self._low, self._high = np.array(robot.position_low), np.array(robot.position_high)

    def targets(self, action: NDArray, sent: NDArray[np.float32], arm: MovedArm) -> NDArray[np.float32]:
        shares = _shares(action)
        jacobian, step = arm.tool_jacobian()[..., : self._joints], shares[..., :6] * self._step
        joints = damped_joint_step(jacobian, step, self._weight, DAMPING_M)
        change = np.concatenate([joints, shares[..., 6:] * self._joint_step[self._joints :]], axis=-1)
        # The whole step is slowed, so that the tool keeps its direction.
        over = np.maximum((np.abs(change) / self._joint_step).max(axis=-1, keepdims=True), 1.0)
        return np.clip(sent + change / over, self._low, self._high).astype(np.float32)


def _shares(action: NDArray) -> NDArray[np.float64]:
    """In [-1, 1], NaN for what is not finite."""
    shares = np.clip(action.astype(np.float64), -1.0, 1.0)
    return np.where(np.isfinite(action), shares, np.nan)


CONTROLS: dict[str, Callable[[Sequence[Arm], float], Control]] = {
    "joint_position": JointPosition,
    "joint_velocity": JointVelocity,
    "cartesian_delta": CartesianDelta,
}


def make_control(name: str, arms: Sequence[Arm], period_s: float) -> Control:
    """The control of this name for a robot with these arms. Raises UnknownNameError, and SpecError for a robot that it
    does not fit."""
    if name not in CONTROLS:
        raise UnknownNameError("control", name, CONTROLS)
    return CONTROLS[name](arms, period_s)
