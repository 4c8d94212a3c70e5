"""Policies of the tool's space on a robot: they do there what they do where they learned."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from robolearn.envs.robot_env import RobotEnv
from robolearn.envs.tool_env import ToolEnv, tool_space
from robolearn.envs.tool_policy import ToolPolicy, robot_policy
from robolearn.envs.tool_space import DECISION_TICKS, ToolSpace
from robolearn.errors import SpecError
from robolearn.policies.checkpoint import save_policy
from robolearn.policies.gaussian import GaussianPolicy, GaussianPolicyConfig
from robolearn.recipes.evaluate import evaluate_policy
from robolearn.recipes.finetune.settings import FinetuneConfig
from robolearn.recipes.policies import open_robot_policy
from robolearn.serving.loop import ControlLoop
from robolearn.types import Observation

TASK, CAMERAS = "push-v1", {"front": (16, 16), "wrist": (16, 16)}


def untrained(space: Any, **config: Any) -> GaussianPolicy:
    return GaussianPolicy(space.interface, {}, GaussianPolicyConfig(hidden_sizes=(16,), **config), seed=3)


@pytest.mark.parametrize("cameras", [None, CAMERAS])
def test_it_moves_the_robot_as_it_moved_the_tool(cameras: Any) -> None:
    learned = ToolEnv(TASK, cameras=cameras)
    policy = untrained(learned, images=bool(cameras))
    there: list[Observation] = []
    seen, info = learned.reset(seed=4)
    for _ in range(6):
        there.append(seen)
        seen = learned.step(policy.act(seen, 0).actions[0])[0]
    learned.close()

    robot = robot_policy(policy, {"tasks": [f"tool:{TASK}"]})
    assert isinstance(robot, ToolPolicy)
    env = RobotEnv(TASK, cameras or {}, privileged=not cameras)
    robot.spec.require(env.interface, "the policy", "the twin")
    loop, space = ControlLoop(robot, DECISION_TICKS), tool_space(TASK, cameras)
    observation, info = env.reset(seed=4)
    asked: list[Observation] = []
    policy_act = policy.act
    policy.act = lambda seen, stamp_ns: (asked.append(seen), policy_act(seen, stamp_ns))[1]  # type: ignore[method-assign]
    for _ in range(6 * DECISION_TICKS):
        observation, *_, info = env.step(loop.step(observation, info["stamp_ns"]).action)
    env.close()
    assert len(asked) == len(there) == 6
    for mine, theirs in zip(asked, there, strict=True):
        np.testing.assert_allclose(mine["state"], theirs["state"], atol=2e-6)
        for name in theirs:
            np.testing.assert_allclose(mine[name], theirs[name], atol=1.0 if name != "state" else 2e-6)
    assert np.ptp([each["state"][:3] for each in asked], axis=0).max() > 0.01  # it went somewhere
    assert space.own_entries == 8


def test_a_policy_that_practised_is_judged_and_served_by_the_robots_fields(tmp_path: Path) -> None:
    config = FinetuneConfig(TASK, pretrained_by="nothing", image_size=16)
    policy = untrained(config.space(), images=True)
    save_policy(policy, tmp_path / "c", config.provenance({"front": (48, 64), "wrist": (16, 16)}))
    robot = open_robot_policy(str(tmp_path / "c"))
    assert {n: f.shape for n, f in robot.spec.observation.items()} == {
        "proprio": (12,), "image_front": (48, 64, 3), "image_wrist": (16, 16, 3),
    }  # fmt: skip
    save_policy(policy, tmp_path / "d", config.provenance(CAMERAS))
    answer = evaluate_policy(tmp_path / "d", TASK, 1)
    assert answer["outcomes"][0]["steps"] > 20
    assert "policy" not in answer["outcomes"][0]["reason"]  # its answers were of the right form
    there, back = (open_robot_policy(str(tmp_path / "d"), task_id=task) for task in config.task_ids)
    rng = np.random.default_rng(0)
    seen = {
        "proprio": np.array([0.1, -0.5, 0.7, 0.4, 0, 0.2, *[0] * 6], np.float32),
        **{f"image_{name}": rng.integers(0, 255, (16, 16, 3), np.uint8) for name in CAMERAS},
    }
    assert not np.allclose(there.act(seen, 0).actions, back.act(seen, 0).actions)
    alone = replace(config, supervisor=replace(config.supervisor, tasks=1))
    robot = robot_policy(untrained(alone.space(), images=True), alone.provenance(CAMERAS))
    assert robot.act(seen, 0).actions.shape == (DECISION_TICKS, 6)


def test_it_goes_on_from_what_it_commanded_unless_the_arm_is_elsewhere() -> None:
    space = tool_space(TASK, CAMERAS)
    robot = ToolPolicy(untrained(space, images=True), space)
    period_ns = round(1e9 / robot.spec.control_hz)
    seen: Observation = {
        "proprio": np.array([0.1, -0.5, 0.7, 0.4, 0, 0.2, *[0] * 6], np.float32),
        **{f"image_{name}": np.zeros((*size, 3), np.uint8) for name, size in CAMERAS.items()},
    }
    first = robot.act(seen, 10**9).actions
    for passed in range(DECISION_TICKS + 1):  # the arm has not moved yet; so many of its targets were sent
        robot.reset()
        robot.act(seen, 10**9)
        start = first[passed - 1] if passed else seen["proprio"][:6]
        command = robot._commanded(seen["proprio"][:6].astype(float), 10**9 + passed * period_ns)
        np.testing.assert_allclose(command[:3], space.command_of(start.astype(float))[:3], atol=1e-4)
    here = space.command_of(seen["proprio"][:6].astype(float))
    for late in (DECISION_TICKS + 1, -1):
        np.testing.assert_array_equal(
            robot._commanded(seen["proprio"][:6].astype(float), 10**9 + late * period_ns), here
        )
    away = seen["proprio"][:6] + np.array([0.8, 0, 0, 0, 0, 0])
    np.testing.assert_array_equal(robot._commanded(away, 10**9 + period_ns), space.command_of(away))


def test_a_policy_of_another_space_is_refused() -> None:
    space = tool_space(TASK)
    with pytest.raises(SpecError, match="the policy sees"):
        ToolPolicy(untrained(space), tool_space("pick_place-v1"))
    with pytest.raises(SpecError, match="does not tell in which task"):
        robot_policy(untrained(space), {})
    plain = GaussianPolicy(
        replace(space.interface, action=replace(space.interface.action, names=("a", "b", "c", "d"))),
        {},
        GaussianPolicyConfig(hidden_sizes=(4,)),
    )
    assert robot_policy(plain, {}) is plain
    assert isinstance(space, ToolSpace)
