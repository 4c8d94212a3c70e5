"""Gamepad, SpaceMouse and phone: what their bytes and messages do to the tool."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from robolearn.cell import load_cell
from robolearn.errors import HardwareError, SpecError
from robolearn.tasks.kinematics import SO101, forward
from robolearn.teleop import TELEOPERATORS
from robolearn.teleop.gamepad import Gamepad, GamepadConfig
from robolearn.teleop.phone import Phone, PhoneConfig
from robolearn.teleop.reach import REACH_SHARE
from robolearn.teleop.spacemouse import SpaceMouse, SpaceMouseConfig
from robolearn.teleop.standin import StandInGamepad, StandInSpaceMouse
from robolearn.teleop.sticks import StickMapping
from robolearn.teleop.teleoperator import TeleopCommand, Teleoperator, TeleopEvent
from robolearn.types import RobotState

READY = np.array([0.0, -0.4, 0.5, 0.8, 0.0, 0.5], np.float32)
STATE = RobotState(READY, np.zeros(6, np.float32), 0)
TICK_NS = 33_000_000
RB, LB, X, Y, B, A = 5, 4, 2, 3, 1, 0


def read(teleoperator: Teleoperator, ticks: int, start: int = 1) -> TeleopCommand:
    for tick in range(start, start + ticks):
        command = teleoperator.read(STATE, tick * TICK_NS)
    return command


def moved(command: TeleopCommand) -> np.ndarray:
    """How far the tool was sent [m]."""
    assert command.action is not None
    return forward(command.action)[0] - forward(READY)[0]


@pytest.fixture
def pad() -> Iterator[StandInGamepad]:
    pad = StandInGamepad()
    pad.begin()
    yield pad
    pad.unplug()


@pytest.fixture
def mouse() -> Iterator[StandInSpaceMouse]:
    mouse = StandInSpaceMouse()
    yield mouse
    mouse.unplug()


def gamepad(pad: StandInGamepad) -> Gamepad:
    teleoperator = Gamepad(GamepadConfig(device=pad.path), SO101)
    teleoperator.connect()
    return teleoperator


def test_sticks_move_the_tool_only_while_the_clutch_is_held(pad: StandInGamepad) -> None:
    teleoperator = gamepad(pad)
    pad.axis(1, -1.0)
    assert read(teleoperator, 2).action is None
    pad.button(RB)
    forwards = moved(read(teleoperator, 21, start=10))
    assert forwards[0] == pytest.approx(0.5 * 0.15 * 20 * 0.033, rel=0.2)
    assert np.abs(forwards[1:]).max() < 0.01
    pad.button(RB, down=False)
    assert read(teleoperator, 1, start=40).action is None
    pad.button(RB)
    np.testing.assert_array_equal(read(teleoperator, 1, start=41).action, READY)  # it takes over where the robot is


def test_a_press_among_more_events_than_the_kernel_keeps_counts(pad: StandInGamepad) -> None:
    """It tells the state of everything anew then, as at the start: with both sticks moving, that happens."""
    teleoperator = gamepad(pad)
    pad.begin(down=[B])
    assert read(teleoperator, 1).events == ()  # held since before it was connected
    pad.begin()
    pad.begin(down=[B])
    assert read(teleoperator, 1, start=2).events == (TeleopEvent.STOP,)
    pad.begin(down=[B])
    assert read(teleoperator, 1, start=3).events == ()


@pytest.mark.parametrize(
    ("axis", "value", "direction"), [(0, -1.0, (0, 1, 0)), (4, -1.0, (0, 0, 1)), (1, 1.0, (-1, 0, 0))]
)
def test_each_stick_has_its_direction(pad: StandInGamepad, axis: int, value: float, direction: tuple) -> None:
    teleoperator = gamepad(pad)
    pad.button(RB)
    pad.axis(axis, value)
    went = moved(read(teleoperator, 15))
    assert went @ np.array(direction) > 0.02
    assert np.linalg.norm(went - (went @ np.array(direction)) * np.array(direction)) < 0.01


def test_a_robot_that_holds_is_not_run_away_from(pad: StandInGamepad) -> None:
    """A stick that stays pressed while the robot may not move."""
    teleoperator = gamepad(pad)
    pad.button(RB)
    pad.axis(0, -1.0)
    action = read(teleoperator, 150).action
    assert action is not None
    reach = REACH_SHARE * (np.array(SO101.position_high) - SO101.position_low)
    assert (np.abs(action - READY)[:5] <= reach[:5] + 0.02).all()  # and one step
    pad.axis(0, 1.0)
    turned_back = read(teleoperator, 20, start=151).action
    assert turned_back is not None
    assert abs(turned_back[0] - READY[0]) < abs(action[0] - READY[0]) - 0.1


def test_small_deflections_do_nothing_and_speed_has_steps(pad: StandInGamepad) -> None:
    teleoperator = gamepad(pad)
    pad.button(RB)
    pad.axis(1, -0.1)
    np.testing.assert_array_equal(read(teleoperator, 10).action, READY)
    pad.axis(1, -1.0)
    slow = moved(read(teleoperator, 10, start=11))[0]
    pad.button(Y)
    teleoperator.connect()
    pad.button(RB)
    pad.axis(1, -1.0)
    read(teleoperator, 1, start=30)
    pad.button(Y)
    assert moved(read(teleoperator, 10, start=31))[0] > 1.5 * slow


def test_the_gripper_opens_and_closes_in_turns(pad: StandInGamepad) -> None:
    teleoperator = gamepad(pad)
    pad.button(RB)
    read(teleoperator, 1)
    pad.button(LB)
    closed = read(teleoperator, 60, start=2).action
    assert closed is not None
    assert closed[5] == np.float32(SO101.position_low[5])
    np.testing.assert_array_equal(closed[:5], READY[:5])
    pad.button(LB)
    opened = read(teleoperator, 60, start=70).action
    assert opened is not None
    assert opened[5] == np.float32(SO101.position_high[5])


def test_buttons_say_what_became_of_the_episode_and_stop(pad: StandInGamepad) -> None:
    teleoperator = gamepad(pad)
    for button in (A, 6, 7):
        pad.button(button)
    assert read(teleoperator, 1).events == (TeleopEvent.SUCCESS, TeleopEvent.FAILURE, TeleopEvent.DISCARD)
    pad.button(RB)
    pad.axis(1, -1.0)
    read(teleoperator, 2, start=2)
    pad.button(B)
    command = read(teleoperator, 1, start=4)
    assert command == TeleopCommand(None, (TeleopEvent.STOP,))


@pytest.mark.parametrize("kind", ["gamepad", "spacemouse"])
def test_an_unplugged_device_is_an_error_and_not_a_rest(
    kind: str, pad: StandInGamepad, mouse: StandInSpaceMouse
) -> None:
    device = pad if kind == "gamepad" else mouse
    teleoperator = gamepad(pad) if kind == "gamepad" else spacemouse(mouse)
    read(teleoperator, 1)
    device.unplug()
    with pytest.raises(HardwareError, match="unplugged"):
        read(teleoperator, 1)
    with pytest.raises(HardwareError, match="plug it in"):
        TELEOPERATORS[kind](type(teleoperator).config_type(device="/dev/none"), SO101).connect()


def test_a_pad_that_is_plugged_in_again_is_used_again(pad: StandInGamepad, tmp_path: Path) -> None:
    """And moves nothing by what was pressed before."""
    device = tmp_path / "js0"
    device.symlink_to(pad.path)
    teleoperator = Gamepad(GamepadConfig(device=str(device)), SO101)
    teleoperator.connect()
    pad.button(RB)
    pad.axis(1, -1.0)
    assert read(teleoperator, 10).action is not None
    pad.unplug()
    device.unlink()
    with pytest.raises(HardwareError, match="the robot holds until it is plugged in again"):
        read(teleoperator, 1, start=11)
    for start in (12, 50):  # soon, and when it has been tried
        with pytest.raises(HardwareError, match="unplugged" if start == 12 else "no such device; plug it in"):
            read(teleoperator, 1, start=start)
    again = StandInGamepad()
    again.begin()
    device.symlink_to(again.path)
    assert read(teleoperator, 2, start=90).action is None
    again.button(RB)
    np.testing.assert_array_equal(read(teleoperator, 3, start=92).action, READY)
    again.unplug()


def spacemouse(mouse: StandInSpaceMouse) -> SpaceMouse:
    teleoperator = SpaceMouse(SpaceMouseConfig(device=mouse.path), SO101)
    teleoperator.connect()
    return teleoperator


@pytest.mark.parametrize("wireless", [False, True])
def test_the_cap_moves_and_turns_the_tool(mouse: StandInSpaceMouse, wireless: bool) -> None:
    teleoperator = spacemouse(mouse)
    assert read(teleoperator, 2).action is None
    if wireless:
        mouse.both(0, 0, -350, 0, 0, 0)
    else:
        mouse.along(0, 0, -350)
        mouse.about(0, 0, 0)
    up = moved(read(teleoperator, 20, start=3))
    assert up[2] > 0.03
    assert np.abs(up[:2]).max() < 0.01
    mouse.along(0, 0, 0)
    assert read(teleoperator, 20, start=23).action is not None  # resting for less than idle_s
    assert read(teleoperator, 30, start=43).action is None


def test_a_cap_that_falls_silent_while_it_is_deflected_is_at_rest(mouse: StandInSpaceMouse) -> None:
    teleoperator = spacemouse(mouse)
    mouse.both(0, 0, -350, 0, 0, 0)
    read(teleoperator, 16)
    stopped = read(teleoperator, 1, start=17).action
    assert stopped is not None
    np.testing.assert_array_equal(read(teleoperator, 10, start=18).action, stopped)
    assert read(teleoperator, 30, start=28).action is None


def test_a_clock_that_goes_back_deflects_no_cap(mouse: StandInSpaceMouse) -> None:
    teleoperator = spacemouse(mouse)
    mouse.both(0, 0, -350, 0, 0, 0)
    assert read(teleoperator, 2, start=1000).action is not None
    assert read(teleoperator, 30).action is None


def test_buttons_of_the_cap(mouse: StandInSpaceMouse) -> None:
    teleoperator = spacemouse(mouse)
    mouse.buttons({0: True})
    closed = read(teleoperator, 30).action
    assert closed is not None
    assert closed[5] == np.float32(SO101.position_low[5])
    mouse.buttons({0: False, 1: True})
    assert read(teleoperator, 1, start=60).events == (TeleopEvent.STOP,)


POSE = {"engaged": True, "position": [0.1, 1.2, 0.3], "orientation": [1, 0, 0, 0]}


def test_a_phone_ties_the_tool_to_itself_while_it_is_touched() -> None:
    phone = Phone(PhoneConfig(), SO101)
    phone.connect()
    assert phone.read(STATE, 0).action is None
    for tick in range(1, 30):
        phone.feed(POSE, tick * TICK_NS)
        command = phone.read(STATE, tick * TICK_NS)
    np.testing.assert_allclose(moved(command), 0, atol=1e-6)
    for tick in range(30, 90):  # 4 cm to the right, 2 cm up
        phone.feed({**POSE, "position": [0.14, 1.22, 0.3]}, tick * TICK_NS)
        command = phone.read(STATE, tick * TICK_NS)
    np.testing.assert_allclose(moved(command), [0, -0.04, 0.02], atol=0.004)
    phone.feed({"engaged": False, "event": "success"}, 90 * TICK_NS)
    assert phone.read(STATE, 90 * TICK_NS) == TeleopCommand(None, (TeleopEvent.SUCCESS,))
    phone.feed({**POSE, "position": [5.0, 5.0, 5.0]}, 91 * TICK_NS)  # elsewhere: the mouse was lifted
    np.testing.assert_allclose(moved(phone.read(STATE, 91 * TICK_NS)), 0, atol=1e-6)


def test_a_phone_that_loses_its_bearings_moves_nothing() -> None:
    phone = Phone(PhoneConfig(), SO101)
    phone.connect()
    for tick in range(60):
        x = 0.1 if tick < 10 else 0.8  # half a metre and more from one message to the next
        phone.feed({**POSE, "position": [x, 1.2, 0.3]}, tick * TICK_NS)
        command = phone.read(STATE, tick * TICK_NS)
    np.testing.assert_allclose(moved(command), 0, atol=1e-6)
    for tick in range(60, 90):  # and goes on from there
        phone.feed({**POSE, "position": [0.84, 1.2, 0.3]}, tick * TICK_NS)
        command = phone.read(STATE, tick * TICK_NS)
    np.testing.assert_allclose(moved(command), [0, -0.04, 0], atol=0.004)


def test_a_phone_turns_the_tool_and_grips() -> None:
    phone = Phone(PhoneConfig(), SO101)
    phone.connect()
    phone.feed(POSE, 0)
    phone.read(STATE, 0)
    turn = [np.cos(0.2), 0, 0, -np.sin(0.2)]  # about the phone's z, towards the viewer: about the robot's -x
    for tick in range(1, 60):
        phone.feed({**POSE, "orientation": turn, "grip": 1.0}, tick * TICK_NS)
        command = phone.read(STATE, tick * TICK_NS)
    assert command.action is not None
    before, after = forward(READY)[1], forward(command.action)[1]
    turned = after @ before.T
    assert 0.1 < np.arctan2(turned[2, 1], turned[1, 1]) < 0.45  # five joints follow as far as they can
    assert command.action[5] == np.float32(SO101.position_high[5])


def test_a_phone_that_falls_silent_has_let_go() -> None:
    phone = Phone(PhoneConfig(), SO101)
    phone.connect()
    phone.feed(POSE, 0)
    assert phone.read(STATE, 100_000_000).action is not None
    assert phone.read(STATE, 400_000_000).action is None


@pytest.mark.parametrize(
    "message",
    [
        {"engaged": True},
        {**POSE, "position": [0, float("nan"), 0]},
        {**POSE, "position": "abc"},
        {**POSE, "orientation": [0, 0, 0, 0]},
        {**POSE, "grip": "wide"},
        {"event": "explode"},
    ],
)
def test_a_message_that_is_none_is_refused_and_changes_nothing(message: dict) -> None:
    phone = Phone(PhoneConfig(), SO101)
    phone.connect()
    phone.feed(POSE, 0)
    with pytest.raises(SpecError, match="phone"):
        phone.feed(message, 1)
    assert phone.read(STATE, 2).action is not None


def test_mappings_that_cannot_be_are_refused(pad: StandInGamepad) -> None:
    for mapping, words in ((StickMapping(x="left"), "the number of an axis"), (StickMapping(stop=1, open=1), "two")):
        with pytest.raises(SpecError, match=words):
            Gamepad(GamepadConfig(device=pad.path, mapping=mapping), SO101)


@pytest.mark.parametrize("name", ["keyboard", "gamepad", "spacemouse", "phone"])
def test_mapping_files_are_the_defaults_and_a_cell_names_one(name: str, tmp_path: Path) -> None:
    root = Path(__file__).parents[2] / "hardware"
    cell = tmp_path / "cell.yaml"
    robot = f"{{driver: servo_arm, port: /dev/x, calibration: {root}/calibration/so101_standin.json}}"
    cell.write_text(f"name: a\ncontrol_hz: 30\nrobot: {robot}\nteleop: {root}/teleop/{name}.yaml\n", encoding="utf-8")
    device = load_cell(cell).teleop
    assert device is not None
    assert device.driver == name
    if name != "phone" and name != "keyboard":
        assert device.config.mapping == TELEOPERATORS[name].config_type().mapping  # type: ignore[attr-defined]
