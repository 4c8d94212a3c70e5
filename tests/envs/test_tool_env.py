"""The twin in the space of its tool, as episodes."""

from __future__ import annotations

import contextlib
from pathlib import Path

import numpy as np
import pytest

from robolearn.algorithms.rlpd import RLPDConfig
from robolearn.datasets.replay_buffer import ReplayBuffer
from robolearn.datasets.zarr_store import ZarrStore
from robolearn.envs.tool_env import PLACELESS, ToolEnv, tool_space
from robolearn.envs.tool_space import DECISION_TICKS, STEP_M
from robolearn.errors import DatasetError, SpecError
from robolearn.policies.gaussian import GaussianPolicyConfig
from robolearn.recipes.collect import CollectConfig, collect_episodes
from robolearn.recipes.demonstrations import demonstrations
from robolearn.recipes.environments import make_environments, seen_environments
from robolearn.recipes.evaluate import evaluate_policy
from robolearn.recipes.finetune.data import decision_steps
from robolearn.recipes.train_online import OnlineConfig, train_online

TASK = "reach-v1"


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("demos") / "reach.zarr"
    collect_episodes(CollectConfig(task=TASK, image_size=0, perturbation=0.0), path, 3, seed=0)
    return path


def test_a_step_moves_the_tool_for_a_whole_decision() -> None:
    with contextlib.closing(ToolEnv(TASK)) as env:
        before, _ = env.reset(seed=0)
        action = np.zeros(env.action_space.shape, np.float32)
        action[1] = 0.5
        after, reward, terminated, truncated, info = env.step(action)
        assert (terminated, truncated) == (False, False)
        assert info["stamp_ns"] == DECISION_TICKS * 50_000_000
        commanded = [seen["state"][:3] + seen["state"][3:6] for seen in (before, after)]
        np.testing.assert_allclose(commanded[1] - commanded[0], [0, 0.5 * STEP_M * DECISION_TICKS, 0], atol=1e-5)
        last = env.step(np.full_like(action, np.nan))[0]["state"]
        np.testing.assert_allclose(last[:3] + last[3:6], commanded[1], atol=1e-5)  # nothing was commanded
        assert reward > 0
        with pytest.raises(SpecError, match=r"shape \(3,\), expected \(4,\)"):
            env.step(action[:3])


def test_the_expert_succeeds_and_an_episode_ends_in_the_middle_of_a_decision() -> None:
    space = tool_space(TASK)
    with contextlib.closing(ToolEnv(TASK)) as env:
        env.reset(seed=0)
        over, ticks = False, 0
        while not over:
            action = space.expert(env._env.twin.observe(("proprio", "pose_tool", "pose_target")), env._command, 0)
            _, _, terminated, truncated, info = env.step(action)
            over, ticks = terminated or truncated, info["stamp_ns"] // 50_000_000
        assert info["success"]
        assert ticks < env._env.task.max_steps


@pytest.mark.parametrize("task_id", ["lift_bar-v1", "point_up-v1"])
def test_what_is_not_done_with_one_tool_is_refused(task_id: str) -> None:
    with pytest.raises(SpecError, match="one tool that points down"):
        ToolEnv(task_id)


@pytest.mark.parametrize("task_id", PLACELESS)
def test_where_things_carried_to_one_another_are_is_not_told(task_id: str) -> None:
    space = tool_space(task_id)
    names = ("proprio", "pose_tool", *(f"pose_{body}" for body in space.bodies))
    with contextlib.closing(ToolEnv(task_id)) as env:
        told = env.reset(seed=0)[0]["state"]
        assert told.shape == space.interface.observation["state"].shape
        facts = {name: values.copy() for name, values in env._env.twin.observe(names).items()}
        command = env._command.copy()
    for change, same in ((np.array([0.05, -0.03, 0.0]), True), (np.array([0.0, 0.0, 0.05]), False)):
        moved = {n: v.copy() for n, v in facts.items()}
        for name in names[1:]:
            moved[name][:3] += change
        elsewhere = space.state(moved, command + np.pad(change, (0, 2)))
        assert np.allclose(elsewhere, told, atol=1e-5) == same


def test_demonstrations_do_the_task_again(dataset: Path) -> None:
    with contextlib.closing(make_environments(f"tool:{TASK}", 1)) as envs:
        buffer, statistics = demonstrations(ZarrStore.open(dataset), f"tool:{TASK}", envs.interface, 0.9, 1)
        assert isinstance(buffer, ReplayBuffer)
        assert set(statistics) == {"state"}
        state = buffer.state_dict()
        ends = np.flatnonzero(~state["acted"])
        assert len(ends) == 3
        first = 0
        for seed, end in enumerate(ends):
            observation, _ = envs.reset(seed=[seed])
            np.testing.assert_allclose(observation["state"][0], state["observation.state"][first], atol=1e-4)
            begun_m = np.linalg.norm(observation["state"][0, 8:11])  # from the tool to the target
            for row in range(first, end):
                observation, _, _, _, _ = envs.step(state["action"][row][None])
            assert np.linalg.norm(observation["state"][0, 8:11]) < 0.3 * begun_m
            assert state["reward"][first:end].tolist() == [0.0] * (end - first - 1) + [1.0]
            assert state["terminated"][end - 1]
            first = end + 1


def test_pictures_take_the_place_of_things(tmp_path: Path) -> None:
    path = tmp_path / "seen.zarr"
    collect_episodes(CollectConfig(task=TASK, image_size=16), path, 1, seed=0)
    recorded = ZarrStore.open(path).read(0, ["image_front", "image_wrist"])
    with contextlib.closing(seen_environments(f"tool:{TASK}", 1, 16)) as envs:
        shown, _ = envs.reset(seed=[0])
        assert set(shown) == {"state", *recorded}
        with contextlib.closing(make_environments(f"tool:{TASK}", 1)) as blind:
            whole = blind.reset(seed=[0])[0]["state"]
        size = shown["state"].shape[1]
        assert size < whole.shape[1]
        np.testing.assert_allclose(shown["state"], whole[:, :size])
        moved, _, _, _, _ = envs.step(np.ones(envs.interface.action.shape, np.float32)[None])
        assert (moved["image_wrist"] != shown["image_wrist"]).any()

        buffer, statistics = demonstrations(ZarrStore.open(path), f"tool:{TASK}", envs.interface, 0.9, 1)
        assert isinstance(buffer, ReplayBuffer)
        assert set(statistics) == {"state"}
        state = buffer.state_dict()
        at = decision_steps(len(recorded["image_front"]))
        for name, pictures in recorded.items():
            np.testing.assert_array_equal(state[f"observation.{name}"][: len(at)], pictures[at])
            jpeg = np.abs(pictures[0].astype(int) - shown[name][0]).mean()
            assert jpeg < 10  # the same scene, by a codec that loses a little
    other = contextlib.closing(seen_environments(f"tool:{TASK}", 1, 32))
    with other as envs, pytest.raises(DatasetError, match=r"set online\.image_size=16, or"):
        demonstrations(ZarrStore.open(path), f"tool:{TASK}", envs.interface, 0.9, 1)


def test_what_does_not_fit_is_told(dataset: Path) -> None:
    with (
        contextlib.closing(seen_environments(f"tool:{TASK}", 1, 16)) as envs,
        pytest.raises(DatasetError, match="no image_front"),
    ):
        demonstrations(ZarrStore.open(dataset), f"tool:{TASK}", envs.interface, 0.9, 1)
    with (
        contextlib.closing(make_environments(f"tool:{TASK}", 1)) as envs,
        pytest.raises(DatasetError, match="one number"),
    ):
        demonstrations(ZarrStore.open(dataset), f"tool:{TASK}", envs.interface, 0.9, 1, reward="proprio")


@pytest.mark.slow  # the statistics of random actions take seconds
@pytest.mark.parametrize("image_size", [0, 16])
def test_trains_from_demonstrations_and_is_judged_there(image_size: int, tmp_path: Path) -> None:
    dataset = tmp_path / "reach.zarr"
    collect_episodes(CollectConfig(task=TASK, image_size=image_size), dataset, 2, seed=0)
    policy = GaussianPolicyConfig(hidden_sizes=(8,))
    config = RLPDConfig(policy=policy, critic_hidden_sizes=(8,), batch_size=8, utd=1, num_critics=2)
    online = OnlineConfig(image_size=image_size, random_steps=4, evaluation_episodes=1, evaluations=1)
    train_online("rlpd", f"tool:{TASK}", tmp_path / "run", 8, 0, config, online, offline_data=dataset)
    answer = evaluate_policy(tmp_path / "run" / "checkpoints" / "latest", f"tool:{TASK}", 2)
    assert answer["episodes"] == 2
    assert answer["mean_episode_steps"] <= 100 / DECISION_TICKS + 1
