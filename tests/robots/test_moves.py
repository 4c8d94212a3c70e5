"""Slow moves: they arrive at their pace, through the filter, and say why they do not."""

from __future__ import annotations

import numpy as np
import pytest

from robolearn.errors import HardwareError
from robolearn.robots.fake import FakeRobot
from robolearn.robots.moves import move_to, park
from robolearn.robots.safety import SafetyConfig, SafetyFilter
from robolearn.tasks.kinematics import SO101

PERIOD_S = 0.02


class Time:
    now_ns = 1_000_000_000

    def __call__(self) -> int:
        return self.now_ns

    def sleep(self, seconds: float) -> None:
        self.now_ns += round(seconds * 1e9)


def started() -> tuple[FakeRobot, SafetyFilter, Time]:
    clock = Time()
    robot = FakeRobot(clock=clock)
    robot.connect()
    return robot, SafetyFilter(SO101, SafetyConfig(max_acceleration=10.0), PERIOD_S), clock


def test_a_pose_is_reached_at_the_speed_that_was_asked_for() -> None:
    robot, safety, clock = started()
    pose = [0.5, -0.3, 0.2, 0.1, 0.0, 0.4]
    move_to(robot, safety, pose, 0.5, PERIOD_S, clock=clock, sleep=clock.sleep)
    np.testing.assert_allclose(robot.read().joint_position, pose, atol=0.05)
    assert 1.0 <= (clock.now_ns - 1_000_000_000) * 1e-9 < 1.3


def test_a_robot_that_is_held_or_blocked_is_given_up() -> None:
    robot, safety, clock = started()
    with pytest.raises(HardwareError, match=r"holds on its way: shoulder_pan is"):
        move_to(robot, safety, [5.0, 0, 0, 0, 0, 0], 50.0, PERIOD_S, clock=clock, sleep=clock.sleep)
    robot.write = lambda action: None  # type: ignore[method-assign]
    with pytest.raises(HardwareError, match="is something in its way"):
        move_to(robot, safety, [0.5, 0, 0, 0, 0, 0], 0.5, PERIOD_S, clock=clock, sleep=clock.sleep)


@pytest.mark.parametrize("comes_free_s", [2.0, np.inf])
def test_an_arm_that_is_blocked_arrives_when_it_comes_free_or_is_given_up_as_that(comes_free_s: float) -> None:
    """A command runs ahead of it by no more than `max_lag`, and the goal of the move waits for the command, so near
    that it is no jump."""
    robot, _, clock = started()
    safety = SafetyFilter(SO101, SafetyConfig(max_lag=(0.2,) * 6, max_jump=0.05), PERIOD_S)
    write, sent, begin_ns = robot.write, list[np.ndarray](), clock.now_ns

    def write_unless_blocked(action: np.ndarray) -> None:
        sent.append(action)
        passed_s, stands = (clock.now_ns - begin_ns) * 1e-9, robot.read().joint_position
        if not 0.5 < passed_s < 0.5 + comes_free_s:
            write(np.clip(action, stands - 0.02, stands + 0.02))

    robot.write = write_unless_blocked  # type: ignore[method-assign]
    pose = [1.5, 0, 0, 0, 0, 0]
    if comes_free_s == np.inf:
        with pytest.raises(HardwareError, match=r"shoulder_pan is .* rad from where .* is something in its way"):
            move_to(robot, safety, pose, 0.5, PERIOD_S, clock=clock, sleep=clock.sleep)
    else:
        move_to(robot, safety, pose, 0.5, PERIOD_S, clock=clock, sleep=clock.sleep)
        np.testing.assert_allclose(robot.read().joint_position, pose, atol=0.05)
        assert 1.5 / 0.5 + comes_free_s - 1.0 < (clock.now_ns - begin_ns) * 1e-9  # it does not make up for the wait
    assert np.abs(np.diff(sent, axis=0)).max() < 2.1 * 0.5 * PERIOD_S


def test_who_was_asleep_on_the_way_does_not_catch_up_in_a_leap() -> None:
    robot, _, clock = started()
    safety = SafetyFilter(SO101, SafetyConfig(), PERIOD_S)
    sent: list[np.ndarray] = []
    write = robot.write
    robot.write = lambda action: sent.append(action) or write(action)  # type: ignore[method-assign, func-returns-value]

    def sleep(seconds: float) -> None:
        clock.sleep(seconds + (0.5 if len(sent) == 10 else 0.0))

    move_to(robot, safety, [0.5, 0, 0, 0, 0, 0], 0.5, PERIOD_S, clock=clock, sleep=sleep)
    assert np.abs(np.diff(sent, axis=0)).max() < 3.1 * 0.5 * PERIOD_S


@pytest.mark.parametrize("speed", [0.0, -1.0, float("nan")])
def test_a_move_wants_a_speed(speed: float) -> None:
    robot, safety, clock = started()
    with pytest.raises(HardwareError, match="expected more than 0"):
        move_to(robot, safety, [0.1] * 6, speed, PERIOD_S, clock=clock, sleep=clock.sleep)


def test_parking_wants_a_pose_to_rest_in() -> None:
    robot, safety, _ = started()
    with pytest.raises(HardwareError, match="rest_rad"):
        park(robot, safety, 0.5, PERIOD_S)
