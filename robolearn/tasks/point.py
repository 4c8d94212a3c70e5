"""Point the arm up, down, to the right or to the left, as the camera at its side sees it; nothing is touched."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from robolearn.tasks.facts import position
from robolearn.tasks.task import Facts, InitialState, Judgement, Task

SHOULDER = "upper_arm"  # body whose origin is the shoulder's axis
ANGLES = {"right": 0.0, "up": np.pi / 2, "left": np.pi, "down": -np.pi / 2}
"""Directions [rad] in the picture, anticlockwise from its right, which is where the arm looks."""
POSTURES = {  # shoulder_pan .. gripper of the SO-101 [rad]
    "right": (0.0, 1.30, -1.30, 0.0, 0.0, 0.0),
    "up": (0.0, -0.20, -1.35, 0.0, 0.0, 0.0),
    "left": (0.0, -1.60, -1.55, 0.0, 0.0, 0.0),
    "down": (0.0, 1.65, 0.35, 0.0, 0.0, 0.0),
}
WITHIN_RAD, NEAR_RAD = 0.3, 0.8
SHORTEST_M = 0.15  # from shoulder to tool in the picture; what points at the camera points nowhere
MAX_SPREAD_RAD = 0.25  # of the posture that an episode starts in
LEAD_RAD = 0.12  # how far ahead of a joint the expert's command runs


class Point(Task):
    """Stages: turn, settle (within 0.8 rad). Success: within 0.3 rad of the direction, seen at least 15 cm long.

    An episode starts in the posture of another direction, or a little off it.
    """

    stages = ("turn", "settle")
    scene = "point"
    bodies = ("tool", SHOULDER)
    max_steps = 60
    dwell_steps = 5
    direction: ClassVar[str]

    @property
    def cameras(self) -> tuple[str, ...]:
        return ("front",)

    def initial_state(self, rng: np.random.Generator) -> InitialState:
        other = str(rng.choice([name for name in POSTURES if name != self.direction]))
        joints = np.array(POSTURES[other]) + rng.uniform(-MAX_SPREAD_RAD, MAX_SPREAD_RAD, 6)
        low, high = self.arm.limits
        return InitialState(np.clip(joints, low, high), {})

    def judge(self, facts: Facts) -> Judgement:
        angle, length = pointing(position(facts, SHOULDER), position(facts, "tool"))
        off = np.abs((angle - ANGLES[self.direction] + np.pi) % (2 * np.pi) - np.pi)
        near = off < NEAR_RAD
        stage_progress = np.where(near, 1.0 - off / NEAR_RAD, 1.0 - (off - NEAR_RAD) / (np.pi - NEAR_RAD))
        success = (off < WITHIN_RAD) & (length > SHORTEST_M)
        return Judgement(success, near.astype(np.int64), stage_progress, np.zeros(off.shape, dtype=bool), 2)

    def expert(self, facts: Facts) -> NDArray[np.float32]:
        joints = self.arm.positions(facts)
        return (joints + np.clip(np.array(POSTURES[self.direction]) - joints, -LEAD_RAD, LEAD_RAD)).astype(np.float32)


class PointUp(Point):
    id, backward = "point_up-v1", "point_down-v1"
    instruction, direction = "point the robot arm up", "up"


class PointDown(Point):
    id, backward = "point_down-v1", "point_up-v1"
    instruction, direction = "point the robot arm down", "down"


class PointRight(Point):
    id, backward = "point_right-v1", "point_left-v1"
    instruction, direction = "point the robot arm right", "right"


class PointLeft(Point):
    id, backward = "point_left-v1", "point_right-v1"
    instruction, direction = "point the robot arm left", "left"


def pointing(shoulder: NDArray[np.float64], tool: NDArray[np.float64]) -> tuple[NDArray, NDArray]:
    """Direction (...,) [rad] from shoulder to tool (..., 3) in the picture of the camera, and its length (...,) [m]."""
    way = tool - shoulder
    return np.arctan2(way[..., 2], way[..., 0]), np.hypot(way[..., 0], way[..., 2])
