from __future__ import annotations

import numpy as np
import pytest

from robolearn.errors import HardwareError
from robolearn.robots.fake import FakeRobot


class Clock:
    now_ns = 0

    def __call__(self) -> int:
        return self.now_ns


def test_runs_at_full_speed_and_stops_at_the_target() -> None:
    clock = Clock()
    robot = FakeRobot(clock=clock)
    robot.connect()
    robot.write(np.array([0.6, 0, 0, 0, 0, 0], np.float32))
    clock.now_ns = 100_000_000
    state = robot.read()
    assert state.joint_position[0] == pytest.approx(0.3)
    assert state.joint_velocity[0] == pytest.approx(3.0)
    assert state.stamp_ns == clock.now_ns
    clock.now_ns = 1_000_000_000
    assert robot.read().joint_position[0] == pytest.approx(0.6)
    assert robot.read().joint_velocity[0] == 0.0


def test_stays_within_its_limits() -> None:
    clock = Clock()
    robot = FakeRobot(clock=clock)
    robot.connect()
    robot.write(np.full(6, 10.0, np.float32))
    clock.now_ns = 10_000_000_000
    np.testing.assert_allclose(robot.read().joint_position, robot.spec.position_high, rtol=1e-6)


def test_goes_silent_on_request() -> None:
    robot = FakeRobot(silent_after=2)
    robot.connect()
    robot.read()
    robot.read()
    with pytest.raises(HardwareError, match="cable"):
        robot.read()
