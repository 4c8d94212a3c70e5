"""Reading facts: where bodies are, how far apart, and where an episode puts them. (...) is any batch shape."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from robolearn.tasks.kinematics import inverse
from robolearn.tasks.task import Facts

GRIPPER = 5  # index of the gripper in the joint vector of a six-joint arm
OPEN, CLOSED = 0.8, 0.0  # gripper positions [rad]: jaws 6 cm apart, and closed on anything that is between them
TABLE_LOW, TABLE_HIGH = np.array([-0.10, -0.40]), np.array([0.50, 0.40])  # edges of the table [m]


def position(facts: Facts, body: str) -> NDArray[np.float64]:
    """Position (..., 3) [m] of a body."""
    return np.asarray(facts[f"pose_{body}"], dtype=np.float64)[..., :3]


def gripper(facts: Facts) -> NDArray[np.float64]:
    """Gripper joint position (...,) [rad]."""
    return np.asarray(facts["proprio"], dtype=np.float64)[..., GRIPPER]


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


def standing(xy: ArrayLike, z: float, yaw: float = 0.0) -> NDArray[np.float64]:
    """Pose (7,) of a body that stands upright at xy (2,) and z [m], turned by yaw [rad]."""
    return np.array([*np.asarray(xy), z, np.cos(yaw / 2), 0.0, 0.0, np.sin(yaw / 2)])


def home(
    rng: np.random.Generator, tool: ArrayLike = (0.19, 0.0, 0.12), gripper_rad: float = OPEN
) -> NDArray[np.float64]:
    """Joint positions (6,) [rad] with the tool pointing down near `tool`, a little different every time."""
    where = np.asarray(tool) + rng.uniform(-0.015, 0.015, 3)
    return np.append(inverse(where, yaw=rng.uniform(-0.1, 0.1)), gripper_rad)
