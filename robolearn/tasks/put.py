"""Picking one block up and putting it somewhere: what pick_place, stack and their backward tasks share."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from robolearn.tasks.arm import Arm
from robolearn.tasks.facts import closeness, distance, position, yaw_of
from robolearn.tasks.motion import BLOCK_HALF_M, TOOL_LEAD_M, grasp, holds, move
from robolearn.tasks.task import Facts, Judgement

STAGES = ("reach", "grasp", "carry", "place")
LIFTED_M = 0.015  # a block that is this far above where it stood has been lifted
RESTS_WITHIN_M = 0.003  # of its height on the support
LET_GO_M = 0.025  # a tool within this of a block at rest has put it down; from higher up it has dropped it
LEFT_BY_M = 0.015  # so far experts withdraw
CARRY_CLEARANCE_M = 0.052  # above where it will rest, while it travels


@dataclass(frozen=True)
class Put:
    """One block's way: heights of its centre where it stood and where it will rest [m], and how far from the goal's
    centre it may be let go, and be lowered."""

    body: str
    from_m: float
    rest_m: float
    release_within_m: float
    lower_within_m: float
    half_m: float = BLOCK_HALF_M  # half its width between the jaws


def judge_put(
    arm: Arm,
    facts: Facts,
    put: Put,
    to_goal: NDArray[np.float64],
    above: NDArray[np.bool_],
    left: NDArray[np.bool_],
    lost: NDArray[np.bool_],
) -> Judgement:
    """Stages: reach (the tool is not at the block), grasp (it is, the block still stands), carry (the block is up, not
    yet `above` the goal), place (it is above). Success: it rests on its support there, the jaws open.

    to_goal (...,): horizontal distance still to go [m]. left: the block is no longer above a raised place where it
    stood, so that it may sink and still count as carried.
    """
    block = position(facts, put.body)
    to_tool = distance(position(facts, "tool"), block)
    lifted, drop = block[..., 2] - put.from_m, block[..., 2] - put.rest_m
    stage = np.select([above, left | (lifted > LIFTED_M), to_tool < 0.03], [3, 2, 1], 0)
    stage_progress = np.select(
        [stage == 0, stage == 1, stage == 2],
        [closeness(to_tool, 0.1), np.clip(lifted / LIFTED_M, 0, 1), closeness(to_goal, 0.1)],
        closeness(drop, 0.05),
    )
    success = above & (np.abs(drop) < RESTS_WITHIN_M) & (arm.opened(facts) > 0.6 * arm.gripper.open)
    return Judgement(success, stage, stage_progress, lost, len(STAGES))


def put_expert(
    arm: Arm, facts: Facts, put: Put, goal: NDArray[np.float64], yaw: float | None = None
) -> NDArray[np.float32]:
    """Joint targets (N + 1,) that work towards the block resting with its centre above `goal` (2,) [m].

    yaw [rad]: direction in which the jaws open around it; None: across two faces of a square one.
    """
    here, jaws = arm.where(facts), arm.gripper
    block = position(facts, put.body)
    aside = float(distance(block[:2], goal))
    if aside < put.release_within_m and block[2] < put.rest_m + 0.004:  # it stands there: let go, then leave
        opened = float(arm.opened(facts)) > 0.75 * jaws.open
        return move(arm, facts, here + np.array([0.0, 0.0, 0.05 if opened else 0.0]), None, jaws.open)
    if not holds(arm, facts, block, put.half_m):
        yaw = arm.grasp_yaw(block, yaw_of(facts[f"pose_{put.body}"][3:])) if yaw is None else yaw
        return grasp(arm, facts, block, yaw, put.half_m)
    # Straight up first; then across; then down, slower.
    risen = float(np.clip((block[2] - put.from_m - LIFTED_M) / 0.035, 0.0, 1.0))
    across = risen if aside > 0.03 else 1.0
    height = put.rest_m + float(np.clip(2.0 * (aside - put.lower_within_m), 0.0, CARRY_CLEARANCE_M))
    target = np.array([*(here[:2] + across * (goal - block[:2])), here[2] + height - block[2]])
    return move(arm, facts, target, None, jaws.closed, lead_m=TOOL_LEAD_M if aside > 0.02 else 0.010)
