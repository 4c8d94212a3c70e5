"""Pick up the cube and put it on the round plate."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from robolearn.tasks.facts import CLOSED, GRIPPER, OPEN, closeness, distance, gripper, home, off_table, pose, position
from robolearn.tasks.kinematics import SO101, forward
from robolearn.tasks.motion import TOOL_LEAD_M, grasp, holds, move
from robolearn.tasks.task import Facts, InitialState, Judgement

CUBE_HALF_M = 0.015
PLATE_HEIGHT_M = 0.008
PLATE_RADIUS_M = 0.055
CARRY_HEIGHT_M = 0.075  # of the cube's centre while it travels


class PickPlace:
    """Stages: reach (the tool is not at the cube), grasp (it is, the cube still stands on the table), carry (the cube
    is up, not yet above the plate), place (it is above the plate). Success: it rests on the plate, the jaws open."""

    id = "pick_place-v1"
    instruction = "pick up the red cube and put it on the green plate"
    stages: tuple[str, ...] = ("reach", "grasp", "carry", "place")
    robot = SO101.name
    robot_spec = SO101
    scene = "pick_place"
    bodies: tuple[str, ...] = ("tool", "cube", "goal")
    max_steps = 160
    control_hz = 20.0
    backward: str | None = None

    def initial_state(self, rng: np.random.Generator) -> InitialState:
        cube = pose(rng.uniform(0.17, 0.29), rng.uniform(-0.12, 0.03), CUBE_HALF_M, rng.uniform(-0.5, 0.5))
        goal = pose(rng.uniform(0.19, 0.25), rng.uniform(0.115, 0.145), 0.0)
        return InitialState(home(rng), {"cube": cube, "goal": goal})

    def judge(self, facts: Facts) -> Judgement:
        tool, cube, goal = position(facts, "tool"), position(facts, "cube"), position(facts, "goal")
        to_tool, to_goal = distance(tool, cube), distance(cube[..., :2], goal[..., :2])
        height = cube[..., 2] - CUBE_HALF_M
        above_plate = to_goal < PLATE_RADIUS_M - 0.01
        rests = np.abs(height - PLATE_HEIGHT_M) < 0.003
        stage = np.select([above_plate, height > 0.015, to_tool < 0.03], [3, 2, 1], 0)
        stage_progress = np.select(
            [stage == 0, stage == 1, stage == 2],
            [closeness(to_tool, 0.1), np.clip(height / 0.015, 0, 1), closeness(to_goal, 0.1)],
            closeness(height - PLATE_HEIGHT_M, 0.05),
        )
        success = above_plate & rests & (gripper(facts) > 0.6 * OPEN)
        return Judgement(success, stage, stage_progress, off_table(cube), len(self.stages))

    def expert(self, facts: Facts) -> NDArray[np.float32]:
        here, _ = forward(facts["proprio"])
        cube, goal = position(facts, "cube"), position(facts, "goal")
        aside = float(distance(cube[:2], goal[:2]))
        rest_height = PLATE_HEIGHT_M + CUBE_HALF_M
        if aside < PLATE_RADIUS_M - 0.02 and cube[2] < rest_height + 0.004:  # it stands there: let go, then leave
            opened = float(facts["proprio"][GRIPPER]) > 0.75 * OPEN
            return move(facts, here + np.array([0.0, 0.0, 0.05 if opened else 0.0]), None, OPEN)
        if not holds(facts, cube):
            return grasp(facts, facts["pose_cube"])
        # Straight up first; then across; then down onto the plate, slower.
        across = float(np.clip((cube[2] - 0.03) / (CARRY_HEIGHT_M - 0.04), 0.0, 1.0)) if aside > 0.03 else 1.0
        height = rest_height + float(np.clip(2.0 * (aside - 0.015), 0.0, CARRY_HEIGHT_M - rest_height))
        target = np.array([*(here[:2] + across * (goal - cube)[:2]), here[2] + height - cube[2]])
        return move(facts, target, None, CLOSED, lead_m=TOOL_LEAD_M if aside > 0.02 else 0.010)
