"""Sweep three pellets into the zone, one after the other; and backward, out of it to where they start."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from robolearn.tasks.facts import closeness, distance, home, inside, off_table, position, standing
from robolearn.tasks.push import push
from robolearn.tasks.task import Facts, InitialState, Judgement, Task

PELLETS = ("pellet_a", "pellet_b", "pellet_c")
RADIUS_M, HALF_HEIGHT_M = 0.019, 0.008
LANE_X = (0.165, 0.215, 0.265)  # each pellet has its lane [m]
LANE_HALF_M = 0.005
START_LOW, START_HIGH = np.array([0.155, -0.10]), np.array([0.280, 0.00])  # region where pellets start [m]
ZONE_LOW, ZONE_HIGH = np.array([0.135, 0.07]), np.array([0.305, 0.15])  # the green zone [m]
GOAL_LOW, GOAL_HIGH = ZONE_LOW + RADIUS_M, ZONE_HIGH - RADIUS_M  # of a centre whose pellet lies in it entirely
STAGES = ("first", "second", "third")


class Sweep(Task):
    """Stages: first (no pellet is in the zone), second (one is), third (two are). Success: all three lie in it."""

    id = "sweep-v1"
    instruction = "sweep the three pellets into the green zone"
    stages = STAGES
    robots = ("so101", "panda")
    scene = "sweep"
    bodies = ("tool", *PELLETS)
    max_steps = 300
    dwell_steps = 5
    backward = "unsweep-v1"

    def initial_state(self, rng: np.random.Generator) -> InitialState:
        poses = {name: standing(place, HALF_HEIGHT_M) for name, place in lanes(rng, -0.10, 0.0).items()}
        return InitialState(home(self.arm, rng, gripper=self.arm.gripper.fork), poses)

    def judge(self, facts: Facts) -> Judgement:
        return judge_sweep(facts, GOAL_LOW, GOAL_HIGH)

    def expert(self, facts: Facts) -> NDArray[np.float32]:
        for name, x in zip(PELLETS, LANE_X, strict=True):
            pellet = position(facts, name)
            if not inside(pellet[:2], GOAL_LOW, GOAL_HIGH):
                lane = float(np.clip(pellet[0], x - LANE_HALF_M, x + LANE_HALF_M))
                return push(self.arm, facts, pellet, (lane, GOAL_LOW[1] + 0.02), RADIUS_M)
        return push(self.arm, facts, pellet, pellet[:2], RADIUS_M)


class Unsweep(Task):
    """Stages: first (no pellet is where pellets start), second (one is), third (two are). Success: all are there."""

    id = "unsweep-v1"
    instruction = "sweep the three pellets out of the green zone, back to the other side"
    stages = STAGES
    robots = Sweep.robots
    scene = "sweep"
    bodies = ("tool", *PELLETS)
    max_steps = 300
    dwell_steps = 5
    backward = Sweep.id

    def initial_state(self, rng: np.random.Generator) -> InitialState:
        places = lanes(rng, GOAL_LOW[1], GOAL_LOW[1] + 0.035)
        poses = {name: standing(place, HALF_HEIGHT_M) for name, place in places.items()}
        return InitialState(home(self.arm, rng, gripper=self.arm.gripper.fork), poses)

    def judge(self, facts: Facts) -> Judgement:
        return judge_sweep(facts, START_LOW, START_HIGH)

    def expert(self, facts: Facts) -> NDArray[np.float32]:
        """Each pellet goes as far as it lies to one side of its lane, so that they end as spread as they start."""
        for name, x in zip(PELLETS, LANE_X, strict=True):
            pellet = position(facts, name)
            lane = float(np.clip(pellet[0], x - LANE_HALF_M, x + LANE_HALF_M))
            share = 0.1 + 0.8 * (lane - x + LANE_HALF_M) / (2 * LANE_HALF_M)
            y = START_LOW[1] + share * (START_HIGH[1] - START_LOW[1])
            if pellet[1] > y + 0.01 or not inside(pellet[:2], START_LOW, START_HIGH):
                return push(self.arm, facts, pellet, (lane, y), RADIUS_M)
        return push(self.arm, facts, pellet, pellet[:2], RADIUS_M)


def lanes(rng: np.random.Generator, low_y: float, high_y: float) -> dict[str, NDArray[np.float64]]:
    """A place (2,) [m] for each pellet, in its lane."""
    return {
        name: np.array([x + rng.uniform(-LANE_HALF_M, LANE_HALF_M), rng.uniform(low_y, high_y)])
        for name, x in zip(PELLETS, LANE_X, strict=True)
    }


def judge_sweep(facts: Facts, low: NDArray[np.float64], high: NDArray[np.float64]) -> Judgement:
    """Success: all pellets lie in the rectangle from low (2,) to high (2,) [m]."""
    pellets = np.stack([position(facts, name) for name in PELLETS], axis=-2)  # (..., 3, 3)
    there = inside(pellets[..., :2], low, high)
    left = distance(pellets[..., :2], np.clip(pellets[..., :2], low, high))
    to_tool = distance(pellets, position(facts, "tool")[..., None, :])
    count = there.sum(axis=-1)
    nearest = np.where(there, np.inf, left + 0.3 * to_tool).min(axis=-1)  # of those that still have to go
    lying = np.abs(pellets[..., 2] - HALF_HEIGHT_M) < 0.004
    success = np.asarray((there & lying).all(axis=-1))
    stage = np.minimum(count, len(STAGES) - 1)
    stage_progress = np.where(count == len(STAGES), 0.99, closeness(nearest, 0.1))
    return Judgement(success, stage, stage_progress, np.asarray(off_table(pellets).any(axis=-1)), len(STAGES))
