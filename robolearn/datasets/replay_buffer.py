"""Transitions of running episodes, in a ring of a fixed number of slots. Legend: B batch.

A slot holds an observation and, unless it is the last one of its episode, the action taken there. The next observation
of a transition is the slot after it, so no observation is stored twice. An episode of T transitions takes T + 1 slots;
its last observation is what a truncated episode bootstraps from.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from robolearn.datasets.returns import copy, n_step_returns, take, worth_of_a_cut
from robolearn.datasets.store import CLOSING_ROW, EpisodeMeta, EpisodeWriter, Store
from robolearn.errors import DatasetError
from robolearn.specs import InterfaceSpec
from robolearn.types import ActionSource, EpisodeOutcome, Observation

Rewards = Callable[[Store, int], NDArray]
"""The rewards (T,) of an episode of a store."""


@dataclass(frozen=True)
class ReplayBufferConfig:
    """Size, and how far a sampled transition reaches."""

    capacity: int  # slots: observations
    num_steps: int = 1  # n of n-step returns
    discount: float = 0.99  # per step
    unfinished: float | None = None  # worth of what is to come where an episode was cut off; None: `worth_of_a_cut`


class ReplayBuffer:
    """Uniform samples of the newest transitions. Not thread-safe."""

    def __init__(self, spec: InterfaceSpec, config: ReplayBufferConfig) -> None:
        if config.capacity < 2 or config.num_steps < 1 or not 0 <= config.discount <= 1:
            raise DatasetError(
                f"replay buffer wants 2 slots or more, 1 step or more, a discount in [0, 1]: got {config}"
            )
        self.spec, self.config = spec, config
        # Memory is taken page by page as slots are filled.
        try:
            self._observation = {
                name: np.zeros((config.capacity, *field.shape), field.dtype) for name, field in spec.observation.items()
            }
        except MemoryError as error:
            raise DatasetError(
                f"replay buffer: {config.capacity} observations do not fit into memory; keep fewer"
            ) from error
        self._action = np.zeros((config.capacity, *spec.action.shape), spec.action.dtype)
        self._reward = np.zeros(config.capacity, np.float32)
        self._terminated = np.zeros(config.capacity, np.bool_)
        self._acted = np.zeros(config.capacity, np.bool_)  # a transition begins in this slot
        self._return = np.full(config.capacity, -np.inf, np.float32)  # to the end of the episode
        self._next = 0  # slot that is written next
        self._filled = 0  # slots ever written, up to the capacity
        self._running = False  # the newest slot waits for its action
        self._number = 0

    def __len__(self) -> int:
        """Transitions that can be sampled."""
        return self._number

    @property
    def full(self) -> bool:
        """Whether every new observation overwrites the oldest one."""
        return self._filled == self.config.capacity

    def begin(self, observation: Observation) -> None:
        """Begin an episode with its first observation. One that was not ended stops where it is, as if truncated."""
        self._end()
        self._put(observation)
        self._running = True

    def append(
        self, action: ArrayLike, reward: float, next_observation: Observation, terminated: bool, truncated: bool
    ) -> None:
        """Add the transition from the newest observation. After `terminated` or `truncated`, begin again."""
        if not self._running:
            raise DatasetError("replay buffer: no episode is running; call begin with its first observation")
        checked = self.spec.action.check("action", action)
        if not math.isfinite(reward):
            raise DatasetError(f"replay buffer: the reward is {reward:g}; expected a number of the environment")
        slot = (self._next - 1) % self.config.capacity
        self._put(next_observation)
        self._action[slot], self._reward[slot], self._terminated[slot] = checked, reward, terminated
        self._acted[slot] = True
        self._number += 1
        if terminated or truncated:
            self._end()

    def sample(
        self, batch_size: int, rng: np.random.Generator, out: dict[str, NDArray] | None = None
    ) -> dict[str, NDArray]:
        """A batch: observation fields (B, ...), the same under `next_<field>`, `action` (B, A), and all (B,) float32:

        `reward`, the discounted sum over up to n steps; `bootstrap`, 0 where the task was over within them, else 1;
        `discount`, that of the next observation's value; and `return_to_go`, the discounted sum to the end of the
        episode, `unfinished` included where it was truncated; minus infinity while it is running. An episode that was
        truncated, or is running, bootstraps from the last observation it has.
        """
        return self.batch(self.draw(batch_size, rng), out)

    def draw(self, number: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """Slots (number,) that transitions begin in, all alike. Raises DatasetError when there is none."""
        if not self._number:
            raise DatasetError("replay buffer: there is no transition to sample yet")
        slots = rng.integers(0, self._filled, number)
        while len(wrong := np.flatnonzero(~self._acted.take(slots))):
            slots[wrong] = rng.integers(0, self._filled, len(wrong))
        return slots

    def batch(self, slots: NDArray[np.int64], out: dict[str, NDArray] | None = None) -> dict[str, NDArray]:
        """The transitions that begin in these slots (B,), written into `out` when given."""
        at, returns = n_step_returns(
            slots,
            self._reward,
            self._terminated,
            self._acted,
            self.config.num_steps,
            self.config.discount,
        )
        batch: dict[str, NDArray] = {}
        for name, values in self._observation.items():  # `take` is three times as fast as indexing
            batch[name] = take(values, slots, out, name)
            batch[f"next_{name}"] = take(values, at, out, f"next_{name}")
        batch["action"] = take(self._action, slots, out, "action")
        batch["return_to_go"] = take(self._return, slots, out, "return_to_go")
        return batch | {name: copy(values, out, name) for name, values in returns.items()}

    def extend(self, store: Store, index: int, rewards: Rewards) -> None:
        """Add an episode of a store: what `EpisodeLog` wrote, or a demonstration.

        A row whose action is masked adds no transition: a command was missing, or an episode log keeps the last
        observation there. A demonstration lacks that one, so its last action is used only where the task was over. So
        is one whose next observation is not valid.
        """
        info = store.episodes[index]
        fields = tuple(self.spec.observation)
        episode = store.read(index, (*fields, "action"))
        valid = store.read_valid(index)
        seen = np.logical_and.reduce([valid[name] for name in fields])
        reward = np.asarray(rewards(store, index), np.float32)
        # The task is over after the last action, not after an earlier one because later ones are missing.
        last = info.num_actions - 1
        for row in range(info.length):
            observation = {name: episode[name][row] for name in fields}
            ends = row == last and info.terminated
            after = min(row + 1, info.length - 1)
            usable = valid["action"][row] and seen[row] and ((after > row and seen[after]) or ends)
            if not usable:
                self._end()
                continue
            if not self._running:
                self.begin(observation)
            following = {name: episode[name][after] for name in fields}
            self.append(episode["action"][row], float(reward[row]), following, ends, False)
        self._end()

    def state_dict(self) -> dict[str, NDArray]:
        """All that was written, by name."""
        written = {name: values[: self._filled] for name, values in self._arrays().items()}
        return {**written, "position": np.array([self._next, self._filled, self._running, self._number])}

    def load_state_dict(self, state: Mapping[str, NDArray]) -> None:
        """Become the buffer of the same spec and config whose `state_dict` this is."""
        self._next, self._filled, running, self._number = (int(value) for value in state["position"])
        self._running = bool(running)
        for name, values in self._arrays().items():
            values[: self._filled] = state[name]

    def _arrays(self) -> dict[str, NDArray]:
        facts = {"reward": self._reward, "terminated": self._terminated, "acted": self._acted, "return": self._return}
        return {**{f"observation.{n}": v for n, v in self._observation.items()}, "action": self._action, **facts}

    def _end(self) -> None:
        """End the running episode, if any, and sum up its rewards from the last one back."""
        if not self._running:
            return
        self._running = False
        slot = (self._next - 2) % self.config.capacity
        total = 0.0
        if not self._terminated[slot]:
            known, acted = self.config.unfinished, self._acted[: self._filled]
            seen = self._reward[: self._filled][acted]
            total = worth_of_a_cut(seen, self.config.discount) if known is None else known
        while self._acted[slot] and self._return[slot] == -np.inf:
            total = float(self._reward[slot]) + self.config.discount * total
            self._return[slot] = total
            slot = (slot - 1) % self.config.capacity

    def _put(self, observation: Observation) -> None:
        """Write the next slot; the transition that began in it is gone."""
        checked = {
            name: field.check(name, observation[name]) for name, field in self.spec.observation.items()
        }  # before anything changes
        slot = self._next
        self._number -= int(self._acted[slot])
        self._acted[slot] = False
        self._return[slot] = -np.inf
        for name, value in checked.items():
            self._observation[name][slot] = value
        self._next = (slot + 1) % self.config.capacity
        self._filled = max(self._filled, slot + 1)


class EpisodeLog:
    """Writes running episodes to a dataset, each with its last observation, from which a buffer is restored.

    The dataset wants the extra field `reward`, `ArraySpec(())`.
    """

    def __init__(self, writer: EpisodeWriter) -> None:
        self._writer = writer
        self._observation: Observation = {}

    def begin(self, meta: EpisodeMeta, observation: Observation) -> None:
        self._writer.begin(replace(meta, tags={**meta.tags, CLOSING_ROW: True}))
        self._observation = observation

    def append(
        self,
        action: ArrayLike,
        reward: float,
        next_observation: Observation,
        stamps_ns: Mapping[str, int],
        source: ActionSource = ActionSource.POLICY,
    ) -> None:
        """Write the newest observation with the action taken there."""
        step = {**self._observation, "action": action, "action_source": source, "reward": np.float32(reward)}
        self._writer.append(step, stamps_ns)
        self._observation = next_observation

    def commit(self, outcome: EpisodeOutcome, stamps_ns: Mapping[str, int]) -> None:
        """Write the last observation, with no action, and end the episode."""
        self._writer.append(self._observation, stamps_ns)
        self._writer.commit(outcome)


def logged_rewards(store: Store, index: int) -> NDArray:
    """The rewards that an `EpisodeLog` wrote."""
    return store.read(index, ["reward"])["reward"]
