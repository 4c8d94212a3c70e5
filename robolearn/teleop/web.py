"""The operator's page: keys, a gamepad, touched sticks or a phone's pose, told by messages. Legend: J joints.

A message (`feed`) is a mapping: `axes`, numbers in [-1, 1], and `held`, numbers of buttons, both of a standard gamepad
(W3C Gamepad, whatever the person really touches), axes 4 and 5 being roll and pitch of its cross; and, from a phone
that is moved through the air, what `phone.py` says. A page that is not heard of for `max_age_s` holds nothing.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from robolearn.errors import HardwareError, SpecError
from robolearn.specs import RobotSpec
from robolearn.teleop.cartesian import CartesianConfig
from robolearn.teleop.phone import Phone, PhoneConfig
from robolearn.teleop.sticks import StickMapping, Sticks
from robolearn.teleop.teleoperator import TeleopCommand
from robolearn.types import RobotState

STANDARD = StickMapping(
    x="-1", y="-0", z="-3", yaw="-2", roll="4", pitch="5", clutch=5, toggle=4, open=7, close=6, slower=2, faster=3,
    stop=1, success=0, failure=8, discard=9,
)  # fmt: skip
MOST_CONTROLS = 64  # axes or buttons of a message


@dataclass(frozen=True)
class WebConfig:
    """What the page's controls do."""

    arm: CartesianConfig = field(default=CartesianConfig())
    mapping: StickMapping = field(default=STANDARD)
    scale: float = 1.0  # metres of the tool for one of the phone
    with_rotation: bool = True  # whether the phone turns the tool, too
    max_age_s: float = 0.3


class PageDevice:
    """The newest axes and buttons of a page, as `Sticks` reads a device."""

    def __init__(self) -> None:
        self.axes: dict[int, float] = {}
        self.held: set[int] = set()
        self._pressed: list[int] = []

    def open(self) -> None:
        self.axes, self.held, self._pressed = {}, set(), []

    def take(self, axes: list[float], held: set[int]) -> None:
        """What a message says; nothing is held after an empty one."""
        self._pressed += sorted(held - self.held)
        self.axes, self.held = dict(enumerate(axes)), held

    def update(self, now_ns: int) -> list[int]:
        pressed, self._pressed = self._pressed, []
        return pressed

    def close(self) -> None:
        self.open()


class Web:
    """By default, of a standard gamepad: hold RB to move; sticks move and turn the tool, the cross tilts it, the
    triggers close and open, LB does so in turns; B stops. While a phone's pose is engaged, the sticks are not."""

    config_type = WebConfig

    def __init__(self, config: WebConfig, spec: RobotSpec) -> None:
        self.config, self._device = config, PageDevice()
        self._sticks = Sticks(self._device, config.mapping, config.arm, spec)
        self._phone = Phone(PhoneConfig(config.arm, config.scale, config.with_rotation, config.max_age_s), spec)
        self._lock = threading.Lock()
        self._fed_ns: int | None = None
        self._connected = False

    def feed(self, message: Mapping[str, Any], now_ns: int) -> None:
        axes, held = _axes(message.get("axes", ())), _buttons(message.get("held", ()))
        with self._lock:
            self._phone.feed(message, now_ns)
            self._device.take(axes, set() if message.get("engaged") else held)
            self._fed_ns = now_ns

    def connect(self) -> None:
        with self._lock:
            self._sticks.connect()
            self._phone.connect()
            self._fed_ns, self._connected = None, True

    def read(self, state: RobotState, now_ns: int) -> TeleopCommand:
        if not self._connected:
            raise HardwareError("the page's controls are not connected; call connect() first")
        with self._lock:
            if self._fed_ns is not None and abs(now_ns - self._fed_ns) > self.config.max_age_s * 1e9:
                self._device.take([], set())
                self._fed_ns = None
            sticks, phone = self._sticks.read(state, now_ns), self._phone.read(state, now_ns)
        action = sticks.action if phone.action is None else phone.action
        return TeleopCommand(action, (*sticks.events, *phone.events))

    def close(self) -> None:
        self._sticks.close()
        self._phone.close()
        self._connected = False


def _axes(came: Any) -> list[float]:
    try:
        values = np.array(came, np.float64)
    except (TypeError, ValueError):
        values = np.full((1, 1), np.nan)
    if values.ndim != 1 or len(values) > MOST_CONTROLS or not (np.abs(values) <= 1.001).all():
        raise SpecError(f"the page's axes are {came!r}, expected at most {MOST_CONTROLS} numbers from -1 to 1")
    return [float(value) for value in values]


def _buttons(came: Any) -> set[int]:
    buttons: list[Any] = list(came) if isinstance(came, list | tuple | set) else [None]
    if not all(isinstance(number, int) and 0 <= number < MOST_CONTROLS for number in buttons):
        raise SpecError(f"the page's held buttons are {came!r}, expected numbers from 0 to {MOST_CONTROLS - 1}")
    return set(buttons)
