"""Devices with axes and buttons (gamepad, SpaceMouse): what each axis and button means. Legend: J joints.

The axes are speeds of the tool. With a `clutch` button the person is in charge while it is held; without one, from the
first deflection on, until `idle_s` without any.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from robolearn.errors import HardwareError, SpecError
from robolearn.specs import RobotSpec
from robolearn.teleop.cartesian import CartesianConfig, Hand
from robolearn.teleop.teleoperator import TeleopCommand, TeleopEvent
from robolearn.types import RobotState

SCALES = (0.1, 0.25, 0.5, 1.0)
DIRECTIONS = ("x", "y", "z", "roll", "pitch", "yaw")
NONE = -1
RETRY_S = 1.0


@dataclass(frozen=True)
class StickMapping:
    """Axes by number, with a minus sign to turn them round, empty for none; buttons by number, -1 for none."""

    x: str = ""  # forwards
    y: str = ""  # to the left
    z: str = ""  # up
    roll: str = ""
    pitch: str = ""
    yaw: str = ""
    grip: str = ""  # an axis that opens
    open: int = NONE  # buttons that open and close while they are held
    close: int = NONE
    toggle: int = NONE  # a button that opens fully or closes fully in turns
    clutch: int = NONE
    slower: int = NONE
    faster: int = NONE
    stop: int = NONE
    success: int = NONE
    failure: int = NONE
    discard: int = NONE
    dead_zone: float = 0.12  # of full deflection
    idle_s: float | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.dead_zone < 1:
            raise SpecError(f"dead_zone is {self.dead_zone:g}, expected at least 0 and less than 1")


class Device(Protocol):
    """The bytes behind it: axes in -1..1, and buttons. Raises HardwareError when it is gone."""

    axes: dict[int, float]
    held: set[int]

    def open(self) -> None: ...
    def update(self, now_ns: int) -> list[int]:
        """Read what came up to `now_ns`; returns the buttons that were pressed since the last time, in order."""
        ...

    def close(self) -> None: ...


class Sticks:
    """A Teleoperator of any such device. Raises SpecError for a mapping that is none."""

    def __init__(self, device: Device, mapping: StickMapping, arm: CartesianConfig, spec: RobotSpec) -> None:
        self.mapping, self._device, self._hand = mapping, device, Hand(arm, spec)
        self._axes = {name: _axis(name, getattr(mapping, name)) for name in (*DIRECTIONS, "grip")}
        actions = {name: getattr(mapping, name) for name in ("toggle", "clutch", "slower", "faster", "open", "close")}
        actions |= {event.value: getattr(mapping, event.value) for event in TeleopEvent}
        used = [number for number in actions.values() if number != NONE]
        if len(set(used)) < len(used):
            raise SpecError(f"the mapping gives one button two meanings: {actions}; give each its own")
        self._events = {getattr(mapping, event.value): event for event in TeleopEvent}
        self._scale = SCALES.index(0.5)
        self._gripping = 0.0  # where the toggle is on its way to
        self._last: NDArray[np.float32] | None = None  # action
        self._touched_ns: int | None = None
        self._connected = False
        self._trouble: HardwareError | None = None  # that lost the device
        self._tried_ns = 0  # to open it again

    def connect(self) -> None:
        self._device.open()
        self._hand.let_go()
        self._gripping, self._touched_ns, self._connected, self._trouble = 0.0, None, True, None

    def read(self, state: RobotState, now_ns: int) -> TeleopCommand:
        if not self._connected:
            raise HardwareError("the teleoperator is not connected; call connect() first")
        pressed, mapping = self._update(now_ns), self.mapping
        events = tuple(self._events[button] for button in pressed if button in self._events and button != NONE)
        for button in pressed:
            if button != NONE and button in (mapping.slower, mapping.faster):
                step = 1 if button == mapping.faster else -1
                self._scale = min(max(self._scale + step, 0), len(SCALES) - 1)
            elif button != NONE and button == mapping.toggle:
                self._gripping = 1.0 if self._gripping < 0 else -1.0
        twist = np.array([self._value(name) for name in DIRECTIONS]) * SCALES[self._scale]
        held = self._device.held
        grip = self._value("grip") + float(mapping.open in held) - float(mapping.close in held)
        if twist.any() or grip or pressed:
            self._touched_ns = now_ns
        if TeleopEvent.STOP in events or not self._in_charge(bool(twist.any() or grip), now_ns):
            self._hand.let_go()
            self._gripping = 0.0
            return TeleopCommand(None, events)
        self._hand.take(state, now_ns)
        action = self._hand.move(twist, grip + self._gripping, now_ns)
        if (
            action is None or self._last is None or not np.array_equal(action, self._last)
        ):  # the gripper may still be on its way
            self._touched_ns = now_ns
        self._last = action
        return TeleopCommand(action, events)

    def close(self) -> None:
        self._device.close()
        self._connected = False

    def _update(self, now_ns: int) -> list[int]:
        """What the device says; one that was lost is opened again every RETRY_S, and nobody is in charge then."""
        if self._trouble is not None and not 0 <= now_ns - self._tried_ns < RETRY_S * 1e9:
            self._tried_ns = now_ns
            try:
                self.connect()
            except HardwareError as error:
                self._trouble = error
        if self._trouble is not None:
            raise HardwareError(str(self._trouble))
        try:
            return self._device.update(now_ns)
        except HardwareError as error:
            self._trouble, self._tried_ns = error, now_ns
            self._hand.let_go()
            raise

    def _in_charge(self, moving: bool, now_ns: int) -> bool:
        mapping = self.mapping
        if mapping.clutch != NONE:
            return mapping.clutch in self._device.held
        if mapping.idle_s is not None and not 0 <= now_ns - (self._touched_ns or 0) <= mapping.idle_s * 1e9:
            return False
        return moving or bool(self._gripping) or self._hand.target is not None

    def _value(self, name: str) -> float:
        axis = self._axes[name]
        if axis is None:
            return 0.0
        value, dead = axis[1] * self._device.axes.get(axis[0], 0.0), self.mapping.dead_zone
        return float(np.sign(value) * max(abs(value) - dead, 0.0) / (1 - dead))


def _axis(name: str, text: str) -> tuple[int, float] | None:
    """Number and sign of an axis."""
    if not text:
        return None
    if not text.removeprefix("-").isdigit():
        raise SpecError(f"the mapping has {text!r} for {name}, expected the number of an axis, as '3' or '-3'")
    return int(text.removeprefix("-")), -1.0 if text.startswith("-") else 1.0
