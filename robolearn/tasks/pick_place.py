"""Pick up the cube and put it on the round plate; and backward, from the plate to where cubes start."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from robolearn.tasks.facts import distance, home, off_table, position, spread, standing
from robolearn.tasks.motion import BLOCK_HALF_M
from robolearn.tasks.put import STAGES, Put, judge_put, put_expert
from robolearn.tasks.task import Facts, InitialState, Judgement, Task

PLATE_HEIGHT_M = 0.008
PLATE_RADIUS_M = 0.055
START_LOW, START_HIGH = np.array([0.17, -0.12]), np.array([0.29, 0.03])  # region where cubes start [m]
GOAL_LOW, GOAL_HIGH = np.array([0.19, 0.115]), np.array([0.25, 0.145])  # region of the plate's centre [m]
MAX_YAW_RAD = 0.5

TO_PLATE = Put("cube", BLOCK_HALF_M, PLATE_HEIGHT_M + BLOCK_HALF_M, release_within_m=0.035, lower_within_m=0.015)
TO_START = Put("cube", PLATE_HEIGHT_M + BLOCK_HALF_M, BLOCK_HALF_M, release_within_m=0.012, lower_within_m=0.010)


class PickPlace(Task):
    """Stages and success as in `put.judge_put`: the cube rests on the plate, the jaws open."""

    id = "pick_place-v1"
    instruction = "pick up the red cube and put it on the green plate"
    stages = STAGES
    robots = ("so101", "panda")
    scene = "pick_place"
    bodies = ("tool", "cube", "goal")
    max_steps = 160
    dwell_steps = 5
    backward = "pick_place_back-v1"

    def initial_state(self, rng: np.random.Generator) -> InitialState:
        cube = standing(rng.uniform(START_LOW, START_HIGH), BLOCK_HALF_M, rng.uniform(-MAX_YAW_RAD, MAX_YAW_RAD))
        goal = standing(rng.uniform(GOAL_LOW, GOAL_HIGH), 0.0)
        return InitialState(home(self.arm, rng), {"cube": cube, "goal": goal})

    def judge(self, facts: Facts) -> Judgement:
        cube = position(facts, "cube")
        to_goal = distance(cube[..., :2], position(facts, "goal")[..., :2])
        left = np.zeros(to_goal.shape, dtype=bool)
        return judge_put(self.arm, facts, TO_PLATE, to_goal, to_goal < PLATE_RADIUS_M - 0.01, left, off_table(cube))

    def expert(self, facts: Facts) -> NDArray[np.float32]:
        return put_expert(self.arm, facts, TO_PLATE, position(facts, "goal")[:2])


class PickPlaceBack(Task):
    """The cube comes off the plate and rests in the region where cubes start, the jaws open."""

    id = "pick_place_back-v1"
    instruction = "take the red cube off the green plate and put it back on the table"
    stages = STAGES
    robots = ("so101", "panda")
    scene = "pick_place"
    bodies = ("tool", "cube", "goal")
    max_steps = 160
    dwell_steps = 5
    backward = PickPlace.id

    def initial_state(self, rng: np.random.Generator) -> InitialState:
        goal = rng.uniform(GOAL_LOW, GOAL_HIGH)
        cube = goal + rng.uniform(-0.015, 0.015, 2)
        yaw = rng.uniform(-MAX_YAW_RAD, MAX_YAW_RAD)
        return InitialState(
            home(self.arm, rng), {"cube": standing(cube, TO_START.from_m, yaw), "goal": standing(goal, 0.0)}
        )

    def judge(self, facts: Facts) -> Judgement:
        cube = position(facts, "cube")
        to_region = distance(cube[..., :2], np.clip(cube[..., :2], START_LOW, START_HIGH))
        left = distance(cube[..., :2], position(facts, "goal")[..., :2]) > PLATE_RADIUS_M
        return judge_put(self.arm, facts, TO_START, to_region, to_region == 0.0, left, off_table(cube))

    def expert(self, facts: Facts) -> NDArray[np.float32]:
        """Where to: the plate's place in its region, in the start region. So starts spread as evenly as plates do."""
        goal = spread(position(facts, "goal")[:2], (GOAL_LOW, GOAL_HIGH), (START_LOW, START_HIGH))
        return put_expert(self.arm, facts, TO_START, goal)
