"""Bring the tool to a mark in the air; and backward, to where it starts."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from robolearn.tasks.facts import HOME, HOME_SPREAD_M, closeness, distance, home, position, standing
from robolearn.tasks.motion import move
from robolearn.tasks.task import Facts, InitialState, Judgement, Task

REACHED_M = 0.015
NEAR_M = 0.05


class Reach(Task):
    """Stages: approach (the mark is far), settle (it is within 5 cm). Success: the tool is within 1.5 cm of it."""

    id = "reach-v1"
    instruction = "move the gripper to the yellow ball"
    stages = ("approach", "settle")
    robots = ("so101", "panda")
    scene = "reach"
    bodies = ("tool", "target")
    max_steps = 60
    dwell_steps = 5
    backward = "reach_back-v1"

    def initial_state(self, rng: np.random.Generator) -> InitialState:
        target = standing(*mark(rng))
        return InitialState(home(self.arm, rng, gripper=self.arm.gripper.closed), {"target": target})

    def judge(self, facts: Facts) -> Judgement:
        left = distance(position(facts, "tool"), position(facts, "target"))
        return judge_reach(left, left < REACHED_M)

    def expert(self, facts: Facts) -> NDArray[np.float32]:
        return move(self.arm, facts, position(facts, "target"), None, self.arm.gripper.closed)


class ReachBack(Task):
    """Stages as in Reach. Success: the tool is where episodes of Reach start."""

    id = "reach_back-v1"
    instruction = "move the gripper away from the yellow ball, back to the middle"
    stages = Reach.stages
    robots = Reach.robots
    scene = "reach"
    bodies = ("tool", "target")
    max_steps = 60
    dwell_steps = 5
    backward = Reach.id

    def initial_state(self, rng: np.random.Generator) -> InitialState:
        xy, z = mark(rng)
        joints = home(self.arm, rng, (*xy, z), self.arm.gripper.closed)
        return InitialState(joints, {"target": standing(xy, z)})

    def judge(self, facts: Facts) -> Judgement:
        tool = position(facts, "tool")
        return judge_reach(distance(tool, np.asarray(HOME)), at_home(tool))

    def expert(self, facts: Facts) -> NDArray[np.float32]:
        return move(self.arm, facts, HOME, None, self.arm.gripper.closed)


def mark(rng: np.random.Generator) -> tuple[tuple[float, float], float]:
    """Place (2,) and height of the mark [m], never where the tool starts."""
    side = rng.choice((-1.0, 1.0))
    return (rng.uniform(0.17, 0.27), side * rng.uniform(0.06, 0.15)), rng.uniform(0.03, 0.13)


def at_home(tool: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Whether tool positions (..., 3) are where episodes start (...,)."""
    return np.asarray((np.abs(tool - HOME) < HOME_SPREAD_M).all(axis=-1))


def judge_reach(left: NDArray[np.float64], success: NDArray[np.bool_]) -> Judgement:
    """left (...,): from the tool to its goal [m]."""
    near = left < NEAR_M
    stage_progress = np.where(near, 1.0 - left / NEAR_M, closeness(left - NEAR_M, 0.1))
    return Judgement(success, near.astype(np.int64), stage_progress, np.zeros(left.shape, dtype=bool), 2)
