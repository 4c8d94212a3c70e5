"""Put the square peg into the socket; and backward, pull it out and stand it on the table."""

from __future__ import annotations

from math import pi, remainder

import numpy as np
from numpy.typing import NDArray

from robolearn.tasks.arm import Arm
from robolearn.tasks.facts import closeness, distance, home, inside, off_table, position, spread, standing, yaw_of
from robolearn.tasks.motion import grasp, holds, move
from robolearn.tasks.task import Facts, InitialState, Judgement, Task

HALF_HEIGHT_M = 0.040  # of the peg
GRIP_M = 0.022  # above its middle: where it is taken
SOCKET_M = 0.030  # height of the socket's rim
CARRY_M = 0.055  # of the peg's foot while it travels
STANDS_WITHIN_M = 0.003
IN_SOCKET_M = 0.005  # of the peg's axis from the socket's: it has no more play
START_LOW, START_HIGH = np.array([0.18, -0.11]), np.array([0.25, 0.00])  # region where pegs start [m]
SOCKET_LOW, SOCKET_HIGH = np.array([0.19, 0.09]), np.array([0.24, 0.13])  # region of the socket [m]
MAX_YAW_RAD = 0.4
STAGES = ("reach", "grasp", "carry", "place")


class PegInsert(Task):
    """Stages: reach (the tool is not at the peg), grasp (it is, the peg still stands), carry (the peg is up), place
    (it is in the socket's mouth). Success: it stands in the socket, the jaws open."""

    id = "peg_insert-v1"
    instruction = "put the red peg into the blue socket"
    stages = STAGES
    robots = ("so101", "panda")
    scene = "peg"
    bodies = ("tool", "peg", "socket")
    max_steps = 200
    dwell_steps = 5
    backward = "peg_extract-v1"

    def initial_state(self, rng: np.random.Generator) -> InitialState:
        peg = standing(rng.uniform(START_LOW, START_HIGH), HALF_HEIGHT_M, rng.uniform(-MAX_YAW_RAD, MAX_YAW_RAD))
        socket = standing(rng.uniform(SOCKET_LOW, SOCKET_HIGH), 0.0, rng.uniform(-MAX_YAW_RAD, MAX_YAW_RAD))
        return InitialState(home(self.arm, rng), {"peg": peg, "socket": socket})

    def judge(self, facts: Facts) -> Judgement:
        aside = distance(position(facts, "peg")[..., :2], position(facts, "socket")[..., :2])
        return judge_peg(self.arm, facts, aside, aside < IN_SOCKET_M)

    def expert(self, facts: Facts) -> NDArray[np.float32]:
        turn = remainder(yaw_of(facts["pose_socket"][3:]) - yaw_of(facts["pose_peg"][3:]), pi / 2)
        return carry(self.arm, facts, position(facts, "socket")[:2], turn, lower_within_m=0.0015)


class PegExtract(Task):
    """Stages as in PegInsert, the place being where pegs start. Success: the peg stands there, the jaws open."""

    id = "peg_extract-v1"
    instruction = "pull the red peg out of the blue socket and stand it on the table"
    stages = STAGES
    robots = PegInsert.robots
    scene = "peg"
    bodies = ("tool", "peg", "socket")
    max_steps = 200
    dwell_steps = 5
    backward = PegInsert.id

    def initial_state(self, rng: np.random.Generator) -> InitialState:
        place, yaw = rng.uniform(SOCKET_LOW, SOCKET_HIGH), rng.uniform(-MAX_YAW_RAD, MAX_YAW_RAD)
        peg = standing(place + rng.uniform(-0.002, 0.002, 2), HALF_HEIGHT_M, yaw + rng.uniform(-0.05, 0.05))
        return InitialState(home(self.arm, rng), {"peg": peg, "socket": standing(place, 0.0, yaw)})

    def judge(self, facts: Facts) -> Judgement:
        peg = position(facts, "peg")[..., :2]
        aside = distance(peg, np.clip(peg, START_LOW, START_HIGH))
        return judge_peg(self.arm, facts, aside, inside(peg, START_LOW, START_HIGH))

    def expert(self, facts: Facts) -> NDArray[np.float32]:
        goal = spread(position(facts, "socket")[:2], (SOCKET_LOW, SOCKET_HIGH), (START_LOW, START_HIGH))
        return carry(self.arm, facts, goal, 0.0, lower_within_m=0.008)


def judge_peg(arm: Arm, facts: Facts, aside: NDArray[np.float64], there: NDArray[np.bool_]) -> Judgement:
    """aside (...,): horizontal distance still to go [m]. there (...,): the peg is above its place, or in it."""
    peg = position(facts, "peg")
    tilt = facts["pose_peg"][..., 4] ** 2 + facts["pose_peg"][..., 5] ** 2  # (sine of half the lean from upright)^2
    foot = peg[..., 2] - HALF_HEIGHT_M
    taken = distance(position(facts, "tool"), peg) < GRIP_M + 0.02
    stage = np.select([there, foot > 0.01, taken], [3, 2, 1], 0)
    stage_progress = np.select(
        [stage == 0, stage == 1, stage == 2],
        [closeness(distance(position(facts, "tool"), peg), 0.1), np.clip(foot / 0.01, 0, 1), closeness(aside, 0.1)],
        closeness(foot, 0.05),
    )
    stands = there & (np.abs(foot) < STANDS_WITHIN_M) & (tilt < 0.002)
    success = stands & (arm.opened(facts) > 0.6 * arm.gripper.open)
    return Judgement(success, stage, stage_progress, off_table(peg), len(STAGES))


def carry(arm: Arm, facts: Facts, goal: NDArray[np.float64], turn: float, lower_within_m: float) -> NDArray[np.float32]:
    """Joint targets (N + 1,) that work towards the peg standing at `goal` (2,) [m], turned by `turn` [rad] more."""
    here, jaws, peg = arm.where(facts), arm.gripper, position(facts, "peg")
    aside, foot = float(distance(peg[:2], goal)), float(peg[2]) - HALF_HEIGHT_M
    grip = peg + np.array([0.0, 0.0, GRIP_M])
    if aside < max(IN_SOCKET_M, lower_within_m) and foot < 0.004:  # it stands there: let go, then leave
        rise = 0.05 if float(arm.opened(facts)) > 0.75 * jaws.open else 0.0
        return move(arm, facts, here + np.array([0.0, 0.0, rise]), None, jaws.open)
    if not holds(arm, facts, grip):
        return grasp(arm, facts, grip, arm.grasp_yaw(peg, yaw_of(facts["pose_peg"][3:])))
    _, rotation = arm.forward(arm.positions(facts))
    yaw = float(np.arctan2(rotation[1, 2], rotation[0, 2])) + turn
    risen = float(np.clip((foot - SOCKET_M) / 0.01, 0.0, 1.0))  # straight up first, then across
    over = aside < lower_within_m and abs(turn) < 0.04
    entered = aside < IN_SOCKET_M and foot < SOCKET_M - 0.002
    height = 0.0 if over or entered else CARRY_M - (CARRY_M - SOCKET_M - 0.004) * float(aside < 0.01)
    across = 1.0 if aside < 0.01 else risen
    target = np.array([*(here[:2] + across * (goal - peg[:2])), here[2] + height - foot])
    return move(arm, facts, target, yaw, jaws.closed, lead_m=0.014 if aside > 0.02 else 0.006)
