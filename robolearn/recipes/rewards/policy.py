"""From a sentence to a policy: compare images of an unlabelled dataset, learn a reward, label with it, learn offline.

Offline RL-VLM-F (Venkataraman et al. 2024): preferences of a vision model over pairs, Bradley-Terry, IQL.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from robolearn.algorithms.compute import Compute
from robolearn.datasets.zarr_store import ZarrStore
from robolearn.errors import SpecError
from robolearn.recipes.rewards.label import label_dataset
from robolearn.recipes.rewards.settings import Report, TrainingSettings
from robolearn.recipes.rewards.tool_policy import SETTINGS, learn_offline
from robolearn.recipes.rewards.training import train_reward
from robolearn.recipes.run import require_new
from robolearn.recipes.train_offline import train_offline
from robolearn.rewards.saved import load_reward
from robolearn.tasks import known_task

ALGORITHM = "iql"


def default_steps() -> int:
    """Gradient steps of a policy in the twin unless somebody asks for others."""
    return SETTINGS.steps


def policy_from_preferences(
    dataset: Path,
    out: Path,
    settings: TrainingSettings,
    steps: int | None = None,
    compile: bool = False,
    episodes: int = 50,
    progress: Report = lambda done, text: None,
) -> dict[str, Any]:
    """Write `out/reward` (the model), a column of the dataset, and `out/policy` (a run of IQL).

    Of a task of the twin the policy moves the tool, a few times a second, and is judged on `episodes` fresh ones; else
    it is a policy of the vectors that were recorded, and nobody judges it here. Neither outcomes nor, in the twin, ends
    of episodes are looked at. The answer has `reward_model`, `column`, `audit` (on held-out episodes), `checkpoint`,
    `task`, `steps` and `success_rate` (None where there is no twin). Raises what the three steps raise, all of it
    before the policy's training begins.
    """
    if min(episodes, 1 if steps is None else steps) < 1:
        told = f"judged on {episodes} episodes" if steps is None else f"{steps} gradient steps, {episodes} episodes"
        raise SpecError(f"{told}; expected at least 1 of each")
    run, compute = out / "policy", Compute(settings.device, compile)
    require_new(run)
    compute.require()
    task = twin_task(dataset)
    trained = train_reward("preference", dataset, out / "reward", settings, progress)
    column = label_dataset(dataset, load_reward(trained.path, settings.device))["column"]

    def report(done: int, text: str) -> None:
        progress(settings.steps + done, text)

    result: dict[str, Any]
    if task is None:
        result = train_offline(
            ALGORITHM, dataset, run, steps, settings.seed, reward=column, compute=compute, progress=report
        )
        result |= {"checkpoint": result["latest_checkpoint"], "success_rate": None}
    else:
        config = SETTINGS if steps is None else replace(SETTINGS, steps=steps)
        result = learn_offline(dataset, task, column, run, config, settings.seed, compute, episodes, report)
    return {
        "reward_model": str(trained.path),
        "column": column,
        "audit": trained.audit,
        "task": task,
        "checkpoint": str(result["checkpoint"]),
        "steps": result["steps"],
        "success_rate": result["success_rate"],
    }


def twin_task(dataset: Path) -> str | None:
    """The task of the twin that all episodes are of and whose facts were recorded, if there is one."""
    store = ZarrStore.open(dataset)
    tasks = {info.task for info in store.episodes}
    task = known_task(tasks.pop()) if len(tasks) == 1 else None
    if task is None or any(f"pose_{body}" not in store.spec.fields for body in task.bodies):
        return None
    return task.id
