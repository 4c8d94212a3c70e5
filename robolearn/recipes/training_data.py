"""A dataset as a learner sees it: checked, with statistics and batches; chunks to imitate, or transitions with rewards.

The batch of a gradient step depends on the seed and the step alone, so a resumed run repeats an uninterrupted one. The
episodes are named in config.yaml, so a dataset that has grown meanwhile changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from robolearn.algorithms.algorithm import Batch, DataKind
from robolearn.datasets.columns import column_beside
from robolearn.datasets.sampler import SUCCESS, Sampler, SamplerConfig, TransitionConfig, split_episodes
from robolearn.datasets.stats import summarize
from robolearn.datasets.store import EpisodeInfo, Store
from robolearn.datasets.verify import TRAIN_MARGIN, outside_limits
from robolearn.datasets.zarr_store import ZarrStore
from robolearn.envs.tool_space import resized
from robolearn.errors import DatasetError, SpecError, quoted
from robolearn.networks.normalizer import FieldStatistics
from robolearn.policies.gaussian import vector_spec
from robolearn.policies.instruction import embed
from robolearn.policies.robot_features import policy_spec
from robolearn.rewards.shaping import Shaper, ShapingConfig
from robolearn.specs import INSTRUCTION, ArraySpec, InterfaceSpec, block_px
from robolearn.tasks import known_task

VALIDATION_FRACTION = 0.1  # of the episodes, at least one, held out from learning
VALIDATION_BATCHES, VALIDATION_BATCH_SIZE = 4, 128

Split = Mapping[str, Sequence[str]]
"""Ids of the episodes under `train` and `validation`."""
Outcomes = Literal["any", "known", "some"]
"""What episodes must be where their success is the reward: anything, known to have succeeded or not, or some successful
besides."""


class Data(Protocol):
    """What an offline training draws from. `split` names the episodes, `seeds` and `tasks` are theirs."""

    spec: InterfaceSpec
    statistics: dict[str, FieldStatistics]
    split: Split
    seeds: list[int]
    tasks: list[str]
    validation_batches: list[Batch]

    def batch(self, step: int, size: int) -> Batch:
        """The batch of a gradient step, which the seed and the step alone decide."""
        ...


def training_data(
    kind: DataKind, dataset: Path, config: Any, seed: int, device: str, reward: str, split: Split | None = None
) -> Data:
    """The data that an algorithm of this kind learns from. `split` is that of the run to resume.

    Raises DatasetError or SpecError in one line when the dataset cannot be learned from.
    """
    if kind == "chunks":
        return ChunkData(dataset, config.policy, seed, device, split, config.weight, config.episodes == "all")
    return TransitionData(dataset, config, reward, seed, device, split)


class ChunkData:
    """The episodes of a dataset that are worth imitating: not empty and, unless told, not known to have failed.

    weight: a column whose values become `weight` (B,) of the batches; a sample of weight 0 is drawn for nothing.
    """

    def __init__(
        self,
        dataset: Path,
        shape: Any,
        seed: int,
        device: str = "cpu",
        split: Split | None = None,
        weight: str = "",
        failures: bool = False,
    ) -> None:
        """shape: config of a policy of chunks. Images that a frozen network looks at are embedded here, once each."""
        store = ZarrStore.open(dataset)
        self.spec = policy_spec(store.spec.interface, shape)
        if split is None:
            usable = [info for info in store.episodes if info.length > 0 and (failures or info.success is not False)]
            if len(usable) < 2:
                raise DatasetError(
                    f"{dataset} has {len(usable)} {'' if failures else 'successful '}episodes of "
                    f"{len(store.episodes)}; training wants at least 2, one to learn from and one to hold out; "
                    "collect more"
                )
            train, validation = split_episodes(len(usable), VALIDATION_FRACTION, seed)
            split = {"train": [usable[i].id for i in train], "validation": [usable[i].id for i in validation]}
        self.split = split
        self.train_episodes = episode_indices(store, split["train"])
        self.validation_episodes = episode_indices(store, split["validation"])
        self.seeds, self.tasks = provenance(store.episodes)
        both = (*self.train_episodes, *self.validation_episodes)
        self.instructions = sorted({store.episodes[index].instruction.strip() for index in both} - {""})
        check_values(dataset, store, self.spec, both, (weight,) if weight else ())
        if weight:
            check_weights(dataset, store, weight, self.train_episodes)
            check_weights(dataset, store, weight, self.validation_episodes)
        self.statistics = field_statistics(store, ("proprio", "action"), self.train_episodes)

        self._seed, self._device, self._weight = seed, device, weight
        fields = [name for name in self.spec.observation if name != INSTRUCTION]
        config = SamplerConfig(
            fields=(*fields, *((weight,) if weight else ())),
            action_horizon=shape.chunk_steps,
            observation_horizon=shape.observation_steps,
            imitable_start=True,
            shrink=shape.shrink,
        )
        self._instructions = self._embedded(dataset, store) if INSTRUCTION in self.spec.observation else None
        embed = FrozenTrunk(shape.trunk, device) if shape.trunk else None
        self._sampler = Sampler(store, config, self.train_episodes, embed)
        held_out = Sampler(store, config, self.validation_episodes, embed)
        rng = np.random.default_rng(seed)
        self.validation_batches = [self._draw(held_out, VALIDATION_BATCH_SIZE, rng) for _ in range(VALIDATION_BATCHES)]

    def batch(self, step: int, size: int) -> Batch:
        return self._draw(self._sampler, size, np.random.default_rng((self._seed, step)))

    def _draw(self, sampler: Sampler, size: int, rng: np.random.Generator) -> Batch:
        """Of a chunk, only the actions before a perturbation are imitated: a push that was put in on purpose cannot be
        foreseen, and what comes after it is the answer to the push."""
        steps = sampler.draw(size, rng)
        sample = sampler.batch(steps)
        history = self.spec.observation_steps
        if self._weight:
            weight = sample.pop(self._weight)
            sample["weight"] = weight if history == 1 else weight[:, -1]
        if self._instructions is not None:
            vectors = self._instructions[sampler.episodes_of(steps)]
            sample[INSTRUCTION] = vectors if history == 1 else vectors[:, None].repeat(history, axis=1)
        sample["action_mask"] = np.logical_and.accumulate(sample["action_mask"], axis=1)
        return tensors(sample, self._device)

    def _embedded(self, dataset: Path, store: Store) -> NDArray[np.float32]:
        """The instruction (E,) of every episode. Raises DatasetError when one that is used has none."""
        for index in (*self.train_episodes, *self.validation_episodes):
            if not store.episodes[index].instruction.strip():
                raise DatasetError(
                    f"{dataset}: episode {store.episodes[index].id} has no instruction; give it one, or leave "
                    "policy.instruction out"
                )
        field = self.spec.observation[INSTRUCTION]
        return np.stack([embed(info.instruction, field) for info in store.episodes])


class FrozenTrunk:
    """Vectors (D,) in the place of images: what a frozen network of open_clip makes of them, once each."""

    def __init__(self, trunk: str, device: str) -> None:
        """trunk: as of `policy.trunk`. Raises CheckpointError."""
        from robolearn.networks.open_clip import open_clip_network  # brings open_clip, an extra

        self._network = open_clip_network(trunk)
        self._network.to(torch.device(device))

    def __call__(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Embeddings (T, D) of images (T, H, W, 3)."""
        return self._network.images(torch.from_numpy(np.ascontiguousarray(images))).cpu().numpy()

    def spec(self, spec: InterfaceSpec) -> InterfaceSpec:
        """With a vector for each camera."""
        vector = ArraySpec((self._network.size,))
        fields = {name: vector if len(f.shape) == 3 else f for name, f in spec.observation.items()}
        return replace(spec, observation=fields)

    def seen(self, observations: Mapping[str, NDArray]) -> dict[str, NDArray]:
        """Observations (T, ...) with a vector for each image."""
        return {n: self(rows) if n.startswith("image_") else rows for n, rows in observations.items()}


class Shrunk:
    """Pictures of which each block of pixels is averaged to one, as of `block_px`."""

    def __init__(self, shrink: int) -> None:
        self.shrink = shrink

    def spec(self, spec: InterfaceSpec) -> InterfaceSpec:
        """With the sizes that are kept."""
        fields = {
            n: replace(f, shape=self._kept(f.shape)) if len(f.shape) == 3 else f for n, f in spec.observation.items()
        }
        return replace(spec, observation=fields)

    def seen(self, observations: Mapping[str, NDArray]) -> dict[str, NDArray]:
        """Observations (T, ...) with smaller images."""
        return {n: self._small(rows) if n.startswith("image_") else rows for n, rows in observations.items()}

    def _kept(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        block = block_px(shape, self.shrink)
        return (shape[0] // block, shape[1] // block, *shape[2:])

    def _small(self, images: NDArray[np.uint8]) -> NDArray[np.uint8]:
        block, (height, width, _) = block_px(images.shape[1:], self.shrink), self._kept(images.shape[1:])
        return resized(images[:, : height * block, : width * block], (height, width))


class TransitionData:
    """Episodes of a dataset, good and bad unless told, as transitions with the reward of a field or column, or
    `success`."""

    def __init__(
        self,
        dataset: Path,
        config: Any,
        reward: str,
        seed: int,
        device: str = "cpu",
        split: Split | None = None,
    ) -> None:
        """config: of the algorithm."""
        store = ZarrStore.open(dataset)
        check_reward(store, reward, config.discount)
        self.spec = seen_spec(dataset, store, config.policy.privileged, config.policy.images)
        self.pictures = [name for name in store.spec.fields if name.startswith("image_")]
        self.split = {"train": usable_episodes(store, config), "validation": []} if split is None else split
        self.train_episodes = episode_indices(store, self.split["train"])
        if reward == SUCCESS:
            check_outcomes(dataset, store, self.train_episodes, outcomes_of(config))
        self.seeds, self.tasks = provenance(store.episodes)
        transition = TransitionConfig(reward, discount=config.discount)
        shape = config.policy
        trunk = FrozenTrunk(shape.trunk, device) if shape.trunk else None
        self.source = Transitions(dataset, store, self.spec, transition, self.train_episodes, shape.shrink, trunk)
        vectors = [name for name, field in self.spec.observation.items() if len(field.shape) == 1]
        self.statistics = field_statistics(store, vectors, self.train_episodes)
        self.validation_batches: list[Batch] = []
        self._seed, self._device = seed, device

    def batch(self, step: int, size: int) -> Batch:
        return tensors(self.source.sample(size, np.random.default_rng((self._seed, step))), self._device)


class Transitions:
    """Draws transitions of a dataset, `action` (B, A).

    Raises DatasetError when there are none, when a value is not finite, or when an action lies outside the limits of
    its spec.
    """

    def __init__(
        self,
        dataset: Path,
        store: Store,
        spec: InterfaceSpec,
        config: TransitionConfig,
        episodes: Sequence[int],
        shrink: int = 1,
        trunk: FrozenTrunk | None = None,
    ) -> None:
        """shrink: of images, as of `policy.shrink`. trunk: makes vectors of them, once each."""
        check_values(dataset, store, spec, episodes, () if config.reward == SUCCESS else (config.reward,))
        shown = SamplerConfig(tuple(spec.observation), transition=config, shrink=shrink)
        self._sampler = Sampler(store, shown, episodes, trunk)

    def __len__(self) -> int:
        return self._sampler.num_starts

    def sample(self, batch_size: int, rng: np.random.Generator) -> dict[str, NDArray]:
        batch = self._sampler.sample(batch_size, rng)
        batch.pop("action_mask", None)
        return batch


def remark(dataset: Path, algorithm: str, data: Data) -> str:
    """Why the policy may not be what one expects that learns from transitions as they were recorded, else empty: what a
    twin's episodes hold is not what its task shows."""
    tasks = list(filter(known_task, data.tasks))
    if not tasks:
        return ""
    return (
        f"{dataset} is of {', '.join(tasks)}; without --task {algorithm} sees {', '.join(data.spec.observation)} alone "
        f"and acts as recorded, with --task {tasks[0] if len(tasks) == 1 else 'ID'} as in the task"
    )


def shrunk(dataset: Path, data: Data, config: Any) -> str:
    """That pictures are made smaller for a policy nobody told to, else empty."""
    if getattr(config, "trunk", "") or getattr(config, "shrink", 1):
        return ""
    for name, field in data.spec.observation.items():
        if len(field.shape) == 3 and (block := block_px(field.shape, 0)) > 1:
            height, width = field.shape[:2]
            return (
                f"{dataset}: {name} of {height} x {width} pixels is seen as {height // block} x {width // block}, "
                f"policy.shrink is {block}; --set policy.shrink=1 shows it whole"
            )
    return ""


def unlooked(dataset: Path, algorithm: str, data: Data) -> str:
    """That a policy of vectors looks at none of the pictures that are there, else empty."""
    if not isinstance(data, TransitionData) or not data.pictures or set(data.pictures) & set(data.spec.observation):
        return ""
    return (
        f"{algorithm} looks at {', '.join(data.spec.observation)} alone, at none of the pictures of {dataset}; "
        "--set policy.images=true makes a policy that does"
    )


def unread(dataset: Path, algorithm: str, data: Data) -> str:
    """What a policy of chunks cannot know that is not told which of several things to do, else empty."""
    if not isinstance(data, ChunkData) or INSTRUCTION in data.spec.observation or len(data.instructions) < 2:
        return ""
    return (
        f"{dataset} shows {len(data.instructions)} things to do, such as {data.instructions[0]!r}, and {algorithm} is "
        "not told which; --set policy.instruction=words makes a policy that is"
    )


def seen_spec(dataset: Path, store: Store, privileged: bool, images: bool = False) -> InterfaceSpec:
    """What a policy of vectors sees of the dataset; poses of bodies may lie there beside the observation. Raises
    SpecError where they are wanted and there are none, and what `vector_spec` raises."""
    interface = store.spec.interface
    if privileged:
        poses = {name: field for name, field in store.spec.extra.items() if name.startswith("pose_")}
        observation = {**interface.observation, **poses}
        if not any(name.startswith("pose_") for name in observation):
            raise SpecError(
                f"policy.privileged wants the poses of bodies, and {dataset} has {', '.join(observation)}; collect "
                "episodes of the twin, or leave it out"
            )
        interface = replace(interface, observation=observation)
    return vector_spec(interface, privileged, images)


def check_values(
    dataset: Path, store: Store, spec: InterfaceSpec, episodes: Sequence[int], columns: Sequence[str] = ()
) -> None:
    """Raise DatasetError for an action outside the limits of its spec, and for an action, a vector of the observation
    or one of the columns that is not finite."""
    vectors = [name for name, field in spec.observation.items() if len(field.shape) == 1 and name in store.spec.fields]
    for index in episodes:
        name = store.episodes[index].id
        rows = store.read(index, [*vectors, "action", *columns])
        for field, values in rows.items():
            if not np.isfinite(values).all():
                remedy = "label it again" if field in columns else "delete or trim it"
                raise DatasetError(f"{dataset}: {field} of episode {name} is not finite; {remedy}")
        acted = rows["action"][store.read_valid(index)["action"]]
        if outside := outside_limits(acted, spec.action, TRAIN_MARGIN):
            raise DatasetError(f"{dataset}: action of episode {name} is {outside}; delete or trim it")


def check_weights(dataset: Path, store: Store, weight: str, episodes: Sequence[int]) -> None:
    """Raise DatasetError where a column of these episodes says nothing of how much each step is worth."""
    if shape := store.spec_of(weight).shape:
        raise DatasetError(f"{dataset}: {weight} is {shape} a step; name a weight that is one number")
    values = np.concatenate([store.read(index, [weight])[weight] for index in episodes])
    if (values < 0).any() or not values.any():
        raise DatasetError(
            f"{dataset}: {weight} has weights from {values.min():g} to {values.max():g} in {len(episodes)} episodes; "
            "wanted none below 0, and one above; another --seed holds out other episodes"
        )


def usable_episodes(store: Store, config: Any) -> list[str]:
    """Ids of the episodes that an algorithm of transitions learns from: not empty and, where it imitates successes
    alone, not known to have failed."""
    successful = getattr(config, "episodes", "all") == "successful"
    return [info.id for info in store.episodes if info.length > 0 and not (successful and info.success is False)]


def outcomes_of(config: Any) -> Outcomes:
    """What an algorithm of this config wants that learns from a dataset alone; who imitates looks at no reward."""
    return "any" if hasattr(config, "episodes") else "some"


def check_outcomes(dataset: Path, store: ZarrStore, episodes: Sequence[int], outcomes: Outcomes) -> None:
    """Raise DatasetError for episodes that are no such outcomes; for who takes `success` as the reward."""
    infos = [store.episodes[index] for index in episodes]
    unknown = [info.id for info in infos if info.success is None]
    if outcomes != "any" and unknown:
        raise DatasetError(
            f"{dataset}: nobody said whether episode {unknown[0]} succeeded, nor of {len(unknown) - 1} more; say it, "
            f"where all did by: robolearn dataset relabel {quoted(dataset)} $(seq 0 {len(store.episodes) - 1}) "
            f"--success true; or {_another_reward(store)}"
        )
    if outcomes == "some" and infos and not any(info.success for info in infos):
        raise DatasetError(
            f"{dataset}: none of {len(infos)} episodes succeeded, so every reward is 0; add some that did, or "
            f"{_another_reward(store)}"
        )


def _another_reward(store: ZarrStore) -> str:
    """What else may be learned from than success."""
    names = [name for name in (*store.spec.fields, *store.columns) if name.partition("/")[0] == "reward"]
    if not names:
        return "label it with a reward model and name that column by --reward"
    return f"learn from a reward that it has, by {' or '.join(f'--reward {name}' for name in names)}"


def tensors(batch: Mapping[str, NDArray], device: str) -> Batch:
    """The batch on a device. A GPU copies it by itself, from memory that stays where it is, while it still computes
    and the next batch is drawn: a copy from other memory waits for what was launched before."""
    if torch.device(device).type != "cuda":
        return {name: torch.from_numpy(values).to(device) for name, values in batch.items()}
    return {name: torch.from_numpy(values).pin_memory().to(device, non_blocking=True) for name, values in batch.items()}


def mixed(updates: int, own: Mapping[str, NDArray], prior: Mapping[str, NDArray]) -> dict[str, NDArray]:
    """The rows of so many updates, each with its share of own experience, then its share of prior data, and `prior`
    (B,) that tells which is which. Either may be empty."""
    parts = [
        {**rows, "prior": np.full(len(rows["reward"]), value, np.float32)}
        for rows, value in ((own, 0.0), (prior, 1.0))
        if rows
    ]
    shares = {name: [part[name].reshape(updates, -1, *part[name].shape[1:]) for part in parts] for name in parts[0]}
    return {name: np.concatenate(rows, axis=1).reshape(-1, *rows[0].shape[2:]) for name, rows in shares.items()}


def check_reward(store: ZarrStore, reward: str, discount: float | None = None) -> None:
    """Raise DatasetError for what is more than one number a step, for a column of progress, which reaches a learner as
    a difference alone, and of how sure of success a classifier is, which does as decisions. Raise SpecError for a
    shaped one where the learner's discount is another than it was shaped for; None: not per step, and not compared."""
    if reward != SUCCESS and (shape := store.spec_of(reward).shape):
        raise DatasetError(f"{store.path}: {reward} is {shape} a step; name a reward that is one number")
    column = store.columns.get(reward)
    if column is None:
        return
    if discount is not None and "potential" in column.attributes:
        Shaper(ShapingConfig(float(column.attributes["discount"]))).check_discount(discount)
    if column.attributes.get("kind") == "potential":
        raise DatasetError(
            f"{reward} is progress, and who is paid for it stays near the goal; make a reward of it with "
            f"`robolearn reward shape {quoted(store.name)} --progress {quoted(reward)}`"
        )
    if column.attributes.get("kind") == "success":
        decided = column_beside("done", reward)
        there = "" if decided in store.columns else ", which `robolearn label` writes beside it"
        raise DatasetError(f"{reward} is how sure a classifier is of success, no reward; learn from {decided}{there}")


def field_statistics(store: Store, fields: Sequence[str], episodes: Sequence[int]) -> dict[str, FieldStatistics]:
    summary = summarize(store, fields, episodes)
    return {name: FieldStatistics(s.mean, s.std, s.low, s.high) for name, s in summary.items()}


def episode_indices(store: Store, ids: Sequence[str]) -> list[int]:
    known = {info.id: index for index, info in enumerate(store.episodes)}
    missing = [name for name in ids if name not in known]
    if missing:
        raise DatasetError(
            f"{len(missing)} episodes that the run was begun with are gone ({missing[0]}); undo that, or train anew"
        )
    return [known[name] for name in ids]


def provenance(episodes: Sequence[EpisodeInfo]) -> tuple[list[int], list[str]]:
    """Seeds and tasks of the episodes."""
    return [info.seed for info in episodes if info.seed is not None], sorted({i.task for i in episodes if i.task})
