"""Experience: environments stepped with given actions, their transitions kept for learning. Legend: N environments.

Every episode starts from a seed of its own, so a collector is restored by starting the episodes that were under way
from their seeds and taking their actions again: a resumed run goes on in the very state where it stopped.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from robolearn.datasets.replay_buffer import ReplayBuffer, ReplayBufferConfig
from robolearn.errors import CheckpointError
from robolearn.recipes.environments import REWARDS, Environments, Reward, seen_environments
from robolearn.specs import ArraySpec
from robolearn.types import Observation

if TYPE_CHECKING:
    from robolearn.recipes.training_data import FrozenTrunk

MAX_SEED = 2**31 - 1
RECENT_EPISODES = 20


@dataclass(frozen=True)
class Episode:
    """How an episode went. `success` is None where the environment knows no such thing."""

    total: float  # sum of its rewards
    steps: int
    success: bool | None


class Collector:
    """Steps environments and fills one replay buffer each, which share the capacity of the config."""

    def __init__(
        self,
        envs: Environments,
        config: ReplayBufferConfig,
        reward: Reward,
        seed: int,
        trunk: FrozenTrunk | None = None,
    ) -> None:
        """trunk: makes vectors of images, which are kept in their place."""
        self.envs, self._trunk = envs, trunk
        self.interface, self.num_envs = envs.interface, envs.num_envs
        each = replace(config, capacity=max(config.capacity // envs.num_envs, 2))
        kept = envs.interface if trunk is None else trunk.spec(envs.interface)
        self.buffers = [ReplayBuffer(kept, each) for _ in range(envs.num_envs)]
        self._reward = reward
        self._seed = seed
        self._info: dict[str, Any] = {}
        self._begun = 0  # episodes
        self._seeds = [0] * envs.num_envs
        self._actions: list[list[NDArray]] = [[] for _ in range(envs.num_envs)]
        self._totals = np.zeros(envs.num_envs)
        self._recent: deque[Episode] = deque(maxlen=RECENT_EPISODES)
        self._start(np.ones(envs.num_envs, np.bool_), [self._next_seed() for _ in range(envs.num_envs)])

    def __len__(self) -> int:
        """Transitions that can be sampled."""
        return sum(len(buffer) for buffer in self.buffers)

    def step(self, actions: NDArray[np.float32]) -> None:
        """Take the actions (N, A) and begin another episode where one ended."""
        shown, reward, terminated, truncated, info = self.envs.step(actions)
        following = self._seen(shown)
        reward = self._reward(reward, self._info, info)
        for i, buffer in enumerate(self.buffers):
            self._actions[i].append(actions[i].copy())
            buffer.append(actions[i], float(reward[i]), _row(following, i), bool(terminated[i]), bool(truncated[i]))
        self._totals += reward
        self.observation, self._info = following, info
        ended = terminated | truncated
        if ended.any():
            success = info.get("success")
            for i in np.flatnonzero(ended).tolist():
                known = None if success is None else bool(success[i])
                self._recent.append(Episode(float(self._totals[i]), len(self._actions[i]), known))
            self._start(ended, [self._next_seed() if ended[i] else self._seeds[i] for i in range(len(ended))])

    def recent(self) -> dict[str, float]:
        """Means over the episodes that ended last: `episode_return`, `episode_steps`, and `episode_success` where it is
        known. Empty before the first has ended."""
        if not self._recent:
            return {}
        row = {
            "episode_return": float(np.mean([episode.total for episode in self._recent])),
            "episode_steps": float(np.mean([episode.steps for episode in self._recent])),
        }
        known = [episode.success for episode in self._recent if episode.success is not None]
        return row | ({"episode_success": float(np.mean(known))} if known else {})

    def sample(self, batch_size: int, rng: np.random.Generator) -> dict[str, NDArray]:
        """A batch from all buffers, each transition as likely as another."""
        if len(self.buffers) == 1:
            return self.buffers[0].sample(batch_size, rng)
        shares = np.array([len(buffer) for buffer in self.buffers], np.float64)
        counts = rng.multinomial(batch_size, shares / shares.sum())
        parts = [buffer.sample(count, rng) for buffer, count in zip(self.buffers, counts, strict=True) if count]
        order = rng.permutation(batch_size)
        return {name: np.concatenate([part[name] for part in parts])[order] for name in parts[0]}

    def close(self) -> None:
        """Close the environments."""
        self.envs.close()

    def _next_seed(self) -> int:
        self._begun += 1
        return int(np.random.default_rng((self._seed, self._begun)).integers(MAX_SEED))

    def _start(self, mask: NDArray[np.bool_], seeds: list[int]) -> None:
        """Begin an episode in the rows of the mask, from these seeds (N,)."""
        self.observation, self._info = self._reset(mask, seeds)
        for i in np.flatnonzero(mask).tolist():
            self._seeds[i], self._actions[i], self._totals[i] = seeds[i], [], 0.0
            self.buffers[i].begin(_row(self.observation, i))

    def _reset(self, mask: NDArray[np.bool_], seeds: list[int]) -> tuple[Observation, dict[str, Any]]:
        everybody = bool(mask.all())
        observation, info = self.envs.reset(seed=seeds, options=None if everybody else {"reset_mask": mask.copy()})
        return self._seen({name: rows.copy() for name, rows in observation.items()}), info

    def _seen(self, observation: Observation) -> Observation:
        return observation if self._trunk is None else self._trunk.seen(observation)

    def state_dict(self) -> dict[str, NDArray]:
        """Buffers, and the seeds and actions of the episodes under way."""
        state = {f"buffer{i}.{n}": v for i, buffer in enumerate(self.buffers) for n, v in buffer.state_dict().items()}
        for i, actions in enumerate(self._actions):
            shape = (len(actions), *self.interface.action.shape)
            state[f"actions{i}"] = np.stack(actions) if actions else np.zeros(shape, np.float32)
        observation = {f"observation.{name}": rows for name, rows in self.observation.items()}
        recent = [(e.total, e.steps, -1 if e.success is None else e.success) for e in self._recent]
        facts = {"begun": np.array(self._begun), "seeds": np.array(self._seeds), "totals": self._totals.copy()}
        facts["recent"] = np.array(recent, np.float64).reshape(-1, 3)
        return {**state, **observation, **facts}

    def load_state_dict(self, state: Mapping[str, NDArray]) -> None:
        """Go on as the collector whose `state_dict` this is. Raises CheckpointError when the environments, given the
        same seeds and actions, do not get to the same observation again."""
        for i, buffer in enumerate(self.buffers):
            part = f"buffer{i}."
            buffer.load_state_dict({k.removeprefix(part): v for k, v in state.items() if k.startswith(part)})
        self._begun = int(state["begun"])
        self._seeds = [int(seed) for seed in state["seeds"]]
        self._actions = [list(state[f"actions{i}"]) for i in range(self.envs.num_envs)]
        self._totals = state["totals"].copy()
        self._recent.clear()
        for total, steps, success in state["recent"]:
            self._recent.append(Episode(float(total), int(steps), None if success < 0 else bool(success)))
        self._repeat()
        for name, rows in self.observation.items():
            if not np.array_equal(rows, state[f"observation.{name}"], equal_nan=True):
                raise CheckpointError(
                    f"the environment does not repeat itself: after the same seed and actions, {name} is another than "
                    "it was, so the run cannot be resumed; train again, with --init-from this run to keep its weights"
                )

    def _repeat(self) -> None:
        """Take the actions of the episodes under way again, so that all of them arrive at the same tick.

        All rows are stepped together. A row whose episode is shorter than the longest does anything until its turn.
        """
        lengths = np.array([len(actions) for actions in self._actions])
        middle = np.asarray(self.interface.action.low, np.float32) / 2
        middle += np.asarray(self.interface.action.high, np.float32) / 2
        ended = np.ones(len(lengths), np.bool_)
        for left in range(int(lengths.max()), -1, -1):
            begin = ended | (lengths == left)
            if begin.any():
                self.observation, self._info = self._reset(begin, self._seeds)
            if left:
                now = [actions[-left] if len(actions) >= left else middle for actions in self._actions]
                shown, _, terminated, truncated, self._info = self.envs.step(np.stack(now))
                self.observation = self._seen(shown)
                ended = terminated | truncated


def make_collector(
    task: str,
    num_envs: int,
    image_size: int,
    buffer: ReplayBufferConfig,
    reward: str,
    seed: int,
    trunk: str = "",
    device: str = "cpu",
) -> Collector:
    """A collector in environments of its own; see `seen_environments`, REWARDS for the name of the reward, and
    `FrozenTrunk`, which is on the device."""
    look = None
    if trunk:
        from robolearn.recipes.training_data import FrozenTrunk  # brings torch

        look = FrozenTrunk(trunk, device)
    return Collector(seen_environments(task, num_envs, image_size), buffer, REWARDS[reward], seed, look)


def random_actions(spec: ArraySpec, number: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Uniform over the limits of an action spec (N, A)."""
    return rng.uniform(spec.low, spec.high, (number, *spec.shape)).astype(np.float32)  # type: ignore[arg-type]


def _row(observation: Observation, i: int) -> Observation:
    return {name: rows[i] for name, rows in observation.items()}
