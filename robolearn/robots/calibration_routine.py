"""The guided calibration as a state machine: samples and confirmations in, prompts and a Calibration out.

It reads no clock and no device, so it runs against recorded samples in tests. Whoever drives it shows `prompt`, calls
`feed(ticks)` with the encoder positions at 20 Hz or so, and `confirm()` when the person says that it is done. `confirm`
checks what was fed; when something is wrong it returns why, changes nothing, and the same prompt stands.

    MIDDLE     all joints near the middle of their range: the encoder's seam is put on the far side
    SWEEP      every joint through its whole range
    REFERENCE  the arm in its reference pose: zero
    DIRECTION  each joint a little towards its positive side, one after the other
    CHECK      the arm in its reference pose once more: how well zero is known
    DONE

Legend: J joints.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

import numpy as np
from numpy.typing import ArrayLike, NDArray

from robolearn.errors import HardwareError
from robolearn.robots.calibration import Calibration, JointCalibration
from robolearn.robots.servo_model import ServoModel


class Step(Enum):
    MIDDLE = "middle"
    SWEEP = "sweep"
    REFERENCE = "reference"
    DIRECTION = "direction"
    CHECK = "check"
    DONE = "done"


@dataclass(frozen=True)
class JointSetup:
    """What must be known of a joint before it is calibrated."""

    name: str
    motor_id: int
    reference_rad: float = 0.0  # its angle in the reference pose
    positive: str = "towards its positive side"  # said when its direction is asked for


@dataclass(frozen=True)
class RoutineConfig:
    """When to be content."""

    still_samples: int = 10  # that a pose is averaged over
    still_rad: float = 0.02  # that a joint may move meanwhile
    min_sweep_rad: float = 0.5  # a joint that moved less was not swept
    min_nudge_rad: float = 0.15  # a joint that moved less was not nudged
    max_others_share: float = 0.5  # of the nudge, that another joint may move meanwhile
    max_residual_rad: float = 0.05  # of any joint when the reference pose is taken again


class CalibrationRoutine:
    """One run. When MIDDLE has been confirmed, `homing_ticks` (J,) must be written to motors that store it, before more
    positions are fed."""

    def __init__(
        self,
        model: ServoModel,
        joints: Sequence[JointSetup],
        homing_ticks: ArrayLike | None = None,
        config: RoutineConfig = RoutineConfig(),
    ) -> None:
        self.step = Step.MIDDLE
        self.joint = 0  # whose direction is asked for
        self._model, self._joints, self._config = model, tuple(joints), config
        count = len(self._joints)
        self.homing_ticks = np.zeros(count, np.int64) if homing_ticks is None else np.asarray(homing_ticks, np.int64)
        self._recent: deque[NDArray[np.int64]] = deque(maxlen=config.still_samples)
        self._low = np.zeros(count, np.int64)
        self._high = np.zeros(count, np.int64)
        self._zero = np.zeros(count)
        self._direction = np.zeros(count, np.int64)
        self._residual = 0.0
        self._seam: set[int] = set()

    @property
    def prompt(self) -> str:
        """What the person should do now."""
        joint = self._joints[self.joint]
        return {
            Step.MIDDLE: "Put every joint near the middle of its range, let go, then press Enter.",
            Step.SWEEP: "Move every joint slowly from one end to the other and back, then press Enter.",
            Step.REFERENCE: "Put the arm in its reference pose, hold it still, then press Enter.",
            Step.DIRECTION: f"Move only {joint.name} a little {joint.positive}, hold it there, then press Enter.",
            Step.CHECK: "Put the arm in its reference pose once more, hold it still, then press Enter.",
            Step.DONE: "Done.",
        }[self.step]

    def feed(self, ticks: ArrayLike) -> None:
        """The encoder positions (J,) now."""
        sample = np.asarray(ticks, np.int64)
        if sample.shape != self._low.shape:
            raise HardwareError(f"calibration was fed {sample.shape} positions, expected {self._low.shape}")
        if self.step is Step.SWEEP:
            if self._recent:
                jumped = np.abs(sample - self._recent[-1]) > self._model.ticks_per_turn // 2
                self._seam |= set(np.flatnonzero(jumped).tolist())
            self._low, self._high = np.minimum(self._low, sample), np.maximum(self._high, sample)
        self._recent.append(sample)

    def confirm(self) -> str:
        """Finish the step. Returns what is wrong, or nothing when the next step has begun."""
        if self.step is Step.DONE:
            return "the calibration is finished"
        if len(self._recent) < self._config.still_samples:
            return f"only {len(self._recent)} of {self._config.still_samples} samples have come yet; wait a moment"
        wrong = {
            Step.MIDDLE: self._finish_middle,
            Step.SWEEP: self._finish_sweep,
            Step.REFERENCE: self._finish_reference,
            Step.DIRECTION: self._finish_direction,
            Step.CHECK: self._finish_check,
        }[self.step]()
        if not wrong:
            self._recent.clear()
        return wrong

    def result(self) -> Calibration:
        """What was found. Raises HardwareError before the last step is confirmed."""
        if self.step is not Step.DONE:
            raise HardwareError(f"the calibration is at its step {self.step.value!r}; finish it first")
        rad_per_tick = self._model.rad_per_tick
        joints = []
        for i, joint in enumerate(self._joints):
            direction = int(self._direction[i])
            zero = round(self._zero[i] - direction * joint.reference_rad / rad_per_tick)
            ends = sorted(direction * (int(end) - zero) * rad_per_tick for end in (self._low[i], self._high[i]))
            homing = int(self.homing_ticks[i])
            joints.append(JointCalibration(joint.name, joint.motor_id, zero, direction, ends[0], ends[1], homing))
        return Calibration(self._model.name, self._model.ticks_per_turn, self._residual, tuple(joints))

    def _finish_middle(self) -> str:
        pose, wrong = self._pose()
        if wrong:
            return wrong
        if self._model.homing is not None:
            half = self._model.ticks_per_turn // 2
            most = (1 << (self._model.homing.sign_bit or 0)) - 1
            encoder = np.rint(pose).astype(np.int64) + self.homing_ticks
            self.homing_ticks = np.clip(encoder % self._model.ticks_per_turn - half, -most, most)
        self._low[:], self._high[:] = np.iinfo(np.int64).max, np.iinfo(np.int64).min
        self.step = Step.SWEEP
        return ""

    def _finish_sweep(self) -> str:
        if self._seam:
            names = ", ".join(self._joints[i].name for i in sorted(self._seam))
            self.step, self._seam = Step.MIDDLE, set()
            return (
                f"{names} passed the encoder's seam: the middle pose was too near one end; start again from the middle"
            )
        swept = (self._high - self._low) * self._model.rad_per_tick
        short = np.flatnonzero(swept < self._config.min_sweep_rad)
        if len(short):
            found = ", ".join(f"{self._joints[i].name} {swept[i]:.2f} rad" for i in short)
            return f"moved too little: {found}, expected at least {self._config.min_sweep_rad} rad"
        far = np.flatnonzero(swept > 2 * np.pi)
        if len(far):
            self.step = Step.MIDDLE
            found = ", ".join(f"{self._joints[i].name} was swept through {swept[i]:.2f} rad" for i in far)
            return f"{found}, at most a turn: of more nobody can tell after power-up; start again from the middle"
        self.step = Step.REFERENCE
        return ""

    def _finish_reference(self) -> str:
        pose, wrong = self._pose()
        wrong = wrong or self._outside(pose)
        if not wrong:
            self._zero, self.step = pose, Step.DIRECTION
        return wrong

    def _finish_direction(self) -> str:
        pose, wrong = self._pose()
        if wrong:
            return wrong
        moved = (pose - self._zero) * self._model.rad_per_tick
        mine, others = moved[self.joint], np.delete(np.abs(moved), self.joint)
        joint = self._joints[self.joint]
        if abs(mine) < self._config.min_nudge_rad:
            return f"{joint.name} moved {abs(mine):.2f} rad, expected at least {self._config.min_nudge_rad} rad"
        if len(others) and others.max() > self._config.max_others_share * abs(mine):
            other = int(np.argmax(np.where(np.arange(len(moved)) == self.joint, 0, np.abs(moved))))
            return (
                f"{self._joints[other].name} moved too ({abs(moved[other]):.2f} rad); put the others back and move "
                f"only {joint.name}"
            )
        self._direction[self.joint] = 1 if mine > 0 else -1
        if self.joint + 1 < len(self._joints):
            self.joint += 1
        else:
            self.step = Step.CHECK
        return ""

    def _finish_check(self) -> str:
        pose, wrong = self._pose()
        if wrong:
            return wrong
        off = np.abs(pose - self._zero) * self._model.rad_per_tick
        worst = int(np.argmax(off))
        if off[worst] > self._config.max_residual_rad:
            return (
                f"{self._joints[worst].name} is {off[worst]:.3f} rad from where it was in the reference pose, at most "
                f"{self._config.max_residual_rad} rad; put it back exactly, or start again"
            )
        self._residual, self.step = float(off[worst]), Step.DONE
        return ""

    def _pose(self) -> tuple[NDArray[np.float64], str]:
        """Mean of the recent samples (J,), or why they are none. A joint that trembles across the seam stands."""
        newest, turn = self._recent[-1], self._model.ticks_per_turn
        off = (np.array(self._recent) - newest + turn // 2) % turn - turn // 2
        moved = np.ptp(off, axis=0) * self._model.rad_per_tick
        worst = int(np.argmax(moved))
        if moved[worst] > self._config.still_rad:
            return newest.astype(np.float64), f"{self._joints[worst].name} was still moving; hold it still"
        return newest + off.mean(axis=0), ""

    def _outside(self, pose: NDArray[np.float64]) -> str:
        slack = self._config.still_rad / self._model.rad_per_tick
        out = np.flatnonzero((pose < self._low - slack) | (pose > self._high + slack))
        if len(out):
            names = ", ".join(self._joints[i].name for i in out)
            return f"{names} stands outside the range that was swept; start again and sweep it to both ends"
        return ""
