"""The operator's page as a teleoperator: controls, a phone's pose, silence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from robolearn.errors import SpecError
from robolearn.robots.kinematics import Kinematics
from robolearn.tasks.kinematics import SO101
from robolearn.teleop.teleoperator import TeleopCommand, TeleopEvent
from robolearn.teleop.web import STANDARD, Web, WebConfig
from robolearn.types import RobotState

REST = np.array([0.0, -0.4, 0.6, 0.6, 0.0, 0.3], np.float32)
STATE = RobotState(REST, np.zeros(6, np.float32), 0)
TICK_NS = 50_000_000
ROOT = Path(__file__).parents[2]
MODEL = ROOT / "sim_assets/robots/so101/so101.xml"
POSE = {"engaged": True, "position": [0.1, 1.2, 0.3], "orientation": [1.0, 0.0, 0.0, 0.0]}


@pytest.fixture
def web() -> Web:
    device = Web(WebConfig(), SO101)
    device.connect()
    return device


def drive(web: Web, message: dict[str, Any], ticks: int, start: int = 0) -> TeleopCommand:
    for tick in range(start, start + ticks):
        web.feed(message, tick * TICK_NS)
        command = web.read(STATE, tick * TICK_NS)
    return command


def moved(command: TeleopCommand) -> np.ndarray:
    """How far the tool is from where it rests (3,) [m]."""
    assert command.action is not None
    kinematics = Kinematics(MODEL, SO101, "tool")
    return kinematics.tool(command.action.astype(np.float64))[0] - kinematics.tool(REST.astype(np.float64))[0]


def test_sticks_move_the_tool_while_the_clutch_is_held(web: Web) -> None:
    assert drive(web, {"axes": [0.0, -1.0]}, 3).action is None
    forwards = moved(drive(web, {"axes": [0.0, -1.0, 0.0, 0.0], "held": [5]}, 10, 3))
    assert forwards[0] > 0.01
    assert np.abs(forwards[1:]).max() < 0.2 * forwards[0]
    assert drive(web, {"axes": [], "held": []}, 1, 13).action is None
    assert moved(drive(web, {"axes": [0.0, 0.0, 0.0, -1.0], "held": [5]}, 10, 14))[2] > 0.01


def test_buttons_grip_and_say_what_became_of_the_episode(web: Web) -> None:
    opened = drive(web, {"held": [5, 7]}, 10).action
    assert opened is not None
    assert opened[-1] > REST[-1] + 0.1
    assert drive(web, {"held": [5, 0]}, 2, 10).events == ()  # said once, in the first of the two
    web.feed({"held": []}, 20 * TICK_NS)
    web.feed({"held": [8]}, 20 * TICK_NS)
    web.feed({"held": []}, 20 * TICK_NS)
    assert web.read(STATE, 20 * TICK_NS).events == (TeleopEvent.FAILURE,)  # however short
    web.feed({"held": [1, 5]}, 21 * TICK_NS)
    assert web.read(STATE, 21 * TICK_NS) == TeleopCommand(None, (TeleopEvent.STOP,))


def test_silence_lets_go_and_a_late_message_does_not_jump(web: Web) -> None:
    assert drive(web, {"axes": [0.0, -1.0], "held": [5]}, 5).action is not None
    assert web.read(STATE, 4 * TICK_NS + 299_000_000).action is not None
    assert web.read(STATE, 4 * TICK_NS + 301_000_000).action is None
    again = drive(web, {"axes": [0.0, -1.0], "held": [5]}, 1, 20)
    np.testing.assert_allclose(moved(again), 0, atol=2e-3)


@pytest.mark.parametrize("message", [{"axes": [0.0, -1.0], "held": [5]}, POSE])
def test_a_clock_that_goes_back_keeps_nobody_in_charge(web: Web, message: dict[str, Any]) -> None:
    assert drive(web, message, 5, 200).action is not None
    assert web.read(STATE, 100 * TICK_NS).action is None


def test_a_phone_takes_over_from_the_sticks_and_gives_back_without_a_jump(web: Web) -> None:
    push = {"axes": [0.0, -1.0], "held": [5]}
    drive(web, push, 10)
    np.testing.assert_allclose(moved(drive(web, {**push, **POSE}, 1, 10)), 0, atol=2e-3)
    followed = moved(drive(web, {**push, **POSE, "position": [0.1, 1.22, 0.3]}, 20, 11))
    assert followed[2] == pytest.approx(0.02, abs=4e-3)
    np.testing.assert_allclose(moved(drive(web, push, 1, 31)), 0, atol=2e-3)


@pytest.mark.parametrize(
    "message",
    [{"axes": [2.0]}, {"axes": ["a"]}, {"axes": [float("nan")]}, {"axes": [0.0] * 65}, {"held": [-1]}, {"held": "5"},
     {"held": [5.0]}, {"engaged": True}],
)  # fmt: skip
def test_a_message_that_is_none_counts_for_nothing(web: Web, message: dict[str, Any]) -> None:
    web.feed({"held": [5]}, 0)
    with pytest.raises(SpecError):
        web.feed(message, 1)
    assert web.read(STATE, 2).action is not None


def test_its_file_is_what_the_driver_does_without_one() -> None:
    file = yaml.safe_load((ROOT / "hardware/teleop/web.yaml").read_text("utf-8"))
    assert {name: getattr(STANDARD, name) for name in file["mapping"]} == file["mapping"]
    named = {key: value for key, value in vars(STANDARD).items() if value not in ("", -1)}
    assert set(named) - {"dead_zone", "idle_s"} == set(file["mapping"])
