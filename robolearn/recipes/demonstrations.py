"""Demonstrations as the transitions of an online training.

A twin's demonstrations command joint positions; online it takes joint velocities and shows the last command, because
what explores must move by little. Both say the same: the velocity is the difference of two commands.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from robolearn.datasets.replay_buffer import ReplayBuffer, ReplayBufferConfig
from robolearn.datasets.store import EpisodeInfo, Store
from robolearn.datasets.zarr_store import ZarrStore
from robolearn.errors import DatasetError, SpecError
from robolearn.recipes.training_data import transitions
from robolearn.specs import InterfaceSpec


def demonstration_buffer(
    dataset: Path, task: str, spec: InterfaceSpec, discount: float, num_steps: int, reward: str
) -> ReplayBuffer:
    """All transitions of the dataset for a policy of this spec. Raises DatasetError or SpecError when they do not fit.

    Demonstrations of joint positions are read as joint velocities when the spec wants those.
    """
    store = ZarrStore.open(dataset)
    tasks = {info.task for info in store.episodes if info.length and info.task}
    if tasks - {task}:
        raise DatasetError(f"{dataset} has episodes of {', '.join(sorted(tasks - {task}))}; expected {task} alone")
    if "command" in spec.observation:
        return _relative(dataset, store, spec, discount, num_steps)
    held = {name: each for name, each in store.spec.fields.items() if name in spec.observation}
    InterfaceSpec(spec.observation, spec.action, spec.control_hz).require(
        InterfaceSpec(held, store.spec.interface.action, store.spec.interface.control_hz), "the policy", str(dataset)
    )
    usable = [index for index, info in enumerate(store.episodes) if info.length]
    return transitions(dataset, store, spec, usable, discount, reward)


def _relative(dataset: Path, store: Store, spec: InterfaceSpec, discount: float, num_steps: int) -> ReplayBuffer:
    """Joint velocities as shares of each joint's max_speed; the reward is 1 at the end of a success."""
    robot = store.spec.robot
    names = tuple(f"{joint}.velocity" for joint in robot.joint_names)
    if spec.action.names != names:
        raise SpecError(f"{dataset} is of {', '.join(names)}; the task wants {', '.join(spec.action.names)}")
    missing = [name for name in spec.observation if name != "command" and name not in store.spec.fields]
    if missing:
        raise SpecError(f"{dataset} lacks {', '.join(missing)}, which the policy sees; collect demonstrations anew")
    step = np.asarray(robot.max_speed) / spec.control_hz
    usable = [index for index, info in enumerate(store.episodes) if info.length and info.success is not None]
    if not usable:
        raise DatasetError(f"{dataset} has no episode of which is known whether it succeeded")
    length = sum(store.episodes[index].length + 1 for index in usable)
    buffer = ReplayBuffer(spec, ReplayBufferConfig(length + 1, num_steps, discount))
    for index in usable:
        _add(buffer, store, index, store.episodes[index], step)
    return buffer


def _add(buffer: ReplayBuffer, store: Store, index: int, info: EpisodeInfo, step: NDArray) -> None:
    fields = [name for name in buffer.spec.observation if name != "command"]
    episode = store.read(index, [*fields, "action_sent"])
    sent = episode["action_sent"].astype(np.float64)
    joints = sent.shape[1]
    before = np.concatenate([episode["proprio"][:1, :joints], sent[:-1]])
    action = np.clip((sent - before) / step, -1.0, 1.0).astype(np.float32)

    def seen(row: int) -> dict[str, NDArray]:
        return {**{name: episode[name][row] for name in fields}, "command": before[row].astype(np.float32)}

    buffer.begin(seen(0))
    for row in range(info.length):
        last = row == info.length - 1
        if last and not info.terminated:
            break  # what came after the last action was not recorded
        following = seen(row) if last else seen(row + 1)
        buffer.append(action[row], float(last and bool(info.success)), following, last, False)
