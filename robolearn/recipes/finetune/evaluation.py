"""How good the policy is by the truth of the twin, on episodes of the target task that no practice has seen."""

from __future__ import annotations

import numpy as np

from robolearn.envs.practice_world import PracticeWorld
from robolearn.policies.gaussian import GaussianPolicy
from robolearn.recipes.seeds import SELECTION_SEED
from robolearn.recipes.training_data import tensors


def true_success(policy: GaussianPolicy, world: PracticeWorld, episodes: int, max_steps: int) -> float:
    """Share of successes by the most likely action, each episode from the start that the task draws for its seed."""
    successes = 0
    for episode in range(episodes):
        world.reset(SELECTION_SEED + episode)
        for _ in range(max_steps):
            tick = world.step(act(policy, world))
            if tick.success or tick.lost:
                successes += tick.success
                break
    return successes / episodes


def act(policy: GaussianPolicy, world: PracticeWorld) -> np.ndarray:
    """The most likely action (A,)."""
    batch = {name: value[None] for name, value in world.observe().items()}
    return policy.best(tensors(batch, "cpu")).numpy()[0]
