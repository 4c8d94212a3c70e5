"""Moving a robot by the keys of the terminal, also over ssh. Legend: J joints.

A terminal tells that a key was pressed, not that it was let go: a key counts as held for `hold_s` after each press or
repeat, and its joint moves at a constant speed as long.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from robolearn.errors import SpecError
from robolearn.specs import RobotSpec
from robolearn.teleop.reach import within_reach
from robolearn.teleop.teleoperator import TeleopCommand, TeleopEvent
from robolearn.teleop.terminal import EVENTS, Terminal
from robolearn.types import RobotState

SLOWER, FASTER, LET_GO = "[", "]", "\x04"  # the last is Ctrl-D
SCALES = (0.25, 0.5, 1.0, 2.0)
FASTEST_RAD_S, LONGEST_HOLD_S = 5.0, 1.0  # that a person can mean
LONGEST_STEP_S = 0.1  # between two readings; what is beyond is not made up for


@dataclass(frozen=True)
class KeyboardConfig:
    """Which keys, and how fast."""

    keys: tuple[str, ...] = ("qa", "ws", "ed", "rf", "tg", "yh")  # of each joint: forwards, backwards; more do nothing
    speed_rad_s: float = 0.5
    hold_s: float = 0.15  # that a key counts as held after a press; terminals repeat every 0.03 s or so
    idle_s: float | None = None  # without a key for so long, the person is not in charge; None: always in charge

    def __post_init__(self) -> None:
        for name, most in (("speed_rad_s", FASTEST_RAD_S), ("hold_s", LONGEST_HOLD_S)):
            if not 0 < getattr(self, name) <= most:
                raise SpecError(f"{name} is {getattr(self, name):g}, expected above 0 and at most {most:g}")


class Keyboard:
    """Space stops; Enter, x and Backspace end the episode (success, failure, discard); [ and ] change the speed; Ctrl-D
    lets go of the robot. fd: the terminal's file descriptor, standard input if None."""

    config_type = KeyboardConfig

    def __init__(self, config: KeyboardConfig, spec: RobotSpec, fd: int | None = None) -> None:
        keys = "".join(config.keys)
        taken = {*EVENTS, SLOWER, FASTER, LET_GO, "\x1b"}
        if len(config.keys) < len(spec.joint_names) or any(len(pair) != 2 for pair in config.keys):
            raise SpecError(
                f"keyboard has the keys {config.keys} for the {len(spec.joint_names)} joints of {spec.name}; "
                "expected two keys a joint: `keys` of the cell's teleop"
            )
        if len(set(keys)) < len(keys) or taken & set(keys):
            raise SpecError(
                f"keyboard has the keys {config.keys}; each must be unlike the others and have no other use"
            )
        self.config, self._spec = config, spec
        moving = keys[: 2 * len(spec.joint_names)]
        self._moves = {key: (i // 2, 1 - 2 * (i % 2)) for i, key in enumerate(moving)}
        self._terminal = Terminal(sys.stdin.fileno() if fd is None else fd)
        self._scale = SCALES.index(1.0)
        self._pressed_ns: dict[str, int] = {}
        self._touched_ns: int | None = None
        self._read_ns = 0
        self._target: NDArray[np.float64] | None = None  # None while the person is not in charge

    def connect(self) -> None:
        """Take the terminal: keys come at once and are not shown."""
        self._terminal.take()
        self._pressed_ns, self._touched_ns, self._target = {}, None, None

    def read(self, state: RobotState, now_ns: int) -> TeleopCommand:
        events = []
        for key in self._terminal.typed():
            if key in EVENTS:
                events.append(EVENTS[key])
            elif key in (SLOWER, FASTER):
                self._scale = min(max(self._scale + (1 if key == FASTER else -1), 0), len(SCALES) - 1)
            elif key == LET_GO:
                self._target, self._pressed_ns = None, {}
            elif key in self._moves:
                self._pressed_ns[key] = self._touched_ns = now_ns
                if self._target is None:
                    self._target, self._read_ns = state.joint_position.astype(np.float64), now_ns
        if TeleopEvent.STOP in events:
            self._target, self._pressed_ns = None, {}
        return TeleopCommand(self._move(state, now_ns), tuple(events))

    def close(self) -> None:
        """Give the terminal back as it was."""
        self._terminal.give_back()

    def _move(self, state: RobotState, now_ns: int) -> NDArray[np.float32] | None:
        if self._target is None or self._touched_ns is None:
            return None
        if self.config.idle_s is not None and not 0 <= now_ns - self._touched_ns <= self.config.idle_s * 1e9:
            self._target = None
            return None
        elapsed_s = min(max((now_ns - self._read_ns) * 1e-9, 0.0), LONGEST_STEP_S)
        self._read_ns = now_ns
        speed = self.config.speed_rad_s * SCALES[self._scale]
        for key, pressed_ns in self._pressed_ns.items():
            if 0 <= now_ns - pressed_ns <= self.config.hold_s * 1e9:  # a clock that went back holds no key
                joint, sign = self._moves[key]
                self._target[joint] += sign * speed * elapsed_s
        self._target = within_reach(self._target, state, self._spec)
        return self._target.astype(np.float32)
