"""Fold a napkin over by the slat along its edge; and backward, unfold it."""

from __future__ import annotations

from math import pi, remainder

import numpy as np
from numpy.typing import NDArray

from robolearn.tasks.arm import Arm
from robolearn.tasks.facts import closeness, distance, home, off_table, position, standing, yaw_of
from robolearn.tasks.motion import grasp, holds, move
from robolearn.tasks.task import Facts, InitialState, Judgement, Task

POINTS, SIDE_M = 7, 0.12  # a grid of POINTS x POINTS points
LEFT, RIGHT = "cloth_6", "cloth_48"  # ends of the edge that lies still; the slat is sewn to the one across
LAYER_M, TWO_LAYERS_M = 0.003, 0.007  # height of the points of a layer on the table, and of one on top of it
KNOB_M = 0.016  # height of the knob's middle when the slat lies on the table
GRIP_M = 0.008  # above it: where the knob is taken
BEYOND_M = 0.014  # the slat of a folded cloth lies on the table, this far beyond the still edge
THERE_M, RELEASE_WITHIN_M = 0.02, 0.010  # from where the slat shall lie: near enough, and near enough to let go
LIFTED_M = 0.015
ARC_SHARE = 0.7  # height of the slat's way over that of the half circle which would keep the cloth stretched
ARC_STEP_M = 0.012
CENTRE_LOW, CENTRE_HIGH = np.array([0.20, -0.03]), np.array([0.24, 0.01])  # region of the cloth's centre [m]
MAX_YAW_RAD = 0.15
STAGES = ("reach", "grasp", "lift", "carry", "lower", "release")


class FoldCloth(Task):
    """Stages and success as in `judge_cloth`: the slat lies just beyond the still edge."""

    id = "fold_cloth-v1"
    instruction = "fold the blue napkin in half by the knob of its slat"
    stages = STAGES
    scene = "cloth"
    bodies = ("tool", "slat", LEFT, RIGHT)
    max_steps = 150
    dwell_steps = 5
    backward = "unfold_cloth-v1"

    def initial_state(self, rng: np.random.Generator) -> InitialState:
        return InitialState(home(self.arm, rng), cloth(rng, folded=False))

    def judge(self, facts: Facts) -> Judgement:
        return judge_cloth(self.arm, facts, slat_place(facts, folded=True))

    def expert(self, facts: Facts) -> NDArray[np.float32]:
        return turn_over(self.arm, facts, slat_place(facts, folded=False), slat_place(facts, folded=True))


class UnfoldCloth(Task):
    """Stages and success as in `judge_cloth`: the slat lies where it does when the cloth is flat."""

    id = "unfold_cloth-v1"
    instruction = "unfold the blue napkin by the knob of its slat"
    stages = STAGES
    scene = "cloth"
    bodies = ("tool", "slat", LEFT, RIGHT)
    max_steps = 150
    dwell_steps = 5
    backward = FoldCloth.id

    def initial_state(self, rng: np.random.Generator) -> InitialState:
        return InitialState(home(self.arm, rng), cloth(rng, folded=True))

    def judge(self, facts: Facts) -> Judgement:
        return judge_cloth(self.arm, facts, slat_place(facts, folded=False))

    def expert(self, facts: Facts) -> NDArray[np.float32]:
        return turn_over(self.arm, facts, slat_place(facts, folded=True), slat_place(facts, folded=False))


def cloth(rng: np.random.Generator, folded: bool) -> dict[str, NDArray[np.float64]]:
    """Poses (7,) of the cloth's points and of the slat, somewhere; v runs from the slat to the still edge."""
    centre, yaw = rng.uniform(CENTRE_LOW, CENTRE_HIGH), rng.uniform(-MAX_YAW_RAD, MAX_YAW_RAD)
    side = np.linspace(-SIDE_M / 2, SIDE_M / 2, POINTS)
    u, v = (axis.ravel() for axis in np.meshgrid(side, side, indexing="ij"))
    crease = BEYOND_M / 2
    over = folded & (v < crease - 1e-6)
    v = np.where(over, 2 * crease - v, v)
    across, along = np.array([np.cos(yaw), np.sin(yaw)]), np.array([-np.sin(yaw), np.cos(yaw)])
    places = centre + u[:, None] * across + v[:, None] * along
    heights = np.where(over & (v < SIDE_M / 2 + 0.002), TWO_LAYERS_M, LAYER_M)
    poses = {f"cloth_{i}": standing(place, z) for i, (place, z) in enumerate(zip(places, heights, strict=True))}
    poses["slat"] = standing(places[::POINTS].mean(axis=0), KNOB_M, yaw)
    return poses


def still_edge(facts: Facts) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Middle of the still edge (..., 2) [m], and its direction (..., 2), a unit vector."""
    left, right = position(facts, LEFT)[..., :2], position(facts, RIGHT)[..., :2]
    return (left + right) / 2, (right - left) / np.maximum(distance(left, right), 1e-6)[..., None]


def slat_place(facts: Facts, folded: bool) -> NDArray[np.float64]:
    """Where the slat's middle lies (..., 2) [m] when the cloth is folded, or flat."""
    middle, across = still_edge(facts)
    along = np.stack([-across[..., 1], across[..., 0]], axis=-1)
    return middle + (BEYOND_M if folded else -SIDE_M) * along


def judge_cloth(arm: Arm, facts: Facts, goal: NDArray[np.float64]) -> Judgement:
    """Stages: reach (the tool is not at the knob), grasp (it is), lift (the slat is up), carry (it is over the middle
    of its way), lower (it is above its goal), release (it lies there). Success: and the jaws are open, and the still
    edge has no wrinkles.

    goal (..., 2): where the slat's middle shall lie [m].
    """
    slat, left, right = position(facts, "slat"), position(facts, LEFT), position(facts, RIGHT)
    up, to_goal = slat[..., 2] - KNOB_M, distance(slat[..., :2], goal)
    to_tool = distance(position(facts, "tool"), slat)
    there, down, half_way = to_goal < THERE_M, np.abs(up) < 0.005, to_goal < SIDE_M / 2
    smooth = distance(left, right) > 0.9 * SIDE_M
    opened = np.clip(arm.opened(facts) / arm.gripper.open, 0, 1)
    stage = np.select([there & down, there, half_way, up > LIFTED_M, to_tool < GRIP_M + 0.02], [5, 4, 3, 2, 1], 0)
    stage_progress = np.select(
        [stage == 0, stage == 1, stage == 4, stage == 5],
        [closeness(to_tool, 0.1), np.clip(up / LIFTED_M, 0, 1), closeness(up, 0.05), opened],
        closeness(to_goal, 0.1),
    )
    lost = off_table(slat) | off_table(left) | off_table(right)
    return Judgement(there & down & smooth & (opened > 0.6), stage, stage_progress, lost, len(STAGES))


def turn_over(arm: Arm, facts: Facts, start: NDArray[np.float64], goal: NDArray[np.float64]) -> NDArray[np.float32]:
    """Joint targets (N + 1,) that carry the slat in an arc from `start` to `goal` (2,) [m], wherever it is now."""
    here, jaws, slat = arm.where(facts), arm.gripper, position(facts, "slat")
    if float(distance(slat[:2], goal)) < RELEASE_WITHIN_M and slat[2] < KNOB_M + 0.003:  # it lies there: let go, leave
        rise = 0.05 if float(arm.opened(facts)) > 0.75 * jaws.open else 0.0
        return move(arm, facts, here + np.array([0.0, 0.0, rise]), None, jaws.open)
    knob, yaw = slat + np.array([0.0, 0.0, GRIP_M]), yaw_of(facts["pose_slat"][3:])
    if not holds(arm, facts, knob):
        return grasp(arm, facts, knob, arm.grasp_yaw(knob, yaw))
    radius = float(distance(start, goal)) / 2
    along = (goal - start) / (2 * radius)
    s = float(np.clip((slat[:2] - (start + goal) / 2) @ along + ARC_STEP_M, -radius, radius))
    ahead = np.append((start + goal) / 2 + s * along, KNOB_M + ARC_SHARE * np.sqrt(radius**2 - s**2))
    across = still_edge(facts)[1]
    _, rotation = arm.forward(arm.positions(facts))
    turn = remainder(float(np.arctan2(across[1], across[0])) - yaw, pi)
    tool_yaw = float(np.arctan2(rotation[1, 2], rotation[0, 2]))
    return move(arm, facts, here + ahead - slat, tool_yaw + turn, jaws.closed, lead_m=0.010)
