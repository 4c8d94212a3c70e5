"""How far the joint targets of a person may run ahead of the robot. Legend: J joints, the gripper last.

A robot that holds (too hot, at the end of its workspace, a motor that failed) does not follow, while whoever keeps the
stick pressed moves the target on: without an end to that, the robot would run after it once it may move again.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from robolearn.specs import RobotSpec
from robolearn.types import RobotState

REACH_SHARE = 0.1  # of a joint's range: more than an arm lags behind and sags, less than what is refused as a jump


def within_reach(target: NDArray[np.float64], state: RobotState, spec: RobotSpec) -> NDArray[np.float64]:
    """`target` (J,) in the joints' ranges and near where the joints are; the gripper, which squeezes, in its range."""
    low, high = np.array(spec.position_low), np.array(spec.position_high)
    reach = REACH_SHARE * (high - low)
    reach[-1] = np.inf
    position = np.clip(state.joint_position, low, high)
    return np.clip(target, np.maximum(low, position - reach), np.minimum(high, position + reach))
