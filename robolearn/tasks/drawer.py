"""Open a drawer by its knob; and backward, close it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from robolearn.tasks.arm import Arm
from robolearn.tasks.facts import closeness, distance, home, position, standing, yaw_of
from robolearn.tasks.motion import grasp, holds, move
from robolearn.tasks.task import Facts, InitialState, Judgement, Task

KNOB_M = 0.074  # from the cabinet's middle to the knob of a closed drawer
OPEN_M, SHUT_M = 0.06, 0.008  # a drawer that is out further is open; less, closed
PLACE_LOW, PLACE_HIGH = np.array([0.290, -0.06]), np.array([0.315, 0.06])  # region of the cabinet's middle [m]
MAX_YAW_RAD = 0.2  # of the cabinet, from facing the arm
PULL_M = 0.03  # how far ahead of the tool the pull aims


def cabinet_pose(arm: Arm, rng: np.random.Generator) -> NDArray[np.float64]:
    """Somewhere in its region, more or less facing the arm."""
    place = rng.uniform(PLACE_LOW, PLACE_HIGH)
    return standing(place, 0.0, arm.azimuth(place) + rng.uniform(-MAX_YAW_RAD, MAX_YAW_RAD))


def extension(facts: Facts) -> NDArray[np.float64]:
    """How far the drawer is out (...,) [m]."""
    return distance(position(facts, "cabinet")[..., :2], position(facts, "drawer")[..., :2]) - KNOB_M


def slide(arm: Arm, facts: Facts, sign: float) -> NDArray[np.float32]:
    """Joint targets (N + 1,) that take the knob and move it outwards (sign 1) or inwards (-1)."""
    knob, yaw = position(facts, "drawer"), yaw_of(facts["pose_drawer"][3:])
    outwards = -np.array([np.cos(yaw), np.sin(yaw)])
    across = arm.across(knob, outwards)
    if not holds(arm, facts, knob):
        return grasp(arm, facts, knob, across)
    here = arm.where(facts)
    sideways = (knob - here)[:2] - outwards * float((knob - here)[:2] @ outwards)
    target = np.append(here[:2] + sign * PULL_M * outwards + 0.5 * sideways, knob[2])
    return move(arm, facts, target, across, arm.gripper.closed)


class DrawerOpen(Task):
    """Stages: reach (the tool is not at the knob), grasp (it is), pull (the drawer is moving out).
    Success: it is out by 6 cm."""

    id = "drawer_open-v1"
    instruction = "open the drawer by its yellow knob"
    stages = ("reach", "grasp", "pull")
    robots = ("so101", "panda")
    scene = "drawer"
    bodies = ("tool", "cabinet", "drawer")
    max_steps = 120
    dwell_steps = 5
    backward = "drawer_close-v1"

    def initial_state(self, rng: np.random.Generator) -> InitialState:
        return InitialState(
            home(self.arm, rng), {"cabinet": cabinet_pose(self.arm, rng)}, {"drawer": rng.uniform(0.0, 0.005)}
        )

    def judge(self, facts: Facts) -> Judgement:
        out, to_knob = extension(facts), distance(position(facts, "tool"), position(facts, "drawer"))
        return _judge(out > OPEN_M, to_knob, moved=(out - 0.01) / (OPEN_M - 0.01))

    def expert(self, facts: Facts) -> NDArray[np.float32]:
        return slide(self.arm, facts, 1.0)


class DrawerClose(Task):
    """Stages: reach (the tool is not at the knob), grasp (it is), push (the drawer is moving in).
    Success: it is in to 8 mm."""

    id = "drawer_close-v1"
    instruction = "close the drawer by its yellow knob"
    stages = ("reach", "grasp", "push")
    robots = ("so101", "panda")
    scene = "drawer"
    bodies = ("tool", "cabinet", "drawer")
    max_steps = 120
    dwell_steps = 5
    backward = DrawerOpen.id

    def initial_state(self, rng: np.random.Generator) -> InitialState:
        return InitialState(
            home(self.arm, rng), {"cabinet": cabinet_pose(self.arm, rng)}, {"drawer": rng.uniform(0.062, 0.068)}
        )

    def judge(self, facts: Facts) -> Judgement:
        out, to_knob = extension(facts), distance(position(facts, "tool"), position(facts, "drawer"))
        return _judge(out < SHUT_M, to_knob, moved=(0.058 - out) / (0.058 - SHUT_M))

    def expert(self, facts: Facts) -> NDArray[np.float32]:
        return slide(self.arm, facts, -1.0)


def _judge(success: NDArray[np.bool_], to_knob: NDArray[np.float64], moved: NDArray[np.float64]) -> Judgement:
    """moved (...,): share of the drawer's way that is done, negative before it has begun."""
    stage = np.select([moved > 0, to_knob < 0.02], [2, 1], 0)
    stage_progress = np.select([stage == 2, stage == 1], [np.clip(moved, 0, 1), 0.5], closeness(to_knob, 0.1))
    return Judgement(success, stage, stage_progress, np.zeros(to_knob.shape, dtype=bool), num_stages=3)
