"""Bring the twin and a real robot together: fit the twin to recorded motions."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robolearn.cell import load_cell
from robolearn.datasets.held import read_held
from robolearn.datasets.zarr_store import ZarrStore
from robolearn.errors import DatasetError, SpecError
from robolearn.physics import PER_JOINT
from robolearn.recipes.cell_physics import write_physics
from robolearn.tasks import make_task
from robolearn.tasks.task import Task
from robolearn.twin.identify import Log, fit, replay

Floats = NDArray[np.float64]


def fit_twin(
    dataset: Path,
    out: Path,
    task_id: str = "",
    per_joint: bool = False,
    cell: Path | None = None,
    progress: Callable[[int, float, float], None] = lambda iteration, error, latency: None,
) -> dict[str, Any]:
    """Fit the joints and servos of the dataset's robot; its last episode is kept for the judgement.

    Writes `out/physics.yaml` (for `Twin`), `report.json` and `replay.png`, for a `cell` its section `physics`, too, and
    returns the report: `before`, `after`
    (Physics), `uncertainty` (standard deviation over value), `replay_error_before_rad` and `replay_error_after_rad`
    (RMS of the joints, open loop from its start over the judged episode), `error_ratio`. Raises DatasetError for a
    dataset that is not of this robot.
    """
    store = ZarrStore.open(dataset)
    task = task_of(store, dataset, task_id)
    if cell is not None:
        load_cell(cell)  # a bad one is told before the work
    logs = [log_of(store, k, task) for k in range(len(store.episodes))]
    if not logs:
        raise DatasetError(f"{dataset} has no episodes; record the robot moving freely")
    training = logs[:-1] or logs
    found = fit(task, training, per_joint=per_joint, progress=progress)
    judged = logs[-1]
    replays = {
        name: replay(task, physics, judged) for name, physics in (("before", found.before), ("after", found.after))
    }
    errors = {name: rms(positions - judged.position) for name, positions in replays.items()}
    out.mkdir(parents=True, exist_ok=True)
    found.after.write(out / "physics.yaml")
    if cell is not None:
        write_physics(cell, found.after, f"fitted to {dataset.name}, {len(training)} episodes")
    report = {
        "dataset": str(dataset),
        "task": task.id,
        "robot": task.robot,
        "cell": None if cell is None else str(cell),
        "episodes": len(logs),
        "judged_episode_was_fitted": len(logs) == 1,
        "before": asdict(found.before),
        "after": asdict(found.after),
        "uncertainty": found.uncertainty,
        "replay_error_before_rad": errors["before"],
        "replay_error_after_rad": errors["after"],
        "error_ratio": errors["before"] / max(errors["after"], 1e-12),
        "iterations": found.iterations,
    }
    (out / "report.json").write_text(json.dumps(report, indent=2), encoding="utf-8")
    _plot_fit(out / "replay.png", task, judged, replays, errors)
    return report


def task_of(store: ZarrStore, dataset: Path, task_id: str) -> Task:
    """The task that tells which robot and scene: the dataset's own one, or the one that is asked for."""
    recorded = next((e.task for e in store.episodes if e.task), "")
    if not task_id and not recorded:
        raise SpecError(f"{dataset} does not say which task it is of; name one with --task")
    task = make_task(task_id or recorded)
    action = store.spec.interface.action
    if action.names != task.robot_spec.joint_names:
        raise DatasetError(f"{dataset} commands {', '.join(action.names)}; the robot of {task.id} has other joints")
    if abs(store.spec.interface.control_hz - task.control_hz) > 1e-6:
        raise DatasetError(
            f"{dataset} was recorded at {store.spec.interface.control_hz:g} Hz, {task.id} runs at {task.control_hz:g} "
            "Hz; record at that rate"
        )
    return task


def log_of(store: ZarrStore, episode: int, task: Task) -> Log:
    """What was commanded and measured in an episode."""
    rows = read_held(store, episode, ["proprio", "action_sent"])
    proprio, count = rows["proprio"].astype(np.float64), len(task.robot_spec.joint_names)
    return Log(rows["action_sent"].astype(np.float64), proprio[:, :count], proprio[:, count : 2 * count])


def rms(values: NDArray) -> float:
    """Root of the mean square."""
    return float(np.sqrt((np.asarray(values, np.float64) ** 2).mean()))


def _plot_fit(path: Path, task: Task, judged: Log, replays: dict[str, Floats], errors: dict[str, float]) -> None:
    from matplotlib.figure import Figure

    names = task.robot_spec.joint_names
    time_s = np.arange(len(judged.position)) / task.control_hz
    figure = Figure(figsize=(11, 1.7 * len(names)), layout="constrained")
    axes = figure.subplots(len(names), 2, sharex=True, squeeze=False)
    for j, name in enumerate(names):
        left, right = axes[j]
        left.plot(time_s, judged.position[:, j], color="#1f2328", linewidth=1.2, label="measured")
        for (which, positions), colour in zip(replays.items(), ("#cf222e", "#1a7f37"), strict=True):
            left.plot(time_s, positions[:, j], color=colour, linewidth=0.9, label=f"twin, {which} the fit")
            right.plot(time_s, 1e3 * (positions[:, j] - judged.position[:, j]), color=colour, linewidth=0.9)
        left.set_ylabel(f"{name}\n[rad]", fontsize=8)
        right.set_ylabel("error [mrad]", fontsize=8)
    axes[0, 0].legend(fontsize=7, ncols=3, loc="upper right")
    axes[0, 0].set_title("open-loop replay of the judged episode", fontsize=10)
    axes[0, 1].set_title(
        f"RMS {1e3 * errors['before']:.2f} mrad before, {1e3 * errors['after']:.2f} after", fontsize=10
    )
    for axis in axes[-1]:
        axis.set_xlabel("time [s]")
    figure.savefig(path, dpi=110)


def parameter_rows(report: dict[str, Any], joints: tuple[str, ...]) -> list[tuple[str, str, str, str]]:
    """Joint, parameter, before, after: for a table. What is the same for all joints is one row."""
    rows = []
    for name in PER_JOINT:
        values = [
            (f"{old:.4g}", f"{new:.4g}") for old, new in zip(report["before"][name], report["after"][name], strict=True)
        ]
        told = {"all": values[0]} if len(set(values)) == 1 else dict(zip(joints, values, strict=True))
        rows += [(joint, name, *value) for joint, value in told.items()]
    latency = ("all", "latency_s", f"{report['before']['latency_s']:.4g}", f"{report['after']['latency_s']:.4g}")
    return [*rows, latency]
