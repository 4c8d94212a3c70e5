"""The leader arm: when it is in charge, and what it copies."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from robolearn.errors import HardwareError, SpecError
from robolearn.robots.calibration import Calibration, JointCalibration
from robolearn.robots.fake import FakeRobot
from robolearn.robots.servo_arm import ServoArmConfig
from robolearn.robots.standin import StandInBus
from robolearn.specs import RobotSpec
from robolearn.tasks.kinematics import SO101
from robolearn.teleop.leader_arm import ALIGN_RAD_S, LeaderArm, LeaderArmConfig
from robolearn.types import RobotState

HANDLE = replace(SO101, position_low=(*SO101.position_low[:5], -1.0), position_high=(*SO101.position_high[:5], 0.0))
CONFIG = LeaderArmConfig(ServoArmConfig("none", Path("none")), idle_s=1.0)
TICK_NS = 33_000_000


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
    for tick in range(100):
        action = arm.read(ZERO, tick * 10**8).action
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


def test_the_follower_comes_softly_to_a_leader_that_takes_over() -> None:
    arm, hand = leader(replace(CONFIG, idle_s=None))
    robot = state(0, 0, 0.39, 0, 0, -0.175)
    hand.put(0, 0, 0, 0, 0, -1.0)
    seen = [arm.read(robot, tick * TICK_NS).action for tick in range(1, 41)]
    elbow = np.array([action[2] for action in seen if action is not None])
    assert len(elbow) == 40
    assert elbow[0] == pytest.approx(0.39, abs=1e-6)
    assert np.abs(np.diff(elbow)).max() <= ALIGN_RAD_S * TICK_NS * 1e-9 + 1e-6
    assert elbow[-1] == 0
    hand.put(0, 0, 0.2, 0, 0, -1.0)  # then it copies at once
    action = arm.read(robot, 41 * TICK_NS).action
    assert action is not None
    assert action[2] == pytest.approx(0.2)


def test_a_follower_that_does_not_follow_is_let_go_of() -> None:
    arm, hand = leader(replace(CONFIG, idle_s=None))
    robot = state(0, 0, 0, 0, 0, -0.175)  # it holds: hot, at a limit, or a motor has failed
    hand.put(0, 0, 0, 0, 0, -1.0)
    arm.read(robot, 1)
    hand.put(0, 0, 0.9, 0, 0, -1.0)
    assert arm.read(robot, 10**8).action is not None  # it may only be slow
    assert "elbow_flex of the leader is 0.90 rad from the robot's" in arm.read(robot, 12 * 10**8).reason
    hand.put(0, 0, 0.2, 0, 0, -1.0)
    action = arm.read(robot, 13 * 10**8).action
    assert action is not None
    assert action[2] < 0.06


@pytest.mark.parametrize("later_ns", [10**12, -(10**12)])
def test_after_a_sleep_the_follower_comes_softly(later_ns: int) -> None:
    arm, hand = leader(replace(CONFIG, idle_s=None))
    robot = state(0, 0, 0, 0, 0, -0.175)
    hand.put(0, 0, 0, 0, 0, -1.0)
    arm.read(robot, 10**13)
    hand.put(0, 0, 0.3, 0, 0, -1.0)
    np.testing.assert_allclose(arm.read(robot, 10**13 + later_ns).action, robot.joint_position, atol=1e-6)


def test_a_gripper_that_squeezes_is_not_let_go_of() -> None:
    arm, hand = leader(replace(CONFIG, idle_s=None))
    robot = state(0, 0, 0, 0, 0, -0.175)
    hand.put(0, 0, 0, 0, 0, -1.0)
    arm.read(robot, 1)
    hand.put(0, 0, 0, 0, 0, 0.0)
    assert all(arm.read(robot, second * 10**9).action is not None for second in range(1, 5))


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


def test_a_leader_whose_cable_was_pulled_is_connected_again(tmp_path: Path) -> None:
    joints = tuple(JointCalibration(n, i + 1, 2048, 1, -1.5, 1.5) for i, n in enumerate(SO101.joint_names))
    Calibration("sts3215", 4096, 0.0, joints).save(tmp_path / "leader.json")
    with StandInBus("sts3215", path=tmp_path / "leader") as bus:
        config = LeaderArmConfig(ServoArmConfig(bus.port, tmp_path / "leader.json"))
        arm = LeaderArm(config, SO101)
        arm.connect()
        robot = state(0, 0, 0, 0, 0, (SO101.position_low[5] + SO101.position_high[5]) / 2)
        assert arm.read(robot, 0).action is not None
        bus.pull_cable()
        for now_ns in (10**8, 9 * 10**8, 12 * 10**8):
            with pytest.raises(HardwareError, match="lost") as raised:
                arm.read(robot, now_ns)
            assert "hold" not in str(raised.value)  # it is limp
        assert "no such port; plug the adapter in" in trouble(arm, robot, "no such port")
        bus.plug_in()
        bus.motors[3].encoder += 500  # 0.77 rad
        assert "elbow_flex of the leader is 0.77 rad" in trouble(arm, robot, "elbow_flex")
        arm.close()


def trouble(arm: LeaderArm, robot: RobotState, words: str) -> str:
    """What a leader that is connected again says once it says these words, or 10 s later."""
    end_s, told = time.monotonic() + 10, ""
    while words not in told and time.monotonic() < end_s:
        time.sleep(0.02)
        try:
            told = arm.read(robot, 13 * 10**8).reason
        except HardwareError as error:
            told = str(error)
    return told


def test_a_leader_whose_motors_are_silent_is_not_waited_for(tmp_path: Path) -> None:
    joints = tuple(JointCalibration(n, i + 1, 2048, 1, -1.5, 1.5) for i, n in enumerate(SO101.joint_names))
    Calibration("sts3215", 4096, 0.0, joints).save(tmp_path / "leader.json")
    with StandInBus("sts3215") as bus:
        arm = LeaderArm(LeaderArmConfig(ServoArmConfig(bus.port, tmp_path / "leader.json")), SO101)
        arm.connect()
        for motor in bus.motors.values():
            motor.present = False
        for now_ns in (10**8, 12 * 10**8):
            with pytest.raises(HardwareError, match="no answer from shoulder_pan"):
                arm.read(ZERO, now_ns)
        began_s = time.monotonic()
        for _ in range(100):
            with pytest.raises(HardwareError, match="no answer from shoulder_pan"):
                arm.read(ZERO, 13 * 10**8)
        with pytest.raises(HardwareError, match="no answer from shoulder_pan"):
            arm.connect()  # so that a stop is resumed at once
        assert time.monotonic() - began_s < 0.5
        arm.close()
        assert not any(thread.name.startswith("leader") for thread in threading.enumerate())


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
    assert arm.read(robot, 2 * 10**9).action is None  # a clock that went back moves no leader


def test_a_leader_without_a_joint_is_refused() -> None:
    other = replace(HANDLE, joint_names=("pan", *HANDLE.joint_names[1:]))
    with pytest.raises(SpecError, match="the leader has no shoulder_pan"):
        leader(spec=other)
