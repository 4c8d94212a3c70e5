"""Driving through a browser: what its messages must be, and which browser has the wheel.

A message carries a sequence number and `seen_ms`, the server's stamp of the newest state that its person had on the
screen, so that its age needs no clock in common: who sees the past, whose messages are late, or whose connection was
lost lets go of the robot, and takes hold again only after lifting the hands. One browser drives at a time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from robolearn.errors import SpecError

MOST_AGE_MS, AHEAD_MS = 400.0, 50.0  # from sending a state to the command that answers it
WHEEL_MS = 500.0  # without a message, the wheel is free
LOST = "the connection was lost; lift your hands to go on"
MOST_CONTROLS = 64
FARTHEST_M = 100.0


@dataclass(frozen=True)
class Hands:
    """What a person does, of a standard gamepad (axes 4 and 5: roll and pitch) and of a phone's pose."""

    sequence: int = 0  # a page counts its messages from 1, over all of its connections
    seen_ms: float = 0.0
    axes: tuple[float, ...] = ()
    held: tuple[int, ...] = ()
    engaged: bool = False  # the phone is tied to the tool
    position: tuple[float, ...] = ()  # (3,) [m] in the phone's world, or empty
    orientation: tuple[float, ...] = ()  # (4,) wxyz, or empty
    grip: float = 0.0  # of the phone: 0 closed to 1 open

    @property
    def busy(self) -> bool:
        """Whether the person does anything."""
        return bool(self.held) or self.engaged or any(self.axes)

    def off(self) -> Hands:
        """The same hands, lifted."""
        return replace(self, axes=(), held=(), engaged=False, position=(), orientation=())


def parse(message: Mapping[str, Any]) -> Hands:
    """The hands of a message from a browser. Raises SpecError."""
    sequence, held = message.get("sequence"), message.get("held", [])
    if not isinstance(sequence, int) or not 0 <= sequence < 1 << 32:
        raise SpecError(f"drive: sequence {sequence!r}, expected a number from 0")
    if not isinstance(held, list) or len(held) > MOST_CONTROLS:
        raise SpecError(f"drive: held {held!r}, expected a list of buttons")
    if not all(type(button) is int and 0 <= button < MOST_CONTROLS for button in held):
        raise SpecError(f"drive: held {held!r}, expected numbers of buttons")
    position, orientation = (
        _numbers(message, "position", 3, FARTHEST_M),
        _numbers(message, "orientation", 4, 1.01),
    )
    if len(position) not in (0, 3) or len(orientation) != {0: 0, 3: 4}[len(position)]:
        raise SpecError("drive: a pose has 3 numbers of position and 4 of orientation")
    (seen_ms,) = _numbers({"seen": [message.get("seen")]}, "seen", 1, 1e15)
    (grip,) = _numbers({"grip": [message.get("grip", 0.0)]}, "grip", 1, 1.0)
    return Hands(
        sequence,
        seen_ms,
        _numbers(message, "axes", MOST_CONTROLS, 1.0),
        tuple(held),
        bool(message.get("engaged")) and bool(position),
        position,
        orientation,
        max(grip, 0.0),
    )


def _numbers(message: Mapping[str, Any], name: str, most: int, largest: float) -> tuple[float, ...]:
    values = message.get(name, [])
    if (
        not isinstance(values, Sequence)
        or len(values) > most
        or not all(type(value) in (int, float) and abs(value) <= largest for value in values)  # nor NaN
    ):
        raise SpecError(f"drive: {name} {values!r}, expected at most {most} numbers of at most {largest:g}")
    return tuple(float(value) for value in values)


class Wheel:
    """Judges the messages of all browsers, by number."""

    def __init__(self) -> None:
        self.driver: int | None = None
        self._heard_ms = 0.0  # from the driver
        self._sequences: dict[int, int] = {}
        self._must_lift: dict[int, str] = {}  # why a browser is not heard until its hands are lifted

    def turn(self, browser: int, hands: Hands, now_ms: float, forbidden: str = "") -> tuple[Hands | None, str]:
        """What goes on to the robot, if anything, and why the person does not drive, if so.

        forbidden: why nobody may drive now, as while the robot is stopped.
        """
        if hands.sequence <= self._sequences.get(browser, -1):
            return None, "late"
        if browser not in self._sequences and hands.sequence > 1:  # its page had another connection, perhaps hands on
            self._must_lift[browser] = LOST
        self._sequences[browser] = hands.sequence
        if self.driver is not None and now_ms - self._heard_ms > WHEEL_MS:
            self._must_lift[self.driver], self.driver = LOST, None
        if not hands.busy:
            self._must_lift.pop(browser, None)
            if self.driver != browser:
                return None, ""
            self.driver = None
            return hands, ""
        if self.driver not in (None, browser):
            return None, "another browser drives"
        age_ms = now_ms - hands.seen_ms
        late = f"the connection is slow: commands answer what was {age_ms / 1e3:.1f} s ago"
        why = forbidden or ("" if -AHEAD_MS <= age_ms <= MOST_AGE_MS else late)
        if why:
            self._must_lift[browser] = f"{why}; lift your hands to go on"
        if browser in self._must_lift:
            was, self.driver = self.driver, None
            return (hands.off() if was == browser else None), self._must_lift[browser]
        self.driver, self._heard_ms = browser, now_ms
        return hands, ""

    def leave(self, browser: int) -> Hands | None:
        """The browser is gone; lifted hands, if it had the wheel."""
        sequence = self._sequences.pop(browser, 0)
        self._must_lift.pop(browser, None)
        if self.driver != browser:
            return None
        self.driver = None
        return Hands(sequence + 1)
