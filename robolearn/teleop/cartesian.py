"""Moving the tool of an arm instead of its joints. Legend: J joints, the gripper last.

A `Hand` keeps the joint targets of a person who is in charge. It takes over where the robot is and follows speeds of
the tool. Targets end at the joints' limits and near the robot (`reach.py`), so that turning back acts at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from robolearn.assets import asset
from robolearn.errors import SpecError
from robolearn.robots.kinematics import Kinematics
from robolearn.specs import RobotSpec
from robolearn.teleop.reach import within_reach
from robolearn.types import RobotState

LONGEST_STEP_S = 0.1  # between two readings; what is beyond is not made up for


@dataclass(frozen=True)
class CartesianConfig:
    """Which arm, and how fast its tool moves at full deflection."""

    model: Path | None = None  # MJCF with the robot's joint names; None: the one of sim_assets with the robot's name
    tool: str = "tool"  # its body that is moved
    speed_m_s: float = 0.15
    turn_rad_s: float = 1.0
    grip_share_s: float = 1.0  # of the gripper's range
    in_tool_frame: bool = False  # directions are the tool's, not the base's

    def __post_init__(self) -> None:
        for name, most in (("speed_m_s", 2.0), ("turn_rad_s", 10.0), ("grip_share_s", 10.0)):
            if not 0 < getattr(self, name) <= most:
                raise SpecError(f"{name} is {getattr(self, name):g}, expected above 0 and at most {most:g}")


class Hand:
    """The targets of one person. `target` (J,) is None while nobody is in charge."""

    def __init__(self, config: CartesianConfig, spec: RobotSpec) -> None:
        self.config, self._spec = config, spec
        model = config.model or asset(f"sim_assets/robots/{spec.name}/{spec.name}.xml")
        self.kinematics = Kinematics(model, spec, config.tool)
        self.target: NDArray[np.float64] | None = None
        self._low, self._high = np.array(spec.position_low), np.array(spec.position_high)
        self._moved_ns = 0

    def take(self, state: RobotState, now_ns: int) -> None:
        """Be in charge, from where the robot is; who is already stays in its reach."""
        if self.target is None:
            self.target, self._moved_ns = state.joint_position.astype(np.float64), now_ns
        self.target = within_reach(self.target, state, self._spec)

    def let_go(self) -> None:
        self.target = None

    def move(self, twist: NDArray[np.float64], grip: float, now_ns: int) -> NDArray[np.float32] | None:
        """The targets (J,) after moving with `twist` (6,) (along, about x y z) and `grip` since the last call.

        Both in shares of full speed, -1 to 1; `grip` > 0 opens.
        """
        elapsed_s = self.elapsed_s(now_ns)
        speeds = np.array([self.config.speed_m_s] * 3 + [self.config.turn_rad_s] * 3)
        return self.shift(np.clip(twist, -1, 1) * speeds * elapsed_s, self.config.grip_share_s * elapsed_s * grip)

    def shift(self, step: NDArray[np.float64], grip_share: float) -> NDArray[np.float32] | None:
        """The targets (J,) after moving the tool by `step` (6,) [m, rad], and opening the gripper by a share."""
        if self.target is None:
            return None
        if self.config.in_tool_frame:
            _, rotation = self.kinematics.tool(self.target)
            step = np.concatenate([rotation @ step[:3], rotation @ step[3:]])
        target = self.target.copy()
        if step.any():
            target += self.kinematics.joint_step(target, step)
        target[-1] += grip_share * (self._high[-1] - self._low[-1])
        self.target = np.clip(target, self._low, self._high)
        return self.target.astype(np.float32)

    def elapsed_s(self, now_ns: int) -> float:
        """Since the last call, within reason."""
        elapsed_s, self._moved_ns = (now_ns - self._moved_ns) * 1e-9, now_ns
        return min(max(elapsed_s, 0.0), LONGEST_STEP_S)
