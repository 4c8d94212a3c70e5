"""Put the red cube on top of the blue one; and backward, from there onto the table."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from robolearn.tasks.facts import distance, home, off_table, position, spread, standing
from robolearn.tasks.motion import BLOCK_HALF_M
from robolearn.tasks.put import STAGES, Put, judge_put, put_expert
from robolearn.tasks.task import Facts, InitialState, Judgement, Task

START_LOW, START_HIGH = np.array([0.18, -0.12]), np.array([0.28, 0.00])  # region where the red cube starts [m]
BASE_LOW, BASE_HIGH = np.array([0.19, 0.09]), np.array([0.25, 0.13])  # region of the blue cube [m]
MAX_YAW_RAD = 0.5
ON_TOP_M = 0.012  # of the red cube's centre from the blue one's, horizontally

ONTO_BASE = Put("cube", BLOCK_HALF_M, 3 * BLOCK_HALF_M, release_within_m=0.010, lower_within_m=0.004)
ONTO_TABLE = Put("cube", 3 * BLOCK_HALF_M, BLOCK_HALF_M, release_within_m=0.012, lower_within_m=0.010)


class Stack(Task):
    """Stages and success as in `put.judge_put`: the red cube rests on the blue one, the jaws open."""

    id = "stack-v1"
    instruction = "put the red cube on top of the blue cube"
    stages = STAGES
    robots = ("so101", "panda")
    scene = "stack"
    bodies = ("tool", "cube", "base_cube")
    max_steps = 180
    dwell_steps = 5
    backward = "unstack-v1"

    def initial_state(self, rng: np.random.Generator) -> InitialState:
        yaws = rng.uniform(-MAX_YAW_RAD, MAX_YAW_RAD, 2)
        cube = standing(rng.uniform(START_LOW, START_HIGH), BLOCK_HALF_M, yaws[0])
        base = standing(rng.uniform(BASE_LOW, BASE_HIGH), BLOCK_HALF_M, yaws[1])
        return InitialState(home(self.arm, rng), {"cube": cube, "base_cube": base})

    def judge(self, facts: Facts) -> Judgement:
        cube, base = position(facts, "cube"), position(facts, "base_cube")
        to_goal = distance(cube[..., :2], base[..., :2])
        left = np.zeros(to_goal.shape, dtype=bool)
        return judge_put(
            self.arm, facts, ONTO_BASE, to_goal, to_goal < ON_TOP_M, left, off_table(cube) | off_table(base)
        )

    def expert(self, facts: Facts) -> NDArray[np.float32]:
        return put_expert(self.arm, facts, ONTO_BASE, position(facts, "base_cube")[:2])


class Unstack(Task):
    """The red cube comes off the blue one and rests in the region where it starts, the jaws open."""

    id = "unstack-v1"
    instruction = "take the red cube off the blue cube and put it on the table"
    stages = STAGES
    robots = ("so101", "panda")
    scene = "stack"
    bodies = ("tool", "cube", "base_cube")
    max_steps = 180
    dwell_steps = 5
    backward = Stack.id

    def initial_state(self, rng: np.random.Generator) -> InitialState:
        base, yaw = rng.uniform(BASE_LOW, BASE_HIGH), rng.uniform(-MAX_YAW_RAD, MAX_YAW_RAD)
        cube = base + rng.uniform(-0.004, 0.004, 2)
        poses = {"cube": standing(cube, 3 * BLOCK_HALF_M, yaw), "base_cube": standing(base, BLOCK_HALF_M, yaw)}
        return InitialState(home(self.arm, rng), poses)

    def judge(self, facts: Facts) -> Judgement:
        cube, base = position(facts, "cube"), position(facts, "base_cube")
        to_region = distance(cube[..., :2], np.clip(cube[..., :2], START_LOW, START_HIGH))
        left = distance(cube[..., :2], base[..., :2]) > 2 * BLOCK_HALF_M
        return judge_put(
            self.arm, facts, ONTO_TABLE, to_region, to_region == 0.0, left, off_table(cube) | off_table(base)
        )

    def expert(self, facts: Facts) -> NDArray[np.float32]:
        """Where to: the blue cube's place in its region, in the start region of the red one."""
        goal = spread(position(facts, "base_cube")[:2], (BASE_LOW, BASE_HIGH), (START_LOW, START_HIGH))
        return put_expert(self.arm, facts, ONTO_TABLE, goal)
