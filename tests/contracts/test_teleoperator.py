"""What every teleoperator of the table does."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from robolearn.errors import HardwareError
from robolearn.plugins import Device
from robolearn.robots.calibration import Calibration, JointCalibration
from robolearn.robots.servo_arm import ServoArmConfig
from robolearn.robots.servo_bus import BusConfig
from robolearn.robots.standin import StandInBus
from robolearn.tasks.kinematics import SO101
from robolearn.teleop import TELEOPERATORS
from robolearn.teleop.combined import CombinedTeleopConfig
from robolearn.teleop.gamepad import GamepadConfig
from robolearn.teleop.keyboard import KeyboardConfig
from robolearn.teleop.leader_arm import LeaderArmConfig
from robolearn.teleop.phone import PhoneConfig
from robolearn.teleop.scripted import ScriptedTeleopConfig
from robolearn.teleop.spacemouse import SpaceMouseConfig
from robolearn.teleop.standin import StandInGamepad, StandInSpaceMouse
from robolearn.teleop.teleoperator import TeleopCommand, Teleoperator
from robolearn.teleop.web import WebConfig
from robolearn.types import RobotState

STATE = RobotState(np.zeros(6, np.float32), np.zeros(6, np.float32), 0)


@pytest.fixture(params=sorted(TELEOPERATORS))
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[], Teleoperator]]:
    """Of a device whose person moves the robot."""
    teleoperator: Any = TELEOPERATORS[request.param]
    if request.param == "scripted":
        commands = (TeleopCommand(np.zeros(6, np.float32)),) * 3
        yield lambda: teleoperator(ScriptedTeleopConfig(commands), SO101)
    elif request.param == "keyboard":
        master, slave = os.openpty()

        class Pressed(teleoperator):  # type: ignore[misc]
            def connect(self) -> None:
                super().connect()
                os.write(master, b"q")

        yield lambda: Pressed(KeyboardConfig(), SO101, slave)
        os.close(slave)
        os.close(master)
    elif request.param == "leader_arm":
        ends = enumerate(zip(SO101.position_low, SO101.position_high, strict=True))
        joints = tuple(JointCalibration(SO101.joint_names[i], i + 1, 2048, 1, *limits) for i, limits in ends)
        Calibration("sts3215", 4096, 0.0, joints).save(tmp_path / "leader.json")
        with StandInBus("sts3215") as bus:
            arm = ServoArmConfig(bus.port, tmp_path / "leader.json", bus=BusConfig(answer_timeout_s=0.05))
            yield lambda: teleoperator(LeaderArmConfig(arm), SO101)
    elif request.param == "combined":
        one = Device("scripted", ScriptedTeleopConfig((TeleopCommand(np.zeros(3, np.float32)),) * 3))
        joints = tuple(f"{side}_{n}" for side in ("left", "right") for n in range(3))
        config = CombinedTeleopConfig({"left": one, "right": one})
        yield lambda: teleoperator(config, replace(SO101, joint_names=joints))
    elif request.param == "gamepad":
        pad = StandInGamepad()

        class Clutched(teleoperator):  # type: ignore[misc]
            def connect(self) -> None:
                super().connect()
                pad.button(5)
                pad.axis(1, -1.0)

        yield lambda: Clutched(GamepadConfig(device=pad.path), SO101)
        pad.unplug()
    elif request.param == "spacemouse":
        mouse = StandInSpaceMouse()

        class Pushed(teleoperator):  # type: ignore[misc]
            def connect(self) -> None:
                super().connect()
                mouse.along(0, 100, 0)

        yield lambda: Pushed(SpaceMouseConfig(device=mouse.path), SO101)
        mouse.unplug()
    elif request.param == "phone":

        class Touched(teleoperator):  # type: ignore[misc]
            def connect(self) -> None:
                super().connect()
                self.feed({"engaged": True, "position": [0, 1, 0], "orientation": [1, 0, 0, 0]}, 1_000_000_000)

        yield lambda: Touched(PhoneConfig(), SO101)
    elif request.param == "web":

        class Steered(teleoperator):  # type: ignore[misc]
            def connect(self) -> None:
                super().connect()
                self.feed({"axes": [0.0, -1.0], "held": [5]}, 1_000_000_000)

        yield lambda: Steered(WebConfig(), SO101)
    else:
        raise NotImplementedError(f"say here how {request.param} is stood in for")


def test_gives_actions_that_fit_the_robot(make: Callable[[], Teleoperator]) -> None:
    teleoperator = make()
    assert isinstance(teleoperator, Teleoperator)
    teleoperator.connect()
    command = teleoperator.read(STATE, 1_000_000_000)
    assert command.action is not None
    SO101.action_spec.check("teleoperator action", command.action)
    assert (command.action >= np.float32(SO101.position_low)).all()
    assert (command.action <= np.float32(SO101.position_high)).all()
    teleoperator.close()


def test_takes_over_without_a_jump(make: Callable[[], Teleoperator]) -> None:
    teleoperator = make()
    teleoperator.connect()
    command = teleoperator.read(STATE, 1_000_000_000)
    assert command.action is not None
    np.testing.assert_allclose(command.action, STATE.joint_position, atol=0.01)
    teleoperator.close()


def test_is_silent_unless_connected(make: Callable[[], Teleoperator]) -> None:
    teleoperator = make()
    with pytest.raises(HardwareError, match="connect"):
        teleoperator.read(STATE, 0)
    teleoperator.connect()
    teleoperator.close()
    teleoperator.close()
    with pytest.raises(HardwareError, match="connect"):
        teleoperator.read(STATE, 0)
