"""From a sentence to a policy: compare images of an unlabelled dataset, learn a reward, label with it, learn offline.

Offline RL-VLM-F (Venkataraman et al. 2024): preferences of a vision model over pairs, Bradley-Terry, IQL.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from robolearn.algorithms import algorithm_class
from robolearn.algorithms.compile import Compute
from robolearn.datasets.zarr_store import ZarrStore
from robolearn.recipes.rewards.label import label_dataset
from robolearn.recipes.rewards.settings import Report, TrainingSettings
from robolearn.recipes.rewards.training import train_reward
from robolearn.recipes.train_offline import train_offline
from robolearn.rewards.saved import load_reward
from robolearn.tasks import TASKS, make_task

ALGORITHM = "iql"


def default_steps() -> int:
    """Gradient steps of the policy unless somebody asks for others."""
    return int(algorithm_class(ALGORITHM).config_type().steps)


def policy_from_preferences(
    dataset: Path,
    out: Path,
    settings: TrainingSettings,
    steps: int | None = None,
    compile: bool = False,
    progress: Report = lambda done, text: None,
) -> dict[str, Any]:
    """Write `out/reward` (the model), a column of the dataset, and `out/policy` (a run of IQL).

    The policy sees vectors: of a dataset of one of the twin's tasks what the task's environments show, so that
    `robolearn evaluate` can judge it there; else those that were recorded. Neither outcomes nor ends of episodes are
    looked at. The answer has `reward_model`, `column`, `audit` (on held-out episodes), `checkpoint`, `task` and
    `steps`. Raises what the three steps raise, all of it before the policy's training begins.
    """
    task = twin_task(dataset)
    trained = train_reward("preference", dataset, out / "reward", settings, progress)
    column = label_dataset(dataset, load_reward(trained.path, settings.device))["column"]
    result = train_offline(
        ALGORITHM,
        dataset,
        out / "policy",
        steps=steps,
        seed=settings.seed,
        reward=column,
        task=task,
        compute=Compute(settings.device, compile),
        progress=lambda done, text: progress(settings.steps + done, text),
    )
    return {
        "reward_model": str(trained.path),
        "column": column,
        "audit": trained.audit,
        "task": task,
        "checkpoint": str(result["latest_checkpoint"]),
        "steps": result["steps"],
    }


def twin_task(dataset: Path) -> str | None:
    """The task of the twin that all episodes are of and whose facts were recorded, if there is one."""
    store = ZarrStore.open(dataset)
    tasks = {info.task for info in store.episodes}
    task = tasks.pop() if len(tasks) == 1 else ""
    if task.partition("@")[0] not in TASKS:
        return None
    return task if all(f"pose_{body}" in store.spec.fields for body in make_task(task).bodies) else None
