"""Bring the tool to a mark in the air."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from robolearn.tasks.facts import CLOSED, closeness, distance, home, position, standing
from robolearn.tasks.kinematics import SO101
from robolearn.tasks.motion import move
from robolearn.tasks.task import Facts, InitialState, Judgement

REACHED_M = 0.015


class Reach:
    """Stages: approach (the mark is far), settle (it is within 5 cm). Success: the tool is within 1.5 cm of it."""

    id = "reach-v1"
    instruction = "move the gripper to the yellow ball"
    stages: tuple[str, ...] = ("approach", "settle")
    robot = SO101.name
    robot_spec = SO101
    scene = "reach"
    bodies: tuple[str, ...] = ("tool", "target")
    max_steps = 60
    control_hz = 20.0
    backward: str | None = None

    def initial_state(self, rng: np.random.Generator) -> InitialState:
        side = rng.choice((-1.0, 1.0))  # never where the tool starts
        target = standing((rng.uniform(0.17, 0.27), side * rng.uniform(0.06, 0.15)), rng.uniform(0.03, 0.13))
        return InitialState(home(rng, gripper_rad=CLOSED), {"target": target})

    def judge(self, facts: Facts) -> Judgement:
        left = distance(position(facts, "tool"), position(facts, "target"))
        near = left < 0.05
        stage_progress = np.where(near, 1.0 - left / 0.05, closeness(left - 0.05, 0.1))
        lost = np.zeros(left.shape, dtype=bool)
        return Judgement(left < REACHED_M, near.astype(np.int64), stage_progress, lost, len(self.stages))

    def expert(self, facts: Facts) -> NDArray[np.float32]:
        return move(facts, position(facts, "target"), None, CLOSED)
