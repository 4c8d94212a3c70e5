"""Offline learning from a labelled dataset of the twin, in the space of tools that practice uses.

A joint-space policy would have to learn the arm's kinematics from a few episodes; here it sees places relative to the
tool and moves the tool, a few times a second. Legend: T recorded steps, D decisions.
"""

from __future__ import annotations

import contextlib
import time
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from robolearn.algorithms.compute import Compute
from robolearn.algorithms.iql import IQL, IQLConfig
from robolearn.datasets.replay_buffer import ReplayBuffer, ReplayBufferConfig
from robolearn.datasets.zarr_store import ZarrStore
from robolearn.envs.practice_world import PracticeConfig, PracticeWorld
from robolearn.envs.tool_env import tool_space
from robolearn.envs.tool_space import DECISION_TICKS, TOLD, ToolSpace
from robolearn.envs.twin_cell import TwinCell
from robolearn.recipes.demonstrations import buffer_statistics
from robolearn.recipes.finetune.data import decision_steps, read_recorded
from robolearn.recipes.finetune.evaluation import true_success
from robolearn.recipes.finetune.settings import FinetuneConfig
from robolearn.recipes.origin import run_config
from robolearn.recipes.rewards.settings import Report
from robolearn.recipes.run import Run
from robolearn.recipes.training_data import check_reward, tensors
from robolearn.recipes.training_loop import due, scalars
from robolearn.tasks import make_task

LOG_STEPS = 100
SETTINGS = replace(FinetuneConfig("push-v1").iql, steps=5000)


def labelled_buffer(dataset: Path, reward: str, space: ToolSpace, discount: float) -> ReplayBuffer:
    """All episodes as decisions, each worth the mean reward of the steps that it led to.

    Neither success nor the end of an episode is looked at: its last state is taken to last, as does what it is worth.
    """
    store = ZarrStore.open(dataset)
    check_reward(store, reward)
    episodes = read_recorded([store], space)
    lengths = [len(episode.states) for episode in episodes]
    rewards = [store.read(i, [reward])[reward] for i, info in enumerate(store.episodes) if info.length > DECISION_TICKS]
    assert [len(one) for one in rewards] == lengths
    buffer = ReplayBuffer(space.interface, ReplayBufferConfig(sum(lengths) + 2 * len(lengths), discount=discount))
    told = space.told(0)
    for episode, values in zip(episodes, rewards, strict=True):
        states, actions = episode.decisions(space)
        at = decision_steps(len(values))
        worth = [float(values[a + 1 : b + 1].mean()) for a, b in pairwise(at.tolist())]
        buffer.begin({"state": states[0], **told})
        for step, action in enumerate(actions):
            buffer.append(action, worth[step], {"state": states[step + 1], **told}, False, False)
        stay = space.action_between(episode.commands[-1], episode.commands[-1], DECISION_TICKS)
        buffer.append(stay, float(values[at[-1] :].mean()), {"state": states[-1], **told}, False, True)
    return buffer


def learn_offline(
    dataset: Path,
    task_id: str,
    reward: str,
    out: Path,
    settings: IQLConfig = SETTINGS,
    seed: int = 0,
    compute: Compute = Compute(),  # noqa: B008, it is frozen
    episodes: int = 50,
    progress: Report = lambda done, text: None,
) -> dict[str, Any]:
    """IQL for `settings.steps` updates on the column `reward`, then `episodes` fresh ones in the twin, judged by the
    task. Writes the run `out`; the answer has `checkpoint`, `steps`, `episodes` and `success_rate`.
    """
    space = tool_space(task_id)
    buffer = labelled_buffer(dataset, reward, space, settings.discount)
    statistics = {name: each for name, each in buffer_statistics(buffer).items() if name not in TOLD}
    learner = IQL(buffer.spec, statistics, settings, seed, compute.device, compute.wrapper())
    about = {"dataset": str(dataset), "reward": reward, "task": task_id}
    provenance = {"algorithm": "iql", "tasks": [task_id], "seed": seed, "reward": reward}
    started_s = time.perf_counter()
    with Run.create(out, run_config("iql", seed, settings, compute, **about), IQL.metrics) as run:
        for step in range(1, settings.steps + 1):
            batch = buffer.sample(settings.batch_size, np.random.default_rng((seed, step)))
            metrics = learner.update(tensors(batch, compute.device))
            if due(step, step - 1, LOG_STEPS, settings.steps):
                row = scalars(metrics, out, step)
                run.log(step, time.perf_counter() - started_s, row)
                progress(step, f"value {row['value']:.2f}")
        run.save(learner.policy(), settings.steps, provenance, ("latest", "best"))
    decisions = make_task(task_id).max_steps // DECISION_TICKS
    with contextlib.closing(PracticeWorld(space, PracticeConfig(), TwinCell(space.tasks[0]))) as world:
        success = true_success(learner.policy(), world, episodes, decisions)
    return {
        "checkpoint": str(out / "checkpoints" / "latest"),
        "steps": settings.steps,
        "episodes": episodes,
        "success_rate": success,
    }
