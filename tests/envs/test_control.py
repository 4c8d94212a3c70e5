from __future__ import annotations

import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from robolearn.envs.control import CONTROLS, DAMPING_M, TURN_WEIGHT_M
from robolearn.envs.robot_env import RobotEnv
from robolearn.envs.vector_env import RobotVectorEnv
from robolearn.errors import SpecError, UnknownNameError
from robolearn.robots.kinematics import damped_joint_step


@pytest.mark.filterwarnings("ignore")  # joint targets are in radians, Gymnasium would like them in [-1, 1]
@pytest.mark.parametrize(("control", "flat"), [*((name, True) for name in sorted(CONTROLS)), ("joint_position", False)])
def test_passes_the_checker_of_gymnasium(control: str, flat: bool) -> None:
    check_env(RobotEnv("push-v1", {}, privileged=True, flat=flat, control=control), skip_render_check=True)


@pytest.mark.parametrize("engine", ["mujoco", "bullet"])
def test_a_cartesian_action_moves_the_tool_that_way(engine: str) -> None:
    if engine == "bullet":
        pytest.importorskip("pybullet")
    env = RobotEnv("reach-v1", {}, privileged=True, control="cartesian_delta", engine=engine)
    for axis, sign in ((0, 1.0), (1, -1.0), (2, 1.0)):
        before, _ = env.reset(seed=1)
        action = np.zeros(7, np.float32)
        action[axis] = sign
        for _ in range(5):
            after, _, _, _, info = env.step(action)
            assert not info["held"]
        moved = (after["pose_tool"] - before["pose_tool"])[:3]
        assert np.argmax(np.abs(moved)) == axis
        assert moved[axis] * sign > 0.02
        assert np.linalg.norm(np.delete(moved, axis)) < 0.4 * abs(moved[axis])
    env.close()


@pytest.mark.parametrize("control", ["joint_velocity", "cartesian_delta"])
def test_full_speed_is_never_taken_for_a_jump(control: str) -> None:
    """The Panda's gripper moves a quarter of its range in a period, as far as the safety filter lets it jump."""
    env = RobotEnv("push-v1@panda", {}, control=control)
    env.reset(seed=0)
    for share in (1, 1, -1, -1):
        action = np.zeros(env.action_space.shape, np.float32)
        action[-1] = share
        _, _, _, _, info = env.step(action)
        assert not info["held"]


def test_the_vector_environment_does_the_same() -> None:
    arguments = {"privileged": True, "flat": True, "control": "cartesian_delta"}
    env, many = RobotEnv("push-v1", **arguments), RobotVectorEnv("push-v1", 2, **arguments)  # type: ignore[arg-type]
    env.reset(seed=4)
    many.reset(seed=4)
    rng = np.random.default_rng(0)
    for _ in range(15):
        actions = rng.uniform(-1, 1, (2, 7)).astype(np.float32)
        np.testing.assert_array_equal(many.step(actions)[0][0], env.step(actions[0])[0])


def test_is_mink_where_no_limit_is_met() -> None:
    import mink  # slow to import, in every process that collects this file

    env = RobotEnv("reach-v1", {}, control="cartesian_delta")
    env.reset(seed=0)
    twin = env.twin
    configuration = mink.Configuration(twin.model, twin.data.qpos)
    rng = np.random.default_rng(3)
    for _ in range(5):
        step = rng.uniform(-1, 1, 6) * [0.01, 0.01, 0.01, 0.0, 0.0, 0.0]
        task = mink.FrameTask("robot/tool", "body", position_cost=1.0, orientation_cost=TURN_WEIGHT_M)
        pose = configuration.get_transform_frame_to_world("robot/tool", "body")
        task.set_target(mink.SE3.from_rotation_and_translation(pose.rotation(), pose.translation() + step[:3]))
        velocity = mink.solve_ik(configuration, [task], 1.0, "daqp", damping=DAMPING_M**2, limits=[])
        jacobian = twin.tool_jacobian()  # type: ignore[union-attr]
        dof = [twin.model.joint(f"robot/{name}").dofadr[0] for name in twin.robot_spec.joint_names]
        weight = np.array([1.0] * 3 + [TURN_WEIGHT_M] * 3)
        np.testing.assert_allclose(
            damped_joint_step(jacobian[:, :5], step, weight, DAMPING_M), velocity[dof][:5], atol=2e-4
        )


def test_what_is_no_action_is_held_not_guessed() -> None:
    for control, size in (("cartesian_delta", 7), ("joint_velocity", 6)):
        env = RobotEnv("reach-v1", {}, control=control)
        env.reset(seed=0)
        for bad in (
            np.zeros(5, np.float32),
            *(np.full(size, value, np.float32) for value in (np.nan, np.inf, -np.inf)),
        ):
            _, _, _, _, info = env.step(bad)
            assert info["held"]
    with pytest.raises(SpecError, match="cartesian_delta moves one arm, so101_pair has 2"):
        RobotEnv("lift_bar-v1", {}, control="cartesian_delta")
    with pytest.raises(UnknownNameError, match="did you mean joint_velocity"):
        RobotEnv("reach-v1", {}, control="joint_velocty")
