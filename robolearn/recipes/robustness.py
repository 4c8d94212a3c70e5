"""How a policy fares where the world is not as it was: tables of success rates, disturbance by disturbance."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from robolearn.envs.stochastic import STORI
from robolearn.recipes.evaluate import evaluate_policy
from robolearn.recipes.seeds import EVALUATION_SEED
from robolearn.twin.engines import ENGINES
from robolearn.twin.randomize import Randomization

RANDOMIZED = "randomized twin"
COLUMNS = ("success_rate", "success_ci95", "return_mean", "return_std", "mean_episode_steps", "held_steps")

Progress = Callable[[int, str], None]
"""Called with the rows done and a short text."""


def robustness(
    checkpoint: str | Path,
    task: str,
    episodes: int,
    seed: int = EVALUATION_SEED,
    progress: Progress = lambda d, t: None,
) -> dict[str, Any]:
    """The policy under each kind of stochasticity alone, and in twins that differ in physics and looks.

    The answer has `rows`, one dict each: `disturbance` and the columns of `evaluate_policy`. Same seeds in every row.
    """
    worlds: dict[str, dict[str, Any]] = {name: {"stochasticity": kind} for name, kind in STORI.items()}
    worlds[RANDOMIZED] = {"randomization": Randomization()}
    return _table("disturbance", worlds, checkpoint, task, episodes, seed, progress)


def engine_gap(
    checkpoint: str | Path,
    task: str,
    episodes: int,
    seed: int = EVALUATION_SEED,
    progress: Progress = lambda d, t: None,
) -> dict[str, Any]:
    """The policy in every engine: what works in one only has learned the engine, not the task.

    The answer has `rows` as above, by `engine`, and `gap`: the largest difference of success rates.
    """
    worlds = {engine: {"engine": engine} for engine in ENGINES}
    answer = _table("engine", worlds, checkpoint, task, episodes, seed, progress)
    rates = [row["success_rate"] for row in answer["rows"]]
    return {**answer, "gap": max(rates) - min(rates)}


def _table(
    label: str,
    worlds: dict[str, dict[str, Any]],
    checkpoint: str | Path,
    task: str,
    episodes: int,
    seed: int,
    progress: Progress,
) -> dict[str, Any]:
    rows = []
    for done, (name, world) in enumerate(worlds.items()):
        answer = evaluate_policy(checkpoint, task, episodes, seed=seed, **world)
        rows.append({label: name, **{column: answer[column] for column in COLUMNS}})
        progress(done + 1, f"{name} {answer['success_rate']:.2f}")
    return {"checkpoint": str(checkpoint), "task": task, "episodes": episodes, "seed": seed, "rows": rows}
