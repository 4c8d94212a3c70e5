from __future__ import annotations

import logging
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import mujoco
import numpy as np
import pytest

from robolearn.errors import AssetError, HardwareError, SpecError, UnknownNameError
from robolearn.tasks import make_task
from robolearn.tasks.pick_place import PickPlace
from robolearn.tasks.reach import Reach
from robolearn.twin.devices import TwinCamera, TwinRobot
from robolearn.twin.follow import Follower
from robolearn.twin.layout import DIVERGED, RESET_PAUSE_NS
from robolearn.twin.twin import Twin
from robolearn.types import RobotState

NAMED = ((mujoco.mjtObj.mjOBJ_CAMERA, "front"), (mujoco.mjtObj.mjOBJ_BODY, "cube"))


@pytest.fixture(scope="module")
def twin() -> Twin:
    return Twin(make_task("pick_place-v1"), {"front": (32, 40), "wrist": (24, 24)})


WITHOUT_OPENGL = """
import ctypes
load = ctypes.CDLL
def load_but_opengl(name, *rest, **named):
    if name and ("EGL" in name or "OSMesa" in name):
        raise OSError(name)
    return load(name, *rest, **named)
ctypes.CDLL = load_but_opengl
from robolearn.tasks import make_task
from robolearn.twin.twin import Twin
twin = Twin(make_task("reach-v1"), {"front": (16, 16)})
twin.reset(0)
twin.render("front")
"""


@pytest.mark.parametrize(
    ("asked", "said"), [("egl", "MUJOCO_GL is disable"), ("osmesa", "MUJOCO_GL is disable"), ("elg", "set it to egl")]
)
def test_opengl_that_is_asked_for_and_not_there_is_missed_by_the_first_picture(asked: str, said: str) -> None:
    environment = {**os.environ, "MUJOCO_GL": asked}
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_OPENGL], env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    last = done.stderr.splitlines()[-1]
    assert last.startswith("robolearn.errors.HardwareError")
    assert said in last


def test_observes_what_its_spec_says(twin: Twin) -> None:
    twin.reset(0)
    observation = twin.observe()
    assert list(observation) == list(twin.spec.observation)
    assert {"proprio", "image_front", "image_wrist", "pose_tool", "pose_cube", "pose_goal"} == set(observation)
    for name, spec in twin.spec.observation.items():
        spec.check(name, observation[name])
        assert str(observation[name].dtype) == spec.dtype


def test_the_camera_matrix_says_where_a_body_is_seen(twin: Twin) -> None:
    twin.reset(3)
    (height, width), model, data = (240, 320), twin.model, twin.data
    wide = Twin(twin.task, {"front": (height, width)})
    matrix = wide.camera_matrix("front")
    wide.close()
    camera, cube = (mujoco.mj_name2id(model, kind, name) for kind, name in NAMED)
    with mujoco.Renderer(model, height, width) as renderer:
        renderer.enable_segmentation_rendering()
        renderer.update_scene(data, camera)
        rows, columns = np.nonzero(renderer.render()[..., 0] == model.body_geomadr[cube])
    inside = data.cam_xmat[camera].reshape(3, 3).T @ (data.xpos[cube] - data.cam_xpos[camera])
    u, v, w = matrix @ (inside * [1, -1, -1])
    np.testing.assert_allclose((u / w, v / w), (columns.mean(), rows.mean()), atol=1.5)  # of a body that is 10 wide
    assert len(rows) > 30


def test_pictures_are_drawn_only_when_asked_for() -> None:
    twin = Twin(make_task("pick_place-v1"))
    twin.observe(["proprio", "pose_cube"])
    assert not twin._pictures._renderers
    twin.observe(["image_wrist"])
    assert list(twin._pictures._renderers) == [(96, 96)]
    twin.close()
    twin.close()


def test_renders_into_a_given_array(twin: Twin) -> None:
    twin.reset(1)
    out = np.zeros((32, 40, 3), np.uint8)
    twin.render("front", out=out)
    np.testing.assert_array_equal(out, twin.render("front"))
    assert out.std() > 10


def test_a_second_thread_that_draws_is_told() -> None:
    twin = Twin(make_task("push-v1"), {"front": (8, 8)})
    with ThreadPoolExecutor(1, "painter") as pool:
        picture = pool.submit(twin.render, "front").result()
        for attempt in (lambda: twin.render("front"), twin.close):
            with pytest.raises(
                HardwareError, match=r"are the thread painter_0's, which drew the first one, not MainThread"
            ):
                attempt()
        np.testing.assert_array_equal(pool.submit(twin.render, "front").result(), picture)
        pool.submit(twin.close).result()
    np.testing.assert_array_equal(twin.render("front"), picture)  # once it is closed, anybody draws
    twin.close()


def test_both_cameras_see_the_cube_at_the_start(twin: Twin) -> None:
    def red_pixels(image: np.ndarray) -> int:
        red, green, blue = (image[..., i].astype(int) for i in range(3))
        return int(((red > 2 * green) & (red > 2 * blue) & (red > 90)).sum())

    twin.reset(0)
    assert red_pixels(twin.render("front")) > 3
    for _ in range(12):  # towards the cube, so that it is in front of the wrist camera
        twin.step(twin.task.expert(twin.observe(["proprio", "pose_cube", "pose_goal"])))
    assert red_pixels(twin.render("wrist")) > 10


def test_stamps_grow_by_a_period_a_step_and_jump_between_episodes(twin: Twin) -> None:
    twin.reset(0)
    start = twin.stamp_ns
    hold = twin.robot_state().joint_position
    twin.step(hold)
    assert twin.stamp_ns == start + twin.period_ns == start + 50_000_000
    assert twin.robot_state().stamp_ns == twin.stamp_ns
    twin.reset(0)
    assert twin.stamp_ns == start + twin.period_ns + RESET_PAUSE_NS


def test_starts_at_rest(twin: Twin) -> None:
    for seed in range(5):
        twin.reset(seed)
        before = twin.body_poses()["cube"]
        hold = twin.robot_state().joint_position
        for _ in range(10):
            twin.step(hold)
        np.testing.assert_allclose(twin.body_poses()["cube"], before, atol=1e-3)
        np.testing.assert_allclose(twin.robot_state().joint_position, hold, atol=0.03)


def test_refuses_what_is_no_command(twin: Twin) -> None:
    twin.reset(0)
    with pytest.raises(SpecError, match="action"):
        twin.step(np.zeros(5))
    with pytest.raises(SpecError, match=r"not finite in shoulder_pan; expected numbers \[rad\]$"):
        twin.step([np.nan, 0, 0, 0, 0, 0])


def test_a_diverged_simulation_says_so_and_stays_finite(
    twin: Twin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    twin.reset(0)
    hold = twin.robot_state().joint_position
    twin.data.qvel[7] = 1e20
    with caplog.at_level(logging.WARNING):
        twin.step(hold)
    status = twin.status()
    assert (status.diverged, status.failed, status.success) == (True, DIVERGED, False)
    assert all(np.isfinite(array).all() for array in twin.observe().values())
    stamp_ns = twin.stamp_ns
    twin.step(hold)
    assert twin.stamp_ns > stamp_ns
    assert not list(tmp_path.iterdir())  # MuJoCo would leave a log file behind
    assert "MuJoCo" in caplog.text
    twin.reset(0)
    assert not twin.status().diverged


def test_unknown_names(twin: Twin) -> None:
    with pytest.raises(UnknownNameError, match="did you mean front"):
        Twin(make_task("pick_place-v1"), {"frnt": (32, 32)})
    with pytest.raises(UnknownNameError, match="camera"):
        twin.render("side")
    with pytest.raises(UnknownNameError, match="did you mean pose_cube"):
        twin.observe(["pose_cub"])


def test_a_bad_scene_is_named_with_its_element(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROBOLEARN_ASSETS", str(tmp_path))
    scene = tmp_path / "sim_assets" / "scenes" / "reach.xml"
    scene.parent.mkdir(parents=True)
    scene.write_text('<mujoco><worldbody><geom type="blob"/></worldbody></mujoco>')
    with pytest.raises(AssetError, match=r"reach\.xml.*geom") as error:
        Twin(Reach(), {})
    assert "\n" not in str(error.value)
    scene.write_text("<mujoco><worldbody/></mujoco>")
    with pytest.raises(AssetError, match="robot_mount"):
        Twin(Reach(), {})
    scene.write_text('<mujoco><worldbody><site name="robot_mount"/></worldbody></mujoco>')
    with pytest.raises(AssetError, match="has no body target"):
        Twin(Reach(), {})


def test_a_scene_that_does_not_exist() -> None:
    class Elsewhere(Reach):
        scene = "nowhere"

    with pytest.raises(AssetError, match="ROBOLEARN_ASSETS"):
        Twin(Elsewhere(), {})


def test_a_control_rate_that_the_physics_cannot_keep() -> None:
    class Odd(PickPlace):
        control_hz = 30.0

    with pytest.raises(AssetError, match="does not divide"):
        Twin(Odd(), {})


@pytest.mark.parametrize("task_id", ["reach-v1", "reach-v1@panda", "lift_bar-v1"])
def test_an_arm_cannot_pass_through_itself_or_the_other_one(task_id: str) -> None:
    twin = Twin(make_task(task_id), {})
    model, robot, rng = twin.model, twin.robot_spec, np.random.default_rng(0)
    mine = np.array([model.body(body).name.startswith("robot/") for body in range(model.nbody)])
    touched = 0
    for seed in range(8):
        twin.reset(seed)
        goal = rng.uniform(robot.position_low, robot.position_high)
        for _ in range(50):
            here = twin.robot_state().joint_position
            twin.step(np.clip(goal, here - 0.5, here + 0.5))
            inner = mine[model.geom_bodyid[twin.data.contact.geom]].all(axis=-1)
            depth = -twin.data.contact.dist[inner].min(initial=0.0)
            touched += bool(inner.any())
            assert depth < 0.005
    assert touched > 20


def test_a_placed_gripper_has_all_its_fingers_there() -> None:
    twin = Twin(make_task("reach-v1@panda"), {})
    position = twin.robot_state().joint_position
    position[-1] = 0.03
    twin.place_robot(position)
    state = RobotState(position, np.zeros_like(position), 1)
    for finger in ("gripper", "gripper_right"):
        assert twin.data.joint(f"robot/{finger}").qpos == pytest.approx(0.03)
    state.joint_position[-1] = 0.01
    Follower(twin).follow(state)
    assert twin.data.joint("robot/gripper_right").qpos == pytest.approx(0.01)


def test_a_follower_predicts_for_the_time_that_has_passed() -> None:
    """A robot that measures every 8 ms, which is no whole number of the twin's time steps."""
    robot, twin = Twin(make_task("reach-v1"), {}), Twin(make_task("reach-v1"), {})
    robot.model.opt.timestep = 0.004
    follower, target = Follower(twin), robot.robot_state().joint_position + 0.2
    robot.command(target)
    for tick in range(20):
        mujoco.mj_step(robot.model, robot.data, 2)
        robot.stamp_ns += 8_000_000
        residual = follower.follow(robot.robot_state(), target)
        np.testing.assert_allclose(residual, 0.0, atol=1e-4 if tick else 0.0)


def test_devices_show_the_same_instant(twin: Twin) -> None:
    robot, camera = TwinRobot(twin), TwinCamera(twin, "wrist")
    robot.connect()
    camera.connect()
    twin.reset(3)
    target = robot.read().joint_position.copy()
    target[0] += 0.1
    robot.write(target)
    assert robot.read().stamp_ns == twin.stamp_ns
    for _ in range(10):
        twin.advance()
    assert robot.read().joint_position[0] == pytest.approx(target[0], abs=0.01)
    assert robot.read().stamp_ns == camera.read().stamp_ns == twin.stamp_ns
    with pytest.raises(UnknownNameError):
        TwinCamera(twin, "side")
