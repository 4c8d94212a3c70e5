"""Camera calibration on pictures of a board that are drawn with a known camera at known places."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from robolearn.assets import asset
from robolearn.cameras.calibration import CameraCalibration
from robolearn.cameras.charuco import (
    View,
    calibrate_intrinsics,
    draw_residuals,
    find_board,
    locate_board,
)
from robolearn.cameras.hand_eye import Kind, calibrate_extrinsics, inverse
from robolearn.errors import HardwareError
from robolearn.robots.kinematics import Kinematics
from robolearn.tasks.kinematics import SO101
from robolearn.tasks.kinematics import inverse as joints_for

from .boards import BOARD, CAMERA, TRUTH, H, W, arm_poses, looking_at, photograph, pictures, pose, seen


def test_intrinsics_are_those_that_the_pictures_were_drawn_with(tmp_path: Path) -> None:
    views = seen(pictures())
    assert len(views) == 9
    found = calibrate_intrinsics(views, H, W)
    assert found.residual_px < 0.3
    np.testing.assert_allclose(found.matrix, TRUTH.matrix, atol=4)
    np.testing.assert_allclose(found.distortion[:2], TRUTH.distortion[:2], atol=0.03)
    located, residual = locate_board(found, views[4])
    assert residual < 0.4
    rng = np.random.default_rng(4)
    turns = [rng.uniform(-0.45, 0.45, 3) for _ in range(9)]
    np.testing.assert_allclose(located, looking_at(0, 0, 0.3, *turns[4]), atol=0.003)
    calibration = CameraCalibration("front", found)
    picture = draw_residuals(pictures()[-1], views, [found.project(locate_board(found, v)[0], v.places) for v in views])
    calibration.save(tmp_path / "front.json", picture)
    again = CameraCalibration.load(tmp_path / "front.json")
    np.testing.assert_array_equal(again.intrinsics.matrix, found.matrix)
    assert cv2.imread(str(tmp_path / "front.png")).shape == (H, W, 3)


def test_views_that_say_too_little_are_refused() -> None:
    with pytest.raises(HardwareError, match="3 views"):
        calibrate_intrinsics(seen(pictures())[:3], H, W)
    middle = seen([photograph(looking_at(0, 0, 0.5, 0.02 * i, 0, 0.1), i) for i in range(8)])
    with pytest.raises(HardwareError, match="corners and edges"):
        calibrate_intrinsics(middle, H, W)
    places = [(x, y) for x in (-0.55, 0.0, 0.55) for y in (-0.5, 0.0, 0.5)]
    flat = seen([photograph(looking_at(x, y, 0.3, 0.0, 0.0, 0.2 * x), i) for i, (x, y) in enumerate(places)])
    with pytest.raises(HardwareError, match="tilted"):
        calibrate_intrinsics(flat, H, W)


def test_a_board_that_bends_is_noticed() -> None:
    views = [View(v.pixels + 6 * np.sin(v.places[:, :1] * 60 + i), v.places) for i, v in enumerate(seen(pictures()))]
    with pytest.raises(HardwareError, match="flat"):
        calibrate_intrinsics(views, H, W)


def test_no_board_is_no_view() -> None:
    assert find_board(BOARD, np.full((H, W, 3), 120, np.uint8)) is None


@pytest.mark.parametrize("kind", ["eye_in_hand", "eye_to_hand"])
def test_extrinsics_are_those_that_the_pictures_were_drawn_with(kind: Kind, tmp_path: Path) -> None:
    T_base_tool, boards, truth = arm_poses(kind, 8)
    views = seen([photograph(b, i) for i, b in enumerate(boards)])
    found, expected = calibrate_extrinsics(kind, TRUTH, T_base_tool, views)
    np.testing.assert_allclose(found.T_parent_camera[:3, 3], truth[:3, 3], atol=0.002)
    assert np.linalg.norm(cv2.Rodrigues(found.T_parent_camera[:3, :3].T @ truth[:3, :3])[0]) < 0.006
    assert found.residual_px < 0.5
    assert found.residual_m < 0.003
    assert len(expected) == 8
    CameraCalibration("front", TRUTH, found).save(tmp_path / "a.json")
    again = CameraCalibration.load(tmp_path / "a.json").extrinsics
    assert again is not None
    np.testing.assert_array_equal(again.T_parent_camera, found.T_parent_camera)


def test_extrinsics_say_what_the_poses_lack() -> None:
    T_base_tool, boards, _ = arm_poses("eye_in_hand", 7)
    views = [
        View(TRUTH.project(b, v), v)
        for b in boards
        for v in [np.random.default_rng(0).uniform(0, 0.15, (20, 3)) * [1, 1, 0]]
    ]
    with pytest.raises(HardwareError, match="5 poses"):
        calibrate_extrinsics("eye_in_hand", TRUTH, T_base_tool[:5], views[:5])
    with pytest.raises(HardwareError, match="did the arm stand still"):
        calibrate_extrinsics("eye_in_hand", TRUTH, [*T_base_tool[:6], T_base_tool[0]], views)
    one_axis = [pose(0, 0, 0, 0, 0, 0.2 * i) for i in range(7)]
    around = [inverse(CAMERA) @ inverse(p) @ pose(0.1, 0, 0.4, 0, 3.0, 0) for p in one_axis]
    with pytest.raises(HardwareError, match="one axis only"):
        calibrate_extrinsics(
            "eye_in_hand", TRUTH, one_axis, [View(TRUTH.project(b, views[0].places), views[0].places) for b in around]
        )


def test_an_arm_of_five_joints_turns_enough() -> None:
    """The SO-101 at random postures, its wrist camera looking at a board: no rendering, corners with noise."""
    kinematics, rng = Kinematics(asset("sim_assets/robots/so101/so101.xml"), SO101), np.random.default_rng(2)
    places = np.array([[x, y, 0] for x in range(6) for y in range(4)]) * BOARD.square_m
    tools, views = [], []
    straight = replace(TRUTH, distortion=np.zeros(4))  # any angle of view will do here
    board = pose(0.18, 0.05, 0.0, np.pi, 0, 0)
    camera = pose(-0.05, 0.03, 0.04, 0, np.pi / 2, 0)
    for _ in range(12):
        place = rng.uniform([0.18, -0.07, 0.16], [0.3, 0.07, 0.24])
        q = np.append(joints_for(place, rng.uniform(-0.5, 0.5), rng.uniform(1.1, 1.6)), 0.0)
        position, rotation = kinematics.tool(q)
        tool = np.eye(4)
        tool[:3, :3], tool[:3, 3] = rotation, position
        T_camera_board = inverse(camera) @ inverse(tool) @ board
        assert ((T_camera_board[:3, :3] @ places.T).T[:, 2] + T_camera_board[2, 3] > 0.05).all()
        pixels = straight.project(T_camera_board, places)
        tools.append(tool)
        views.append(View(pixels + rng.normal(0, 0.2, pixels.shape), places))
    found, _ = calibrate_extrinsics("eye_in_hand", straight, tools, views)
    np.testing.assert_allclose(found.T_parent_camera, camera, atol=0.004)


@pytest.mark.parametrize("text", ["", "{}", '{"format": "robolearn-camera-calibration-1"}', "[1]"])
def test_a_file_that_is_none_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(HardwareError, match="calibrate"):
        CameraCalibration.load(tmp_path / "a.json")
