"""SafetyFilter: the last word before any command reaches a robot. Legend: J joints.

The rules, in this order. A command is **refused** (the robot holds the last command that was sent) when

1. nothing arrived, the clock went back, or the stamp lies ahead of the clock or is older than `max_command_age_s`;
2. it is not a finite numeric array of shape (J,);
3. a joint is asked to leave its range by more than `max_overshoot` of the range;
4. a joint is asked to jump, from the last command sent, by more than `max_jump` of its range (or than one period at
   full speed, where that is more).

What is left may overshoot a little: it is **limited**, each joint on its own, to its range and then to the step that
its speed allows in the time since the last decision, which counts as one period at most.

So whatever comes in, every output lies in the range and no two outputs differ by more than `max_speed` times the time
between them. A hold repeats the last output, and the next good command resumes. No rule reads a clock.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from robolearn.errors import SpecError
from robolearn.specs import RobotSpec
from robolearn.types import RobotState


@dataclass(frozen=True)
class SafetyConfig:
    """Limits that are not the robot's own; those (position, speed) come from its RobotSpec."""

    position_margin: float = 0.0  # [spec unit] kept free at both ends of every joint's range
    max_overshoot: float = 0.1  # of the range: a target further outside is refused, a nearer one clamped
    max_jump: float = 0.25  # of the range: a larger step in one command is refused, a smaller one slowed down
    max_command_age_s: float = 0.08  # a command that answers an older observation is refused

    def __post_init__(self) -> None:
        for name in ("position_margin", "max_overshoot", "max_jump", "max_command_age_s"):
            value = getattr(self, name)
            if not (np.isfinite(value) and value >= 0):
                raise SpecError(f"safety {name} is {value}, expected a number of at least 0")


@dataclass(frozen=True)
class SafetyDecision:
    """What to send. `held`: the command was refused; `limited`: it was moved into the limits; `reason` says why."""

    command: NDArray[np.float32]  # (J,)
    held: bool
    limited: bool
    reason: str = ""


class SafetyFilter:
    """Stands between whoever commands and one robot, and remembers what was sent last.

    Raises SpecError when the limits leave a joint no room, or when a command would be stale before its period is over.
    """

    def __init__(self, spec: RobotSpec, config: SafetyConfig, period_s: float) -> None:
        low, high, speed = (np.asarray(v, np.float64) for v in (spec.position_low, spec.position_high, spec.max_speed))
        self._range = high - low
        for i, joint in enumerate(spec.joint_names):
            if not 2 * config.position_margin < self._range[i] < np.inf:
                raise SpecError(
                    f"{spec.name} {joint} has the range {low[i]:g}..{high[i]:g} {spec.unit}, expected a finite one "
                    f"wider than two margins of {config.position_margin:g}"
                )
            if not 0 < speed[i] < np.inf:
                raise SpecError(f"{spec.name} {joint} has max_speed {speed[i]:g} {spec.unit}/s, expected more than 0")
        if not 0 < period_s <= config.max_command_age_s:
            raise SpecError(
                f"the control period is {period_s:g} s, expected more than 0 and at most max_command_age_s "
                f"{config.max_command_age_s:g} s; raise max_command_age_s or the control rate"
            )
        self._spec = spec
        self._max_speed = speed
        self._low, self._high = low + config.position_margin, high - config.position_margin
        self._overshoot = config.max_overshoot * self._range
        self._hard_step = np.maximum(config.max_jump * self._range, speed * period_s)
        self._max_age_ns = round(config.max_command_age_s * 1e9)
        self._period_ns = round(period_s * 1e9)
        self._sent: NDArray[np.float32] | None = None
        self._last_ns = 0

    def reset(self, state: RobotState) -> None:
        """Start from where the robot is. Raises SpecError when it stands outside its range or did not measure."""
        position = self._spec.action_spec.check(f"{self._spec.name} measured position", state.joint_position)
        outside = self._first(self._outside(position) > self._overshoot)
        if outside is not None:
            raise SpecError(
                f"{self._at(outside, position)}, outside {self._limits(outside)}; move it inside by hand or mend its "
                "calibration"
            )
        low, high = _inward(self._low, self._high)
        self._sent = np.clip(position, low, high)
        self._last_ns = state.stamp_ns - self._period_ns

    def filter(self, action: NDArray | None, stamp_ns: int, now_ns: int) -> SafetyDecision:
        """Decide what to send at `now_ns` when `action` (J,), made from the observation of `stamp_ns`, was commanded.

        `action` None means that nothing arrived. Raises SpecError before the first `reset`.
        """
        if self._sent is None:
            raise SpecError("the safety filter has not seen the robot yet; call reset(state) first")
        elapsed_ns, self._last_ns = now_ns - self._last_ns, now_ns
        reason = self._refuse_timing(action, stamp_ns, now_ns, elapsed_ns) or self._refuse_values(action)
        if reason or action is None:
            return SafetyDecision(self._sent.copy(), held=True, limited=False, reason=reason)
        wanted = action.astype(np.float64)
        step = self._max_speed * (min(elapsed_ns, self._period_ns) * 1e-9)
        sent = self._sent.astype(np.float64)
        low, high = _inward(np.maximum(self._low, sent - step), np.minimum(self._high, sent + step))
        self._sent = np.clip(wanted.astype(np.float32), low, high)
        moved = self._first(np.abs(self._sent - wanted) > 1e-6)
        reason = "" if moved is None else f"{self._at(moved, wanted)}, limited to {self._sent[moved]:.4g}"
        return SafetyDecision(self._sent.copy(), held=False, limited=moved is not None, reason=reason)

    def _refuse_timing(self, action: NDArray | None, stamp_ns: int, now_ns: int, elapsed_ns: int) -> str:
        if elapsed_ns < 0:
            return f"the clock went back by {-elapsed_ns * 1e-9:.3f} s"
        if action is None:
            return "no command"
        age_ns = now_ns - stamp_ns
        if age_ns < 0:
            return f"the command is stamped {-age_ns * 1e-9:.3f} s ahead of the clock"
        if age_ns > self._max_age_ns:
            return f"the command is {age_ns * 1e-9:.3f} s old, at most {self._max_age_ns * 1e-9:.3f} s"
        return ""

    def _refuse_values(self, action: NDArray | None) -> str:
        """Why these numbers must not be sent, or nothing."""
        if action is None or self._sent is None:
            return ""
        if not isinstance(action, np.ndarray) or action.dtype.kind not in "fiu":
            return f"the command is {getattr(action, 'dtype', type(action).__name__)}, expected float32"
        if action.shape != self._sent.shape:
            return f"the command has shape {action.shape}, expected {self._sent.shape}"
        wanted = action.astype(np.float64)
        bad = self._first(~np.isfinite(wanted))
        if bad is not None:
            return f"{self._at(bad, wanted)}, expected a finite number"
        bad = self._first(self._outside(wanted) > self._overshoot)
        if bad is not None:
            return f"{self._at(bad, wanted)}, outside {self._limits(bad)}"
        jump = np.abs(wanted - self._sent)
        bad = self._first(jump > self._hard_step)
        if bad is not None:
            return f"{self._at(bad, wanted)}, a jump of {jump[bad]:.4g}, at most {self._hard_step[bad]:.4g}"
        return ""

    def _outside(self, position: NDArray) -> NDArray[np.float64]:
        return np.maximum(self._low - position, position - self._high)

    @staticmethod
    def _first(bad: NDArray[np.bool_]) -> int | None:
        return int(np.argmax(bad)) if bad.any() else None

    def _at(self, joint: int, values: NDArray) -> str:
        return f"{self._spec.joint_names[joint]} is {values[joint]:.4g} {self._spec.unit}"

    def _limits(self, joint: int) -> str:
        return f"{self._low[joint]:.4g}..{self._high[joint]:.4g}"


def _inward(low: NDArray[np.float64], high: NDArray[np.float64]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The bounds as float32, rounded to the inside: casting a command must not carry it over a limit."""
    low32, high32 = low.astype(np.float32), high.astype(np.float32)
    low32 = np.where(low32 < low, np.nextafter(low32, np.float32(np.inf)), low32)
    high32 = np.where(high32 > high, np.nextafter(high32, np.float32(-np.inf)), high32)
    return low32, high32
