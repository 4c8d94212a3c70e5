"""Batches from episodes. Legend: B batch, O observation steps, K chunk, A action.

Vectors live in memory; images are decoded once into a cache of raw pixels, as far as its budget goes, and on demand
beyond it. The draws depend on the generator alone.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from robolearn.datasets.store import Store
from robolearn.errors import DatasetError
from robolearn.types import ActionSource


@dataclass(frozen=True)
class SamplerConfig:
    """What a batch holds."""

    fields: tuple[str, ...]  # observation fields
    action_horizon: int = 1  # K: actions from the observation on
    observation_horizon: int = 1  # O: observations up to now; above 1 they get an axis of their own
    cache_bytes: int = 2 << 30  # of decoded images kept in memory
    images: Literal["uint8", "float32"] = "uint8"  # float32 in [0, 1] costs four times the memory traffic
    imitable_start: bool = False  # begin only where the first action may be imitated, not just a later one


class Sampler:
    """Draws steps at random, each with the chunk of actions that begins there. Never crosses an episode's ends."""

    def __init__(self, store: Store, config: SamplerConfig, episodes: Sequence[int] | None = None) -> None:
        """`episodes` are indices of `store.episodes`, all of them unless given.

        Raises DatasetError when they hold no step to learn from: one where every field is there and at least one
        action of the chunk may be imitated.
        """
        spec = store.spec
        for name in config.fields:
            store.spec_of(name)  # raises where there is no such field
        if config.action_horizon < 1 or config.observation_horizon < 1:
            raise DatasetError(f"sampler wants horizons of at least 1, got {config}")
        self.config = config
        self.episodes = list(range(len(store.episodes)) if episodes is None else episodes)
        infos = [store.episodes[index] for index in self.episodes]
        lengths = np.array([info.length for info in infos], np.int64)
        ends = np.cumsum(lengths)
        self._episode = np.repeat(np.array(self.episodes, np.int64), lengths)  # of every step
        self._first = np.repeat(ends - lengths, lengths)  # step of that episode
        self._last = np.repeat(ends - 1, lengths)
        vectors = [name for name in config.fields if name not in spec.image_fields]
        self._vectors = self._read_vectors(store, dict.fromkeys((*vectors, "action")))
        self._images = _ImageCache(store, spec.image_fields, self._episode, self._first, config)
        self._usable, self._starts = self._choose_steps(store)
        if not len(self._starts):
            raise DatasetError(
                f"there is nothing to learn from in {len(infos)} episodes of {len(self._episode)} steps: none has "
                f"{', '.join(config.fields)} and an action that may be imitated; see: robolearn dataset info"
            )

    @property
    def num_starts(self) -> int:
        """Steps that a sample can begin at."""
        return len(self._starts)

    def sample(self, batch_size: int, rng: np.random.Generator) -> dict[str, NDArray]:
        """A batch: the fields (B, ...) or (B, O, ...), `action` (B, K, A), `action_mask` (B, K) bool.

        Beyond the end of the episode the last action is repeated and the mask false, as it is where an action was a
        perturbation, was held back by the safety filter, or is missing.
        """
        return self.batch(self._starts[rng.integers(0, len(self._starts), batch_size)])

    def batch(self, steps: NDArray[np.int64]) -> dict[str, NDArray]:
        """The batch of these steps (B,), which count through the sampler's episodes."""
        config = self.config
        if config.observation_horizon == 1:
            observed = steps
        else:
            past = np.arange(1 - config.observation_horizon, 1)
            observed = np.maximum(steps[:, None] + past, self._first[steps, None])
        batch = {}
        for name in config.fields:
            vectors = self._vectors.get(name)
            batch[name] = self._images.get(name, observed) if vectors is None else vectors.take(observed, axis=0)
        ahead = steps[:, None] + np.arange(config.action_horizon)
        last = self._last[steps, None]
        inside = np.minimum(ahead, last)
        batch["action"] = self._vectors["action"].take(inside, axis=0)
        batch["action_mask"] = self._usable.take(inside) & (ahead <= last)
        return batch

    def _read_vectors(self, store: Store, names: Iterable[str]) -> dict[str, NDArray]:
        episodes = [store.read(index, list(names)) for index in self.episodes]
        return {name: np.concatenate([episode[name] for episode in episodes] or [np.zeros(0)]) for name in names}

    def _choose_steps(self, store: Store) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
        """Which actions may be imitated (steps,), and the steps that a sample can begin at."""
        spec = store.spec
        flags = self._read_vectors(store, ("action_source", "held"))
        masks = [store.read_valid(index) for index in self.episodes]
        valid = {n: np.concatenate([mask[n] for mask in masks] or [np.zeros(0, np.bool_)]) for n in spec.stamped_fields}
        usable = valid["action"] & ~flags["held"].astype(np.bool_)
        usable &= flags["action_source"] != ActionSource.PERTURBATION

        steps = np.arange(len(self._episode))
        seen = np.ones(len(steps), np.bool_)
        for name in self.config.fields:
            seen &= valid.get(name, True)
        complete = seen.copy()
        for back in range(1, self.config.observation_horizon):
            complete &= seen[np.maximum(steps - back, self._first)]
        # Usable actions in [t, min(t + K, end)), by differences of their running count.
        count = np.concatenate([[0], np.cumsum(usable)])
        ahead = 1 if self.config.imitable_start else self.config.action_horizon
        imitable = count[np.minimum(steps + ahead, self._last + 1)] - count[steps]
        return usable, np.flatnonzero(complete & (imitable > 0))


class _ImageCache:
    """Images of the sampler's steps, kept as raw pixels while the budget lasts."""

    def __init__(
        self,
        store: Store,
        image_fields: Sequence[str],
        episode: NDArray[np.int64],
        first: NDArray[np.int64],
        config: SamplerConfig,
    ) -> None:
        self._store = store
        self._episode, self._first = episode, first
        self._as_float = config.images == "float32"
        self._cached: dict[str, tuple[NDArray, NDArray[np.bool_]]] = {}
        budget = config.cache_bytes
        for name in config.fields:
            spec = store.spec_of(name)
            shape, dtype = (len(episode), *spec.shape), np.dtype(spec.dtype)
            num_bytes = math.prod(shape) * dtype.itemsize
            if name in image_fields and num_bytes <= budget:
                # Memory is taken page by page as images are decoded into it.
                self._cached[name] = np.empty(shape, dtype), np.zeros(len(episode), np.bool_)
                budget -= num_bytes

    def get(self, name: str, steps: NDArray[np.int64]) -> NDArray:
        """Images (*steps.shape, H, W, C) of a field."""
        cached = self._cached.get(name)
        if cached is None:
            images = np.stack([self._decode(name, step) for step in steps.reshape(-1).tolist()])
            images = images.reshape(*steps.shape, *images.shape[1:])
        else:
            pixels, there = cached
            for step in np.unique(steps[np.logical_not(there[steps])]).tolist():
                pixels[step] = self._decode(name, step)
                there[step] = True
            images = pixels.take(steps, axis=0)
        if self._as_float:
            images = np.multiply(images, np.float32(1 / np.iinfo(images.dtype).max), dtype=np.float32)
        return images

    def _decode(self, name: str, step: int) -> NDArray:
        within = step - int(self._first[step])
        return self._store.read(int(self._episode[step]), (name,), within, within + 1)[name][0]


def split_episodes(num_episodes: int, validation_fraction: float, seed: int) -> tuple[list[int], list[int]]:
    """Indices of the train and the validation episodes, each in order; both get one where there are two to share."""
    if not 0 <= validation_fraction < 1:
        raise DatasetError(f"validation fraction is {validation_fraction:g}, wanted from 0 to below 1")
    wanted = round(num_episodes * validation_fraction)
    if validation_fraction > 0 and num_episodes > 1:
        wanted = min(max(wanted, 1), num_episodes - 1)
    order = np.random.default_rng(seed).permutation(num_episodes)
    return sorted(order[wanted:].tolist()), sorted(order[:wanted].tolist())
