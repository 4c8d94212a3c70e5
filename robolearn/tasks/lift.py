"""Pick the cube up; and backward, put it down."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from robolearn.tasks.facts import closeness, distance, home, off_table, position, standing, yaw_of
from robolearn.tasks.motion import BLOCK_HALF_M, grasp, holds, move
from robolearn.tasks.put import LEFT_BY_M, LET_GO_M, RESTS_WITHIN_M
from robolearn.tasks.task import Facts, InitialState, Judgement, Task

LIFTED_M = 0.08  # height of the cube's lower face
START_LOW, START_HIGH = np.array([0.17, -0.10]), np.array([0.29, 0.10])  # region where cubes start [m]


class Lift(Task):
    """Stages: reach (the tool is not at the cube), grasp (it is, the cube still stands), raise (the cube is up).
    Success: it is 8 cm above the table, between the jaws."""

    id = "lift-v1"
    instruction = "pick up the red cube and hold it in the air"
    stages = ("reach", "grasp", "raise")
    robots = ("so101", "panda")
    scene = "lift"
    bodies = ("tool", "cube")
    max_steps = 100
    dwell_steps = 5
    backward = "lower-v1"

    def initial_state(self, rng: np.random.Generator) -> InitialState:
        cube = standing(rng.uniform(START_LOW, START_HIGH), BLOCK_HALF_M, rng.uniform(-0.5, 0.5))
        return InitialState(home(self.arm, rng), {"cube": cube})

    def judge(self, facts: Facts) -> Judgement:
        cube = position(facts, "cube")
        to_tool, height = distance(position(facts, "tool"), cube), cube[..., 2] - BLOCK_HALF_M
        stage = np.select([height > 0.015, to_tool < 0.03], [2, 1], 0)
        stage_progress = np.select(
            [stage == 0, stage == 1], [closeness(to_tool, 0.1), np.clip(height / 0.015, 0, 1)], height / LIFTED_M
        )
        success = (height > LIFTED_M) & (to_tool < 0.03)
        return Judgement(success, stage, np.clip(stage_progress, 0, 1), off_table(cube), len(self.stages))

    def expert(self, facts: Facts) -> NDArray[np.float32]:
        cube = position(facts, "cube")
        if not holds(self.arm, facts, cube):
            return grasp(self.arm, facts, cube, self.arm.grasp_yaw(cube, yaw_of(facts["pose_cube"][3:])))
        here = self.arm.where(facts)
        rise = min(LIFTED_M + BLOCK_HALF_M + 0.02 - cube[2], 0.04)
        return move(self.arm, facts, here + np.array([0.0, 0.0, rise]), None, self.arm.gripper.closed)


class Lower(Task):
    """Stages: lower (the cube is in the air), release (it stands). Success: and the jaws are open around it, so that a
    cube which was dropped does not count."""

    id = "lower-v1"
    instruction = "put the red cube down on the table and let it go"
    stages = ("lower", "release")
    robots = Lift.robots
    scene = "lift"
    bodies = ("tool", "cube")
    max_steps = 80
    dwell_steps = 5
    backward = Lift.id

    def initial_state(self, rng: np.random.Generator) -> InitialState:
        """The cube lies between the jaws, which must close at once."""
        place = np.append(rng.uniform(START_LOW, START_HIGH), LIFTED_M + BLOCK_HALF_M + rng.uniform(0.0, 0.01))
        yaw = self.arm.azimuth(place) + rng.uniform(-0.3, 0.3)
        joints = self.arm.with_gripper(self.arm.inverse(place, yaw), self.arm.gripper.hold)
        tool, rotation = self.arm.forward(joints)
        cube = standing(tool[:2], tool[2], np.arctan2(rotation[1, 2], rotation[0, 2]))
        return InitialState(joints, {"cube": cube})

    def judge(self, facts: Facts) -> Judgement:
        cube = position(facts, "cube")
        height = cube[..., 2] - BLOCK_HALF_M
        down = np.abs(height) < RESTS_WITHIN_M
        opened = np.clip(self.arm.opened(facts) / self.arm.gripper.open, 0, 1)
        inside = ((cube[..., :2] >= START_LOW - 0.01) & (cube[..., :2] <= START_HIGH + 0.01)).all(axis=-1)
        stage_progress = np.where(down, opened, closeness(height, 0.05))
        at_hand = distance(position(facts, "tool"), cube) < LET_GO_M
        success = down & inside & at_hand & (opened > 0.6)
        return Judgement(success, down.astype(np.int64), stage_progress, off_table(cube), len(self.stages))

    def expert(self, facts: Facts) -> NDArray[np.float32]:
        cube, here, jaws = position(facts, "cube"), self.arm.where(facts), self.arm.gripper
        if cube[2] < BLOCK_HALF_M + RESTS_WITHIN_M:
            rise = cube[2] + LEFT_BY_M - here[2] if float(self.arm.opened(facts)) > 0.75 * jaws.open else 0.0
            return move(self.arm, facts, here + np.array([0.0, 0.0, rise]), None, jaws.open)
        aside = np.clip(cube[:2], START_LOW, START_HIGH) - cube[:2]
        sink = BLOCK_HALF_M - 0.002 - cube[2]
        return move(self.arm, facts, here + np.array([*aside, sink]), None, jaws.closed, lead_m=0.010)
