"""Recorded episodes of the arm as practice would have seen them, and a reward for every step from a judge.

An episode counts for every task of the space: what was no push may well have been a way back. Legend: T recorded steps,
D decisions, S state, A action.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from robolearn.cell import load_cell
from robolearn.datasets.held import read_held
from robolearn.datasets.replay_buffer import ReplayBuffer
from robolearn.datasets.store import Store
from robolearn.datasets.zarr_store import ZarrStore
from robolearn.envs.seen_scene import tool_pose
from robolearn.envs.tool_space import DECISION_TICKS, IMAGE, ToolSpace, resized
from robolearn.errors import DatasetError
from robolearn.recipes.finetune.dense import shaped
from robolearn.recipes.finetune.judges import DONE_REWARD, STEP_REWARD, Frames, Judge
from robolearn.recipes.finetune.settings import FinetuneConfig
from robolearn.recipes.rewards.data import RewardData
from robolearn.recipes.run import read_run_config
from robolearn.types import Observation

SURE_FRAMES, UNSURE_FRAMES = 3, 6  # at the end of a success: those that are done, and those that nobody can tell


@dataclass(frozen=True)
class Recorded:
    """One episode. commands: (T + 1, 5) of the tool space before every step, and after the last one."""

    states: NDArray[np.float32]  # (T, S)
    reached: NDArray[np.bool_] | None  # (T, tasks): whether the goal of a task is reached, if that is known
    commands: NDArray[np.float64]
    index: int  # in its dataset
    task: int  # that it was recorded for
    success: bool | None  # None: nobody has said
    terminated: bool  # it did not just run out of time
    values: NDArray[np.float32] | None = None  # (T, tasks) by reward models of pictures
    pictures: Mapping[str, NDArray[np.uint8]] = field(default_factory=dict)  # (D + 1, H, W, 3) by field, where seen

    def decisions(self, space: ToolSpace) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """States (D + 1, S) at the decisions, and the actions (D, A) between them."""
        at = decision_steps(len(self.states))
        actions = [
            space.action_between(self.commands[a], self.commands[b], max(b - a, 1)) for a, b in pairwise(at.tolist())
        ]
        return self.states[at], np.array(actions, np.float32)


def camera_sizes(config: FinetuneConfig, run: Path, cameras: Iterable[str]) -> dict[str, tuple[int, int]]:
    """(H, W) of the pictures that these cameras give where a run practises, by name: on a graph, that of the
    demonstrations, by which practice sees what it is held to."""
    if config.cell:
        specs = {name: camera.spec for name, camera in load_cell(Path(config.cell)).make_cameras().items()}
        return {name: (specs[name].height, specs[name].width) for name in cameras}
    if config.graph:
        return recorded_sizes([Path(path) for path in read_run_config(run)["demos"]], cameras)
    return dict.fromkeys(cameras, (config.image_size, config.image_size))


def recorded_sizes(paths: Sequence[Path], cameras: Iterable[str]) -> dict[str, tuple[int, int]]:
    """(H, W) of the pictures of these cameras in datasets. Raises DatasetError where two differ, or one has none."""
    sizes: dict[str, tuple[int, int]] = {}
    for path in paths:
        data = RewardData(path, pictures=False)
        for camera in cameras:
            size = data.image_size(camera)
            if sizes.setdefault(camera, size) != size:
                (height, width), (first_height, first_width) = size, sizes[camera]
                raise DatasetError(
                    f"{path} has pictures of {width} x {height} of camera {camera}, {paths[0]} of {first_width} x "
                    f"{first_height}; a graph's camera has one size: record all demonstrations with that"
                )
    return sizes


def decision_steps(length: int) -> NDArray[np.int64]:
    """Steps of an episode of this length at which decisions would have been made, and the one that the last led to."""
    at = np.arange(0, length, DECISION_TICKS)
    if len(at) * DECISION_TICKS > length and len(at) > 1:
        at = np.append(at[:-1], length - 1)  # a shorter last decision
    return at


def read_recorded(
    stores: Sequence[ZarrStore], space: ToolSpace, indices: Sequence[int] | None = None
) -> list[Recorded]:
    """All episodes of these datasets, or of each those of these indices. Raises DatasetError for one of another scene,
    or without what the space sees: poses of its bodies, and pictures."""
    known = {task.id: index for index, task in enumerate(space.tasks)}
    episodes = []
    for store in stores:
        path = store.name
        robot, wanted = store.spec.robot.joint_names, space.arm.spec.joint_names
        if robot != wanted:
            raise DatasetError(f"{path} is of a robot with {', '.join(robot)}; wanted one with {', '.join(wanted)}")
        rate_hz, wanted_hz = store.spec.interface.control_hz, space.tasks[0].control_hz
        if rate_hz != wanted_hz:
            raise DatasetError(
                f"{path} has {rate_hz:g} steps a second; practice wants {wanted_hz:g}: record with that control_hz"
            )
        fields = ["proprio", "action_sent", *(f"pose_{body}" for body in space.bodies)]
        images = [name for name in space.interface.observation if name.startswith(IMAGE)]
        missing = [name for name in (*fields, *images) if name not in store.spec.fields]
        if missing:
            advice = "the pictures that are to be seen: collect or record with cameras"
            if not set(missing) <= set(images):
                advice = "poses, of the twin or of tagged things; or pictures, with --set image_size=64 things=unseen"
            raise DatasetError(f"{path} lacks {', '.join(missing)}; practice wants {advice}")
        for index, info in enumerate(store.episodes):
            if info.task not in known:
                raise DatasetError(f"{path} has an episode of {info.task!r}; practice is of {', '.join(known)}")
            if info.length > DECISION_TICKS and (indices is None or index in indices):
                episodes.append(_read(store, index, fields, images, space, known[info.task]))
    if not episodes:
        names = ", ".join(store.name for store in stores) or "no dataset"
        raise DatasetError(f"{names}: no episodes; collect demonstrations first")
    return episodes


def _read(
    store: Store, index: int, fields: Sequence[str], images: Sequence[str], space: ToolSpace, task: int
) -> Recorded:
    info, episode = store.episodes[index], read_held(store, index, [*fields, *images])
    length = len(episode["proprio"])
    measured = episode["proprio"][:, : len(space.arm.spec.joint_names)]
    episode[f"pose_{space.arm.tool}"] = np.stack([tool_pose(space.tasks[0], joints) for joints in measured])
    sent = np.concatenate([measured[:1], episode["action_sent"]]).astype(float)
    commands = np.array([space.command_of(joints) for joints in sent])
    facts = [{name: rows[step] for name, rows in episode.items() if name not in images} for step in range(length)]
    states = np.stack([space.state(fact, commands[step]) for step, fact in enumerate(facts)])
    reached = np.stack([each.judge(episode).success for each in space.tasks], axis=1) if space.bodies else None
    at = decision_steps(length)
    pictures = {name: resized(episode[name][at], space.cameras[name.removeprefix(IMAGE)]) for name in images}
    return Recorded(states, reached, commands, index, task, info.success, bool(info.terminated), pictures=pictures)


def labelled_frames(episodes: Sequence[Recorded], space: ToolSpace) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """What a success classifier learns from: scenes (`ToolSpace.scene`), and whether they are done (N,), of episodes
    whose outcome is known."""
    rows, labels = [], []
    for episode in (each for each in episodes if each.success is not None):
        done = np.zeros(len(episode.states), np.bool_)
        kept = np.ones(len(episode.states), np.bool_)
        if episode.success:
            done[-SURE_FRAMES:] = True
            kept[-UNSURE_FRAMES:-SURE_FRAMES] = False
        rows.append(space.scene(episode.states, episode.task)[kept])
        labels.append(done[kept])
    return np.concatenate(rows), np.concatenate(labels)


def add_recorded(
    buffer: ReplayBuffer,
    episode: Recorded,
    space: ToolSpace,
    task: int,
    judge: Judge,
    config: FinetuneConfig,
    step_reward: float = STEP_REWARD,
) -> bool:
    """Add the episode as an attempt at `task`, which ends where the judge calls it done. Whether it was done."""
    states, actions = episode.decisions(space)
    told = space.told(task)
    over = _done_at(episode, task, judge, config.supervisor.consecutive)
    last = len(actions) - 1 if over is None else min(max(-(-over // DECISION_TICKS) - 1, 0), len(actions) - 1)
    rewards = np.full(last + 1, step_reward, np.float32)
    rewards[-1] = step_reward if over is None else DONE_REWARD
    if config.shaping:
        potentials = judge.potential(_frames(episode, task), task)
        assert potentials is not None
        rewards = shaped(config, rewards, potentials[decision_steps(len(episode.states))][: last + 2], over is not None)

    def shown(decision: int) -> Observation:
        pictures = {name: rows[decision] for name, rows in episode.pictures.items()}
        return {"state": space.seen(states[decision]), **told, **pictures}

    buffer.begin(shown(0))
    for step in range(last + 1):
        ends, following = over is not None and step == last, shown(step + 1)
        buffer.append(actions[step], float(rewards[step]), following, ends, step == last and not ends)
    return over is not None


def _frames(episode: Recorded, task: int) -> Frames:
    values = None if episode.values is None else episode.values[:, task]
    reached = None if episode.reached is None else episode.reached[:, task]
    return Frames(episode.states, reached, values=values)


def _done_at(episode: Recorded, task: int, judge: Judge, consecutive: int) -> int | None:
    """The step at which the task is done."""
    streak = 0
    for step, done in enumerate(judge.done(_frames(episode, task), task)):
        streak = streak + 1 if done else 0
        if streak >= consecutive:
            return step
    # What was recorded for a task and succeeded ends with its success, whose last frame is not in the record.
    return len(episode.states) - 1 if episode.success and episode.task == task else None
