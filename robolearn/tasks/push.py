"""Push the puck over the table into the round mark; and backward, off it to where pucks start."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from robolearn.tasks.arm import Arm
from robolearn.tasks.facts import closeness, distance, home, off_table, position, spread, standing
from robolearn.tasks.motion import move
from robolearn.tasks.task import Facts, InitialState, Judgement, Task

PUCK_RADIUS_M = 0.022
PUCK_HALF_HEIGHT_M = 0.0125
IN_MARK_M = 0.02  # of the puck's centre from the mark's
START_LOW, START_HIGH = np.array([0.19, -0.06]), np.array([0.25, 0.02])  # region where pucks start [m]
GOAL_LOW, GOAL_HIGH = np.array([0.19, 0.09]), np.array([0.25, 0.13])  # region of the mark's centre [m]
CONTACT_M = 0.026  # from the puck's centre to the tool's when they touch
STANDOFF_M = 0.025  # between them before the push
HOVER_M = 0.07
TIP_HEIGHT_M = 0.0045  # of the fingertips above the table


class Push(Task):
    """Stages and success as in `judge_push`: the puck's centre is within 2 cm of the mark's, on the table."""

    id = "push-v1"
    instruction = "push the blue puck onto the orange mark"
    stages = ("reach", "push", "settle")
    robots = ("so101", "panda")
    scene = "push"
    bodies = ("tool", "puck", "goal")
    max_steps = 140
    dwell_steps = 5
    backward = "push_back-v1"

    def initial_state(self, rng: np.random.Generator) -> InitialState:
        puck = standing(rng.uniform(START_LOW, START_HIGH), PUCK_HALF_HEIGHT_M)
        goal = standing(rng.uniform(GOAL_LOW, GOAL_HIGH), 0.0)
        return InitialState(home(self.arm, rng, gripper=self.arm.gripper.fork), {"puck": puck, "goal": goal})

    def judge(self, facts: Facts) -> Judgement:
        goal = position(facts, "goal")[..., :2]
        to_goal = distance(position(facts, "puck")[..., :2], goal)
        return judge_push(facts, goal, to_goal < IN_MARK_M)

    def expert(self, facts: Facts) -> NDArray[np.float32]:
        return push(self.arm, facts, position(facts, "puck"), position(facts, "goal")[:2])


class PushBack(Task):
    """Stages and success as in `judge_push`: the puck is where pucks start; where there, the mark tells."""

    id = "push_back-v1"
    instruction = "push the blue puck off the orange mark, back to the middle of the table"
    stages = Push.stages
    robots = Push.robots
    scene = "push"
    bodies = ("tool", "puck", "goal")
    max_steps = 140
    dwell_steps = 5
    backward = Push.id

    def initial_state(self, rng: np.random.Generator) -> InitialState:
        goal = rng.uniform(GOAL_LOW, GOAL_HIGH)
        puck = goal + rng.uniform(-0.012, 0.012, 2)
        poses = {"puck": standing(puck, PUCK_HALF_HEIGHT_M), "goal": standing(goal, 0.0)}
        return InitialState(home(self.arm, rng, gripper=self.arm.gripper.fork), poses)

    def judge(self, facts: Facts) -> Judgement:
        start = _start(facts)
        return judge_push(facts, start, distance(position(facts, "puck")[..., :2], start) < IN_MARK_M)

    def expert(self, facts: Facts) -> NDArray[np.float32]:
        return push(self.arm, facts, position(facts, "puck"), _start(facts))


def _start(facts: Facts) -> NDArray[np.float64]:
    """Where to (..., 2) [m]: the mark's place in its region, in the start region."""
    return spread(position(facts, "goal")[..., :2], (GOAL_LOW, GOAL_HIGH), (START_LOW, START_HIGH))


def judge_push(facts: Facts, goal: NDArray[np.float64], there: NDArray[np.bool_]) -> Judgement:
    """Stages: reach (the tool is not low behind the puck), push (it is), settle (the puck is mostly at the goal).

    goal (..., 2) [m]. there (...,): the puck is where it shall be; success is that, flat on the table.
    """
    tool, puck = position(facts, "tool"), position(facts, "puck")
    way = goal - puck[..., :2]
    to_tool, to_goal = distance(tool, puck), np.linalg.norm(way, axis=-1)
    behind = ((tool - puck)[..., :2] * way).sum(axis=-1) < 0
    stage = np.select([there | (to_goal < 0.035), behind & (to_tool < 0.065) & (tool[..., 2] < 0.04)], [2, 1], 0)
    stage_progress = np.select(
        [stage == 0, stage == 1], [closeness(to_tool, 0.1), closeness(to_goal, 0.1)], np.clip(1 - to_goal / 0.035, 0, 1)
    )
    flat = np.abs(puck[..., 2] - PUCK_HALF_HEIGHT_M) < 0.004
    return Judgement(there & flat, stage, stage_progress, off_table(puck), 3)


def push(
    arm: Arm, facts: Facts, puck: NDArray[np.float64], goal: ArrayLike, radius_m: float = PUCK_RADIUS_M
) -> NDArray[np.float32]:
    """Joint targets (N + 1,) that push a puck at `puck` (3,) to `goal` (2,) [m] with the jaws as a fork, then rest."""
    here, fork = arm.where(facts), arm.gripper.fork
    way = np.asarray(goal) - puck[:2]
    left = float(np.linalg.norm(way))
    if left < 0.004:
        return move(arm, facts, here, None, fork)
    way = way / left
    yaw = arm.across(puck, way)
    contact = radius_m + CONTACT_M - PUCK_RADIUS_M
    relative = here[:2] - puck[:2]
    behind, aside = -float(relative @ way), abs(float(relative[0] * way[1] - relative[1] * way[0]))
    height = arm.gripper.tip_m + TIP_HEIGHT_M
    low = here[2] < height + 0.02
    if low and behind > 0.7 * contact and aside < 0.012:
        ahead = min(0.02, left)
        return move(arm, facts, (*(puck[:2] - way * (contact - ahead)), height), yaw, fork, lead_m=0.01)
    start = puck[:2] - way * (contact + STANDOFF_M)
    off = float(np.hypot(*(here[:2] - start)))
    if low and off > 0.02:  # up before going around the puck
        return move(arm, facts, (*here[:2], HOVER_M), yaw, fork)
    return move(arm, facts, (*start, height + float(np.clip(4 * (off - 0.008), 0.0, HOVER_M))), yaw, fork)
