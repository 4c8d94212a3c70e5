"""The rules of SafetyFilter for many simulated robots of one kind, whose commands answer the newest observation.

A row is decided exactly as a SafetyFilter of its own would decide it (a property test holds them together). The rules
on stops, time and health do not arise in a simulation. Legend: N robots, J joints.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from robolearn.errors import SpecError
from robolearn.robots.limits import JUMP, NOT_FINITE, OUTSIDE, Motion, MotionLimits, advance, at_rest, brake, judge
from robolearn.robots.safety import (
    LONG_HOLD_S,
    SOFT_START_SHARE,
    SafetyConfig,
    around,
    goes_on,
    motion_limits,
    rounded,
    start_of,
)
from robolearn.specs import RobotSpec

LIMITED = 4  # beside what `judge` says of a joint


@dataclass(frozen=True)
class BatchDecision:
    """What to send, and about which rows something has to be said: a SafetyDecision with a leading axis."""

    command: NDArray[np.float32]  # (N, J)
    held: NDArray[np.bool_]  # (N,)
    limited: NDArray[np.bool_]  # (N,)
    reason: NDArray[np.object_]  # (N,) str, empty where the command was sent as it came


class BatchSafetyFilter:
    """Stands between whoever commands and N robots; `sent` (N, J) is what was sent last.

    Raises SpecError as SafetyFilter does, and for limits on the arm's shape and its lag, which it does not know.
    """

    def __init__(self, spec: RobotSpec, config: SafetyConfig, period_s: float, num_robots: int) -> None:
        if config.model is not None or config.max_lag is not None:
            raise SpecError("limits on workspace, clearance and lag are for one robot; leave them out for a batch")
        self._limits, self._overshoot, self._hard_step = motion_limits(spec, config, period_s)
        self._soft_start_s = config.soft_start_s
        self._period_s = round(period_s * 1e9) * 1e-9
        self._reasons = _reasons(spec, self._limits, self._hard_step)
        self.sent = np.zeros((num_robots, len(spec.joint_names)), np.float32)
        self._motion = at_rest(self.sent)
        self._wanted = np.full(self.sent.shape, np.nan)  # the last command, where it was followed
        self._active_s, self._held_s = np.zeros((num_robots, 1)), np.zeros((num_robots, 1))

    def reset(self, position: NDArray[np.float32], which: Sequence[int] | NDArray[np.int64] | None = None) -> None:
        """Start the robots `which` (all by default) from where they are, (n, J). Raises SpecError for one that stands
        outside its range or did not measure."""
        outside = np.maximum(self._limits.low - position, position - self._limits.high)
        if not (outside <= self._overshoot).all():  # a NaN compares false
            raise SpecError("a robot starts outside its range or did not measure; look at the initial state")
        rows = slice(None) if which is None else which
        self.sent[rows] = start_of(position, self._limits)
        for now, start in zip(self._motion, at_rest(self.sent[rows]), strict=True):
            now[rows] = start
        self._wanted[rows], self._active_s[rows], self._held_s[rows] = np.nan, 0.0, 0.0

    def filter(self, actions: NDArray) -> BatchDecision:
        """Decide what to send when `actions` (N, J) were commanded a period after the last decision."""
        if actions.shape != self.sent.shape or actions.dtype.kind not in "fiu":
            raise SpecError(f"actions are {actions.dtype} {actions.shape}, expected float32 {self.sent.shape}")
        limits = self._limits_now()
        wanted = actions.astype(np.float64)
        verdict = judge(wanted, self.sent, self._limits, self._overshoot, self._hard_step)
        held: NDArray[np.bool_] = np.logical_or.reduce(verdict > 0, axis=-1)
        wanted = np.where(held[:, None], self.sent, wanted)
        speed = np.nan_to_num((wanted - self._wanted) / self._period_s)
        target = np.clip(wanted, self._limits.low, self._limits.high)
        motion = advance(self._motion, target, speed, limits, self._period_s)
        if held.any():
            braked = brake(self._motion, limits, self._period_s)
            motion = Motion(*(np.where(held[:, None], *pair) for pair in zip(braked, motion, strict=True)))
        self._wanted = np.where(held[:, None], np.nan, wanted)
        self.sent = rounded(motion, self.sent, limits, self._period_s)
        self._motion = goes_on(motion, self.sent, limits)
        self._held_s = np.where(held[:, None], self._held_s + self._period_s, 0.0)
        moves = np.logical_or.reduce(self._motion.speed != 0, axis=-1, keepdims=True)
        self._active_s[(self._held_s > LONG_HOLD_S) & ~moves] = 0.0
        moved = (np.abs(self.sent - wanted) > 1e-6) & ~held[:, None]
        limited: NDArray[np.bool_] = np.logical_or.reduce(moved, axis=-1)
        return BatchDecision(self.sent.copy(), held, limited, self._explain(verdict, moved))

    def _limits_now(self) -> MotionLimits:
        """Slower while the soft start lasts."""
        self._active_s += self._period_s
        limits = around(self._limits, self._motion.position)
        if (self._active_s >= self._soft_start_s).all():
            return limits
        share = np.clip(self._active_s / self._soft_start_s, SOFT_START_SHARE, 1.0)
        return replace(limits, speed=share * limits.speed)

    def _explain(self, verdict: NDArray[np.int8], moved: NDArray[np.bool_]) -> NDArray[np.object_]:
        """Of each row the first joint that is not finite, else the first that something is to be said about."""
        verdict = np.where(moved, LIMITED, verdict)
        if not verdict.any():
            return self._reasons[verdict[:, 0], 0]
        first = np.where(verdict == NOT_FINITE, 2, verdict > 0).argmax(axis=-1)
        return self._reasons[verdict[np.arange(len(verdict)), first], first]


def _reasons(spec: RobotSpec, limits: MotionLimits, hard_step: NDArray[np.float64]) -> NDArray[np.object_]:
    """What to say, (verdict, joint)."""
    texts = np.full((5, len(spec.joint_names)), "", dtype=object)
    for j, joint in enumerate(spec.joint_names):
        texts[NOT_FINITE, j] = f"{joint} is not a finite number"
        texts[OUTSIDE, j] = f"{joint} is outside {limits.low[j]:.4g}..{limits.high[j]:.4g}"
        texts[JUMP, j] = f"{joint} jumps, at most {hard_step[j]:.4g}"
        texts[LIMITED, j] = f"{joint} was limited"
    return texts
