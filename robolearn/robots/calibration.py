"""From encoder ticks to joint angles: what is known of each joint, and its file. Legend: J joints.

A joint angle is `direction * (ticks - zero_ticks) * radians per tick`. The file also holds the swept range, the offset
that the motor itself stores (`homing_ticks`), and how far from zero the arm came back to its reference pose
(`residual_rad`). `calibration_routine.py` makes it.
"""

from __future__ import annotations

import json
import math
import os
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from robolearn import durable
from robolearn.errors import HardwareError

FORMAT = "robolearn-servo-calibration-1"
MAX_ID = 252  # of a motor; what is above means all of them


@dataclass(frozen=True)
class JointCalibration:
    """One joint. Its range is inclusive."""

    name: str
    motor_id: int
    zero_ticks: int
    direction: int  # +1 or -1
    low_rad: float
    high_rad: float
    homing_ticks: int = 0


@dataclass(frozen=True)
class Calibration:
    """One arm: joints in the order of its actions. Raises HardwareError for numbers that no arm can have."""

    model: str
    ticks_per_turn: int
    residual_rad: float
    joints: tuple[JointCalibration, ...]

    def __post_init__(self) -> None:
        names, ids = [j.name for j in self.joints], [j.motor_id for j in self.joints]
        if not names or len(set(names)) < len(names) or len(set(ids)) < len(ids):
            raise HardwareError(f"calibration has joints {names} with ids {ids}; each name and id must occur once")
        for joint in self.joints:
            if not 0 <= joint.motor_id <= MAX_ID:
                raise HardwareError(
                    f"calibration of {joint.name} has motor id {joint.motor_id}, expected 0 to {MAX_ID}"
                )
            if joint.direction not in (1, -1):
                raise HardwareError(f"calibration of {joint.name} has direction {joint.direction}, expected 1 or -1")
            if not (math.isfinite(joint.low_rad) and joint.low_rad < joint.high_rad < math.inf):
                raise HardwareError(
                    f"calibration of {joint.name} has the range {joint.low_rad}..{joint.high_rad} rad, expected "
                    "low < high"
                )

    def to_rad(self, ticks: ArrayLike) -> NDArray[np.float64]:
        """Joint angles (J,) [rad] at encoder positions (J,)."""
        return (np.asarray(ticks, np.float64) - self._zero()) * self._rad_per_tick()

    def to_ticks(self, position: ArrayLike) -> NDArray[np.int64]:
        """Nearest encoder positions (J,) of joint angles (J,) [rad]."""
        return np.rint(np.asarray(position, np.float64) / self._rad_per_tick() + self._zero()).astype(np.int64)

    def to_rad_s(self, ticks_s: ArrayLike) -> NDArray[np.float64]:
        """Joint speeds (J,) [rad/s] at encoder speeds (J,)."""
        return np.asarray(ticks_s, np.float64) * self._rad_per_tick()

    def _zero(self) -> NDArray[np.float64]:
        return np.array([j.zero_ticks for j in self.joints], np.float64)

    def _rad_per_tick(self) -> NDArray[np.float64]:
        return np.array([j.direction for j in self.joints]) * (2 * math.pi / self.ticks_per_turn)

    def save(self, path: Path) -> None:
        """Write as JSON, whole or not at all."""
        path.parent.mkdir(parents=True, exist_ok=True)
        durable.write(path, (json.dumps({"format": FORMAT, **asdict(self)}, indent=2) + "\n").encode())

    @classmethod
    def load(cls, path: Path) -> Calibration:
        """Read a file of `save`. Raises HardwareError saying what is wrong with it."""
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
            if not isinstance(data, dict) or data.get("format") != FORMAT:
                found = data.get("format") if isinstance(data, dict) else type(data).__name__
                raise HardwareError(f"{path} has the format {found!r}, expected {FORMAT!r}; calibrate the arm again")
            joints = tuple(JointCalibration(**joint) for joint in data["joints"])
            for joint in joints:
                _check_types(joint, path)
            return cls(data["model"], int(data["ticks_per_turn"]), float(data["residual_rad"]), joints)
        except FileNotFoundError as error:
            raise HardwareError(
                f"no calibration at {os.path.normpath(path)}; make it with: robolearn cell calibrate CELL, of a leader "
                "with --leader"
            ) from error
        except (OSError, ValueError, KeyError, TypeError, OverflowError) as error:
            raise HardwareError(f"calibration {path} is damaged ({error}); calibrate the arm again") from error


def _check_types(joint: JointCalibration, path: Path) -> None:
    for field in fields(joint):
        value = getattr(joint, field.name)
        wanted = {"str": str, "int": int, "float": (int, float)}[str(field.type)]
        if not isinstance(value, wanted) or isinstance(value, bool):  # type: ignore[arg-type]
            raise HardwareError(
                f"{path}: {field.name} of joint {joint.name} is {value!r}, expected {field.type}; "
                "calibrate the arm again"
            )
