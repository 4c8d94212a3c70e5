"""Offline learning of getting anywhere in a U-shaped corridor, from walks to and fro without a purpose."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from robolearn.algorithms.hiql import HIQLConfig
from robolearn.datasets.store import DatasetSpec, EpisodeMeta
from robolearn.datasets.zarr_store import ZarrStore
from robolearn.policies.checkpoint import load_policy
from robolearn.policies.hierarchical import HierarchicalPolicyConfig
from robolearn.recipes.train_offline import train_offline
from robolearn.specs import ArraySpec, InterfaceSpec, RobotSpec
from robolearn.types import EpisodeOutcome

ROBOT = RobotSpec("point", ("x", "y"), (-1.0, -1.0), (1.0, 1.0), (1.0, 1.0))
INTERFACE = InterfaceSpec({"state": ArraySpec((2,))}, ArraySpec((2,), low=(-1.0, -1.0), high=(1.0, 1.0)), 10.0)
STEP, EPISODES, LENGTH = 0.12, 60, 150
PLACES = ((0.0, 0.0), (2.1, 1.0), (0.0, 2.1))  # lower corners of three parts of it: below, beside and above the wall


def free(at: NDArray) -> bool:
    """A wall from the left to x = 2 lies between y = 1 and y = 2 of a room of 3 by 3."""
    x, y = at
    return 0 <= x <= 3 and 0 <= y <= 3 and not (x <= 2 and 1 <= y <= 2)


def move(at: NDArray, action: NDArray) -> NDArray:
    """As far as there is no wall, one direction after the other."""
    for axis in range(2):
        there = at.copy()
        there[axis] += STEP * np.clip(action[axis], -1, 1)
        at = there if free(there) else at
    return at


def walks(path: Path) -> Path:
    """Walks from one part of the corridor to the next or back, somewhere in it each time."""
    store = ZarrStore.create(path, DatasetSpec(ROBOT, INTERFACE))
    rng = np.random.default_rng(0)
    with store.writer() as writer:
        for episode in range(EPISODES):
            place = int(rng.integers(3))
            at = aim = rng.uniform(0, 0.9, 2) + PLACES[place]
            writer.begin(EpisodeMeta(task="maze", seed=episode))
            for t in range(LENGTH):
                if np.linalg.norm(at - aim) < 0.2 or rng.random() < 0.02:
                    place = 1 if place != 1 else int(rng.choice([0, 2]))
                    aim = rng.uniform(0, 0.9, 2) * (1.0 if place == 1 else (2.2, 1.0)) + PLACES[place]
                action = np.clip((aim - at) / STEP + rng.normal(0, 0.5, 2), -1, 1).astype(np.float32)
                fields = {"state": at.astype(np.float32), "action": action, "action_sent": action}
                writer.append({**fields, "held": np.bool_(False)}, dict.fromkeys(store.spec.stamped_fields, t * 10**8))
                at = move(at, action)
            writer.commit(EpisodeOutcome(None, terminated=False, truncated=True))
    return path


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("option_steps", [0, 5])
def test_it_goes_around_the_wall(option_steps: int, tmp_path: Path) -> None:
    config = HIQLConfig(
        policy=HierarchicalPolicyConfig(hidden_sizes=(128, 128)),
        value_hidden_sizes=(128, 128),
        batch_size=256,
        subgoal_steps=10,
        option_steps=option_steps,
        learning_rate=1e-3,
        polyak=0.05,
        discount=0.98,
    )
    result = train_offline("hiql", walks(tmp_path / "maze.zarr"), tmp_path / "run", steps=1500, config=config)
    policy = load_policy(result["latest_checkpoint"])
    rng, reached = np.random.default_rng(1), 0
    for _ in range(20):
        at, goal = np.array([rng.uniform(0, 1), rng.uniform(0, 1)]), np.array([rng.uniform(0, 1), rng.uniform(2, 3)])
        for _ in range(120):  # straight around the corner takes about 45
            seen = {"state": at.astype(np.float32), "goal_state": goal.astype(np.float32)}
            at = move(at, policy.act(seen, 0).actions[0])
            if np.linalg.norm(at - goal) < 0.3:
                reached += 1
                break
    assert reached >= 14, reached
