from __future__ import annotations

import contextlib
from typing import Any

import gymnasium
import numpy as np
import pytest
from numpy.typing import NDArray

from robolearn.datasets.replay_buffer import ReplayBufferConfig
from robolearn.errors import CheckpointError
from robolearn.recipes.collector import Collector, random_actions
from robolearn.recipes.environments import REWARDS, make_environments
from robolearn.specs import ArraySpec, InterfaceSpec


class Walks:
    """Rows that walk from their seed; one ends by itself at 12 steps, or earlier where its seed says so."""

    interface = InterfaceSpec({"state": ArraySpec((2,))}, ArraySpec((1,), low=(-1.0,), high=(1.0,)), 10.0)

    def __init__(self, num_envs: int, forgetful: bool = False) -> None:
        self.num_envs, self.forgetful = num_envs, forgetful
        self.state = np.zeros((num_envs, 2), np.float32)
        self.lengths, self.steps = np.full(num_envs, 12), np.zeros(num_envs, np.int64)

    def reset(self, *, seed: Any = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        mask = np.ones(self.num_envs, np.bool_) if options is None else options["reset_mask"]
        for i in np.flatnonzero(mask):
            start = np.random.default_rng() if self.forgetful else np.random.default_rng(seed[i])
            self.state[i] = start.normal(size=2)
            self.lengths[i], self.steps[i] = 3 + seed[i] % 10, 0
        return {"state": self.state.copy()}, {}

    def step(self, actions: NDArray) -> tuple[Any, NDArray, NDArray, NDArray, dict[str, Any]]:
        self.state += actions
        self.steps += 1
        terminated = self.steps >= self.lengths
        truncated = (self.steps >= 12) & ~terminated
        success = terminated & (self.state[:, 0] > 0)
        return {"state": self.state.copy()}, self.state[:, 0].copy(), terminated, truncated, {"success": success}

    def render(self) -> None:
        return None

    def close(self, **kwargs: Any) -> None:
        pass


def make(envs: Walks, seed: int = 0) -> Collector:
    return Collector(envs, ReplayBufferConfig(600), REWARDS["task"], seed)


def test_a_transition_is_what_happened() -> None:
    collector = make(Walks(3))
    rng = np.random.default_rng(0)
    for _ in range(50):
        collector.step(random_actions(collector.interface.action, collector.num_envs, rng))
    assert len(collector) == 150
    batch = collector.sample(400, rng)
    np.testing.assert_allclose(batch["next_state"], batch["state"] + batch["action"], rtol=1e-5)
    np.testing.assert_allclose(batch["reward"], batch["next_state"][:, 0], rtol=1e-6)
    assert 0 < batch["bootstrap"].mean() < 1
    recent = collector.recent()
    assert 3 <= recent["episode_steps"] <= 12
    assert 0 <= recent["episode_success"] <= 1


def test_an_environment_of_gymnasium_does_what_the_transitions_say_also_at_the_end_of_an_episode() -> None:
    envs = make_environments("gym:Pendulum-v1", 2)
    collector, rng = Collector(envs, ReplayBufferConfig(2000), REWARDS["task"], 0), np.random.default_rng(0)
    for _ in range(410):  # episodes of 200 steps, never terminated
        collector.step(random_actions(collector.interface.action, collector.num_envs, rng))
    batch = collector.sample(2000, rng)
    assert (batch["bootstrap"] == 1).all()
    envs.close()
    alone: Any = gymnasium.make("Pendulum-v1").unwrapped
    alone.reset(seed=0)
    for state, action, reward, following in zip(
        *(batch[name] for name in ("state", "action", "reward", "next_state")), strict=True
    ):
        alone.state = np.array([np.arctan2(state[1], state[0]), state[2]])
        found, found_reward, *_ = alone.step(action)
        np.testing.assert_allclose(found, following, atol=1e-5)
        np.testing.assert_allclose(found_reward, reward, atol=1e-4)


@pytest.mark.parametrize("task", ["push-v1", "tool:push-v1"])
def test_one_that_begins_changes_nothing_that_is_told_of_the_others(task: str) -> None:
    with contextlib.closing(make_environments(task, 2)) as envs:
        envs.reset(seed=[1, 2])
        before = envs.step(np.zeros((2, *envs.interface.action.shape), np.float32))[4]["progress"].copy()
        info = envs.reset(seed=[3, 2], options={"reset_mask": np.array([True, False])})[1]
    assert info["progress"][1] == before[1] > 0
    assert info["progress"][0] != before[0]


def test_all_buffers_are_drawn_from_and_mixed() -> None:
    collector = make(Walks(4))
    for i in range(4):
        collector.buffers[i]._reward[:] = i
    for _ in range(30):
        collector.step(np.zeros((4, 1), np.float32))
    for i, buffer in enumerate(collector.buffers):
        buffer._reward[:] = i
    rewards = collector.sample(4000, np.random.default_rng(0))["reward"]
    counts = np.bincount(rewards.astype(int), minlength=4)
    assert (abs(counts - 1000) < 150).all()
    assert (abs(np.bincount(rewards[:1000].astype(int), minlength=4) - 250) < 80).all()


@pytest.mark.parametrize("steps", [0, 1, 5, 23])
def test_a_restored_collector_goes_on_in_the_middle_of_its_episodes(steps: int) -> None:
    whole, cut = make(Walks(3)), make(Walks(3))
    rng, other = np.random.default_rng(0), np.random.default_rng(0)
    for _ in range(steps):
        whole.step(random_actions(whole.interface.action, whole.num_envs, rng))
        cut.step(random_actions(cut.interface.action, cut.num_envs, other))
    saved = {name: values.copy() for name, values in cut.state_dict().items()}
    resumed = make(Walks(3), seed=0)
    resumed.load_state_dict(saved)
    assert resumed.recent() == whole.recent()
    for _ in range(30):
        actions = random_actions(whole.interface.action, whole.num_envs, rng)
        whole.step(actions)
        resumed.step(actions)
        np.testing.assert_array_equal(whole.observation["state"], resumed.observation["state"])
    a, b = (c.sample(100, np.random.default_rng(5)) for c in (whole, resumed))
    for name, values in a.items():
        np.testing.assert_array_equal(values, b[name])
    assert resumed.recent() == whole.recent()


def test_an_environment_that_does_not_repeat_itself_cannot_be_resumed() -> None:
    collector = make(Walks(2, forgetful=True))
    collector.step(np.zeros((2, 1), np.float32))
    with pytest.raises(CheckpointError, match="does not repeat itself"):
        make(Walks(2, forgetful=True)).load_state_dict(collector.state_dict())
