"""Let a language model write the reward of a task: candidates are trained in the twin, reflected on, and mended.

Eureka's loop (`rewards/code/loop.py`) with closed parameters or sandboxed code, SAC in the twin as the training, and
the task's own progress as the metric, which no candidate sees. Legend: N environments, T steps of an episode.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robolearn.algorithms.sac import SACConfig
from robolearn.errors import RobolearnError
from robolearn.recipes.evaluate import evaluate_policy
from robolearn.recipes.rewards.online import SETTINGS, OnlineRewardConfig, Played, learn_from
from robolearn.recipes.rewards.settings import Report
from robolearn.rewards.code.client import ChatClient
from robolearn.rewards.code.forms import TaskText, Written
from robolearn.rewards.code.loop import Candidate, EurekaConfig, Training, eureka
from robolearn.tasks import make_task

RESULT_FILE = "candidates.json"


def task_text(task_id: str) -> TaskText:
    """The task's sentence and the quantities that its facts hold."""
    task = make_task(task_id)
    joints = ", ".join(task.robot_spec.joint_names)
    count = len(task.robot_spec.joint_names)
    parameters = {
        "joint_position": f"({count},) [rad] of {joints}",
        "joint_velocity": f"({count},) [rad/s] of the same",
        **{body: f"(3,) [m] where {body} is: x ahead of the robot, y to its left, z up" for body in task.bodies},
        "action": f"({count},) the command, each from -1 to 1",
    }
    sizes = {name: 3 if name in task.bodies else count for name in parameters}
    return TaskText(task.instruction, parameters, sizes)


def write_reward(
    task_id: str,
    client: ChatClient,
    out: Path,
    config: EurekaConfig,
    settings: SACConfig = SETTINGS,
    online: OnlineRewardConfig = OnlineRewardConfig(),  # noqa: B008, it is frozen
    seed: int = 0,
    judged_episodes: int = 10,
    progress: Report = lambda done, text: None,
) -> dict[str, Any]:
    """Write `out/candidates.json`, best first, and a run of each candidate that could be trained.

    The answer has `reward` (what was written), `metric` (success, and below it mean progress), `checkpoint`,
    `candidates` and `failed`. Raises RobolearnError when no candidate could be trained.
    """
    if out.exists() and any(out.iterdir()):
        raise RobolearnError(f"{out} exists and is not empty; name another folder")
    text = task_text(task_id)
    settings = replace(settings, policy=replace(settings.policy, privileged=True))
    trained = 0

    def train(reward: Written) -> Training:
        nonlocal trained
        trained += 1
        run = out / f"run_{trained:03d}"
        traces: dict[str, list[float]] = {}

        def judge(played: Played) -> NDArray:
            scored = reward.score(quantities(played, text.sizes["action"]))
            for name, values in scored.components.items():
                traces.setdefault(name, []).append(float(values.mean()))
            return scored.rewards.reshape(-1, len(played.actions))

        learn_from(task_id, judge, "written", run, settings, online, seed)
        judged = evaluate_policy(run / "checkpoints" / "latest", task_id, judged_episodes)
        metric = judged["success_rate"] + 1e-3 * judged["return_mean"] / judged["mean_episode_steps"]
        progress(trained, f"metric {metric:.3f}")
        return Training(float(metric), {name: np.array(values) for name, values in traces.items()}, str(run))

    found = eureka(client, text, train, config)
    out.mkdir(parents=True, exist_ok=True)
    rows = [_row(one) for one in found]
    (out / RESULT_FILE).write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    best = found[0]
    if best.training is None:
        raise RobolearnError(f"none of {len(found)} written rewards could be trained with; the first: {best.error}")
    return {
        "reward": best.code,
        "metric": best.training.metric,
        "checkpoint": str(Path(best.training.run) / "checkpoints" / "latest"),
        "candidates": len(found),
        "failed": sum(one.training is None for one in found),
    }


def quantities(played: Played, joints: int) -> Mapping[str, NDArray]:
    """Columns (N T, ...) of the states after each step and the actions that led to them."""

    def flat(rows: list[NDArray]) -> NDArray:
        stacked = np.stack(rows, axis=1)
        return stacked.reshape(-1, stacked.shape[-1]).astype(np.float64)

    seen = played.observations[1:]
    proprio = flat([one["proprio"] for one in seen])
    columns = {"joint_position": proprio[:, :joints], "joint_velocity": proprio[:, joints:]}
    for name in seen[0]:
        if name.startswith("pose_"):
            columns[name.removeprefix("pose_")] = flat([one[name] for one in seen])[:, :3]
    return {**columns, "action": flat(list(played.actions))}


def _row(candidate: Candidate) -> dict[str, Any]:
    training = candidate.training
    return {
        "round": candidate.round,
        "number": candidate.number,
        "reward": candidate.code,
        "metric": None if training is None else training.metric,
        "run": "" if training is None else Path(training.run).name,
        "error": candidate.error,
    }
