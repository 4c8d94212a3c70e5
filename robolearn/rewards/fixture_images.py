"""What the CLIP fixture is trained and judged on: pictures of the twin's arm, spread over all directions.

The arm is seen from its right or from its left, by a camera that stands elsewhere every time. Some arms may be in any
posture at all, so that they point at the camera too, with many joints at a limit, for commands of a learner drive them
there: what was never seen is what a learner finds. Legend: N images.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from robolearn.tasks.kinematics import SO101
from robolearn.tasks.point import SHORTEST_M
from robolearn.twin.arm_painter import PALETTES, SIZE, ArmPainter

STRAIGHT_RAD = -1.29  # of elbow_flex: the links lie in one line
SPREAD_RAD = np.array([0.6, 1.745, 0.0, 0.9, 0.0, 0.0])  # of the joints about zero, in drawn postures
AT_LIMIT = 0.4  # share of the joints of arms in any posture
TRIES = 64  # random postures, of which the one nearest to a wanted direction is shown


@dataclass(frozen=True)
class ArmImages:
    """images (N, 64, 64, 3) uint8 RGB, angle (N,) [rad] of shoulder to tool anticlockwise from right and its length
    (N,) [m] in the picture, palette names."""

    images: NDArray[np.uint8]
    angle: NDArray[np.float64]
    length: NDArray[np.float64]
    palette: list[str]


def draw_arms(
    rng: np.random.Generator,
    count: int,
    palettes: Sequence[str] = tuple(PALETTES),
    bend_rad: tuple[float, float] = (0.0, 1.4),
    any_posture: float = 0.0,
) -> ArmImages:
    """`count` random arms, spread over all directions as far as they reach; `bend_rad` bounds the elbow's bend, but for
    a share of `any_posture` that is bounded by nothing but the joint limits."""
    images = np.empty((count, SIZE, SIZE, 3), np.uint8)
    angles, lengths, names = np.empty(count), np.empty(count), []
    painter = ArmPainter()
    for i in range(count):
        names.append(str(rng.choice(palettes)))
        side = int(rng.choice([-1, 1]))
        joints = any_joints(rng) if rng.random() < any_posture else _posture(rng, bend_rad)
        images[i], angles[i], lengths[i] = painter.draw(rng, names[-1], joints, side)
    painter.close()
    return ArmImages(images, angles, lengths, names)


def any_joints(rng: np.random.Generator) -> NDArray[np.float64]:
    """Joint positions (6,), each anywhere or at one of its limits."""
    low, high = np.array(SO101.position_low), np.array(SO101.position_high)
    limit = np.where(rng.random(len(low)) < 0.5, low, high)
    return np.where(rng.random(len(low)) < AT_LIMIT, limit, rng.uniform(low, high))


def _posture(rng: np.random.Generator, bend_rad: tuple[float, float]) -> NDArray[np.float64]:
    """Of some random postures (6,) within the joint limits, the one nearest to a random direction."""
    joints = rng.uniform(-1.0, 1.0, (TRIES, 6)) * SPREAD_RAD
    bend = rng.uniform(*bend_rad, TRIES) * rng.choice([-1.0, 1.0], TRIES)
    bend = np.where(STRAIGHT_RAD + bend < -1.69, np.abs(bend), bend)
    joints[:, 2] = STRAIGHT_RAD + bend
    x, z = in_plane(joints)
    x = x * np.cos(joints[:, 0])
    off = np.cos(np.arctan2(z, x) - rng.uniform(-np.pi, np.pi)) - 10.0 * (np.hypot(x, z) < SHORTEST_M)
    return joints[int(off.argmax())]


def in_plane(joints: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Forward and up (N,) [m] from shoulder to tool in the plane of the arm, for joints (N, 6) of the SO-101."""
    pitch = np.cumsum(joints[:, 1:4], axis=1)
    along, up = np.array([0.0280, 0.1349, 0.1471]), np.array([0.1126, 0.0052, 0.0])
    forward = along * np.cos(pitch) + up * np.sin(pitch)
    height = up * np.cos(pitch) - along * np.sin(pitch)
    return forward.sum(1), height.sum(1)
