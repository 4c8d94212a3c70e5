"""Push the puck over the table into the round mark."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from robolearn.tasks.facts import closeness, distance, home, off_table, position, standing
from robolearn.tasks.kinematics import SO101, across, forward
from robolearn.tasks.motion import move
from robolearn.tasks.task import Facts, InitialState, Judgement

PUCK_RADIUS_M = 0.022
PUCK_HALF_HEIGHT_M = 0.0125
IN_MARK_M = 0.02  # of the puck's centre from the mark's
FORK = 0.25  # gripper position [rad]: the jaws are 3 cm apart, and the puck rests against both
CONTACT_M = 0.026  # from the puck's centre to the tool's when they touch
STANDOFF_M = 0.025  # between them before the push
HOVER_M = 0.07
TOOL_HEIGHT_M = 0.017


class Push:
    """Stages: reach (the tool is not low behind the puck), push (it is), settle (the puck is mostly on the mark).
    Success: the puck's centre is within 2 cm of the mark's, on the table."""

    id = "push-v1"
    instruction = "push the blue puck onto the orange mark"
    stages: tuple[str, ...] = ("reach", "push", "settle")
    robot = SO101.name
    robot_spec = SO101
    scene = "push"
    bodies: tuple[str, ...] = ("tool", "puck", "goal")
    max_steps = 140
    control_hz = 20.0
    backward: str | None = None

    def initial_state(self, rng: np.random.Generator) -> InitialState:
        puck = standing((rng.uniform(0.19, 0.25), rng.uniform(-0.06, 0.02)), PUCK_HALF_HEIGHT_M)
        goal = standing((rng.uniform(0.19, 0.25), rng.uniform(0.09, 0.13)), 0.0)
        return InitialState(home(rng, gripper_rad=FORK), {"puck": puck, "goal": goal})

    def judge(self, facts: Facts) -> Judgement:
        tool, puck, goal = position(facts, "tool"), position(facts, "puck"), position(facts, "goal")
        to_tool, to_goal = distance(tool, puck), distance(puck[..., :2], goal[..., :2])
        behind = ((tool - puck)[..., :2] * (goal - puck)[..., :2]).sum(axis=-1) < 0
        stage = np.select([to_goal < 0.035, behind & (to_tool < 0.065) & (tool[..., 2] < 0.04)], [2, 1], 0)
        stage_progress = np.select(
            [stage == 0, stage == 1], [closeness(to_tool, 0.1), closeness(to_goal, 0.1)], 1 - to_goal / 0.035
        )
        flat = np.abs(puck[..., 2] - PUCK_HALF_HEIGHT_M) < 0.004
        return Judgement((to_goal < IN_MARK_M) & flat, stage, stage_progress, off_table(puck), len(self.stages))

    def expert(self, facts: Facts) -> NDArray[np.float32]:
        here, _ = forward(facts["proprio"])
        puck, goal = position(facts, "puck"), position(facts, "goal")
        way = goal[:2] - puck[:2]
        way = way / max(float(np.linalg.norm(way)), 1e-6)
        yaw = across(puck, way)
        relative = here[:2] - puck[:2]
        behind, aside = -float(relative @ way), abs(float(relative[0] * way[1] - relative[1] * way[0]))
        low = here[2] < TOOL_HEIGHT_M + 0.02
        if low and behind > 0.7 * CONTACT_M and aside < 0.012:
            return move(facts, (*(puck[:2] - way * (CONTACT_M - 0.02)), TOOL_HEIGHT_M), yaw, FORK, lead_m=0.01)
        start = puck[:2] - way * (CONTACT_M + STANDOFF_M)
        off = float(np.hypot(*(here[:2] - start)))
        if low and off > 0.02:  # up before going around the puck
            return move(facts, (*here[:2], HOVER_M), yaw, FORK)
        return move(facts, (*start, TOOL_HEIGHT_M + float(np.clip(4 * (off - 0.008), 0.0, HOVER_M))), yaw, FORK)
