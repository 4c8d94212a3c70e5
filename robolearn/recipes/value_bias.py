"""How far the values of a learner are from what its policy goes on to get."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch
from numpy.typing import NDArray

from robolearn.algorithms import algorithm_class
from robolearn.algorithms.dsac import DSAC
from robolearn.recipes.environments import make_environments
from robolearn.recipes.origin import begun_config, statistics_of
from robolearn.recipes.run import read_state

EPISODES, STEPS, COUNTED, SEED = 10, 1000, 500, 2_000_000
"""How many of an episode's first steps count: what follows the others is cut off too early."""


def soft_returns(
    reward: NDArray[np.float64], bonus: NDArray[np.float64], discount: float, rest: float = 0.0
) -> NDArray[np.float64]:
    """Discounted sums (T,) of each reward (T,) and of all rewards and entropy bonuses (T,) after it; `rest`, with the
    bonus in it, follows the last."""
    found = np.empty(len(reward))
    for step in range(len(reward) - 1, -1, -1):
        found[step] = reward[step] + discount * rest
        rest = found[step] + bonus[step]
    return found


def value_bias(run: Path) -> dict[str, float]:
    """`value_bias`: the mean over states and actions of the policy of the smaller critic's value minus the discounted
    return that followed, which counts the entropy as the values do; `value_return`: the mean of those returns.

    The environment goes on beyond its limit of steps, as truncated episodes bootstrap; only states within it count.
    """
    begun, config, _ = begun_config(run)
    with torch.no_grad():
        envs = make_environments(begun["task"], 1)
        learner: Any = algorithm_class(begun["algorithm"])(envs.interface, statistics_of(run), config)
        learner.load_state_dict({k: v for k, v in read_state(run)[0].items() if not k.startswith("collector.")})
        name, temperature = begun["task"].removeprefix("gym:"), float(learner.log_temperature.exp())
        limit = gymnasium.spec(name).max_episode_steps or STEPS
        generator, errors, returns = torch.Generator().manual_seed(0), [], []
        for episode in range(EPISODES):
            env = gymnasium.make(name, max_episode_steps=STEPS)
            seen, _ = env.reset(seed=SEED + episode)
            rows, over = [], False
            while not over:
                state = learner.actor.features({"state": torch.tensor(seen, dtype=torch.float32)[None]})
                noise = torch.randn(1, learner.actor.action_size, generator=generator)
                action, log_prob = learner.actor.draw(state, noise)
                value = learner.critic(state, action)
                smaller = float((value[..., 0] if isinstance(learner, DSAC) else value).min())
                seen, reward, terminated, truncated, _ = env.step(learner.actor.spec_action(action)[0].numpy())
                rows.append((smaller, float(reward), -temperature * float(log_prob)))
                over = terminated or truncated
            env.close()
            values, rewards, bonuses = np.array(rows).T
            if terminated:
                followed = soft_returns(rewards, bonuses, config.discount)
            else:  # the value of the last state stands for what was cut off
                followed = soft_returns(rewards[:-1], bonuses[:-1], config.discount, values[-1] + bonuses[-1])
            followed = followed[: min(limit, COUNTED)]
            errors.append(values[: len(followed)] - followed)
            returns.append(followed)
        envs.close()
    return {
        "value_bias": float(np.mean(np.concatenate(errors))),
        "value_return": float(np.mean(np.concatenate(returns))),
    }
