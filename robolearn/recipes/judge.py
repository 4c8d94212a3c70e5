"""Judge a policy of vectors on many environments at once. Legend: N environments.

A policy that is told where to get to gets the goals of its environments: what their `info["goal"]` (N, D) is at the
start of an episode, as in OGBench.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robolearn.errors import SpecError
from robolearn.policies.policy import TrainablePolicy
from robolearn.recipes.environments import Environments, Info, Reward
from robolearn.runs import NORMAL_95, wilson_interval
from robolearn.specs import GOAL_PREFIX


def judge(
    policy: TrainablePolicy,
    envs: Environments,
    episodes: int,
    seed: int,
    reward: Reward,
    device: str = "cpu",
    pictures: Callable[[tuple[NDArray[np.uint8], ...]], None] | None = None,
    progress: Callable[[int, str], None] = lambda done, text: None,
) -> list[dict[str, Any]]:
    """Run `episodes` by the most likely action, with the seeds from `seed` on: one row each, in the order of the seeds.

    A row has seed, return, steps and success (None where the environment knows no such thing). pictures: called with
    what the environments show before every step of the first episodes. Raises SpecError where the policy wants a goal
    and the environments name none.
    """
    from robolearn.recipes.training_data import tensors  # brings torch, as the policy did; `summary` needs none

    count = envs.num_envs
    running = np.arange(count)  # number of the episode in every row
    total, steps = np.zeros(count), np.zeros(count, np.int64)
    observation, before = envs.reset(seed=[seed + int(i) for i in running])
    goals = _goals(policy, before, {}, np.ones(count, np.bool_))
    rows: list[dict[str, Any]] = []
    while (running < episodes).any():
        if pictures is not None and running[0] == 0:
            pictures(envs.render() or ())
        actions = policy.best(tensors({**observation, **goals}, device)).cpu().numpy()
        observation, value, terminated, truncated, info = envs.step(actions)
        total += reward(value, before, info)
        steps += 1
        before, ended = info, terminated | truncated
        if not ended.any():
            continue
        for i in np.flatnonzero(ended & (running < episodes)):
            success = info.get("success")
            known = None if success is None else bool(success[i])
            rows.append({"seed": seed + int(running[i]), "return": float(total[i]), "steps": int(steps[i])})
            rows[-1]["success"] = known
        taken = int(running.max())
        for i in np.flatnonzero(ended):
            taken += 1
            running[i], total[i], steps[i] = taken, 0.0, 0
        progress(len(rows), f"return {np.mean([row['return'] for row in rows]):.1f}" if rows else "")
        observation, before = envs.reset(seed=[seed + int(i) for i in running], options={"reset_mask": ended})
        goals = _goals(policy, before, goals, ended)
    return sorted(rows, key=lambda row: row["seed"])


def _goals(
    policy: TrainablePolicy, info: Info, before: dict[str, NDArray], begun: NDArray[np.bool_]
) -> dict[str, NDArray]:
    """The goal fields (N, D) that the policy wants, anew in the rows whose episode has begun."""
    goals: dict[str, NDArray] = {}
    for name, field in policy.spec.observation.items():
        if not name.startswith(GOAL_PREFIX):
            continue
        told = np.asarray(info.get("goal", ()), np.float32)
        if told.shape != (len(begun), *field.shape):
            raise SpecError(
                f"the policy wants a goal {field.shape} of each episode; the environment tells "
                f"{told.shape[1:] if told.size else 'none'}; judge it where episodes have goals"
            )
        goals[name] = np.where(begun[:, None], told, before.get(name, told))
    return goals


def summary(rows: list[dict[str, Any]]) -> dict[str, float]:
    """`return_mean`, `return_std`, of two episodes or more the 95 % interval of the mean, `mean_episode_steps` and,
    where it is known, `success_rate` with its 95 % interval (Wilson)."""
    returns = [row["return"] for row in rows]
    mean = float(np.mean(returns))
    answer = {"return_mean": mean, "return_std": float(np.std(returns))}
    if len(returns) > 1:
        half = NORMAL_95 * float(np.std(returns, ddof=1)) / math.sqrt(len(returns))
        answer |= {"return_low": mean - half, "return_high": mean + half}
    answer["mean_episode_steps"] = float(np.mean([row["steps"] for row in rows]))
    known = [row["success"] for row in rows if row["success"] is not None]
    if known:
        low, high = wilson_interval(sum(known), len(known))
        answer |= {"success_rate": float(np.mean(known)), "success_low": low, "success_high": high}
    return answer
