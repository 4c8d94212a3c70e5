"""Dense rewards: what a reward model of pictures says of how far a task is, as a potential.

The difference of potentials is added to every step's reward (`rewards/shaping.py`), so that a step forwards pays at
once and a step back costs, but which policy is best stays as it is: the model steers exploration, and a fault of it is
unlearned. Legend: D decisions.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from robolearn.datasets.replay_buffer import logged_rewards
from robolearn.datasets.store import Store
from robolearn.recipes.finetune.settings import FinetuneConfig
from robolearn.rewards.shaping import Potential, Shaper, ShapingConfig

POTENTIAL = "potential"  # stored of everything that was seen, where the run's rewards are dense


def shaped(config: FinetuneConfig, rewards: NDArray, potentials: NDArray, terminated: bool) -> NDArray[np.float32]:
    """Rewards (D,) of an attempt with the potentials (D + 1,) of what was seen before, between and after them."""
    shaper = Shaper(ShapingConfig(config.learner.discount, config.shaping))
    shaper.check_discount(config.pretrainer.discount)
    bootstrap = torch.ones(len(rewards))
    bootstrap[-1] = 0.0 if terminated else 1.0
    value, model = torch.from_numpy(np.asarray(potentials, np.float32)), " ".join(config.reward_models)
    before, after = Potential(value[:-1], model), Potential(value[1:], model)
    return shaper.shape(torch.from_numpy(np.asarray(rewards, np.float32)), before, after, bootstrap).numpy()


def shaped_rewards(config: FinetuneConfig, store: Store, index: int) -> NDArray[np.float32]:
    """Of the decisions of a recorded attempt, whose last row holds what was seen at its end alone."""
    rewards = logged_rewards(store, index)
    potentials = store.read(index, [POTENTIAL])[POTENTIAL]
    rewards[:-1] = shaped(config, rewards[:-1], potentials, bool(store.episodes[index].terminated))
    return rewards
