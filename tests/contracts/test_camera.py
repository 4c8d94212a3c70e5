"""What every camera of the table does."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from robolearn.cameras import CAMERAS
from robolearn.cameras.camera import Camera
from robolearn.cameras.fake import FakeCamera
from robolearn.cameras.opencv import OpenCVCameraConfig
from robolearn.cameras.realsense import RealSenseCameraConfig
from robolearn.cameras.replay import ReplayCamera
from robolearn.cameras.standin import MjpegServer, StandInRealSense
from robolearn.cameras.video import VideoCameraConfig
from robolearn.errors import HardwareError
from robolearn.recipes.report import write_video
from robolearn.specs import CameraSpec, depth_spec
from robolearn.tasks import make_task
from robolearn.twin.devices import TwinCamera
from robolearn.twin.twin import Twin


def twin_camera() -> TwinCamera:
    return TwinCamera(Twin(make_task("reach-v1"), {"front": (96, 96)}), "front")


ARGUMENTS = {
    "replay": {
        "name": "recorded",
        "images": np.arange(10 * 8 * 12 * 3, dtype=np.uint32).astype(np.uint8).reshape(10, 8, 12, 3),
        "stamps_ns": np.arange(10, dtype=np.int64) * 50_000_000,
    }
}


OTHERS = {"fake": FakeCamera, "replay": ReplayCamera, "twin": twin_camera}  # that no cell names
DEPTH = ("fake depth", "realsense depth")  # that give it where they are asked to


@pytest.fixture(params=sorted({*CAMERAS, *OTHERS, *DEPTH}))
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[], Camera]]:
    with contextlib.ExitStack() as devices:
        driver, _, depth = request.param.partition(" ")
        arguments = ARGUMENTS.get(driver, {})
        if driver == "opencv":
            server = devices.enter_context(MjpegServer())
            arguments = {"config": OpenCVCameraConfig(server.url, *server.size, server.rate_hz)}
        elif driver == "video":
            levels = range(40, 240, 20)
            write_video(tmp_path / "video.mp4", [np.full((48, 64, 3), i, np.uint8) for i in levels], 20.0, scale=1)
            arguments = {"config": VideoCameraConfig(tmp_path / "video.mp4")}
        elif driver == "fake":
            arguments = {"spec": CameraSpec("fake", 96, 96, 20.0, bool(depth))}
        elif driver == "realsense":
            monkeypatch = devices.enter_context(pytest.MonkeyPatch.context())
            monkeypatch.setitem(sys.modules, "pyrealsense2", StandInRealSense("42"))
            arguments = {"config": RealSenseCameraConfig("42", 48, 64, 30, depth=bool(depth))}
        cameras: list[Camera] = []

        def make() -> Camera:
            made: Callable[..., Camera] = OTHERS.get(driver) or CAMERAS[driver]
            cameras.append(made(**arguments))
            return cameras[-1]

        yield make
        for camera in cameras:
            camera.close()


def test_gives_pictures_of_its_spec(make: Callable[[], Camera]) -> None:
    camera = make()
    assert isinstance(camera, Camera)
    camera.connect()
    frames = [camera.read() for _ in range(3)]
    for frame in frames:
        assert frame.image.shape == (camera.spec.height, camera.spec.width, 3)
        assert frame.image.dtype == np.uint8
        assert frame.image.any()
    stamps = [frame.stamp_ns for frame in frames]
    assert stamps == sorted(stamps)
    camera.close()


def test_gives_depth_of_every_pixel_where_its_spec_says_so(
    make: Callable[[], Camera], request: pytest.FixtureRequest
) -> None:
    camera = make()
    assert camera.spec.depth == (request.node.callspec.params["make"] in DEPTH)
    camera.connect()
    for frame in (camera.read(), camera.read()):
        if not camera.spec.depth:
            assert frame.depth is None
            continue
        assert frame.depth is not None
        wanted = depth_spec(*frame.image.shape[:2])
        assert (frame.depth.shape, frame.depth.dtype) == (wanted.shape, wanted.dtype)
        assert frame.depth.any()


def test_a_picture_belongs_to_its_reader(make: Callable[[], Camera]) -> None:
    camera = make()
    camera.connect()
    first = camera.read()
    kept = [None if pixels is None else pixels.copy() for pixels in (first.image, first.depth)]
    again = camera.read()
    for pixels in (again.image, again.depth):
        if pixels is not None:
            pixels[:] = 0
    for pixels, was in zip((first.image, first.depth), kept, strict=True):
        np.testing.assert_array_equal(pixels, was)


def test_is_silent_unless_connected(make: Callable[[], Camera]) -> None:
    camera = make()
    with pytest.raises(HardwareError, match="connect"):
        camera.read()
    camera.connect()
    camera.close()
    camera.close()
    with pytest.raises(HardwareError, match="connect"):
        camera.read()
    camera.connect()
    camera.read()
