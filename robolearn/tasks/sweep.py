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
ZONE_LOW, ZONE_HIGH = np.array([0.205, 0.10]), np.array([0.225, 0.12])  # region of the zone's centre [m]
ZONE_HALF = np.array([0.090 - RADIUS_M, 0.040 - RADIUS_M])  # a pellet this near to the centre lies in it entirely [m]
THERE_M = 0.02
STAGES = ("first", "second", "third")


class Sweep(Task):
    """Stages: first (no pellet is in the zone), second (one is), third (two are). Success: all three lie in it."""

    id = "sweep-v1"
    instruction = "sweep the three pellets into the green zone"
    stages = STAGES
    robots = ("so101", "panda")
    scene = "sweep"
    bodies = ("tool", "zone", *PELLETS)
    max_steps = 300
    dwell_steps = 5
    backward = "unsweep-v1"

    def initial_state(self, rng: np.random.Generator) -> InitialState:
        poses = {name: standing((x, rng.uniform(-0.10, 0.0)), HALF_HEIGHT_M) for name, x in lanes(rng).items()}
        poses["zone"] = standing(rng.uniform(ZONE_LOW, ZONE_HIGH), 0.0)
        return InitialState(home(self.arm, rng, gripper=self.arm.gripper.fork), poses)

    def judge(self, facts: Facts) -> Judgement:
        zone, at = position(facts, "zone")[..., None, :2], pellets(facts)[..., :2]
        low, high = zone - ZONE_HALF, zone + ZONE_HALF
        return judge_sweep(facts, inside(at, low, high), distance(at, np.clip(at, low, high)))

    def expert(self, facts: Facts) -> NDArray[np.float32]:
        zone = position(facts, "zone")[:2]
        for name, x in zip(PELLETS, LANE_X, strict=True):
            pellet = position(facts, name)
            if not inside(pellet[:2], zone - ZONE_HALF, zone + ZONE_HALF):
                return push(self.arm, facts, pellet, (x, zone[1]), RADIUS_M)
        return push(self.arm, facts, pellet, pellet[:2], RADIUS_M)


class Unsweep(Task):
    """Stages: first (no pellet is back), second (one is), third (two are). Success: all are back where they start,
    near the place there that the zone tells."""

    id = "unsweep-v1"
    instruction = "sweep the three pellets out of the green zone, back to the other side"
    stages = STAGES
    robots = Sweep.robots
    scene = "sweep"
    bodies = ("tool", "zone", *PELLETS)
    max_steps = 300
    dwell_steps = 5
    backward = Sweep.id

    def initial_state(self, rng: np.random.Generator) -> InitialState:
        zone = rng.uniform(ZONE_LOW, ZONE_HIGH)
        near = {name: (x, zone[1] + rng.uniform(-ZONE_HALF[1], 0.0)) for name, x in lanes(rng).items()}
        poses = {name: standing(place, HALF_HEIGHT_M) for name, place in near.items()}
        return InitialState(home(self.arm, rng, gripper=self.arm.gripper.fork), {**poses, "zone": standing(zone, 0.0)})

    def judge(self, facts: Facts) -> Judgement:
        left = distance(pellets(facts)[..., :2], start_places(facts))
        return judge_sweep(facts, left < THERE_M, left)

    def expert(self, facts: Facts) -> NDArray[np.float32]:
        at, places = pellets(facts), start_places(facts)
        for pellet, place in zip(at, places, strict=True):
            if float(distance(pellet[:2], place)) > 0.7 * THERE_M:
                return push(self.arm, facts, pellet, place, RADIUS_M)
        return push(self.arm, facts, at[-1], at[-1, :2], RADIUS_M)


def pellets(facts: Facts) -> NDArray[np.float64]:
    """Positions (..., 3, 3) [m]."""
    return np.stack([position(facts, name) for name in PELLETS], axis=-2)


def start_places(facts: Facts) -> NDArray[np.float64]:
    """Where the pellets go back to (..., 3, 2) [m]: the zone's place in its region tells, which spreads them."""
    share = np.clip((position(facts, "zone")[..., :2] - ZONE_LOW) / (ZONE_HIGH - ZONE_LOW), 0, 1)
    back = 0.1 + 0.8 * np.stack([share[..., 0], share[..., 1], 1 - share[..., 0]], axis=-1)
    x = np.array(LANE_X) + (2 * back - 1) * LANE_HALF_M
    return np.stack([x, START_LOW[1] + back * (START_HIGH - START_LOW)[1]], axis=-1)


def lanes(rng: np.random.Generator) -> dict[str, float]:
    """An x [m] in its lane for each pellet."""
    return {name: x + rng.uniform(-LANE_HALF_M, LANE_HALF_M) for name, x in zip(PELLETS, LANE_X, strict=True)}


def judge_sweep(facts: Facts, there: NDArray[np.bool_], left: NDArray[np.float64]) -> Judgement:
    """Success: all pellets are `there` (..., 3), flat on the table. left (..., 3): how far they have to go [m]."""
    at = pellets(facts)
    to_tool = distance(at, position(facts, "tool")[..., None, :])
    count = there.sum(axis=-1)
    nearest = np.where(there, np.inf, left + 0.3 * to_tool).min(axis=-1)  # of those that still have to go
    lying = np.abs(at[..., 2] - HALF_HEIGHT_M) < 0.004
    success = np.asarray((there & lying).all(axis=-1))
    stage = np.minimum(count, len(STAGES) - 1)
    stage_progress = np.where(count == len(STAGES), 0.99, closeness(nearest, 0.1))
    return Judgement(success, stage, stage_progress, np.asarray(off_table(at).any(axis=-1)), len(STAGES))
