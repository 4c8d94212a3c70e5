from __future__ import annotations

import mujoco
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robolearn.tasks import make_task
from robolearn.tasks.facts import yaw_of
from robolearn.tasks.kinematics import DOWN, SO101, SO101_ARM, azimuth, forward, inverse
from robolearn.twin.scene import load_model

LOW, HIGH = np.array(SO101.position_low), np.array(SO101.position_high)


@pytest.fixture(scope="module")
def model() -> mujoco.MjModel:
    return load_model(make_task("reach-v1"))


def test_agrees_with_the_model_file(model: mujoco.MjModel) -> None:
    data = mujoco.MjData(model)
    rng = np.random.default_rng(0)
    for _ in range(50):
        q = rng.uniform(LOW, HIGH)
        data.qpos[:6] = q
        mujoco.mj_kinematics(model, data)
        position, rotation = forward(q)
        np.testing.assert_allclose(position, data.body("robot/tool").xpos, atol=1e-9)
        np.testing.assert_allclose(rotation, data.body("robot/tool").xmat.reshape(3, 3), atol=1e-9)


reachable = st.tuples(st.floats(0.17, 0.29), st.floats(-0.14, 0.14), st.floats(0.01, 0.13))


@given(place=reachable, yaw=st.floats(-0.7, 0.7))
@settings(max_examples=200, deadline=None)
def test_inverse_brings_the_tool_there(place: tuple[float, float, float], yaw: float) -> None:
    q = inverse(place, azimuth(place) + yaw)
    assert (q >= LOW[:5]).all()
    assert (q <= HIGH[:5]).all()
    position, rotation = forward(q)
    np.testing.assert_allclose(position, place, atol=1e-4)
    assert rotation[2, 0] < -np.sin(0.9)  # the fingers point down, as steeply as the arm can


def test_inverse_points_straight_down_and_opens_along_yaw_where_it_can() -> None:
    position, rotation = forward(inverse((0.22, 0.05, 0.02), yaw=0.3, pitch=DOWN))
    np.testing.assert_allclose(position, (0.22, 0.05, 0.02), atol=1e-6)
    np.testing.assert_allclose(rotation[:, 0], (0, 0, -1), atol=1e-3)
    np.testing.assert_allclose(rotation[:, 2], (np.cos(0.3), np.sin(0.3), 0), atol=1e-3)


@given(st.tuples(st.floats(-2, 2), st.floats(-2, 2), st.floats(-1, 2)), st.floats(-7, 7))
@settings(max_examples=200, deadline=None)
def test_inverse_gives_a_posture_for_any_place(place: tuple[float, float, float], yaw: float) -> None:
    q = inverse(place, yaw)
    assert np.isfinite(q).all()
    assert (q >= LOW[:5]).all()
    assert (q <= HIGH[:5]).all()


@given(st.floats(-10, 10))
def test_yaws_of_a_grasp(object_yaw: float) -> None:
    place = (0.2, 0.1, 0.0)
    ahead = azimuth(place)
    yaw = SO101_ARM.grasp_yaw(place, object_yaw)
    assert abs(yaw - ahead) <= np.pi / 4 + 1e-9
    assert abs(np.sin(2 * (yaw - object_yaw))) < 1e-6  # along or across a face
    sideways = SO101_ARM.across(place, (np.cos(object_yaw), np.sin(object_yaw)))
    assert abs(sideways - ahead) <= np.pi / 2 + 1e-9
    assert abs(np.cos(sideways - object_yaw)) < 1e-6


@given(st.floats(-3.1, 3.1))
def test_yaw_of_a_quaternion(yaw: float) -> None:
    assert yaw_of((np.cos(yaw / 2), 0, 0, np.sin(yaw / 2))) == pytest.approx(yaw, abs=1e-9)
