"""Batches from episodes. Legend: B batch, O observation steps, K chunk, A action.

Vectors live in memory; images are decoded once into a cache of raw pixels, as far as its budget goes, and on demand
beyond it. The draws depend on the generator alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from robolearn.datasets.goals import GoalConfig, draw_goals
from robolearn.datasets.image_cache import ImageCache
from robolearn.datasets.returns import copy, n_step_returns, returns_to_go, take, worth_of_a_cut
from robolearn.datasets.store import Store
from robolearn.errors import DatasetError
from robolearn.types import ActionSource

SUCCESS = "success"


@dataclass(frozen=True)
class TransitionConfig:
    """Adds what reinforcement learning wants, as ReplayBuffer: `next_<field>`, `reward`, `bootstrap`, `discount` and
    `return_to_go`, in which a cut is worth what `worth_of_a_cut` says."""

    reward: str = SUCCESS  # field or column; `success`: 1 where an episode succeeded and so is over, else 0
    num_steps: int = 1  # n of n-step returns
    discount: float = 0.99  # per step


@dataclass(frozen=True)
class SamplerConfig:
    """What a batch holds."""

    fields: tuple[str, ...]  # of the observation, and columns, such as weights of imitation
    action_horizon: int = 1  # K: actions from the observation on
    observation_horizon: int = 1  # O: observations up to now; above 1 they get an axis of their own
    cache_bytes: int = 2 << 30  # of decoded images that are kept
    images: Literal["uint8", "float32"] = "uint8"  # float32 in [0, 1] costs four times the memory traffic
    shrink: int = 1  # each block of so many by so many pixels is averaged to one; 0: see `block_px`
    imitable_start: bool = False  # begin only where the first action may be imitated, not just a later one
    cache_folder: Path | None = None  # where the images are kept in files, else in memory
    transition: TransitionConfig | None = None
    goals: GoalConfig | None = None  # adds `goal_<field>` and `goal_reached`; rewards then are -1 until it is
    draw_weights: str = ""  # field or column by which steps are drawn in proportion; all alike unless given


class Sampler:
    """Draws steps at random, each with the chunk of actions that begins there. Never crosses an episode's ends."""

    def __init__(
        self,
        store: Store,
        config: SamplerConfig,
        episodes: Sequence[int] | None = None,
        embed: Callable[[NDArray], NDArray] | None = None,
    ) -> None:
        """`episodes` are indices of `store.episodes`, all of them unless given. `embed` makes vectors (T, D) of an
        episode's images (T, H, W, 3), once, and batches hold those in their place.

        Raises DatasetError when they hold no step to learn from: one where every field is there and at least one
        action of the chunk may be imitated; with a transition, where there is an action and what came of it.
        """
        spec = store.spec
        for name in config.fields:
            store.spec_of(name)  # raises where there is no such field
        if config.action_horizon < 1 or config.observation_horizon < 1:
            raise DatasetError(f"sampler wants horizons of at least 1, got {config}")
        if config.goals is not None and config.transition is not None and config.transition.num_steps != 1:
            raise DatasetError("sampler: goals go with transitions of one step; set num_steps to 1")
        for name in (config.draw_weights, "" if config.transition is None else config.transition.reward):
            if name not in ("", SUCCESS) and store.spec_of(name).shape:
                raise DatasetError(f"sampler: {name} is {store.spec_of(name).shape} a step, wanted one number")
        self.config = config
        self.episodes = list(range(len(store.episodes)) if episodes is None else episodes)
        infos = [store.episodes[index] for index in self.episodes]
        lengths = np.array([info.length for info in infos], np.int64)
        self._ends = ends = np.cumsum(lengths)
        self._episode = np.repeat(np.array(self.episodes, np.int64), lengths)  # of every step
        self._first = np.repeat(ends - lengths, lengths)  # step of that episode
        self._last = np.repeat(ends - 1, lengths)
        images = [name for name in config.fields if name in spec.image_fields]
        vectors = [name for name in config.fields if name not in images]
        self._vectors = self._read_vectors(store, dict.fromkeys((*vectors, "action")))
        if embed is not None:
            for name in images:
                made = [embed(store.read(index, [name])[name]) for index in self.episodes]
                self._vectors[name] = np.concatenate(made)
        self._images = ImageCache(
            store,
            [] if embed else images,
            self._episode,
            self._first,
            config.images,
            config.cache_bytes,
            config.cache_folder,
            config.shrink,
        )
        self._usable, self._starts = self._choose_steps(store)
        if not len(self._starts):
            raise DatasetError(
                f"there is nothing to learn from in {len(infos)} episodes of {len(self._episode)} steps: none has "
                f"{', '.join(config.fields)} and an action that may be imitated; see: robolearn dataset info"
            )
        self._weights = self._cumulated_weights(store)

    @property
    def starts(self) -> NDArray[np.int64]:
        """The steps (num_starts,) themselves."""
        return self._starts

    @property
    def num_starts(self) -> int:
        """Steps that a sample can begin at."""
        return len(self._starts)

    def sample(
        self, batch_size: int, rng: np.random.Generator, out: dict[str, NDArray] | None = None
    ) -> dict[str, NDArray]:
        """A batch: the fields (B, ...) or (B, O, ...), `action` (B, K, A), `action_mask` (B, K) bool.

        Beyond the end of the episode the last action is repeated and the mask false, as it is where an action was a
        perturbation, was held back by the safety filter, or is missing. With a transition and a horizon of 1, `action`
        is (B, A), as that of a ReplayBuffer. Written into `out` when given.
        """
        steps = self.draw(batch_size, rng)
        goals = None
        if self.config.goals is not None:
            discount = TransitionConfig.discount if self.config.transition is None else self.config.transition.discount
            goals = self.draw_goals(steps, self.config.goals, discount, rng)
        return self.batch(steps, goals, out)

    def draw(self, number: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """Steps (number,) that a sample can begin at. They count through the sampler's episodes."""
        if self._weights is None:
            return self._starts.take(rng.integers(0, len(self._starts), number))
        at = np.searchsorted(self._weights, rng.random(number) * self._weights[-1], side="right")
        return self._starts.take(np.minimum(at, len(self._starts) - 1))

    @property
    def num_steps(self) -> int:
        """Steps of all the sampler's episodes."""
        return len(self._episode)

    def draw_goals(
        self, steps: NDArray[np.int64], config: GoalConfig, discount: float, rng: np.random.Generator
    ) -> NDArray[np.int64]:
        """See `goals.draw_goals`. For a step that lacks a field the newest one before it that has all is the goal."""
        goals = self._shown.take(draw_goals(steps, self.last_of(steps), self.num_steps, config, discount, rng))
        return np.where(goals < 0, steps, goals)

    def last_of(self, steps: NDArray[np.int64]) -> NDArray[np.int64]:
        """The last step (B,) of the episode of each step."""
        return self._last.take(steps)

    def seen(self, steps: NDArray[np.int64]) -> dict[str, NDArray]:
        """The fields at these steps (B,)."""
        observed = self._past(steps)
        return {name: self._get(name, observed, None, name) for name in self.config.fields}

    def episodes_of(self, steps: NDArray[np.int64]) -> NDArray[np.int64]:
        """The episode (B,) of each step, as an index of `store.episodes`."""
        return self._episode.take(steps)

    def batch(
        self, steps: NDArray[np.int64], goals: NDArray[np.int64] | None = None, out: dict[str, NDArray] | None = None
    ) -> dict[str, NDArray]:
        """The batch of these steps (B,), with the observations of the steps `goals` (B,) as goals."""
        config = self.config
        batch: dict[str, NDArray] = {}
        observed = self._past(steps)
        for name in config.fields:
            batch[name] = self._get(name, observed, out, name)
        ahead = steps[:, None] + np.arange(config.action_horizon)
        last = self._last.take(steps)[:, None]
        inside = np.minimum(ahead, last)
        flat = config.transition is not None and config.action_horizon == 1
        batch["action"] = take(self._vectors["action"], steps if flat else inside, out, "action")
        mask = None if out is None else out["action_mask"]
        batch["action_mask"] = np.logical_and(self._usable.take(inside), ahead <= last, out=mask)
        if config.transition is not None:
            self._add_transition(batch, steps, config.transition, out)
        if goals is not None and config.goals is not None:
            self._add_goals(batch, steps, goals, config.goals, out)
        return batch

    def _add_transition(
        self, batch: dict[str, NDArray], steps: NDArray, config: TransitionConfig, out: dict[str, NDArray] | None
    ) -> None:
        reward, terminated, acted = self._reward, self._terminated, self._acted
        after, returns = n_step_returns(steps, reward, terminated, acted, config.num_steps, config.discount)
        last = self._last.take(steps)
        following = self._past(np.where((after > last) | (after < steps), last, after))  # there nothing bootstraps
        for name in self.config.fields:
            batch[f"next_{name}"] = self._get(name, following, out, f"next_{name}")
        for name, values in returns.items():
            batch[name] = copy(values, out, name)
        batch["return_to_go"] = take(self._return, steps, out, "return_to_go")

    def _add_goals(
        self, batch: dict[str, NDArray], steps: NDArray, goals: NDArray, config: GoalConfig, out: dict | None
    ) -> None:
        seen = self._past(goals)
        for name in self.config.fields:
            batch[f"goal_{name}"] = self._get(name, seen, out, f"goal_{name}")
        reached = goals == (steps if config.reached == "now" else np.minimum(steps + 1, self._last.take(steps)))
        batch["goal_reached"] = copy(reached, out, "goal_reached")
        if self.config.transition is not None:
            batch["reward"] = copy(reached.astype(np.float32) - np.float32(1), out, "reward")
            batch["bootstrap"] = copy((~reached).astype(np.float32), out, "bootstrap")

    def _past(self, steps: NDArray[np.int64]) -> NDArray[np.int64]:
        """The steps (B,) or (B, O) that are observed at these; before its first one an episode shows that one."""
        if self.config.observation_horizon == 1:
            return steps
        past = np.arange(1 - self.config.observation_horizon, 1)
        return np.maximum(steps[:, None] + past, self._first.take(steps)[:, None])

    def _get(self, name: str, steps: NDArray[np.int64], out: dict[str, NDArray] | None, key: str) -> NDArray:
        vectors = self._vectors.get(name)
        if vectors is None:
            return self._images.get(name, steps, None if out is None else out[key])
        return take(vectors, steps, out, key)

    def _read_vectors(self, store: Store, names: Iterable[str]) -> dict[str, NDArray]:
        episodes = [store.read(index, list(names)) for index in self.episodes]
        return {name: np.concatenate([episode[name] for episode in episodes] or [np.zeros(0)]) for name in names}

    def _choose_steps(self, store: Store) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
        """Which actions may be imitated (steps,), and the steps that a sample can begin at."""
        spec = store.spec
        flags = self._read_vectors(store, ("action_source", "held"))
        masks = [store.read_valid(index) for index in self.episodes]
        valid = {
            n: np.concatenate([mask[n] for mask in masks] or [np.zeros(0, np.bool_)])
            for n in (*spec.stamped_fields, *spec.streams)
        }
        usable = valid["action"] & ~flags["held"].astype(np.bool_)
        usable &= flags["action_source"] != ActionSource.PERTURBATION

        steps = np.arange(len(self._episode))
        seen = np.ones(len(steps), np.bool_)
        for name in self.config.fields:
            seen &= valid.get(name, True)
        complete = seen.copy()
        for back in range(1, self.config.observation_horizon):
            complete &= seen[np.maximum(steps - back, self._first)]
        self._shown = np.maximum.accumulate(np.where(complete, steps, -1))
        # Usable actions in [t, min(t + K, end)), by differences of their running count.
        if self.config.transition is not None:
            acted = self._read_transitions(store, self.config.transition, valid, seen)
            return usable, np.flatnonzero(complete & acted)
        count = np.concatenate([[0], np.cumsum(usable)])
        ahead = 1 if self.config.imitable_start else self.config.action_horizon
        imitable = count[np.minimum(steps + ahead, self._last + 1)] - count[steps]
        return usable, np.flatnonzero(complete & (imitable > 0))

    def _read_transitions(
        self,
        store: Store,
        config: TransitionConfig,
        valid: Mapping[str, NDArray[np.bool_]],
        seen: NDArray[np.bool_],
    ) -> NDArray[np.bool_]:
        """Rewards and ends; the steps (steps,) that have an action and a reward and show what came of the action."""
        ends = zip(self._ends.tolist(), (store.episodes[index] for index in self.episodes), strict=True)
        acting = {end - info.length + info.num_actions - 1: info for end, info in ends if info.num_actions}
        final, infos = np.array(list(acting), np.int64), acting.values()
        steps = np.arange(len(self._episode))
        self._terminated = np.zeros(len(steps), np.bool_)
        self._reward = np.zeros(len(steps), np.float32)
        known = valid.get(config.reward, np.ones(len(steps), np.bool_))
        counts = config.reward == SUCCESS and self.config.goals is None
        self._terminated[final] = [info.terminated or (counts and bool(info.success)) for info in infos]
        if config.reward == SUCCESS:
            self._reward[final] = [bool(info.success) for info in infos]
        else:
            reward = self._read_vectors(store, [config.reward])[config.reward].astype(np.float32)
            self._reward = np.where(known, reward, np.float32(0))
        # The observation after a step is the next one. Where the task was over none is needed, unless there are goals:
        # where one was not reached, it is not over.
        follows = (steps < self._last) & seen[np.minimum(steps + 1, self._last)]
        follows |= self._terminated & (self.config.goals is None)
        self._acted = valid["action"] & known & seen & follows
        cut = worth_of_a_cut(self._reward[self._acted], config.discount)
        self._return = returns_to_go(self._reward, final, np.where(self._terminated[final], 0.0, cut), config.discount)
        return self._acted

    def _cumulated_weights(self, store: Store) -> NDArray[np.float64] | None:
        name = self.config.draw_weights
        if not name:
            return None
        weights = self._read_vectors(store, [name])[name][self._starts].astype(np.float64)
        if not (np.isfinite(weights).all() and (weights >= 0).all() and weights.any()):
            raise DatasetError(f"sampler: {name} has weights below 0, not finite or all 0; wanted weights to draw by")
        return np.cumsum(weights)


def split_episodes(num_episodes: int, validation_fraction: float, seed: int) -> tuple[list[int], list[int]]:
    """Indices of the train and the validation episodes, each in order; both get one where there are two to share."""
    if not 0 <= validation_fraction < 1:
        raise DatasetError(f"validation fraction is {validation_fraction:g}, wanted from 0 to below 1")
    wanted = round(num_episodes * validation_fraction)
    if validation_fraction > 0 and num_episodes > 1:
        wanted = min(max(wanted, 1), num_episodes - 1)
    order = np.random.default_rng(seed).permutation(num_episodes)
    return sorted(order[wanted:].tolist()), sorted(order[:wanted].tolist())
