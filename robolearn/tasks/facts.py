"""Reading facts: where bodies are, how far apart, and where an episode puts them. (...) is any batch shape."""

from __future__ import annotations

from math import atan2

import numpy as np
from numpy.typing import ArrayLike, NDArray

from robolearn.tasks.arm import Arm, Facts

TABLE_LOW, TABLE_HIGH = np.array([-0.10, -0.40]), np.array([0.50, 0.40])  # edges of the table [m]
HOME, HOME_SPREAD_M = (0.19, 0.0, 0.12), 0.015  # where the tool starts, and how far from it on each axis


def position(facts: Facts, body: str) -> NDArray[np.float64]:
    """Position (..., 3) [m] of a body."""
    return np.asarray(facts[f"pose_{body}"], dtype=np.float64)[..., :3]


def distance(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """Distance (...,) between positions (..., n)."""
    return np.linalg.norm(a - b, axis=-1)


def closeness(metres: NDArray[np.float64], scale_m: float) -> NDArray[np.float64]:
    """1 at no distance, falling to 0 within a few `scale_m`."""
    return 1.0 - np.tanh(np.maximum(metres, 0.0) / scale_m)


def off_table(where: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Whether a position (..., 3) has left the table: over an edge, or below the top."""
    xy = where[..., :2]
    return ((xy < TABLE_LOW) | (xy > TABLE_HIGH)).any(axis=-1) | (where[..., 2] < -0.01)


def inside(xy: NDArray[np.float64], low: NDArray[np.float64], high: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Whether places (..., 2) lie in a rectangle (...,)."""
    return np.asarray(((xy >= low) & (xy <= high)).all(axis=-1))


def spread(
    xy: NDArray[np.float64],
    over: tuple[NDArray[np.float64], NDArray[np.float64]],
    onto: tuple[NDArray[np.float64], NDArray[np.float64]],
) -> NDArray[np.float64]:
    """Places (..., 2) of the rectangle `over`, low and high corner, carried over to `onto`, a little off its rim.

    Backward experts aim with it: what they put down is spread as evenly as what they started from.
    """
    share = 0.05 + 0.9 * np.clip((xy - over[0]) / (over[1] - over[0]), 0.0, 1.0)
    return onto[0] + share * (onto[1] - onto[0])


def standing(xy: ArrayLike, z: float, yaw: float = 0.0) -> NDArray[np.float64]:
    """Pose (7,) of a body that stands upright at xy (2,) and z [m], turned by yaw [rad]."""
    return np.array([*np.asarray(xy), z, np.cos(yaw / 2), 0.0, 0.0, np.sin(yaw / 2)])


def yaw_of(quaternion: ArrayLike) -> float:
    """Rotation about the vertical [rad] of a quaternion wxyz."""
    w, x, y, z = (float(v) for v in np.asarray(quaternion))
    return atan2(2 * (w * z + x * y), 1 - 2 * (y * y + z * z))


def lean(quaternion: ArrayLike) -> NDArray[np.float64]:
    """Along x and y (2,), a unit vector that points up where the body is upright, of its quaternion wxyz."""
    w, x, y, z = (float(v) for v in np.asarray(quaternion))
    return np.array([2 * (x * z + w * y), 2 * (y * z - w * x)])


def home(
    arm: Arm, rng: np.random.Generator, tool: ArrayLike = HOME, gripper: float | None = None
) -> NDArray[np.float64]:
    """Joint positions (N + 1,) with the tool pointing down near `tool` (3,) [m], a little different every time.

    gripper: its opening; open by default.
    """
    where = np.asarray(tool) + rng.uniform(-HOME_SPREAD_M, HOME_SPREAD_M, 3)
    joints = arm.inverse(where, yaw=rng.uniform(-0.1, 0.1))
    return arm.with_gripper(joints, arm.gripper.open if gripper is None else gripper)
