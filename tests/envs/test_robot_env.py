from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator

import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from robolearn.envs.robot_env import RobotEnv
from robolearn.errors import SpecError, UnknownNameError
from robolearn.robots.safety import SafetyConfig
from robolearn.twin.layout import DIVERGED


@pytest.fixture(scope="module")
def env() -> Iterator[RobotEnv]:
    env = RobotEnv("pick_place-v1", cameras={}, privileged=True)
    yield env
    env.close()


@pytest.mark.parametrize("task_id", ["pick_place-v1", "reach-v1"])
def test_passes_the_checker_of_gymnasium(task_id: str) -> None:
    env = RobotEnv(task_id, {"front": (32, 32), "wrist": (24, 32)}, render_mode="rgb_array")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # joint targets are in radians, it would like them in [-1, 1]
        check_env(env, skip_render_check=True)
    picture = env.render()
    assert picture is not None
    assert picture.shape == (32, 32, 3)
    env.close()


def test_policies_do_not_see_where_objects_are_unless_asked() -> None:
    env = RobotEnv("pick_place-v1", {"front": (32, 32)})
    observation, _ = env.reset(seed=0)
    assert set(observation) == set(env.interface.observation) == {"proprio", "image_front"}


def test_the_expert_succeeds_and_is_told_so(env: RobotEnv) -> None:
    observation, info = env.reset(seed=2)
    assert not info["success"]
    terminated = truncated = False
    stages, rewards = [], []
    while not (terminated or truncated):
        observation, reward, terminated, truncated, info = env.step(env.task.expert(observation))
        stages.append(info["stage"])
        rewards.append(reward)
        assert not info["held"]
        assert info["stamp_ns"] == len(stages) * env.twin.period_ns
        assert info["action_sent"].dtype == np.float32
    assert (terminated, truncated, info["success"], info["progress"]) == (True, False, True, 1.0)
    assert stages == sorted(stages)
    assert rewards[-1] == max(rewards) == 2.0


def test_a_nan_action_is_held_named_and_ends_the_episode(env: RobotEnv) -> None:
    _, info = env.reset(seed=0)
    held_at = info["action_sent"].copy()
    for step in range(10):
        _, _, terminated, truncated, info = env.step(np.full(6, np.nan, np.float32))
        assert info["held"]
        assert "nan" in info["reason"]
        np.testing.assert_allclose(info["action_sent"], held_at, atol=1e-6)
        assert (terminated, truncated) == (False, step == 9)
    assert info["held_steps"] == 10


def test_one_bad_action_is_survived_and_counted(env: RobotEnv) -> None:
    _, info = env.reset(seed=0)
    good = info["action_sent"]
    env.step(np.full(6, np.nan, np.float32))
    for _ in range(20):
        _, _, _, truncated, info = env.step(good)
        assert not truncated
    assert info["held_steps"] == 1


def test_a_step_too_large_never_reaches_the_robot(env: RobotEnv) -> None:
    _, info = env.reset(seed=0)
    far = info["action_sent"].copy()
    far[0] += 1.5
    _, _, _, _, info = env.step(far)
    assert info["held"]
    assert "shoulder_pan" in info["reason"]
    assert env.twin.data.ctrl[0] != pytest.approx(far[0])


def test_is_truncated_after_max_steps(env: RobotEnv) -> None:
    _, info = env.reset(seed=0)
    hold = info["action_sent"]
    for step in range(1, env.task.max_steps + 1):
        _, _, terminated, truncated, info = env.step(hold)
        assert (terminated, truncated) == (False, step == env.task.max_steps)
    assert info["reason"] == ""


def test_a_lost_cube_terminates_and_says_so(env: RobotEnv) -> None:
    _, info = env.reset(seed=0)
    env.twin.data.joint(env.twin.model.body("cube").jntadr[0]).qpos[:3] = (0.2, 1.0, 0.3)
    _, _, terminated, truncated, info = env.step(info["action_sent"])
    assert (terminated, truncated, info["success"], info["reason"]) == (True, False, False, "object lost")


def test_a_diverged_simulation_truncates_and_says_so(env: RobotEnv) -> None:
    _, info = env.reset(seed=0)
    env.twin.data.qvel[0] = 1e20
    observation, _, terminated, truncated, info = env.step(info["action_sent"])
    assert (terminated, truncated, info["reason"]) == (False, True, DIVERGED)
    assert all(np.isfinite(array).all() for array in observation.values())


def test_a_seed_fixes_the_episode_and_none_draws_another(env: RobotEnv) -> None:
    first, _ = env.reset(seed=7)
    second, _ = env.reset()
    third, _ = env.reset()
    again, _ = env.reset(seed=7)
    after, _ = env.reset()
    np.testing.assert_array_equal(first["pose_cube"], again["pose_cube"])
    np.testing.assert_array_equal(second["pose_cube"], after["pose_cube"])
    assert len({row["pose_cube"].tobytes() for row in (first, second, third)}) == 3


def test_bad_arguments() -> None:
    with pytest.raises(UnknownNameError, match="did you mean push-v1"):
        RobotEnv("pusch-v1")
    with pytest.raises(SpecError, match="no cameras"):
        RobotEnv("reach-v1", cameras={}, render_mode="rgb_array")
    with pytest.raises(SpecError, match="no cameras"):
        RobotEnv("reach-v1", flat=True, render_mode="rgb_array")
    with pytest.raises(SpecError, match="render_mode is 'human', expected rgb_array"):
        RobotEnv("reach-v1", render_mode="human")
    with pytest.raises(SpecError, match="call reset"):
        RobotEnv("reach-v1", {}, control="joint_velocity").step(np.zeros(6, np.float32))


def test_a_limit_of_the_lag_hears_where_the_joints_are() -> None:
    safety = SafetyConfig(max_jump=1.0, max_lag=(0.1,) * 6)
    with contextlib.closing(RobotEnv("reach-v1", safety=safety)) as env:
        env.reset(seed=0)
        start = env.twin.robot_state().joint_position
        target = start + np.float32([0.5, 0, 0, 0, 0, 0])
        for _ in range(30):
            env.step(target)
        assert env.twin.robot_state().joint_position[0] == pytest.approx(target[0], abs=0.02)
