"""A phone that is moved through the air: poses come in as messages, and the tool follows them. Legend: J joints.

Whoever receives the messages (the web page) calls `feed`; this file opens nothing. A message is a mapping:

    engaged      bool: a finger is on the screen; the person is in charge while it is
    position     [x, y, z] m, and
    orientation  [w, x, y, z], both in the phone's world (WebXR: y up, z towards the viewer)
    grip         0 (closed) to 1 (open), optional
    event        "stop", "success", "failure", "discard", optional

Where the finger comes down, phone and tool are tied together; lifting it lets go, as a mouse is lifted. They are tied
anew where the pose jumps faster than a hand moves, as it does when the phone has lost its bearings. A phone that is not
heard of for `max_age_s` has let go.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robolearn.errors import HardwareError, SpecError
from robolearn.specs import RobotSpec
from robolearn.teleop.cartesian import CartesianConfig, Hand
from robolearn.teleop.teleoperator import TeleopCommand, TeleopEvent
from robolearn.types import RobotState

# From WebXR's axes (x right, y up, z back) to the robot's (x forwards, y left, z up), the person behind the robot.
TO_BASE = np.array([[0.0, 0.0, -1.0], [-1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])

FASTEST_M_S, JITTER_M = 3.0, 0.05  # of a hand, and of the times at which messages come


@dataclass(frozen=True)
class PhoneConfig:
    """How the phone moves the tool."""

    arm: CartesianConfig = field(default=CartesianConfig())
    scale: float = 1.0  # metres of the tool for one of the phone
    with_rotation: bool = True
    max_age_s: float = 0.3


@dataclass(frozen=True)
class _Pose:
    position: NDArray[np.float64]
    rotation: NDArray[np.float64]
    grip: float | None
    received_ns: int


class Phone:
    """`feed` may be called from another thread."""

    config_type = PhoneConfig

    def __init__(self, config: PhoneConfig, spec: RobotSpec) -> None:
        self.config, self._hand = config, Hand(config.arm, spec)
        self._low, self._high = spec.position_low[-1], spec.position_high[-1]
        self._lock = threading.Lock()
        self._pose: _Pose | None = None  # None while no finger is on the screen
        self._jumped = False  # since the last reading
        self._events: list[TeleopEvent] = []
        self._tied: tuple[_Pose, NDArray[np.float64], NDArray[np.float64]] | None = (
            None  # phone and tool, where they met
        )
        self._connected = False

    def feed(self, message: Mapping[str, Any], now_ns: int) -> None:
        """One message. Raises SpecError for one that is none; nothing of it counts then."""
        event = message.get("event")
        if event is not None and event not in [e.value for e in TeleopEvent]:
            raise SpecError(f"phone event {event!r}, expected one of {', '.join(e.value for e in TeleopEvent)}")
        pose = None
        if message.get("engaged"):
            position = _numbers(message, "position", 3)
            w, x, y, z = _unit(_numbers(message, "orientation", 4))
            rotation = np.array(
                [
                    [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
                    [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
                    [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
                ]
            )
            grip = None if message.get("grip") is None else float(np.clip(_numbers(message, "grip", 1)[0], 0, 1))
            pose = _Pose(TO_BASE @ position, TO_BASE @ rotation @ TO_BASE.T, grip, now_ns)
        with self._lock:
            self._jumped |= pose is not None and self._pose is not None and _jumped(self._pose, pose)
            self._pose = pose
            self._events += [TeleopEvent(event)] if event else []

    def connect(self) -> None:
        with self._lock:
            self._pose, self._events, self._tied, self._jumped = None, [], None, False
        self._hand.let_go()
        self._connected = True

    def read(self, state: RobotState, now_ns: int) -> TeleopCommand:
        if not self._connected:
            raise HardwareError("the phone is not connected; call connect() first")
        with self._lock:
            pose, events, jumped = self._pose, tuple(self._events), self._jumped
            self._events, self._jumped = [], False
        if pose is None or TeleopEvent.STOP in events or not self._heard(pose, now_ns):
            self._hand.let_go()
            self._tied = None
            return TeleopCommand(None, events)
        self._hand.take(state, now_ns)
        assert self._hand.target is not None
        position, rotation = self._hand.kinematics.tool(self._hand.target)
        if self._tied is None or jumped:
            self._tied = pose, position, rotation
        began, tool_position, tool_rotation = self._tied
        elapsed_s = self._hand.elapsed_s(now_ns)
        along = tool_position + self.config.scale * (pose.position - began.position) - position
        about = np.zeros(3)
        if self.config.with_rotation:
            about = _rotation_vector(pose.rotation @ began.rotation.T @ tool_rotation @ rotation.T)
        step = np.concatenate(
            [
                _at_most(along, self.config.arm.speed_m_s * elapsed_s),
                _at_most(about, self.config.arm.turn_rad_s * elapsed_s),
            ]
        )
        grip_share = 0.0
        if pose.grip is not None:
            share = (self._hand.target[-1] - self._low) / (self._high - self._low)
            most = self.config.arm.grip_share_s * elapsed_s
            grip_share = float(np.clip(pose.grip - share, -most, most))
        return TeleopCommand(self._hand.shift(step, grip_share), events)

    def close(self) -> None:
        self._connected = False

    def _heard(self, pose: _Pose, now_ns: int) -> bool:
        """Whether it is of now; one that a clock put far ahead is not."""
        return abs(now_ns - pose.received_ns) <= self.config.max_age_s * 1e9


def _jumped(before: _Pose, pose: _Pose) -> bool:
    """Whether no hand can have moved the phone so."""
    elapsed_s = max((pose.received_ns - before.received_ns) * 1e-9, 0.0)
    return float(np.linalg.norm(pose.position - before.position)) > JITTER_M + FASTEST_M_S * elapsed_s


def _numbers(message: Mapping[str, Any], name: str, count: int) -> NDArray[np.float64]:
    try:
        values = np.atleast_1d(np.array(message.get(name), np.float64))
    except (TypeError, ValueError):
        values = np.full(0, np.nan)
    if values.shape != (count,) or not np.isfinite(values).all():
        raise SpecError(f"phone {name} is {message.get(name)!r}, expected {count} finite numbers")
    return values


def _unit(quaternion: NDArray[np.float64]) -> NDArray[np.float64]:
    length = float(np.linalg.norm(quaternion))
    if not 0.5 < length < 2.0:
        raise SpecError(f"phone orientation has the length {length:g}, expected a unit quaternion w, x, y, z")
    return quaternion / length


def _rotation_vector(rotation: NDArray[np.float64]) -> NDArray[np.float64]:
    """Axis times angle [rad] of a rotation (3, 3) of less than half a turn."""
    axis = np.array([rotation[2, 1] - rotation[1, 2], rotation[0, 2] - rotation[2, 0], rotation[1, 0] - rotation[0, 1]])
    sine, cosine = float(np.linalg.norm(axis)) / 2, (float(np.trace(rotation)) - 1) / 2
    return axis / (2 * sine) * np.arctan2(sine, cosine) if sine > 1e-9 else np.zeros(3)


def _at_most(vector: NDArray[np.float64], length: float) -> NDArray[np.float64]:
    return vector * min(1.0, length / max(float(np.linalg.norm(vector)), 1e-12))
