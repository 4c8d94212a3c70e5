"""SafetyFilter: the last word before any command reaches a robot. Legend: J joints.

A command is **refused**, and the robot brakes to a stop within its limits, when

1. somebody stopped the robot (`stop`): until `resume`, nothing moves it;
2. nothing arrived, the clock went back, or the stamp lies ahead of the clock or is older than `max_command_age_s`;
3. the robot has not measured for `max_state_age_s`, or is too hot; too high a load is a `stop`;
4. it is not a finite numeric array of shape (J,);
5. a joint is asked to leave its range by more than `max_overshoot` of the range;
6. a joint is asked to jump, from the last command sent, by more than `max_jump` of its range (or than one period at
   full speed, where that is more);
7. the tool would leave its workspace, or the arm would come too near itself, on the way or while braking.

What is left is **limited**, each joint on its own, to its range, speed, acceleration and jerk (`limits.py`). Nor does
it run further ahead of where the joint was measured than `max_lag` and the way it brakes in: a blocked arm does not
leap when it comes free. It does not sink either when its weight pulls it away, for what was sent is not taken back.
Time counts from decision to decision, one period at most; after a gap of more than `max_command_age_s` the arm is at
rest.

So whatever comes in, every output lies in the range (a robot that stands outside of it at the start is let back in at
its speed, and never further out), no two outputs differ by more than `max_speed` times the time
between them (to one rounding of float32 where acceleration is limited), and neither does their rate change faster than
the limits of acceleration and jerk allow. Where acceleration is not limited, to brake is to repeat the last output. No
rule reads a clock. A limit that is None is off; position, speed, overshoot, jump and age are always on.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from robolearn.errors import SpecError
from robolearn.robots.limits import (
    JUMP,
    NOT_FINITE,
    ROUNDING,
    Motion,
    MotionLimits,
    advance,
    at_rest,
    brake,
    braking_time_s,
    judge,
)
from robolearn.robots.robot import Health
from robolearn.specs import RobotSpec
from robolearn.types import RobotState

SOFT_START_SHARE = 0.1  # of the speed, that a soft start begins with
LONG_HOLD_S = 0.3  # after which the next command is a start: nobody knows how far away it is by then


@dataclass(frozen=True)
class SafetyConfig:
    """Limits that are not the robot's own; those (position, speed) come from its RobotSpec. None: not limited."""

    position_margin: float = 0.0  # [spec unit] kept free at both ends of every joint's range
    max_overshoot: float = 0.1  # of the range: a target further outside is refused, a nearer one clamped
    max_jump: float = 0.25  # of the range: a larger step in one command is refused, a smaller one slowed down
    max_command_age_s: float = 0.08  # a command that answers an older observation is refused
    max_acceleration: float | None = None  # [unit/s^2] of every joint
    max_jerk: float | None = None  # [unit/s^3] of every joint; wants max_acceleration
    soft_start_s: float = 0.0  # after a start, a stop or a LONG_HOLD_S, the speed limit rises from a tenth for so long
    max_lag: tuple[float, ...] | None = None  # [unit] one a joint: how far commands may run ahead of it; see the top
    max_state_age_s: float | None = None  # of the newest measurement
    max_temperature_c: float | None = None  # of any motor
    max_load: float | None = None  # of any motor, in the robot's unit (see its Health)
    model: Path | None = None  # MJCF of the arm, for the limits that follow
    tool: str = "tool"  # its body that the workspace is about
    workspace_low: tuple[float, ...] | None = None  # [m] x, y, z of the tool in the model's frame
    workspace_high: tuple[float, ...] | None = None
    min_clearance_m: float | None = None  # between links of the arm that no joint connects

    def __post_init__(self) -> None:
        for name in ("position_margin", "max_overshoot", "max_jump", "max_command_age_s", "soft_start_s"):
            value = getattr(self, name)
            if not (np.isfinite(value) and value >= 0):
                raise SpecError(f"safety {name} is {value}, expected a number of at least 0")
        limits = ("max_acceleration", "max_jerk", "max_state_age_s", "max_temperature_c", "max_load", "min_clearance_m")
        for name in limits:
            value = getattr(self, name)
            if value is not None and not (np.isfinite(value) and value > 0):
                raise SpecError(f"safety {name} is {value}, expected a number above 0, or nothing for no limit")
        if self.max_lag is not None and not all(np.isfinite(lag) and lag > 0 for lag in self.max_lag):
            raise SpecError(f"safety max_lag is {self.max_lag}, expected numbers above 0, one a joint")
        if self.max_jerk is not None and self.max_acceleration is None:
            raise SpecError("safety max_jerk needs max_acceleration; give both")
        box = (self.workspace_low, self.workspace_high)
        if box != (None, None) and not (
            None not in box and all(len(c or ()) == 3 for c in box) and all(np.less(*box))  # type: ignore[arg-type]
        ):
            raise SpecError(f"safety workspace is {box[0]}..{box[1]}, expected x, y, z twice, low < high, or neither")
        if self.model is None and (self.workspace_low is not None or self.min_clearance_m is not None):
            raise SpecError("safety workspace and min_clearance_m need the arm's geometry; give model: an MJCF file")


class Geometry(Protocol):
    """What is known of the arm's shape (`geometry.py`)."""

    def excess(self, position: NDArray[np.float64]) -> tuple[NDArray[np.float64], tuple[str, ...]]:
        """By how much [m] the arm at `position` (J,) breaks each limit on its shape, 0 where it does not; and how."""
        ...


@dataclass(frozen=True)
class SafetyDecision:
    """What to send. `held`: the command was refused; `limited`: it was moved into the limits; `reason` says why."""

    command: NDArray[np.float32]  # (J,)
    held: bool
    limited: bool
    reason: str = ""


class SafetyFilter:
    """Stands between whoever commands and one robot, and remembers what was sent last.

    `stopped` says why nothing may move, and is empty while things may. geometry: wanted where `config` limits the
    workspace or the clearance; `geometry.load_geometry` makes it. Raises what `motion_limits` raises.
    """

    def __init__(
        self, spec: RobotSpec, config: SafetyConfig, period_s: float, geometry: Geometry | None = None
    ) -> None:
        if geometry is None and config.model is not None:
            raise SpecError(f"safety limits the shape of {spec.name}, but no geometry was given; see load_geometry")
        if config.max_lag is not None and len(config.max_lag) != len(spec.joint_names):
            names = ", ".join(spec.joint_names)
            raise SpecError(f"safety max_lag has {len(config.max_lag)} numbers, expected one for each of {names}")
        self.stopped = ""
        self._spec, self._config, self._geometry = spec, config, geometry
        self._limits, self._overshoot, self._hard_step = motion_limits(spec, config, period_s)
        self._max_age_ns = round(config.max_command_age_s * 1e9)
        self._period_ns = round(period_s * 1e9)
        self._room = self._limits  # widened to where the robot stands outside of its range
        self._motion: Motion | None = None
        self._sent = np.zeros(0, np.float32)
        self._wanted: NDArray[np.float64] | None = None  # the last command, if it was followed
        self._last_ns = 0
        self._active_s = self._held_s = 0.0  # since the start or the last stop; since a command was followed
        self._state_ns = 0
        self._measured = np.zeros(0)
        self._trouble = ""  # of the robot's health

    @property
    def max_braking_s(self) -> float:
        """How long the arm takes at most from full speed to rest, once a command is refused [s]."""
        speed, rising = self._limits.speed, np.zeros_like(self._limits.speed)
        if self._limits.smooth:  # the worst moment: still speeding up, and at full speed once that is taken back
            rising = np.minimum(self._limits.acceleration, np.sqrt(2 * self._limits.jerk * speed))
            speed = speed - rising**2 / (2 * self._limits.jerk)
        return float(braking_time_s(Motion(np.zeros_like(speed), speed, rising), self._limits).max())

    @property
    def max_step(self) -> NDArray[np.float64]:
        """How far a command may be from the last one that was sent (J,), or it is refused as a jump."""
        return self._hard_step

    def reset(self, state: RobotState) -> NDArray[np.float32]:
        """Start from where the robot is, and return that as the command that counts as sent (J,).

        Raises SpecError when it stands outside its range or did not measure.
        """
        position = self._spec.action_spec.check(f"{self._spec.name} measured position", state.joint_position)
        far = np.maximum(self._limits.low - position, position - self._limits.high) > self._overshoot
        outside = _first(far)
        if outside is not None:
            raise SpecError(
                f"{self._at(outside, position)}, outside {self._range(outside)}; move it inside by hand or mend its "
                "calibration"
            )
        self._sent = start_of(position, self._limits)
        self._motion, self._wanted, self._active_s, self._held_s = at_rest(self._sent), None, 0.0, 0.0
        self._room = around(self._limits, self._motion.position)
        self._last_ns = state.stamp_ns - self._period_ns
        self.stopped = ""
        self.watch(state)
        return self._sent.copy()

    def start_anew(self, state: RobotState) -> None:
        """Start from where the robot is, which may be elsewhere than it was told: its device has failed. A stop stays.

        Raises SpecError as `reset` does; nothing has changed then.
        """
        stopped = self.stopped
        self.reset(state)
        self.stopped = stopped

    def watch(self, state: RobotState, health: Health | None = None) -> None:
        """What the robot measured last; wanted every tick where its lag, the state's age, the load or the heat is
        limited."""
        self._state_ns, self._measured = state.stamp_ns, state.joint_position.astype(np.float64)
        if health is None:
            return
        self._trouble = ""
        for what, values, limit, unit in (
            ("temperature", health.temperature_c, self._config.max_temperature_c, " C"),
            ("load", np.abs(health.load), self._config.max_load, ""),
        ):
            bad = None if limit is None else _first(~(values <= limit))
            if bad is not None:
                trouble = f"{self._spec.joint_names[bad]} has a {what} of {values[bad]:.4g}{unit}, at most {limit:g}"
                if what == "load":
                    self.stop(trouble)
                else:
                    self._trouble = trouble

    def stop(self, reason: str) -> None:
        """Emergency stop: brake within the limits, then let nothing move the robot until `resume`."""
        self.stopped = self.stopped or reason or "stopped"

    def resume(self, state: RobotState) -> None:
        """After a stop: start anew from where the robot is. Raises SpecError while it is still braking."""
        if self._motion is not None and self._motion.speed.any():
            raise SpecError(f"{self._spec.name} is still braking; resume when it stands")
        self.reset(state)

    def filter(self, action: NDArray | None, stamp_ns: int, now_ns: int) -> SafetyDecision:
        """Decide what to send at `now_ns` when `action` (J,), made from the observation of `stamp_ns`, was commanded.

        `action` None means that nothing arrived. Raises SpecError before the first `reset`.
        """
        if self._motion is None:
            raise SpecError("the safety filter has not seen the robot yet; call reset(state) first")
        since_ns, self._last_ns = now_ns - self._last_ns, now_ns
        elapsed_s = min(max(since_ns, 0), self._period_ns) * 1e-9
        if since_ns > max(self._max_age_ns, self._period_ns):
            self._motion = at_rest(self._motion.position)
        limits = self._limits_now(elapsed_s)
        reason = (
            self.stopped
            or self._refuse_timing(action, stamp_ns, now_ns, since_ns)
            or self._refuse_health(now_ns)
            or self._refuse_values(action)
        )
        if not reason and action is not None:
            wanted = action.astype(np.float64)
            motion = self._advance(wanted, limits, elapsed_s)
            reason = self._refuse_shape(motion, limits)
        if reason or action is None:
            self._wanted = None
            self._send(brake(self._motion, limits, elapsed_s), limits, elapsed_s)
            self._held_s += elapsed_s
            if self._held_s > LONG_HOLD_S and not self._motion.speed.any():
                self._active_s = 0.0
            return SafetyDecision(self._sent.copy(), held=True, limited=False, reason=reason)
        self._wanted, self._held_s = wanted, 0.0
        self._send(motion, limits, elapsed_s)
        moved = _first(np.abs(self._sent - wanted) > 1e-6)
        reason = "" if moved is None else f"{self._at(moved, wanted)}, limited to {self._sent[moved]:.4g}"
        return SafetyDecision(self._sent.copy(), held=False, limited=moved is not None, reason=reason)

    def _speed_of(self, wanted: NDArray[np.float64], elapsed_s: float) -> NDArray[np.float64]:
        """Of the target; none after a refused command."""
        if self._wanted is None or elapsed_s <= 0 or not self._limits.coasting:
            return np.zeros_like(wanted)
        return (wanted - self._wanted) / elapsed_s

    def _advance(self, wanted: NDArray[np.float64], limits: MotionLimits, elapsed_s: float) -> Motion:
        """Towards a command, by the lag that each joint may have."""
        assert self._motion is not None
        target, speed = np.clip(wanted, self._limits.low, self._limits.high), self._speed_of(wanted, elapsed_s)
        if self._config.max_lag is None:
            return advance(self._motion, target, speed, limits, elapsed_s)
        sent, lag = self._motion.position, np.asarray(self._config.max_lag)
        low, high = np.fmin(sent, self._measured - lag), np.fmax(sent, self._measured + lag)  # sent, where it is NaN
        near = np.clip(target, low, high)
        ahead = near != target
        motion = advance(self._motion, near, np.where(ahead, 0.0, speed), limits, elapsed_s)
        stop = brake(self._motion, limits, elapsed_s)
        return Motion(*(np.where(ahead & (near == sent), *pair) for pair in zip(stop, motion, strict=True)))

    def _limits_now(self, elapsed_s: float) -> MotionLimits:
        """Slower while the soft start lasts."""
        self._active_s += elapsed_s
        if self._active_s >= self._config.soft_start_s:
            return self._room
        share = max(SOFT_START_SHARE, self._active_s / self._config.soft_start_s)
        return replace(self._room, speed=share * self._room.speed)

    def _send(self, motion: Motion, limits: MotionLimits, elapsed_s: float) -> None:
        self._sent = rounded(motion, self._sent, limits, elapsed_s)
        self._motion = goes_on(motion, self._sent, limits)
        self._room = around(self._limits, self._motion.position)

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

    def _refuse_health(self, now_ns: int) -> str:
        limit_s, age_s = self._config.max_state_age_s, (now_ns - self._state_ns) * 1e-9
        if limit_s is not None and age_s > limit_s:
            return f"{self._spec.name} has not measured for {age_s:.3f} s, at most {limit_s:g} s"
        return self._trouble

    def _refuse_values(self, action: NDArray | None) -> str:
        """Why these numbers must not be sent, or nothing."""
        if action is None:
            return ""
        if not isinstance(action, np.ndarray) or action.dtype.kind not in "fiu":
            return f"the command is {getattr(action, 'dtype', type(action).__name__)}, expected float32"
        if action.shape != self._sent.shape:
            return f"the command has shape {action.shape}, expected {self._sent.shape}"
        wanted = action.astype(np.float64)
        verdict = judge(wanted, self._sent, self._limits, self._overshoot, self._hard_step)
        if not verdict.any():
            return ""
        worst = _first(verdict == NOT_FINITE)
        bad = int(np.argmax(verdict > 0)) if worst is None else worst
        if verdict[bad] == NOT_FINITE:
            return f"{self._at(bad, wanted)}, expected a finite number"
        if verdict[bad] == JUMP:
            jump = abs(wanted[bad] - self._sent[bad])
            return f"{self._at(bad, wanted)}, a jump of {jump:.4g}, at most {self._hard_step[bad]:.4g}"
        return f"{self._at(bad, wanted)}, outside {self._range(bad)}"

    def _refuse_shape(self, motion: Motion, limits: MotionLimits) -> str:
        """Follow `motion` until it has braked: no limit may be broken, nor broken any further, on the way."""
        if self._geometry is None or self._motion is None:
            return ""
        allowed, _ = self._geometry.excess(self._motion.position)
        period_s = self._period_ns * 1e-9
        for _ in range(2 + math.ceil(float(braking_time_s(motion, limits).max()) / period_s)):
            excess, what = self._geometry.excess(motion.position)
            worse = _first(excess > allowed)
            if worse is not None:
                return what[worse]
            if not limits.coasting or not motion.speed.any():
                break
            motion = brake(motion, limits, period_s)
        return ""

    def _at(self, joint: int, values: NDArray) -> str:
        return f"{self._spec.joint_names[joint]} is {values[joint]:.4g} {self._spec.unit}"

    def _range(self, joint: int) -> str:
        return f"{self._limits.low[joint]:.4g}..{self._limits.high[joint]:.4g}"


def motion_limits(
    spec: RobotSpec, config: SafetyConfig, period_s: float
) -> tuple[MotionLimits, NDArray[np.float64], NDArray[np.float64]]:
    """The limits of a robot's motion, how far a target may lie outside its range, and how far from the last (J,).

    Raises SpecError when the limits leave a joint no room, or when a command would be stale before its period is over.
    """
    low, high, speed = (np.asarray(v, np.float64) for v in (spec.position_low, spec.position_high, spec.max_speed))
    width = high - low
    for i, joint in enumerate(spec.joint_names):
        if not 2 * config.position_margin < width[i] < np.inf:
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
    acceleration, jerk = (
        np.full_like(low, np.inf if v is None else v) for v in (config.max_acceleration, config.max_jerk)
    )
    margin = config.position_margin
    limits = MotionLimits(low + margin, high - margin, speed, acceleration, jerk)
    return limits, config.max_overshoot * width, np.maximum(config.max_jump * width, speed * period_s)


def start_of(position: NDArray[np.float32], limits: MotionLimits) -> NDArray[np.float32]:
    """What counts as sent to robots that stand at `position` (..., J): that, without what rounding puts outside."""
    inside = np.clip(position, *inward(limits.low, limits.high))
    return np.where(np.abs(inside - position) > ROUNDING, position, inside)


def around(limits: MotionLimits, position: NDArray[np.float64]) -> MotionLimits:
    """The limits for a robot at `position` (..., J): where that is outside of the range, from there back into it."""
    if ((position >= limits.low) & (position <= limits.high)).all():
        return limits
    return replace(limits, low=np.minimum(limits.low, position), high=np.maximum(limits.high, position))


def rounded(motion: Motion, sent: NDArray[np.float32], limits: MotionLimits, elapsed_s: float) -> NDArray[np.float32]:
    """The motion's position (..., J) as a command after `sent` (..., J): in float32, without leaving a limit."""
    low, high = limits.low, limits.high
    if not limits.coasting:
        step, before = limits.speed * elapsed_s, sent.astype(np.float64)
        low, high = np.maximum(low, before - step), np.minimum(high, before + step)
    return np.clip(motion.position.astype(np.float32), *inward(low, high))


def goes_on(motion: Motion, sent: NDArray[np.float32], limits: MotionLimits) -> Motion:
    """The motion that the next step starts from when `sent` (..., J) was sent for this one."""
    # With a speed limit alone that is what was sent; with acceleration, rounding would add up.
    return motion if limits.coasting else at_rest(sent)


def _first(bad: NDArray[np.bool_]) -> int | None:
    return int(np.argmax(bad)) if bad.any() else None


def inward(low: NDArray[np.float64], high: NDArray[np.float64]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The bounds as float32, rounded to the inside: casting a command must not carry it over a limit."""
    low32, high32 = low.astype(np.float32), high.astype(np.float32)
    low32 = np.where(low32 < low, np.nextafter(low32, np.float32(np.inf)), low32)
    high32 = np.where(high32 > high, np.nextafter(high32, np.float32(-np.inf)), high32)
    return low32, high32
