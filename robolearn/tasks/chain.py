"""Kinematics of any serial chain of joints in NumPy, for arms without a closed form.

Legend: N joints; q (N,) [rad, or m for sliders]; the base frame as in `arm`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import cos, sin

import numpy as np
from numpy.typing import ArrayLike, NDArray

DAMPING = 0.005  # of the inverse, so that it stays calm near singular postures
ROTATION_M = 0.15  # [m/rad]: what an error of direction counts beside one of place
REST_PULL = 0.3  # share of the way to the rest posture per iteration, in the directions that do not move the tool
MAX_STEP = 0.3  # of a joint per iteration
ITERATIONS = 40
CLOSE_RAD = 1e-4  # an iteration that moves no joint further is the last one


@dataclass(frozen=True)
class Link:
    """One joint: where it is in the frame of the one before, and what it does."""

    position: tuple[float, float, float]  # [m]
    quaternion: tuple[float, float, float, float]  # wxyz
    axis: tuple[float, float, float]  # in its own frame
    low: float
    high: float
    slides: bool = False


@dataclass(frozen=True)
class Chain:
    """`arm.Kinematics` by damped least squares. The tool frame is fixed to the last joint's."""

    links: tuple[Link, ...]
    tool_position: tuple[float, float, float]
    tool_quaternion: tuple[float, float, float, float]
    rest: tuple[float, ...]  # the posture that is kept to where the tool leaves a choice
    pan_x: float = 0.0
    _rotations: tuple[NDArray[np.float64], ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        turns = [link.quaternion for link in self.links] + [self.tool_quaternion]
        object.__setattr__(self, "_rotations", tuple(_matrix(quaternion) for quaternion in turns))

    def forward(self, q: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        position, rotation, _ = self._forward(np.asarray(q, dtype=np.float64))
        return position, rotation

    def inverse(self, position: ArrayLike, yaw: float, near: ArrayLike) -> NDArray[np.float64]:
        """An arm of fewer than six joints comes as near as it can; one of fewer than five has no say in the yaw."""
        aligned, weight = (1, 0.1) if len(self.links) < 5 else (3, 1.0)  # axes of the tool frame, the fingers' first
        c, s = cos(yaw), sin(yaw)
        wanted = np.array([[0.0, -s, c], [0.0, c, s], [-1.0, 0.0, 0.0]])
        low, high = np.array([(link.low, link.high) for link in self.links]).T
        q, place = np.array(near, dtype=np.float64)[: len(self.links)], np.asarray(position, dtype=np.float64)
        for _ in range(ITERATIONS):
            here, rotation, jacobian = self._forward(q)
            turn = 0.5 * _cross(rotation.T[:aligned], wanted.T[:aligned]).sum(
                axis=0
            )  # small-angle difference of two rotations
            error = np.concatenate([place - here, weight * ROTATION_M * turn])
            jacobian[3:] *= weight * ROTATION_M
            inverse = jacobian.T @ np.linalg.inv(jacobian @ jacobian.T + DAMPING**2 * np.eye(6))
            free = (self.rest - q) * REST_PULL
            step = inverse @ error + free - inverse @ (jacobian @ free)
            step *= min(1.0, MAX_STEP / max(float(np.abs(step).max()), 1e-9))
            q = np.clip(q + step, low, high)
            if np.abs(step).max() < CLOSE_RAD:
                break
        return q

    def kept_yaw(self, q: ArrayLike, position: ArrayLike) -> float:
        _, rotation = self.forward(q)
        return float(np.arctan2(rotation[1, 2], rotation[0, 2]))

    def _forward(self, q: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """Tool position (3,), rotation (3, 3) and Jacobian (6, N): of the place, then of the direction."""
        position, rotation = np.zeros(3), np.eye(3)
        axes, origins = np.zeros((len(self.links), 3)), np.zeros((len(self.links), 3))
        for i, link in enumerate(self.links):
            position = position + rotation @ link.position
            rotation = rotation @ self._rotations[i]
            origins[i], axes[i] = position, rotation @ link.axis
            if link.slides:
                position = position + axes[i] * q[i]
            else:
                c, s, (x, y, z) = cos(q[i] / 2), sin(q[i] / 2), link.axis
                rotation = rotation @ _matrix((c, s * x, s * y, s * z))
        position = position + rotation @ self.tool_position
        rotation = rotation @ self._rotations[-1]
        slides = np.array([link.slides for link in self.links])[:, None]
        moves = np.where(slides, axes, _cross(axes, position - origins))
        turns = np.where(slides, 0.0, axes)
        return position, rotation, np.concatenate([moves, turns], axis=1).T


def _cross(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """Cross products of rows (n, 3); np.cross takes ten times as long."""
    ax, ay, az = a.T
    bx, by, bz = b.T
    return np.array([ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx]).T


def _matrix(quaternion: tuple[float, float, float, float]) -> NDArray[np.float64]:
    """Rotation (3, 3) of a unit quaternion wxyz."""
    w, x, y, z = quaternion
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )
