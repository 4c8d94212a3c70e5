"""Pick the cube up."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from robolearn.tasks.facts import CLOSED, closeness, distance, home, off_table, position, standing
from robolearn.tasks.kinematics import SO101, forward, grasp_yaw, yaw_of
from robolearn.tasks.motion import grasp, holds, move
from robolearn.tasks.task import Facts, InitialState, Judgement

CUBE_HALF_M = 0.015
LIFTED_M = 0.08  # height of the cube's lower face


class Lift:
    """Stages: reach (the tool is not at the cube), grasp (it is, the cube still stands), raise (the cube is up).
    Success: it is 8 cm above the table, between the jaws."""

    id = "lift-v1"
    instruction = "pick up the red cube and hold it in the air"
    stages: tuple[str, ...] = ("reach", "grasp", "raise")
    robot = SO101.name
    robot_spec = SO101
    scene = "lift"
    bodies: tuple[str, ...] = ("tool", "cube")
    max_steps = 100
    control_hz = 20.0
    backward: str | None = None

    def initial_state(self, rng: np.random.Generator) -> InitialState:
        cube = standing((rng.uniform(0.17, 0.29), rng.uniform(-0.10, 0.10)), CUBE_HALF_M, rng.uniform(-0.5, 0.5))
        return InitialState(home(rng), {"cube": cube})

    def judge(self, facts: Facts) -> Judgement:
        cube = position(facts, "cube")
        to_tool, height = distance(position(facts, "tool"), cube), cube[..., 2] - CUBE_HALF_M
        stage = np.select([height > 0.015, to_tool < 0.03], [2, 1], 0)
        stage_progress = np.select(
            [stage == 0, stage == 1], [closeness(to_tool, 0.1), np.clip(height / 0.015, 0, 1)], height / LIFTED_M
        )
        success = (height > LIFTED_M) & (to_tool < 0.03)
        return Judgement(success, stage, np.clip(stage_progress, 0, 1), off_table(cube), len(self.stages))

    def expert(self, facts: Facts) -> NDArray[np.float32]:
        cube = position(facts, "cube")
        if not holds(facts, cube):
            return grasp(facts, cube, grasp_yaw(cube, yaw_of(facts["pose_cube"][3:])))
        here, _ = forward(facts["proprio"])
        return move(facts, here + np.array([0.0, 0.0, 0.04]), None, CLOSED)
