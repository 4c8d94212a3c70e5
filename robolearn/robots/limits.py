"""The arithmetic of the motion limits: pure functions over arrays with any leading axes. Legend: J joints.

A `Motion` is what was commanded last. `advance` brings it one step nearer to a target, `brake` one step nearer to rest,
and neither ever leaves `MotionLimits`, because both keep this invariant: **from every motion that they return, braking
stays within the limits**. Without limits of acceleration a motion stops at once and the invariant is the range itself.

With a limit of acceleration, a step of length dt has one speed v' (p' = p + v' dt), and speeds change by at most A dt.
Stopping from v' needs no more than v'^2 / 2A whatever the later steps' lengths, so the fastest step towards a wall at
the distance d is the root of v' dt + v'^2 / 2A = d.

With a limit of jerk too, the command is a curve of piecewise constant jerk, and steps are samples of it. Braking is the
quickest stop in closed form: jerk -J to the peak deceleration, that held, jerk +J to rest. The step towards a target is
the one from which the quickest stop ends on the target (a search over the jerk: the end is monotone in it); where the
result would break the invariant, the quickest stop is followed instead.

Targets move: both track in the frame that moves with the target, so that a steady motion is followed without a lag.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

ROUNDING = 1e-6  # [unit] of commands, which are float32
FINE, NOT_FINITE, OUTSIDE, JUMP = 0, 1, 2, 3  # what `judge` says of a joint's command
CANDIDATES, ROUNDS = 65, 4  # of the search for a jerk: 64^4 steps of it
SLACK = 1e-7  # [unit, unit/s] by which a jerk-limited motion aims inside its limits: the room that rounding needs


@dataclass(frozen=True)
class MotionLimits:
    """Of every joint, (J,) float64; `acceleration` and `jerk` are infinite where there is no limit."""

    low: Floats  # [unit]
    high: Floats  # [unit]
    speed: Floats  # [unit/s]
    acceleration: Floats  # [unit/s^2]
    jerk: Floats  # [unit/s^3]

    @cached_property
    def coasting(self) -> bool:
        """Whether acceleration is limited, so that a motion goes on for a while."""
        return bool(np.isfinite(self.acceleration).all())

    @cached_property
    def smooth(self) -> bool:
        """Whether the jerk is limited."""
        return bool(np.isfinite(self.jerk).all())


class Motion(NamedTuple):
    """What was commanded last, (..., J) each."""

    position: Floats
    speed: Floats
    acceleration: Floats


def at_rest(position: NDArray) -> Motion:
    """A motion that stands at `position` (..., J)."""
    position = np.asarray(position, np.float64)
    return Motion(position, np.zeros_like(position), np.zeros_like(position))


def judge(
    wanted: Floats, sent: NDArray, limits: MotionLimits, max_overshoot: Floats, max_jump: Floats
) -> NDArray[np.int8]:
    """Whether commands (..., J) may be followed: FINE, or the first of NOT_FINITE, OUTSIDE and JUMP that applies.

    sent: the commands before (..., J). max_overshoot, max_jump: how far a target may lie outside the range, and from
    the last command, (J,) each.
    """
    outside = np.maximum(limits.low - wanted, wanted - limits.high) > max_overshoot
    jump = np.abs(wanted - sent) > max_jump + ROUNDING
    verdict = np.where(outside, OUTSIDE, np.where(jump, JUMP, FINE))
    return np.where(np.isfinite(wanted), verdict, NOT_FINITE).astype(np.int8)


def advance(motion: Motion, target: Floats, target_speed: Floats, limits: MotionLimits, elapsed_s: float) -> Motion:
    """The motion after `elapsed_s`, as near to `target` (..., J) as the limits allow. target_speed: of the target."""
    if elapsed_s <= 0:
        return motion
    if not limits.coasting:
        step = limits.speed * elapsed_s
        low = np.maximum(limits.low, motion.position - step)
        return Motion(np.minimum(np.maximum(target, low), np.minimum(limits.high, motion.position + step)), *motion[1:])
    target = np.clip(target, limits.low, limits.high)
    target_speed = np.clip(target_speed, -limits.speed, limits.speed)
    if limits.smooth:
        return _advance_smoothly(motion, target, target_speed, limits, elapsed_s)
    p, v, _ = motion
    a = limits.acceleration
    gap = target - p - target_speed * elapsed_s
    wanted = target_speed + np.sign(gap) * _fastest_towards(np.abs(gap), a, elapsed_s)
    slowest = np.maximum(np.maximum(-limits.speed, v - a * elapsed_s), -_fastest_towards(p - limits.low, a, elapsed_s))
    fastest = np.minimum(np.minimum(limits.speed, v + a * elapsed_s), _fastest_towards(limits.high - p, a, elapsed_s))
    speed = np.clip(wanted, slowest, fastest)
    return Motion(np.clip(p + speed * elapsed_s, limits.low, limits.high), speed, np.zeros_like(speed))


def brake(motion: Motion, limits: MotionLimits, elapsed_s: float) -> Motion:
    """The motion after `elapsed_s` of the quickest stop that the limits allow."""
    if elapsed_s <= 0 or not limits.coasting:
        return motion
    if limits.smooth:
        stopping = _follow_stop(motion, limits, elapsed_s)
        return stopping._replace(position=np.clip(stopping.position, limits.low, limits.high))
    change = limits.acceleration * elapsed_s
    speed = motion.speed - np.clip(motion.speed, -change, change)
    position = np.clip(motion.position + speed * elapsed_s, limits.low, limits.high)
    return Motion(position, speed, np.zeros_like(speed))


def braking_time_s(motion: Motion, limits: MotionLimits) -> Floats:
    """How long the quickest stop takes (..., J) [s]."""
    if limits.smooth:
        return _stop(motion.speed, motion.acceleration, limits).total_s
    return np.abs(motion.speed) / limits.acceleration


def _fastest_towards(distance: Floats, acceleration: Floats, elapsed_s: float) -> Floats:
    """The root v of v dt + v^2 / 2A = distance, in the form that loses no digits."""
    distance = np.maximum(distance, 0.0)
    return 2 * distance / (elapsed_s + np.sqrt(elapsed_s**2 + 2 * distance / acceleration))


class _Stop(NamedTuple):
    """The quickest stop: `sign` of its first jerk is the opposite of this, then three phases."""

    sign: Floats
    peak: Floats  # deceleration
    phases_s: tuple[Floats, Floats, Floats]

    @property
    def total_s(self) -> Floats:
        return self.phases_s[0] + self.phases_s[1] + self.phases_s[2]


def _stop(speed: Floats, acceleration: Floats, limits: MotionLimits) -> _Stop:
    j = limits.jerk
    sign = np.where(speed + acceleration * np.abs(acceleration) / (2 * j) >= 0, 1.0, -1.0)
    v, a = sign * speed, sign * acceleration
    peak = np.minimum(limits.acceleration, np.sqrt(np.maximum(j * v + a * a / 2, 0.0)))
    first = np.maximum(a + peak, 0.0) / j
    left = v + (a * a - 2 * peak * peak) / (2 * j)  # speed that the first and the last phase do not take away
    # where the peak is below the limit nothing is left; what rounding leaves would take ages at a tiny peak
    second = np.where(peak < limits.acceleration, 0.0, np.maximum(left, 0.0) / limits.acceleration)
    return _Stop(sign, peak, (first, second, peak / j))


def _stop_end(position: Floats, speed: Floats, acceleration: Floats, limits: MotionLimits) -> Floats:
    """Where the quickest stop comes to rest."""
    j = limits.jerk
    stop = _stop(speed, acceleration, limits)
    t1, t2, _ = stop.phases_s
    v, a = stop.sign * speed, stop.sign * acceleration
    v1 = v + a * t1 - j * t1 * t1 / 2
    way = t1 * (v + t1 * (a / 2 - j * t1 / 6)) + t2 * (v1 - stop.peak * t2 / 2) + stop.peak**3 / (6 * j * j)
    return position + stop.sign * way


def _follow_stop(motion: Motion, limits: MotionLimits, elapsed_s: float) -> Motion:
    """The state on the quickest stop after `elapsed_s`."""
    stop = _stop(motion.speed, motion.acceleration, limits)
    p, v, a = np.zeros_like(motion.position), stop.sign * motion.speed, stop.sign * motion.acceleration
    left = np.full_like(p, elapsed_s)
    for jerk, phase in zip((-limits.jerk, np.zeros_like(limits.jerk), limits.jerk), stop.phases_s, strict=True):
        t = np.minimum(left, phase)
        p, v, a = _integrate(p, v, a, jerk, t)
        left = left - t
    done = elapsed_s >= stop.total_s
    position = motion.position + stop.sign * p
    return Motion(position, np.where(done, 0.0, stop.sign * v), np.where(done, 0.0, stop.sign * a))


def _integrate(p: Floats, v: Floats, a: Floats, jerk: Floats, t: Floats | float) -> tuple[Floats, Floats, Floats]:
    return p + t * (v + t * (a / 2 + t * jerk / 6)), v + t * (a + t * jerk / 2), a + t * jerk


def _advance_smoothly(motion: Motion, target: Floats, target_speed: Floats, limits: MotionLimits, dt: float) -> Motion:
    p, v, a = motion
    target = np.clip(target, limits.low + SLACK, limits.high - SLACK)
    moved = target_speed * dt
    landing = np.abs(_stop_end(p, v - target_speed, a, limits) + moved - target) <= SLACK
    wanted = _follow_stop(Motion(p, v - target_speed, a), limits, dt)
    wanted = Motion(wanted.position + moved, wanted.speed + target_speed, wanted.acceleration)
    if not landing.all():
        jerk = _jerk_towards(motion, target, target_speed, limits, dt)
        steered = Motion(*_integrate(p, v, a, jerk, dt))
        wanted = Motion(*(np.where(landing, *pair) for pair in zip(wanted, steered, strict=True)))
    safe = _can_stop(wanted, limits) & (np.abs(wanted.position - p) <= limits.speed * dt)
    braked = brake(motion, limits, dt)
    return Motion(*(np.where(safe, *pair) for pair in zip(wanted, braked, strict=True)))


def _jerk_towards(motion: Motion, target: Floats, target_speed: Floats, limits: MotionLimits, dt: float) -> Floats:
    """The jerk for one step after which the quickest stop, seen from the moving target, ends on it."""
    p, v, a = motion
    most = limits.speed - SLACK
    low = np.maximum(-limits.jerk, (-limits.acceleration - a) / dt)
    high = np.minimum(limits.jerk, (limits.acceleration - a) / dt)
    shares = np.linspace(0.0, 1.0, CANDIDATES).reshape(-1, *[1] * p.ndim)
    for _ in range(ROUNDS):
        width = (high - low) / (CANDIDATES - 1)
        q, w, b = _integrate(p, v, a, low + shares * (high - low), dt)
        settled = w + b * np.abs(b) / (2 * limits.jerk)  # the speed when the acceleration has been taken back
        mean = (q - p) / dt
        beyond = _stop_end(q, w - target_speed, b, limits) > target
        too_fast = (settled > most) | (mean > most)
        too_far = too_fast | (beyond & (settled >= -most) & (mean >= -most))
        near = np.maximum((~too_far).sum(axis=0) - 1, 0)  # the last candidate that is not too far, or the first one
        low, high = low + near * width, low + np.minimum(near + 1, CANDIDATES - 1) * width
    return low


def _can_stop(motion: Motion, limits: MotionLimits) -> NDArray[np.bool_]:
    """Whether the quickest stop from here stays within the limits."""
    p, v, a = motion
    j = limits.jerk
    settled = v + a * np.abs(a) / (2 * j)
    end = _stop_end(p, v, a, limits)
    # Where the first jerk works against a motion that has not turned yet, the joint turns on its way.
    root = np.sqrt(np.maximum(a * a - 2 * j * np.abs(v), 0.0))
    t = np.where(v * settled < 0, (np.abs(a) - root) / j, 0.0)
    turn = p + t * (v + t * (a / 2 - np.sign(a) * j * t / 6))
    inside = np.minimum(np.minimum(p, end), turn) >= limits.low
    inside &= np.maximum(np.maximum(p, end), turn) <= limits.high
    return inside & (np.abs(settled) <= limits.speed) & (np.abs(v) <= limits.speed) & (np.abs(a) <= limits.acceleration)
