"""The keyboard on a real (pseudo-)terminal."""

from __future__ import annotations

import os
import termios
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robolearn.errors import HardwareError, SpecError
from robolearn.specs import RobotSpec
from robolearn.tasks.kinematics import SO101
from robolearn.teleop.keyboard import Keyboard, KeyboardConfig
from robolearn.teleop.reach import REACH_SHARE
from robolearn.teleop.teleoperator import TeleopEvent
from robolearn.types import RobotState

STATE = RobotState(np.full(6, 0.1, np.float32), np.zeros(6, np.float32), 0)
MS = 1_000_000


@pytest.fixture
def terminal() -> Iterator[tuple[int, int]]:
    master, slave = os.openpty()
    yield master, slave
    for fd in (master, slave):
        try:
            os.close(fd)
        except OSError:
            continue


@pytest.fixture
def make(terminal: tuple[int, int]) -> Callable[..., Keyboard]:
    def make(**changes: Any) -> Keyboard:
        keyboard = Keyboard(replace(KeyboardConfig(), **changes), SO101, terminal[1])
        keyboard.connect()
        return keyboard

    return make


@pytest.fixture
def press(terminal: tuple[int, int]) -> Callable[[bytes], None]:
    return lambda keys: os.write(terminal[0], keys) and None


def test_a_held_key_moves_its_joint_at_the_speed(make: Callable[..., Keyboard], press: Callable[[bytes], None]) -> None:
    keyboard = make(speed_rad_s=0.5)
    assert keyboard.read(STATE, 0).action is None
    for now_ms in range(0, 330, 33):  # as a terminal repeats it
        press(b"w")
        action = keyboard.read(STATE, now_ms * MS).action
    assert action is not None
    np.testing.assert_allclose(action, [0.1, 0.1 + 0.5 * 0.297, 0.1, 0.1, 0.1, 0.1], atol=1e-6)
    for now_ms in range(330, 900, 33):
        action = keyboard.read(STATE, now_ms * MS).action
    assert action is not None
    held = 0.5 * (0.297 + 0.15)
    np.testing.assert_allclose(action[1], 0.1 + held, atol=0.5 * 0.033)


def test_a_clock_that_goes_back_holds_no_key(make: Callable[..., Keyboard], press: Callable[[bytes], None]) -> None:
    keyboard = make()
    press(b"w")
    keyboard.read(STATE, 10_000 * MS)
    for now_ms in range(1000, 2000, 33):
        action = keyboard.read(STATE, now_ms * MS).action
    np.testing.assert_allclose(action, STATE.joint_position, atol=0.01)


def test_the_other_key_moves_back_and_brackets_change_the_speed(
    make: Callable[..., Keyboard], press: Callable[[bytes], None]
) -> None:
    keyboard = make(speed_rad_s=1.0)
    press(b"[s")
    keyboard.read(STATE, 0)
    action = keyboard.read(STATE, 100 * MS).action
    assert action is not None
    assert action[1] == pytest.approx(0.1 - 0.5 * 0.1)


def test_it_stays_in_the_limits(make: Callable[..., Keyboard], press: Callable[[bytes], None]) -> None:
    keyboard, state = make(speed_rad_s=5.0), STATE
    for now_ms in range(0, 1000, 50):
        press(b"q")
        action = keyboard.read(state, now_ms * MS).action
        assert action is not None
        state = replace(STATE, joint_position=action)  # it follows
    assert action[0] == np.float32(SO101.position_high[0])


def test_a_robot_that_holds_is_not_run_away_from(make: Callable[..., Keyboard], press: Callable[[bytes], None]) -> None:
    keyboard = make()
    for now_ms in range(0, 3000, 50):
        press(b"q")
        action = keyboard.read(STATE, now_ms * MS).action
    assert action is not None
    reach = REACH_SHARE * (SO101.position_high[0] - SO101.position_low[0])
    np.testing.assert_allclose(action, STATE.joint_position + reach * np.eye(6)[0], atol=1e-6)


@pytest.mark.parametrize(
    ("keys", "event"),
    [
        (b" ", TeleopEvent.STOP),
        (b"\r", TeleopEvent.SUCCESS),
        (b"x", TeleopEvent.FAILURE),
        (b"\x7f", TeleopEvent.DISCARD),
    ],
)
def test_events(make: Callable[..., Keyboard], press: Callable[[bytes], None], keys: bytes, event: TeleopEvent) -> None:
    keyboard = make()
    press(keys)
    assert keyboard.read(STATE, 0).events == (event,)
    assert keyboard.read(STATE, MS).events == ()


def test_a_stop_and_ctrl_d_let_go(make: Callable[..., Keyboard], press: Callable[[bytes], None]) -> None:
    keyboard = make()
    for keys in (b"q ", b"q\x04"):
        press(keys)
        assert keyboard.read(STATE, 0).action is None


def test_an_idle_person_is_not_in_charge(make: Callable[..., Keyboard], press: Callable[[bytes], None]) -> None:
    keyboard = make(idle_s=1.0)
    press(b"q")
    assert keyboard.read(STATE, 0).action is not None
    assert keyboard.read(STATE, 900 * MS).action is not None
    assert keyboard.read(STATE, 1100 * MS).action is None
    press(b"q")
    again = keyboard.read(STATE, 5000 * MS).action  # from where the robot is then
    np.testing.assert_allclose(again, STATE.joint_position)
    assert keyboard.read(STATE, 2000 * MS).action is None  # the clock went back


def test_arrow_keys_are_not_brackets_even_in_pieces(
    make: Callable[..., Keyboard], press: Callable[[bytes], None]
) -> None:
    keyboard = make()
    for piece in (b"\x1b[A", b"\x1b", b"[", b"1;5", b"C", b"\x1bOP"):
        press(piece)
        assert keyboard.read(STATE, 0).events == ()
    press(b"q")
    keyboard.read(STATE, 0)
    action = keyboard.read(STATE, 100 * MS).action
    assert action is not None
    assert action[0] == pytest.approx(0.1 + 0.05)  # the speed has not changed


@given(st.lists(st.tuples(st.binary(max_size=6), st.integers(0, 10**9)), max_size=12))
def test_no_bytes_break_it(events: list[tuple[bytes, int]]) -> None:
    master, slave = os.openpty()
    keyboard = Keyboard(KeyboardConfig(), SO101, slave)
    keyboard.connect()
    now_ns = 0
    for data, elapsed_ns in events:
        os.write(master, data.replace(b"\x03", b"").replace(b"\x1a", b"").replace(b"\x1c", b""))
        now_ns += elapsed_ns
        action = keyboard.read(STATE, now_ns).action
        assert action is None or np.isfinite(action).all()
    keyboard.close()
    os.close(slave)
    os.close(master)


def test_the_terminal_is_given_back(terminal: tuple[int, int]) -> None:
    before = termios.tcgetattr(terminal[1])
    keyboard = Keyboard(KeyboardConfig(), SO101, terminal[1])
    keyboard.connect()
    assert termios.tcgetattr(terminal[1]) != before
    keyboard.connect()
    keyboard.close()
    assert termios.tcgetattr(terminal[1]) == before


def test_a_closed_terminal_is_an_error(make: Callable[..., Keyboard], terminal: tuple[int, int]) -> None:
    keyboard = make()
    os.close(terminal[0])
    with pytest.raises(HardwareError, match="terminal was closed"):
        keyboard.read(STATE, 0)


def test_no_terminal_is_an_error() -> None:
    read, write = os.pipe()
    with pytest.raises(HardwareError, match="needs a terminal"):
        Keyboard(KeyboardConfig(), SO101, read).connect()
    os.close(read)
    os.close(write)


@pytest.mark.parametrize("keys", [("qa",), ("qa", "ws", "ed", "rf", "tg", "qh"), ("x1", "ws", "ed", "rf", "tg", "yh")])
def test_wrong_keys_are_refused(keys: tuple[str, ...]) -> None:
    with pytest.raises(SpecError, match="keyboard has the keys"):
        Keyboard(KeyboardConfig(keys=keys), SO101, 0)


def test_a_robot_of_fewer_joints_than_keys_has_the_first_of_them(
    terminal: tuple[int, int], press: Callable[[bytes], None]
) -> None:
    two = RobotSpec("my_arm", ("pan", "tilt"), (-1.5, -0.8), (1.5, 0.8), (2.0, 2.0))
    keyboard = Keyboard(KeyboardConfig(), two, terminal[1])
    keyboard.connect()
    state = RobotState(np.zeros(2, np.float32), np.zeros(2, np.float32), 0)
    press(b"e")  # of a third joint
    assert keyboard.read(state, 0).action is None
    for now_ms in range(0, 99, 33):
        press(b"w")
        action = keyboard.read(state, now_ms * MS).action
    assert action is not None
    assert action.shape == (2,)
    assert action[1] > 0
