"""Compare the twin with a recorded episode of the robot, before and after a fit. Legend: T steps, J joints."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robolearn.datasets.edit import episode_index
from robolearn.datasets.held import read_held
from robolearn.datasets.zarr_store import ZarrStore
from robolearn.physics import DEFAULT_PHYSICS, Physics
from robolearn.recipes.twin import Floats, log_of, rms, task_of
from robolearn.tasks.task import Task
from robolearn.twin.identify import Log
from robolearn.twin.twin import Twin


def compare_twin(
    dataset: Path, episode: int, out: Path, task_id: str = "", physics: Physics = DEFAULT_PHYSICS
) -> dict[str, Any]:
    """Replay a recorded episode's commands in the twin, open loop from its start, and measure how they drift apart.

    Writes `out/compare.json` and `compare.png`; both have, over time, the difference of the joints [rad], of the tool
    [m] and of each camera's pictures (mean absolute difference of a pixel, 0 to 255). Objects are where the episode's
    seed puts them; without a seed only the robot is placed. Where `physics` is given, the same with the physics of the
    robot's file is there as `before`.
    """
    store = ZarrStore.open(dataset)
    episode = episode_index(store, episode)
    task = task_of(store, dataset, task_id)
    log = log_of(store, episode, task)
    fields = store.spec.interface.observation
    sizes = {name: fields[f"image_{name}"].shape for name in task.cameras if f"image_{name}" in fields}
    cameras = {name: (shape[0], shape[1]) for name, shape in sizes.items()}
    images = read_held(store, episode, [f"image_{name}" for name in cameras])
    seed = store.episodes[episode].seed or 0
    apart = _drift(task, cameras, physics, log, images, seed)
    before = None if physics == DEFAULT_PHYSICS else _drift(task, cameras, DEFAULT_PHYSICS, log, images, seed)
    report: dict[str, Any] = {
        "dataset": str(dataset),
        "episode": episode,
        "task": task.id,
        **_summary(apart),
        "before": None if before is None else _summary(before),
        "over_time": {
            "time_s": (np.arange(len(apart.tool)) / task.control_hz).tolist(),
            "joint_rad": {n: apart.joints[:, j].tolist() for j, n in enumerate(task.robot_spec.joint_names)},
            "tool_m": apart.tool.tolist(),
            "tool_before_m": None if before is None else before.tool.tolist(),
            "image": {name: row.tolist() for name, row in apart.pictures.items()},
        },
    }
    out.mkdir(parents=True, exist_ok=True)
    (out / "compare.json").write_text(json.dumps(report, indent=2), encoding="utf-8")
    _plot_compare(out / "compare.png", report)
    return report


@dataclass(frozen=True)
class _Drift:
    """The twin less the recording at every step: joints (T, J) [rad], tool (T,) [m], each camera's pictures (T,)."""

    joints: Floats
    tool: Floats
    pictures: dict[str, Floats]


def _drift(
    task: Task,
    cameras: dict[str, tuple[int, int]],
    physics: Physics,
    log: Log,
    images: Mapping[str, NDArray],
    seed: int,
) -> _Drift:
    twin = Twin(task, cameras, physics)
    twin.reset(seed)
    twin.place_robot(log.position[0])
    measured = Twin(task, {})  # shows where the measured joints have the tool
    joints, tool = np.zeros(log.position.shape), np.zeros(len(log.position))
    pictures = {name: np.zeros(len(log.position)) for name in cameras}
    for k, command in enumerate(log.command):
        joints[k] = twin.robot_state().joint_position - log.position[k]
        measured.place_robot(log.position[k])
        apart = twin.body_poses()[task.arm.tool][:3] - measured.body_poses()[task.arm.tool][:3]
        tool[k] = np.linalg.norm(apart)
        for name in cameras:
            seen = images[f"image_{name}"][k].astype(np.int16)
            pictures[name][k] = np.abs(twin.render(name).astype(np.int16) - seen).mean()
        twin.step(command)
    twin.close()
    return _Drift(joints, tool, pictures)


def _summary(apart: _Drift) -> dict[str, Any]:
    return {
        "joint_rms_rad": rms(apart.joints),
        "joint_max_rad": float(np.abs(apart.joints).max()),
        "tool_rms_m": rms(apart.tool),
        "tool_max_m": float(apart.tool.max()),
        "image_mean_difference": {name: float(row.mean()) for name, row in apart.pictures.items()},
    }


def _plot_compare(path: Path, report: dict[str, Any]) -> None:
    from matplotlib.figure import Figure

    rows = report["over_time"]
    figure = Figure(figsize=(9, 7), layout="constrained")
    joints, tool, image = figure.subplots(3, 1, sharex=True)
    for name, values in rows["joint_rad"].items():
        joints.plot(rows["time_s"], 1e3 * np.array(values), linewidth=1, label=name)
    joints.set_ylabel("joints [mrad]")
    joints.legend(fontsize=7, ncols=3)
    joints.set_title(f"{report['task']}, episode {report['episode']}: the twin less the recording", fontsize=10)
    if rows["tool_before_m"] is not None:
        tool.plot(rows["time_s"], 1e3 * np.array(rows["tool_before_m"]), color="#cf222e", linewidth=1, label="before")
    tool.plot(rows["time_s"], 1e3 * np.array(rows["tool_m"]), color="#1f2328", linewidth=1, label="with this physics")
    tool.set_ylabel("tool, distance [mm]")
    tool.legend(fontsize=7)
    for name, values in rows["image"].items():
        image.plot(rows["time_s"], values, linewidth=1, label=name)
    image.set_ylabel("pictures, mean |difference|")
    image.set_xlabel("time [s]")
    if rows["image"]:
        image.legend(fontsize=7)
    figure.savefig(path, dpi=110)
