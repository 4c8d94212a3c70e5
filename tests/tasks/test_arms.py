"""Every arm: its kinematics are those of its model, and its experts do their tasks."""

from __future__ import annotations

import mujoco
import numpy as np
import pytest

from robolearn.envs.robot_env import RobotEnv
from robolearn.errors import UnknownNameError
from robolearn.tasks import ARMS, TASKS, make_task
from robolearn.tasks.chain import Chain, Link
from robolearn.twin.scene import load_model

OTHERS = [f"{name}@{robot}" for name, task in TASKS.items() for robot in task.robots[1:]]


@pytest.mark.parametrize("name", sorted(ARMS))
def test_kinematics_agree_with_the_model(name: str) -> None:
    task = make_task(f"reach-v1@{name}")
    model, rng = load_model(task), np.random.default_rng(0)
    data = mujoco.MjData(model)
    low, high = task.arm.limits
    for _ in range(20):
        q = rng.uniform(low, high)
        data.qpos[model.jnt_qposadr[model.actuator_trnid[:, 0]]] = q
        mujoco.mj_kinematics(model, data)
        position, rotation = task.arm.forward(q)
        np.testing.assert_allclose(position, data.body("robot/tool").xpos, atol=1e-7)
        np.testing.assert_allclose(rotation, data.body("robot/tool").xmat.reshape(3, 3), atol=1e-7)


@pytest.mark.parametrize("name", sorted(ARMS))
def test_inverse_brings_the_tool_there_pointing_down(name: str) -> None:
    arm, rng = ARMS[name], np.random.default_rng(1)
    low, high = arm.limits
    for place in rng.uniform((0.17, -0.12, 0.02), (0.25, 0.12, 0.12), (20, 3)):
        yaw = arm.azimuth(place) + rng.uniform(-0.7, 0.7)
        q = arm.inverse(place, yaw)
        assert (q >= low[:-1]).all()
        assert (q <= high[:-1]).all()
        position, rotation = arm.forward(q)
        np.testing.assert_allclose(position, place, atol=1e-3)
        assert rotation[2, 0] < -0.99
        opens = np.arctan2(rotation[1, 2], rotation[0, 2])
        assert abs(np.remainder(opens - yaw + np.pi, 2 * np.pi) - np.pi) < 0.01


def test_a_chain_of_sliders_goes_where_it_is_sent() -> None:
    axes = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))
    links = tuple(Link((0.0, 0.0, 0.1), (1.0, 0.0, 0.0, 0.0), axis, -1.0, 1.0, slides=True) for axis in axes)
    chain = Chain(links, (0.0, 0.0, 0.0), (np.sqrt(0.5), 0.0, np.sqrt(0.5), 0.0), rest=(0.0, 0.0, 0.0))
    q = chain.inverse((0.3, -0.2, 0.5), 0.0, (0.0, 0.0, 0.0))
    np.testing.assert_allclose(q, (0.3, -0.2, 0.2), atol=1e-3)


@pytest.mark.parametrize("task_id", OTHERS)
def test_the_expert_of_another_robot_succeeds(task_id: str) -> None:
    task = make_task(task_id)
    assert task.id == task_id
    assert make_task(task.backward).backward == task.id
    env = RobotEnv(task_id, {}, privileged=True)
    facts, info = env.reset(seed=0)
    terminated = truncated = False
    while not (terminated or truncated):
        facts, _, terminated, truncated, info = env.step(task.expert(facts))
    assert info["success"], f"{task_id} ended in {task.stages[info['stage']]}, {info['reason']}"
    assert info["held_steps"] == 0  # the safety filter has to refuse nothing


def test_an_unknown_robot_names_the_near_misses() -> None:
    with pytest.raises(UnknownNameError, match="did you mean panda"):
        make_task("push-v1@pamda")
