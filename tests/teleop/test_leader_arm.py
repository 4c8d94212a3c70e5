"""The leader arm: when it is in charge, and what it copies."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from robolearn.errors import HardwareError, SpecError
from robolearn.robots.fake import FakeRobot
from robolearn.robots.servo_arm import ServoArmConfig
from robolearn.specs import RobotSpec
from robolearn.tasks.kinematics import SO101
from robolearn.teleop.leader_arm import LeaderArm, LeaderArmConfig
from robolearn.types import RobotState

HANDLE = replace(SO101, position_low=(*SO101.position_low[:5], -1.0), position_high=(*SO101.position_high[:5], 0.0))
CONFIG = LeaderArmConfig(ServoArmConfig("none", Path("none")), idle_s=1.0)


class Hand(FakeRobot):
    """A leader that is where the hand put it."""

    def put(self, *position: float) -> None:
        self._position = self._target = np.array(position)


def leader(config: LeaderArmConfig = CONFIG, spec: RobotSpec = HANDLE) -> tuple[LeaderArm, Hand]:
    hand = Hand(spec)
    arm = LeaderArm(config, SO101, make_arm=lambda arm_config: hand)
    arm.connect()
    return arm, hand


def state(*position: float) -> RobotState:
    return RobotState(np.array(position, np.float32), np.zeros(6, np.float32), 0)


ZERO = state(0, 0, 0, 0, 0, 0)


def test_joints_are_copied_and_the_gripper_by_its_share() -> None:
    arm, hand = leader(replace(CONFIG, idle_s=None, max_start_gap_rad=9.0))
    hand.put(0.1, 0.2, -0.3, 0.4, 0.5, -0.5)
    action = arm.read(ZERO, 0).action
    middle = (SO101.position_low[5] + SO101.position_high[5]) / 2
    np.testing.assert_allclose(action, [0.1, 0.2, -0.3, 0.4, 0.5, middle], atol=1e-6)


def test_it_takes_over_only_near_the_robot() -> None:
    arm, hand = leader(replace(CONFIG, idle_s=None))
    robot = state(0, 0, 0.9, 0, 0, -0.175)
    hand.put(0, 0, 0, 0, 0, -1.0)
    command = arm.read(robot, 0)
    assert command.action is None
    assert (
        command.reason == "elbow_flex of the leader is 0.90 rad from the robot's; bring it within 0.4 rad to take over"
    )
    hand.put(0, 0, 0.6, 0, 0, -1.0)
    assert arm.read(robot, 1).action is not None
    hand.put(0, 0, -0.6, 0, 0, -1.0)  # once it is in charge, it stays so
    assert arm.read(robot, 2).action is not None


def test_a_leader_that_was_silent_has_to_come_near_again() -> None:
    arm, hand = leader(replace(CONFIG, idle_s=None))
    robot = state(0, 0, 0, 0, 0, -0.175)
    hand.put(0, 0, 0, 0, 0, -1.0)
    assert arm.read(robot, 0).action is not None
    hand._reads_left = 0
    with pytest.raises(HardwareError):
        arm.read(robot, 1)
    hand._reads_left = None
    hand.put(0, 0, 0.9, 0, 0, -1.0)
    assert "bring it within" in arm.read(robot, 2).reason


def test_a_leader_that_lies_still_is_not_in_charge() -> None:
    arm, hand = leader()
    robot = state(0, 0, 0, 0, 0, -0.175)
    hand.put(0, 0, 0, 0, 0, -1.0)
    assert arm.read(robot, 0).action is None
    hand.put(0, 0.1, 0, 0, 0, -1.0)
    assert arm.read(robot, 10**8).action is not None
    assert arm.read(robot, 10**9).action is not None
    assert arm.read(robot, 2 * 10**9).action is None
    hand.put(0, 0.2, 0, 0, 0, -1.0)
    assert arm.read(robot, 3 * 10**9).action is not None


def test_a_leader_without_a_joint_is_refused() -> None:
    other = replace(HANDLE, joint_names=("pan", *HANDLE.joint_names[1:]))
    with pytest.raises(SpecError, match="the leader has no shoulder_pan"):
        leader(spec=other)
