"""Every algorithm of transitions solves a toy within a minute: move a point to a goal that is drawn anew, 15 steps of
at most 0.3.

The reward of a step is minus the distance that is left. Going straight makes about -1.6, random actions about -12.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest

from robolearn.algorithms import ALGORITHMS
from robolearn.algorithms.state_bc import StateBCConfig
from robolearn.datasets.store import DatasetSpec, EpisodeMeta
from robolearn.datasets.zarr_store import ZarrStore
from robolearn.policies.gaussian import GaussianPolicyConfig
from robolearn.recipes.evaluate import evaluate_policy
from robolearn.recipes.train_offline import train_offline
from robolearn.recipes.train_online import OnlineConfig, train_online
from robolearn.specs import ArraySpec, InterfaceSpec, RobotSpec
from robolearn.types import EpisodeOutcome

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]  # of a busy machine; alone each takes under a minute

TASK = "gym:robolearn_toys/Reach-v0"
STEPS = 15
WANTED = -3.0


class Reach(gymnasium.Env[np.ndarray, np.ndarray]):
    metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": 10}  # noqa: RUF012, Gymnasium's own form
    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (4,), np.float32)
    action_space = gymnasium.spaces.Box(-1.0, 1.0, (2,), np.float32)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        self.point, self.goal = self.np_random.uniform(-1, 1, (2, 2))
        return self.seen(), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        self.point = self.point + 0.3 * np.clip(action, -1, 1)
        return self.seen(), -float(np.linalg.norm(self.point - self.goal)), False, False, {}

    def seen(self) -> np.ndarray:
        return np.concatenate([self.point, self.goal]).astype(np.float32)


@pytest.fixture(scope="module", autouse=True)
def registered() -> None:
    if "robolearn_toys/Reach-v0" not in gymnasium.registry:
        gymnasium.register("robolearn_toys/Reach-v0", Reach, max_episode_steps=STEPS)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """150 episodes of actions that go more or less towards the goal: each is worth -4 to -13."""
    return examples(tmp_path_factory.mktemp("toy") / "reach.zarr", skill=(0.0, 0.7), noise=0.6)


def examples(path: Path, skill: tuple[float, float], noise: float) -> Path:
    robot = RobotSpec("point", ("x", "y"), (-1.0, -1.0), (1.0, 1.0), (1.0, 1.0))
    interface = InterfaceSpec(
        {"state": ArraySpec((4,))}, ArraySpec((2,), low=(-1.0, -1.0), high=(1.0, 1.0)), control_hz=10.0
    )
    store = ZarrStore.create(path, DatasetSpec(robot, interface, extra={"reward": ArraySpec(())}))
    env, rng = Reach(), np.random.default_rng(0)
    with store.writer() as writer:
        for episode in range(150):
            seen, _ = env.reset(seed=episode)
            writer.begin(EpisodeMeta(task=TASK, seed=episode))
            effort = rng.uniform(*skill)
            for step in range(STEPS):
                towards = np.clip((seen[2:] - seen[:2]) / 0.3, -1, 1)
                action = np.clip(effort * towards + rng.normal(0, noise, 2), -1, 1).astype(np.float32)
                following, reward, _, _, _ = env.step(action)
                fields = {"state": seen, "action": action, "action_sent": action, "reward": np.float32(reward)}
                writer.append(
                    {**fields, "held": np.bool_(False)}, dict.fromkeys(store.spec.stamped_fields, step * 10**8)
                )
                seen = following
            writer.commit(EpisodeOutcome(None, terminated=False, truncated=True))
    return store.path


def small(name: str, **changes: Any) -> Any:
    made = ALGORITHMS[name]
    config = made.config_type(batch_size=64, discount=0.9, polyak=0.02, critic_hidden_sizes=(64, 64), **changes)
    config = replace(config, policy=replace(config.policy, hidden_sizes=(64, 64)))
    fast = {name: 1e-3 for name in vars(config) if name.endswith("learning_rate")}
    return replace(config, **fast)


@pytest.mark.parametrize("name", ["sac", "dsac", "rlpd"])
def test_it_is_learned_by_own_experience(name: str, dataset: Path, tmp_path: Path) -> None:
    changes: dict[str, Any] = {"num_critics": 4, "utd": 4} if name == "rlpd" else {}
    online = OnlineConfig(random_steps=200, evaluation_episodes=20, evaluations=2)
    steps = 1500 if name == "rlpd" else 2500
    result = train_online(name, TASK, tmp_path / "run", steps, 0, small(name, **changes), online, offline_data=dataset)
    assert result["return_mean"] > WANTED


@pytest.mark.parametrize("name", ["iql", "cql", "calql", "td3_bc"])
def test_it_is_learned_from_better_and_worse_examples(name: str, dataset: Path, tmp_path: Path) -> None:
    changes: dict[str, Any] = {
        "iql": {"expectile": 0.9, "inverse_temperature": 10.0},
        "cql": {"conservatism": 0.5, "num_actions": 4},
        "calql": {"conservatism": 0.5, "num_actions": 4},
        "td3_bc": {"alpha": 10.0},
    }[name]
    result = train_offline(name, dataset, tmp_path / "run", 1500, 0, small(name, **changes), reward="reward")
    answer = evaluate_policy(result["checkpoint"], TASK, 20)
    assert answer["return_mean"] > WANTED
    assert answer["trained_for"] == [TASK]


def test_iql_goes_on_by_its_own_experience(dataset: Path, tmp_path: Path) -> None:
    """No data is kept: what was learned offline does not fall, and gets better."""
    config = small("iql", expectile=0.9, inverse_temperature=10.0)
    train_offline("iql", dataset, tmp_path / "offline", 1000, 0, config, reward="reward")
    before = evaluate_policy(tmp_path / "offline" / "checkpoints" / "latest", TASK, 50)["return_mean"]
    online = OnlineConfig(evaluation_episodes=50, evaluations=3)
    result = train_online("iql", TASK, tmp_path / "online", 1500, 0, config, online, init_from=tmp_path / "offline")
    assert result["return_mean"] > before + 0.2
    assert result["return_mean"] > WANTED


def test_it_is_cloned_from_good_examples(tmp_path: Path) -> None:
    data = examples(tmp_path / "good.zarr", skill=(1.0, 1.0), noise=0.2)
    config = StateBCConfig(GaussianPolicyConfig((64, 64), "mixture", log_std_low=-4.0), batch_size=64, episodes="all")
    result = train_offline("state_bc", data, tmp_path / "run", 1500, 0, config)
    checkpoints = tmp_path / "run" / "checkpoints"
    assert evaluate_policy(result["checkpoint"], TASK, 20)["return_mean"] > WANTED
    assert evaluate_policy(checkpoints / "untrained", TASK, 20)["return_mean"] < 2 * WANTED
