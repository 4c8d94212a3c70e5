"""A tag that is drawn into a picture is found where it was drawn."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tag_pictures import LENS, SIZE_M, T_BASE_CAMERA, calibration, look_at_tag, pose_of

from robolearn.cameras.fake import FakeCamera
from robolearn.cameras.tags import TagConfig, TagReader, TagTracker, find_tags, quaternion_of, upright_pose
from robolearn.errors import HardwareError
from robolearn.specs import CameraSpec
from robolearn.tasks.facts import yaw_of
from robolearn.types import Frame


@pytest.mark.parametrize("place", [(0.22, 0.0, 0.02), (0.3, 0.1, 0.02), (0.18, -0.12, 0.05)])
@pytest.mark.parametrize("yaw", [0.0, 0.7, -2.0])
def test_a_tag_is_found_where_it_lies(place: tuple[float, float, float], yaw: float) -> None:
    corners = find_tags(look_at_tag(7, pose_of(place, yaw)))[7]  # 36 pixels wide, at half a metre
    for height_m, off_m, off_z_m in ((place[2], 0.0004, 1e-6), (None, 0.002, 0.008)):
        pose = upright_pose(corners, SIZE_M, height_m, LENS, T_BASE_CAMERA)
        assert pose is not None
        assert np.abs(pose[:2] - place[:2]).max() < off_m
        assert abs(pose[2] - place[2]) < off_z_m
        assert yaw_of(pose[3:]) == pytest.approx(yaw, abs=0.02)
    assert upright_pose(corners, 2 * SIZE_M, place[2], LENS, T_BASE_CAMERA) is None


class OnePicture:
    """A camera that shows one picture, at stamps that somebody else moves on."""

    def __init__(self, image: np.ndarray) -> None:
        self.spec = CameraSpec("front", *image.shape[:2], 30.0)
        self.frame = Frame(image, 1)

    def connect(self) -> None: ...

    def read(self) -> Frame:
        return self.frame

    def close(self) -> None: ...


def test_a_tracker_tells_where_a_thing_is_and_when_it_was_seen_last() -> None:
    camera = OnePicture(look_at_tag(3, pose_of((0.2, 0.05, 0.025), 0.3)))
    puck = TagConfig(3, size_m=SIZE_M, height_m=0.025, offset_m=(0.01, 0.0, -0.0125))
    things = {"puck": puck, "cube": TagConfig(4, size_m=SIZE_M)}
    tracker = TagTracker(TagReader(things, {"front": calibration()}), {"front": camera})
    seen = tracker.look()
    assert set(seen) == {"puck"}
    stamp_ns, pose = seen["puck"]
    assert stamp_ns == 1
    np.testing.assert_allclose(pose[:3], (0.2 + 0.01 * np.cos(0.3), 0.05 + 0.01 * np.sin(0.3), 0.0125), atol=0.0006)
    camera.frame = Frame(np.zeros_like(camera.frame.image), 2)
    assert tracker.look()["puck"][0] == 1


def test_a_tracker_wants_cameras_whose_place_is_known() -> None:
    camera = FakeCamera(CameraSpec("front", 480, 640, 30.0))
    with pytest.raises(HardwareError, match="the cell has front"):
        TagTracker(TagReader({"puck": TagConfig(3, camera="side")}, {"side": calibration()}), {"front": camera})
    with pytest.raises(HardwareError, match="where camera front stands"):
        TagReader({"puck": TagConfig(3)}, {"front": calibration(placed=False)})
    with pytest.raises(HardwareError, match="pictures of 640 x 480 and gives 320 x 240; calibrate it again"):
        TagReader({"puck": TagConfig(3)}, {"front": calibration()}).find("front", np.zeros((240, 320, 3), np.uint8))


@given(st.tuples(*[st.floats(-3, 3)] * 3))
@settings(max_examples=50, deadline=None)
def test_a_quaternion_is_that_of_its_rotation(turn: tuple[float, float, float]) -> None:
    rotation = cv2.Rodrigues(np.array(turn))[0]
    w, *xyz = quaternion_of(rotation)
    angle = 2 * np.arctan2(np.linalg.norm(xyz), w)
    axis = np.array(xyz) / max(float(np.linalg.norm(xyz)), 1e-12)
    np.testing.assert_allclose(cv2.Rodrigues(axis * angle)[0], rotation, atol=1e-6)
