"""Lift a bar with two arms, one at each end; and backward, put it down."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from robolearn.specs import RobotSpec
from robolearn.tasks.arm import Arm
from robolearn.tasks.facts import closeness, distance, home, off_table, position, standing, yaw_of
from robolearn.tasks.kinematics import SO101, SO101_ARM
from robolearn.tasks.motion import BLOCK_HALF_M, grasp, holds, move
from robolearn.tasks.put import LEFT_BY_M, LET_GO_M, RESTS_WITHIN_M
from robolearn.tasks.task import Facts, InitialState, Judgement, Task

SIDES = ("left", "right")
PAIR = RobotSpec(
    name="so101_pair",
    joint_names=tuple(f"{side}_{joint}" for side in SIDES for joint in SO101.joint_names),
    position_low=SO101.position_low * 2,
    position_high=SO101.position_high * 2,
    max_speed=SO101.max_speed * 2,
)
BASE_Y = 0.12  # of the left arm; the right one's is as far on the other side [m]
LEFT, RIGHT = (
    replace(
        SO101_ARM,
        name=PAIR.name,
        spec=PAIR,
        first=i * len(SO101.joint_names),
        tool=f"{side}_tool",
        cameras=(f"{side}_wrist",),
        mount=(0.0, BASE_Y * (1 - 2 * i), 0.0),
    )
    for i, side in enumerate(SIDES)
)
BLOCK_Y = (0.090, -0.090)  # of the left and the right block on the bar [m]
LIFTED_M = 0.08  # height of the blocks' lower faces
LEVEL_M = 0.015  # between the heights of the two ends
AT_BLOCK_M = 0.03
START_LOW, START_HIGH = np.array([0.19, -0.025]), np.array([0.25, 0.025])  # region of the bar's middle [m]
MAX_YAW_RAD = 0.15


class LiftBar(Task):
    """Stages: reach (not both tools are at their blocks), grasp (they are, the bar still lies), raise (it is up).
    Success: both ends are 8 cm above the table, the bar is level."""

    id = "lift_bar-v1"
    instruction = "lift the bar with both arms and keep it level"
    stages = ("reach", "grasp", "raise")
    robots = (PAIR.name,)
    scene = "bar"
    bodies = (LEFT.tool, RIGHT.tool, "bar")
    max_steps = 120
    dwell_steps = 5
    backward = "lower_bar-v1"
    arms = (LEFT, RIGHT)

    def __init__(self, arm: Arm = LEFT) -> None:
        super().__init__(arm)

    def initial_state(self, rng: np.random.Generator) -> InitialState:
        joints = [home(arm, rng, (0.19, arm.mount[1], 0.12)) for arm in self.arms]
        bar = standing(rng.uniform(START_LOW, START_HIGH), BLOCK_HALF_M, rng.uniform(-MAX_YAW_RAD, MAX_YAW_RAD))
        return InitialState(np.concatenate(joints), {"bar": bar})

    def judge(self, facts: Facts) -> Judgement:
        blocks = ends(facts)
        to_block = np.maximum(*(distance(position(facts, a.tool), b) for a, b in zip(self.arms, blocks, strict=True)))
        left, right = (block[..., 2] - BLOCK_HALF_M for block in blocks)
        height = np.minimum(left, right)
        stage = np.select([height > 0.015, to_block < AT_BLOCK_M], [2, 1], 0)
        stage_progress = np.select(
            [stage == 0, stage == 1], [closeness(to_block, 0.1), np.clip(height / 0.015, 0, 1)], height / LIFTED_M
        )
        success = (height > LIFTED_M) & (np.abs(left - right) < LEVEL_M) & (to_block < AT_BLOCK_M)
        lost = off_table(position(facts, "bar"))
        return Judgement(success, stage, np.clip(stage_progress, 0, 1), lost, len(self.stages))

    def expert(self, facts: Facts) -> NDArray[np.float32]:
        blocks, yaw = ends(facts), yaw_of(facts["pose_bar"][3:])
        held = [holds(arm, facts, block) for arm, block in zip(self.arms, blocks, strict=True)]
        top = min(LIFTED_M + BLOCK_HALF_M + 0.02, min(block[2] for block in blocks) + 0.03)
        commands = []
        for arm, block, has in zip(self.arms, blocks, held, strict=True):
            if not has:
                commands.append(grasp(arm, facts, block, arm.grasp_yaw(block, yaw)))
                continue
            rise = np.array([0.0, 0.0, top - block[2] if all(held) else 0.0])
            commands.append(move(arm, facts, arm.where(facts) + rise, None, arm.gripper.closed))
        return np.concatenate(commands)


class LowerBar(Task):
    """Stages: lower (the bar is in the air), release (it lies). Success: and all jaws are open around it, where bars
    start; a bar which was dropped does not count."""

    id = "lower_bar-v1"
    instruction = "put the bar down on the table with both arms and let it go"
    stages = ("lower", "release")
    robots = (PAIR.name,)
    scene = "bar"
    bodies = LiftBar.bodies
    max_steps = 100
    dwell_steps = 5
    backward = LiftBar.id
    arms = (LEFT, RIGHT)

    def __init__(self, arm: Arm = LEFT) -> None:
        super().__init__(arm)

    def initial_state(self, rng: np.random.Generator) -> InitialState:
        """The blocks lie between the jaws, which must close at once."""
        yaw = rng.uniform(-MAX_YAW_RAD, MAX_YAW_RAD)
        bar = standing(rng.uniform(START_LOW, START_HIGH), LIFTED_M + BLOCK_HALF_M + rng.uniform(0.0, 0.01), yaw)
        joints = [
            arm.with_gripper(arm.inverse(block, arm.grasp_yaw(block, yaw)), arm.gripper.hold)
            for arm, block in zip(self.arms, ends({"pose_bar": bar}), strict=True)
        ]
        return InitialState(np.concatenate(joints), {"bar": bar})

    def judge(self, facts: Facts) -> Judgement:
        bar, blocks = position(facts, "bar"), ends(facts)
        height = np.maximum(*(np.abs(block[..., 2] - BLOCK_HALF_M) for block in blocks))
        opened = np.minimum(*(np.clip(arm.opened(facts) / arm.gripper.open, 0, 1) for arm in self.arms))
        down = height < RESTS_WITHIN_M
        inside = ((bar[..., :2] >= START_LOW - 0.01) & (bar[..., :2] <= START_HIGH + 0.01)).all(axis=-1)
        stage_progress = np.where(down, opened, closeness(height, 0.05))
        to_block = np.maximum(*(distance(position(facts, a.tool), b) for a, b in zip(self.arms, blocks, strict=True)))
        success = down & inside & (to_block < LET_GO_M) & (opened > 0.6)
        return Judgement(success, down.astype(np.int64), stage_progress, off_table(bar), len(self.stages))

    def expert(self, facts: Facts) -> NDArray[np.float32]:
        bar, blocks = position(facts, "bar"), ends(facts)
        lies = all(block[2] < BLOCK_HALF_M + RESTS_WITHIN_M for block in blocks)
        low = max(BLOCK_HALF_M - 0.002, max(block[2] for block in blocks) - 0.03)
        aside = np.clip(bar[:2], START_LOW, START_HIGH) - bar[:2]
        commands = []
        for arm, block in zip(self.arms, blocks, strict=True):
            here, jaws = arm.where(facts), arm.gripper
            if lies:
                rise = block[2] + LEFT_BY_M - here[2] if float(arm.opened(facts)) > 0.75 * jaws.open else 0.0
                commands.append(move(arm, facts, here + np.array([0.0, 0.0, rise]), None, jaws.open))
            else:
                step = np.array([*aside, low - block[2]])
                commands.append(move(arm, facts, here + step, None, jaws.closed, lead_m=0.010))
        return np.concatenate(commands)


def ends(facts: Facts) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Positions (..., 3) [m] of the left and the right block."""
    pose = np.asarray(facts["pose_bar"], dtype=np.float64)
    w, x, y, z = (pose[..., i] for i in range(3, 7))
    sideways = np.stack([2 * (x * y - w * z), 1 - 2 * (x * x + z * z), 2 * (y * z + w * x)], axis=-1)
    return pose[..., :3] + BLOCK_Y[0] * sideways, pose[..., :3] + BLOCK_Y[1] * sideways
