"""Arms on stand-in buses, of both kinds."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from robolearn.robots.calibration import Calibration, JointCalibration
from robolearn.robots.servo_arm import ServoArm, ServoArmConfig
from robolearn.robots.servo_bus import BusConfig
from robolearn.robots.standin import StandInBus

JOINTS = ("shoulder_pan", "shoulder_lift", "elbow_flex", "wrist_flex", "wrist_roll", "gripper")
DIRECTIONS = (1, -1, 1, 1, -1, 1)
PATIENT = BusConfig(answer_timeout_s=0.05)  # the machine that runs the tests may be busy


def calibration_of(kind: str) -> Calibration:
    joints = tuple(
        JointCalibration(name, i + 1, 2048 + 10 * i, DIRECTIONS[i], -1.5, 1.5) for i, name in enumerate(JOINTS)
    )
    return Calibration(kind, 4096, 0.01, joints)


@pytest.fixture(params=["sts3215", "dynamixel_x"])
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def bus(kind: str, tmp_path: Path) -> Iterator[StandInBus]:
    with StandInBus(kind, path=tmp_path / "port") as bus:
        yield bus


@pytest.fixture
def make_arm(kind: str, bus: StandInBus, tmp_path: Path) -> Iterator[Callable[..., ServoArm]]:
    """Arms on `bus`, with changes to their configuration."""
    path = tmp_path / "calibration.json"
    calibration_of(kind).save(path)
    arms = []

    def make(**changes: Any) -> ServoArm:
        config = replace(ServoArmConfig(bus.port, path, command_timeout_s=5.0, bus=PATIENT), **changes)
        arms.append(ServoArm(config))
        return arms[-1]

    yield make
    for arm in arms:
        arm.close()


@pytest.fixture
def arm(make_arm: Callable[..., ServoArm]) -> ServoArm:
    arm = make_arm()
    arm.connect()
    return arm


def encoders(bus: StandInBus) -> np.ndarray:
    bus.settle()
    return np.array([motor.encoder for motor in bus.motors.values()])


def wait_until(condition: Callable[[], bool], timeout_s: float = 10.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)
