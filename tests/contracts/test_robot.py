"""What every robot of the table does: the fake, the twin's arm, and servo arms on stand-in buses of both kinds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from robolearn.errors import HardwareError, SpecError
from robolearn.plugins import Device
from robolearn.robots import ROBOTS
from robolearn.robots.calibration import Calibration, JointCalibration
from robolearn.robots.combined import CombinedRobotConfig
from robolearn.robots.fake import FakeRobot
from robolearn.robots.robot import Robot
from robolearn.robots.servo_arm import ServoArmConfig
from robolearn.robots.servo_bus import BusConfig
from robolearn.robots.standin import WIRES, StandInBus
from robolearn.tasks import make_task
from robolearn.tasks.kinematics import SO101
from robolearn.twin.devices import TwinRobot
from robolearn.twin.twin import Twin

STAND_INS = {f"servo_arm {kind}": kind for kind in WIRES}


@pytest.fixture(params=sorted({*ROBOTS, *STAND_INS, "fake", "twin"} - {"servo_arm"}))
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[..., Robot]]:
    if request.param == "fake":
        yield FakeRobot
        return
    if request.param == "twin":
        yield lambda: TwinRobot(Twin(make_task("reach-v1"), cameras={}))
        return
    if request.param not in (*STAND_INS, "combined"):
        made: Any = ROBOTS[request.param]
        yield lambda: made(made.config_type())
        return
    kind = STAND_INS.get(request.param, "sts3215")
    joints = enumerate(zip(SO101.position_low, SO101.position_high, strict=True))
    calibration = Calibration(
        kind, 4096, 0.0, tuple(JointCalibration(SO101.joint_names[i], i + 1, 2048, 1, *ends) for i, ends in joints)
    )
    calibration.save(tmp_path / "calibration.json")
    with StandInBus(kind) as bus, StandInBus(kind) as other:
        patient = BusConfig(answer_timeout_s=0.05)  # the machine that runs the tests may be busy
        config, second = (ServoArmConfig(b.port, tmp_path / "calibration.json", bus=patient) for b in (bus, other))
        if request.param == "combined":
            arms = {"left": Device("servo_arm", config), "right": Device("servo_arm", second)}
            yield lambda: ROBOTS["combined"](CombinedRobotConfig("pair", arms))
        else:
            yield lambda: ROBOTS["servo_arm"](config)


@pytest.fixture
def robot(make: Callable[..., Robot]) -> Iterator[Robot]:
    robot = make()
    robot.connect()
    yield robot
    robot.close()


def test_is_a_robot(robot: Robot) -> None:
    assert isinstance(robot, Robot)


def test_reads_what_its_spec_says(robot: Robot) -> None:
    state = robot.read()
    joints = len(robot.spec.joint_names)
    for array in (state.joint_position, state.joint_velocity):
        assert array.shape == (joints,)
        assert array.dtype == np.float32
    robot.spec.proprio_spec.check("proprio", state.proprio())
    assert isinstance(state.stamp_ns, int)
    assert (state.joint_position >= robot.spec.position_low).all()
    assert (state.joint_position <= robot.spec.position_high).all()


def test_stamps_never_go_back(robot: Robot) -> None:
    stamps = [robot.read().stamp_ns for _ in range(5)]
    assert stamps == sorted(stamps)


def test_takes_its_own_position_as_a_command(robot: Robot) -> None:
    robot.write(robot.read().joint_position)


def test_what_it_read_is_not_changed_by_what_comes_later(robot: Robot) -> None:
    before = robot.read()
    kept = before.joint_position.copy()
    robot.write((kept + np.float32(0.1)).astype(np.float32))
    robot.read()
    np.testing.assert_array_equal(before.joint_position, kept)


@pytest.mark.parametrize("value", [0.0, np.nan, np.inf])
def test_refuses_a_command_that_is_none(robot: Robot, value: float) -> None:
    joints = len(robot.spec.joint_names)
    with pytest.raises(SpecError):
        robot.write(np.full(joints - 1 if value == 0 else joints, value, np.float32))


def test_is_silent_unless_connected(make: Callable[..., Robot]) -> None:
    robot = make()
    with pytest.raises(HardwareError, match="connect"):
        robot.read()
    with pytest.raises(HardwareError, match="connect"):
        robot.write(np.zeros(len(robot.spec.joint_names), np.float32))


def test_closes_twice_and_opens_again(robot: Robot) -> None:
    robot.close()
    robot.close()
    with pytest.raises(HardwareError):
        robot.read()
    robot.connect()
    robot.read()
