"""Demonstrations as the transitions of an online training.

A twin's demonstrations command joint positions; online it takes joint velocities and shows the last command, because
what explores must move by little. Both say the same: the velocity is the difference of two commands. In the space of
the tool the commands are read as steps of the tool, see `ToolSpace`.
"""

from __future__ import annotations

import contextlib
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from robolearn.algorithms.algorithm import Batch
from robolearn.datasets.held import read_held
from robolearn.datasets.replay_buffer import ReplayBuffer, ReplayBufferConfig
from robolearn.datasets.sampler import SUCCESS, TransitionConfig
from robolearn.datasets.store import Store
from robolearn.datasets.zarr_store import ZarrStore
from robolearn.envs.tool_env import tool_space
from robolearn.envs.tool_space import DECISION_TICKS, TOOL
from robolearn.errors import DatasetError, SpecError
from robolearn.networks.normalizer import FieldStatistics
from robolearn.policies.gaussian import vector_spec
from robolearn.recipes.environments import seen_environments, twin_task
from robolearn.recipes.finetune.data import decision_steps, read_recorded
from robolearn.recipes.training_data import (
    FrozenTrunk,
    Outcomes,
    Shrunk,
    Split,
    Transitions,
    check_outcomes,
    check_reward,
    check_values,
    episode_indices,
    field_statistics,
    outcomes_of,
    provenance,
    tensors,
    usable_episodes,
)
from robolearn.specs import SEEN_PX, InterfaceSpec


class Source(Protocol):
    """Draws transitions."""

    def __len__(self) -> int:
        """Of them."""
        ...

    def sample(self, batch_size: int, rng: np.random.Generator) -> dict[str, NDArray]: ...


class TaskData:
    """Offline data as the environments of a task would show it; see `training_data.Data`."""

    def __init__(
        self,
        dataset: Path,
        task: str,
        config: Any,
        seed: int,
        device: str,
        split: Split | None = None,
        reward: str = SUCCESS,
    ) -> None:
        store, shape = ZarrStore.open(dataset), config.policy
        with contextlib.closing(seen_environments(task, 1, SEEN_PX if shape.images else 0)) as envs:
            interface = _as_recorded(envs.interface, store) if shape.images else envs.interface
        self.spec = vector_spec(interface, shape.privileged, shape.images)
        look = FrozenTrunk(shape.trunk, device) if shape.trunk else Shrunk(shape.shrink)
        self.split = {"train": usable_episodes(store, config), "validation": []} if split is None else split
        episodes = episode_indices(store, self.split["train"])
        self.source, self.statistics = demonstrations(
            store, task, self.spec, config.discount, 1, episodes, reward, outcomes_of(config), look
        )
        self.seeds, self.tasks = provenance(store.episodes)
        self.validation_batches: list[Batch] = []
        self._seed, self._device = seed, device

    def batch(self, step: int, size: int) -> Batch:
        return tensors(self.source.sample(size, np.random.default_rng((self._seed, step))), self._device)


def demonstrations(
    store: ZarrStore,
    task: str,
    spec: InterfaceSpec,
    discount: float,
    num_steps: int,
    episodes: list[int] | None = None,
    reward: str = SUCCESS,
    outcomes: Outcomes = "known",
    look: FrozenTrunk | Shrunk | None = None,
) -> tuple[Source, dict[str, FieldStatistics]]:
    """All transitions of the dataset, or of these episodes, for a policy of this spec, and the statistics of what it
    sees.

    The reward is a column of that name. For `success` it is the field `reward` where there is one, else 1 at the end of
    a success; then `outcomes` are wanted. look: makes vectors or smaller ones of images, which are kept in their place.
    Raises DatasetError or SpecError when they do not fit.
    """
    dataset = store.path
    check_reward(store, reward, None if task.startswith(TOOL) else discount)
    if task.startswith(TOOL):
        _check_decisions(store, reward, discount)
    usable = [index for index, info in enumerate(store.episodes) if info.length] if episodes is None else episodes
    own = twin_task(task)
    states = task == own and "command" not in spec.observation
    if states and reward == SUCCESS and "reward" in store.spec.fields:
        reward = "reward"
    tasks = {store.episodes[index].task for index in usable} - {own, ""}
    if not usable or tasks:
        theirs = ", ".join(sorted(tasks)) or own
        remedy = "; where that is the same, say so: robolearn dataset relabel ... --task" if tasks else ""
        raise DatasetError(f"{dataset} has {len(usable)} episodes of {theirs}; wanted {own}{remedy}")
    if reward == SUCCESS:
        check_outcomes(dataset, store, usable, outcomes)
    if not states:
        _check_images(dataset, store, spec)
        config = ReplayBufferConfig(2, num_steps, discount)
        if task == own:
            buffer = _relative(dataset, store, spec, config, usable, reward, look)
        else:
            buffer = _of_tool(store, own, spec, config, usable, reward, look)
        statistics = buffer_statistics(buffer)
        return buffer, {name: each for name, each in statistics.items() if len(spec.observation[name].shape) == 1}
    held = {name: field for name, field in store.spec.fields.items() if name in spec.observation}
    spec.require(replace(store.spec.interface, observation=held), "the task", str(dataset))
    transition = TransitionConfig(reward, num_steps, discount)
    shrink, trunk = (look.shrink, None) if isinstance(look, Shrunk) else (1, look)
    source = Transitions(dataset, store, spec, transition, usable, shrink, trunk)
    vectors = [name for name, field in spec.observation.items() if len(field.shape) == 1]
    return source, field_statistics(store, vectors, usable)


def buffer_statistics(*buffers: ReplayBuffer) -> dict[str, FieldStatistics]:
    """Of all vectors that were observed in the buffers."""
    states = [buffer.state_dict() for buffer in buffers]
    answer = {}
    for name, field in buffers[0].spec.observation.items():
        if len(field.shape) != 1:
            continue  # images are normalised by their encoder
        values = np.concatenate([state[f"observation.{name}"] for state in states]).astype(np.float64)
        numbers = (values.mean(0), values.std(0), values.min(0), values.max(0))
        answer[name] = FieldStatistics(*(tuple(map(float, number)) for number in numbers))
    return answer


def _as_recorded(spec: InterfaceSpec, store: ZarrStore) -> InterfaceSpec:
    """A spec with the pictures of a dataset in the place of its own. Raises DatasetError where there are none."""
    pictures = {name: field for name, field in store.spec.fields.items() if name.startswith("image_")}
    if not pictures:
        raise DatasetError(f"{store.path} has no pictures, which the policy is to see; collect it with --image-size 64")
    others = {name: field for name, field in spec.observation.items() if not name.startswith("image_")}
    return replace(spec, observation={**others, **pictures})


def _check_images(dataset: Path, store: Store, spec: InterfaceSpec) -> None:
    """Raises DatasetError where the pictures that the policy is to see are not there, or of another size."""
    for name, field in spec.observation.items():
        if not name.startswith("image_"):
            continue
        if name not in store.spec.fields:
            raise DatasetError(f"{dataset} has no {name}, which the policy is to see; collect demonstrations with it")
        (height, width, _), wanted = store.spec.fields[name].shape, field.shape[0]
        if (height, width) != field.shape[:2]:
            raise DatasetError(
                f"{dataset} has {name} of {height} x {width} pixels, the policy is to see {wanted} x {wanted}; set "
                f"online.image_size={height}, or collect demonstrations with --image-size {wanted}"
            )


def _of_tool(
    store: ZarrStore,
    task: str,
    spec: InterfaceSpec,
    config: ReplayBufferConfig,
    usable: list[int],
    reward: str,
    look: FrozenTrunk | Shrunk | None,
) -> ReplayBuffer:
    """Decisions of the tool, of several steps each. The reward is 1 for the one that ends a success; or a column: the
    discounted sum over the steps of a decision, which knows no end, as in `_add`."""
    images = [name for name in spec.observation if name.startswith("image_")]
    space = tool_space(task, unseen=bool(images))  # who sees pictures is told of the tool alone
    size = spec.observation["state"].shape[0]
    read = read_recorded([store], space, usable)
    capacity = sum(len(each.states) for each in read) + 2 * len(read)
    buffer = ReplayBuffer(look.spec(spec) if look else spec, replace(config, capacity=capacity))
    for episode in read:
        states, actions = episode.decisions(space)
        at = decision_steps(len(episode.states))
        pictures = {name: rows[at] for name, rows in read_held(store, episode.index, images).items()}
        seen = {"state": states[:, :size], **(look.seen(pictures) if look else pictures)}
        shown = [{name: rows[step] for name, rows in seen.items()} for step in range(len(at))]
        paid = None if reward == SUCCESS else _decision_rewards(store, episode.index, reward, at, config.discount)
        buffer.begin(shown[0])
        for step, action in enumerate(actions):
            last = step == len(actions) - 1
            done = last and bool(episode.success)
            over = paid is None and (done or (last and episode.terminated))
            worth = float(done) if paid is None else float(paid[step])
            buffer.append(action, worth, shown[step + 1], over, last and not over)
    return buffer


def _check_decisions(store: ZarrStore, reward: str, discount: float) -> None:
    """Raise SpecError where a column was shaped for another discount than the learner's, which is of a decision."""
    column = store.columns.get(reward)
    if column is None or "potential" not in column.attributes:
        return
    per_step = float(column.attributes["discount"])
    wanted = per_step**DECISION_TICKS
    if abs(wanted - discount) > 1e-4:
        raise SpecError(
            f"{reward} is shaped for a discount of {per_step:g} a step, {wanted:.4f} a decision of the tool, and the "
            f"learner has {discount:g}; --set discount={wanted:.4f}"
        )


def _decision_rewards(
    store: ZarrStore, index: int, reward: str, at: NDArray[np.int64], discount: float
) -> NDArray[np.float64]:
    """What a column pays for each decision (D,) between the steps `at` (D + 1,); to the last one belongs what the steps
    after it pay. discount: of a whole decision. Raises DatasetError for what is not finite."""
    rows = store.read(index, [reward])[reward].astype(np.float64)
    if not np.isfinite(rows).all():
        name = store.episodes[index].id
        raise DatasetError(f"{store.path}: {reward} of episode {name} is not finite; label it again")
    ends = [*at[1:-1].tolist(), len(rows)]
    per_step = discount ** (1 / DECISION_TICKS)
    return np.array([rows[a:b] @ per_step ** np.arange(b - a) for a, b in zip(at[:-1].tolist(), ends, strict=True)])


def _relative(
    dataset: Path,
    store: Store,
    spec: InterfaceSpec,
    config: ReplayBufferConfig,
    usable: list[int],
    reward: str,
    look: FrozenTrunk | Shrunk | None,
) -> ReplayBuffer:
    """Joint velocities as shares of each joint's max_speed; the reward is a column, or 1 at the end of a success."""
    robot = store.spec.robot
    names = tuple(f"{joint}.velocity" for joint in robot.joint_names)
    if spec.action.names != names:
        raise SpecError(f"{dataset} is of {', '.join(names)}; the task wants {', '.join(spec.action.names)}")
    missing = [name for name in spec.observation if name != "command" and name not in store.spec.fields]
    if missing:
        raise SpecError(f"{dataset} lacks {', '.join(missing)}, which the policy sees; collect demonstrations anew")
    unlimited = replace(store.spec.interface.action, low=None, high=None)  # what was sent counts, and that is limited
    check_values(dataset, store, replace(spec, action=unlimited), usable, () if reward == SUCCESS else (reward,))
    step = np.asarray(robot.max_speed) / spec.control_hz
    length = sum(store.episodes[index].length + 1 for index in usable)
    buffer = ReplayBuffer(look.spec(spec) if look else spec, replace(config, capacity=length + 1))
    for index in usable:
        _add(buffer, store, index, step, reward, look)
    return buffer


def _add(
    buffer: ReplayBuffer, store: Store, index: int, step: NDArray, reward: str, look: FrozenTrunk | Shrunk | None
) -> None:
    """One episode. What a column says of a state goes on for ever in the last one, for such a reward knows no end."""
    info = store.episodes[index]
    over = info.terminated or bool(info.success)
    fields = [name for name in buffer.spec.observation if name != "command"]
    episode = read_held(store, index, [*fields, "action_sent"])
    rewards = store.read(index, [reward])[reward] if reward != SUCCESS else None
    episode = look.seen(episode) if look else episode
    sent = episode["action_sent"].astype(np.float64)
    joints = sent.shape[1]
    before = np.concatenate([episode["proprio"][:1, :joints], sent[:-1]])
    action = np.clip((sent - before) / step, -1.0, 1.0).astype(np.float32)

    def seen(row: int) -> dict[str, NDArray]:
        return {**{name: episode[name][row] for name in fields}, "command": before[row].astype(np.float32)}

    number = info.num_actions
    if number == info.length and not over and rewards is None:
        number -= 1  # what came after was not recorded
    buffer.begin(seen(0))
    for row in range(number):
        last = row == number - 1
        following = seen(min(row + 1, info.length - 1))
        if rewards is not None:
            buffer.append(action[row], float(rewards[row]), following, False, last)
        else:
            ends = last and over
            buffer.append(action[row], float(ends and bool(info.success)), following, ends, last and not over)
