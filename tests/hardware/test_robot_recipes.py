"""The driver that docs/robots.md gives, run against a stand-in of its package's interface."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from robolearn.errors import HardwareError, SpecError
from robolearn.robots.robot import Robot

TEXT = (Path(__file__).parents[2] / "docs" / "robots.md").read_text(encoding="utf-8")


class Controller:
    """The robot behind both interfaces of ur_rtde: it is where it was sent."""

    def __init__(self) -> None:
        self.q = [0.1, -1.2, 1.3, -1.5, -1.57, 0.0]
        self.stopped = self.refuses = self.gone = False
        self.calls: list[str] = []

    def interface(self, host: str) -> Any:
        if host != "ur":
            raise RuntimeError("timeout")
        return SimpleNamespace(
            getActualQ=lambda: list(self.q),
            getActualQd=lambda: [0.0] * 6,
            isEmergencyStopped=lambda: False,
            isProtectiveStopped=lambda: self.stopped,
            isConnected=lambda: not self.gone,
            setWatchdog=lambda hz: self.calls.append(f"watchdog {hz:g}"),
            kickWatchdog=lambda: self.calls.append("kick"),
            servoJ=self.servo,
            servoStop=lambda: self.calls.append("servo stop"),
            stopScript=lambda: self.calls.append("script stop"),
        )

    def servo(self, q: list[float], speed: float, acceleration: float, t: float, lookahead: float, gain: float) -> bool:
        assert 0.03 <= lookahead <= 0.2
        assert 100 <= gain <= 2000
        self.q = q
        return not self.refuses


@pytest.fixture
def controller(monkeypatch: pytest.MonkeyPatch) -> Controller:
    controller = Controller()
    for module, name in (("rtde_control", "RTDEControlInterface"), ("rtde_receive", "RTDEReceiveInterface")):
        monkeypatch.setitem(sys.modules, module, SimpleNamespace(**{name: controller.interface}))
    return controller


def recipe() -> Any:
    (source,) = re.findall(r"```python\n(.*?)```", TEXT, flags=re.DOTALL)
    names: dict[str, Any] = {"__name__": "builtins"}  # dataclasses look their module up
    exec(source, names)
    return SimpleNamespace(URArm=names["URArm"], URConfig=names["URConfig"])


def test_the_driver_of_the_recipe_does_what_drivers_do(controller: Controller) -> None:
    ur = recipe()
    arm = ur.URArm(ur.URConfig("ur"))
    assert isinstance(arm, Robot)
    with pytest.raises(HardwareError, match="connect"):
        arm.read()
    arm.connect()
    assert controller.calls == ["watchdog 5"]
    target = np.float32([0.2, -1.1, 1.2, -1.4, -1.5, 0.1])
    arm.write(target)
    np.testing.assert_allclose(arm.read().joint_position, target)
    assert controller.calls[-1] == "kick"
    for bad in (np.zeros(5, np.float32), np.full(6, np.nan, np.float32)):
        with pytest.raises(SpecError):
            arm.write(bad)
    for fault, words in (("stopped", "pendant"), ("gone", "lost"), ("refuses", "did not take")):
        setattr(controller, fault, True)
        with pytest.raises(HardwareError, match=words):
            arm.write(target)
        setattr(controller, fault, False)
    arm.close()
    arm.close()
    assert controller.calls[-2:] == ["servo stop", "script stop"]
    with pytest.raises(HardwareError, match="remote control"):
        ur.URArm(ur.URConfig("elsewhere")).connect()
