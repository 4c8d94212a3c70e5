from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from robolearn.envs.robot_env import RobotEnv
from robolearn.envs.vector_env import RobotVectorEnv
from robolearn.errors import SpecError
from robolearn.physics import Physics
from robolearn.twin.layout import DIVERGED, LOST
from robolearn.twin.randomize import Randomization


def actions_of(env: RobotVectorEnv, rng: np.random.Generator) -> np.ndarray:
    """A random walk, with a command that must be refused and one that is no number now and then."""
    if env.control.relative:
        actions = rng.uniform(-1.2, 1.2, env.action_space.shape).astype(np.float32)
    else:
        actions = env._filter.sent + rng.normal(0, 0.08, env.action_space.shape).astype(np.float32)
        actions[rng.random(env.num_envs) < 0.05] += 3.0
    actions[rng.random(env.num_envs) < 0.05, 2] = np.nan
    return actions


def assert_same(ours: Any, theirs: Any, where: str) -> None:
    """Equal in value; what only `theirs` marks as present is compared there alone."""
    if isinstance(theirs, dict):
        for name in theirs:
            if name.startswith("_"):
                np.testing.assert_array_equal(ours[name], theirs[name], err_msg=f"{where}.{name}")
                continue
            mask = theirs.get(f"_{name}")
            if mask is None or isinstance(theirs[name], dict):
                assert_same(ours[name], theirs[name], f"{where}.{name}")
            else:
                assert_same(ours[name][mask], theirs[name][mask], f"{where}.{name}")
    elif isinstance(theirs, np.ndarray) and theirs.dtype == object:
        for mine, other in zip(ours, theirs, strict=True):
            if isinstance(other, str):
                assert bool(mine) == bool(other), f"{where}: {mine!r} and {other!r}"  # one has the numbers, too
            else:
                assert_same(mine, other, where)
    else:
        np.testing.assert_array_equal(ours, theirs, err_msg=where)


@pytest.mark.parametrize(
    ("mode", "task_id", "arguments"),
    [
        (AutoresetMode.NEXT_STEP, "push-v1", {"cameras": {"front": (16, 16)}}),
        (AutoresetMode.NEXT_STEP, "lift-v1", {"privileged": True, "flat": True, "control": "joint_velocity"}),
        (AutoresetMode.SAME_STEP, "lift-v1", {"privileged": True, "flat": True, "control": "joint_velocity"}),
        (AutoresetMode.NEXT_STEP, "push-v1", {"privileged": True, "flat": True, "physics": Physics(latency_s=0.03)}),
        (
            AutoresetMode.SAME_STEP,
            "pick_place-v1",
            {"cameras": {"front": (16, 16)}, "privileged": True, "randomization": Randomization()},
        ),
    ],
)
def test_a_row_is_what_a_single_environment_is(mode: AutoresetMode, task_id: str, arguments: dict[str, Any]) -> None:
    ours = RobotVectorEnv(task_id, 3, max_held_steps=3, autoreset_mode=mode, **arguments)
    single = partial(RobotEnv, task_id, max_held_steps=3, **arguments)
    theirs = SyncVectorEnv([single] * 3, autoreset_mode=mode)
    assert ours.single_observation_space == theirs.single_observation_space
    assert (ours.observation_space, ours.action_space) == (theirs.observation_space, theirs.action_space)
    ours.task.max_steps = 14
    for env in theirs.envs:
        env.unwrapped.task.max_steps = 14
    for mine, other in zip(ours.reset(seed=5), theirs.reset(seed=5), strict=True):
        assert_same(mine, other, "reset")
    rng = np.random.default_rng(0)
    ends = 0
    for step in range(40):
        actions = actions_of(ours, rng)
        for what, mine, other in zip(
            ("observation", "reward", "terminated", "truncated", "info"),
            ours.step(actions),
            theirs.step(actions),
            strict=True,
        ):
            assert_same(mine, other, f"step {step} {what}")
            ends += int(np.sum(mine)) if what in ("terminated", "truncated") else 0
    assert ours.observation_space.contains(ours.step(actions)[0])
    assert ends >= 6
    ours.close()
    theirs.close()


def test_resets_only_the_rows_of_a_mask() -> None:
    env = RobotVectorEnv("reach-v1", 3, {}, privileged=True, autoreset_mode="Disabled")
    before, _ = env.reset(seed=[1, 2, 3])
    after, info = env.reset(seed=[7, 2, 7], options={"reset_mask": np.array([True, False, True])})
    np.testing.assert_array_equal(after["pose_target"][1], before["pose_target"][1])
    np.testing.assert_array_equal(after["pose_target"][0], after["pose_target"][2])
    assert (info["stamp_ns"] == 0).all()
    with pytest.raises(SpecError, match="reset_mask"):
        env.reset(options={"reset_mask": np.zeros(3, bool)})
    with pytest.raises(SpecError, match="2 seeds for 3"):
        env.reset(seed=[1, 2])


def test_disabled_autoreset_wants_a_reset_after_the_end() -> None:
    env = RobotVectorEnv("reach-v1", 2, {}, autoreset_mode="Disabled", max_held_steps=2)
    env.reset(seed=0)
    bad = env._filter.sent.copy()
    bad[1] = np.nan
    env.step(bad)
    _, _, terminated, truncated, info = env.step(bad)
    assert (terminated.any(), truncated.tolist(), info["held_steps"].tolist()) == (False, [False, True], [0, 2])
    assert "shoulder_pan is not a finite number" in info["reason"][1]
    with pytest.raises(SpecError, match="environment 1 has ended"):
        env.step(bad)
    env.reset(options={"reset_mask": truncated})
    env.step(env._filter.sent)


def test_lost_objects_and_broken_physics_are_told_apart() -> None:
    env = RobotVectorEnv("lift-v1", 3, {}, autoreset_mode="SameStep")
    env.reset(seed=0)
    env.twins.batch.joint(env.twins.model.body("cube").jntadr[0]).qpos[0, :3] = (0.2, 1.0, 0.3)
    env.twins.batch.bind("qvel")[2, 0] = 1e20
    observation, reward, terminated, truncated, info = env.step(env._filter.sent)
    assert (terminated.tolist(), truncated.tolist()) == ([True, False, False], [False, False, True])
    assert info["final_info"]["reason"].tolist() == [LOST, "", DIVERGED]
    assert info["reason"].tolist() == ["", "", ""]
    assert reward[2] == 0
    assert all(np.isfinite(rows).all() for rows in observation.values())
    assert not env.twins.diverged.any()


def test_a_seed_fixes_every_row_and_rows_differ() -> None:
    def run(seed: Any) -> list[bytes]:
        env = RobotVectorEnv("push-v1", 4, privileged=True, flat=True, control="joint_velocity", threads=2)
        observation, _ = env.reset(seed=seed)
        rows = [observation.tobytes()]
        rng = np.random.default_rng(1)
        for _ in range(20):
            rows.append(env.step(rng.uniform(-1, 1, (4, 6)).astype(np.float32))[0].tobytes())
        assert len({row.tobytes() for row in observation}) == 4
        return rows

    assert run(3) == run(np.arange(3, 7))


def test_bad_arguments() -> None:
    with pytest.raises(SpecError, match="no cameras"):
        RobotVectorEnv("reach-v1", 2, {}, render_mode="rgb_array")
    with pytest.raises(SpecError, match="no cameras"):
        RobotVectorEnv("reach-v1", 2, flat=True, render_mode="rgb_array")
    with pytest.raises(SpecError, match="render_mode is 'human', expected rgb_array"):
        RobotVectorEnv("reach-v1", 2, render_mode="human")
    with pytest.raises(SpecError, match="flat"):
        RobotVectorEnv("reach-v1", 2, {"front": (16, 16)}, flat=True)
    env = RobotVectorEnv("reach-v1", 2, {})
    _, info = env.reset(seed=0)
    info["_success"][:] = False  # it is the caller's own
    env.reset()
    with pytest.raises(SpecError, match=r"\(2, 6\)"):
        env.step(np.zeros(6, np.float32))
