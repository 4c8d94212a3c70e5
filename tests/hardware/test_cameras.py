"""Camera drivers: OpenCV's over a real stream that is unplugged, its settings on a device, and a video file."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robolearn.cameras.camera import Camera
from robolearn.cameras.newest import NewestFrame
from robolearn.cameras.opencv import OpenCVCamera, OpenCVCameraConfig, stamp_of_capture
from robolearn.cameras.realsense import RealSenseCamera, RealSenseCameraConfig
from robolearn.cameras.standin import MjpegServer, StandInRealSense
from robolearn.cameras.video import VideoCamera, VideoCameraConfig
from robolearn.errors import HardwareError
from robolearn.recipes.report import write_video
from robolearn.types import Frame, depth_mm

from .conftest import wait_until


def reads(camera: Camera) -> bool:
    try:
        camera.read()
    except HardwareError:
        return False
    return True


# The newest frame


def frame(stamp_ns: int) -> Frame:
    return Frame(np.zeros((2, 2, 3), np.uint8), stamp_ns)


def test_only_the_newest_frame_is_kept_and_what_nobody_read_is_counted() -> None:
    newest = NewestFrame(rate_hz=100.0)
    assert newest.get() is None
    for i in range(4):
        newest.put(frame(i * 10_000_000))
    got = newest.get()
    assert got is not None
    assert got.stamp_ns == 30_000_000
    newest.put(frame(55_000_000))  # 2.5 periods later
    newest.get()
    newest.put(frame(65_000_000))
    assert newest.counts == {"frames": 6, "dropped": 3, "late": 1}


def test_a_frame_is_waited_for_until_it_comes() -> None:
    newest = NewestFrame(rate_hz=100.0)
    began_s = time.monotonic()
    newest.wait(0, 0.05)  # none at all
    newest.put(frame(10_000_000))
    newest.wait(10_000_000, 0.05)  # that one is known
    assert 0.1 <= time.monotonic() - began_s < 5.0
    threading.Timer(0.05, newest.put, [frame(5_000_000)]).start()  # another one, though the clock went back
    newest.wait(10_000_000, 60.0)
    newest.wait(10_000_000, 60.0)
    assert 0.15 <= time.monotonic() - began_s < 50.0


# Stamps of capture


@given(st.integers(10**9, 10**15), st.integers(0, 999_000_000), st.integers(0, 10**18))
def test_a_frame_is_stamped_when_it_was_taken(monotonic_ns: int, age_ns: int, now_ns: int) -> None:
    stamp = stamp_of_capture((monotonic_ns - age_ns) * 1e-6, monotonic_ns, now_ns)
    assert stamp == pytest.approx(now_ns - age_ns, abs=1000)


@pytest.mark.parametrize("buffer_ms", [0.0, -1.0, 3.0, 12_345.0])
def test_a_stamp_that_cannot_be_counts_as_now(buffer_ms: float) -> None:
    assert stamp_of_capture(buffer_ms, monotonic_ns=10_000_000_000, now_ns=77) == 77


# OpenCV on a stream


@pytest.fixture
def server() -> Iterator[MjpegServer]:
    with MjpegServer() as server:
        yield server


@pytest.fixture
def camera(server: MjpegServer) -> Iterator[OpenCVCamera]:
    camera = OpenCVCamera(OpenCVCameraConfig(server.url, 48, 64, 50.0, retry_s=0.05))
    camera.connect()
    yield camera
    camera.close()


def test_reads_a_stream_in_rgb(camera: OpenCVCamera) -> None:
    image = camera.read().image
    np.testing.assert_allclose(image[0, 0, 1:], [90, 40], atol=3)  # green, blue; red counts


def test_reading_twice_does_not_wait_and_frames_go_by(camera: OpenCVCamera) -> None:
    first = camera.read().stamp_ns
    wait_until(lambda: camera.read().stamp_ns > first)
    seen = camera.counts["frames"]
    wait_until(lambda: camera.counts["frames"] > seen + 5)
    assert camera.counts["dropped"] >= 1


def test_an_unplugged_camera_falls_silent_and_comes_back(camera: OpenCVCamera, server: MjpegServer) -> None:
    server.unplug()
    wait_until(lambda: not reads(camera))
    with pytest.raises(HardwareError, match=r"is silent: its newest frame is .* s old, at most 0.5 s"):
        camera.read()
    server.plug_in()
    wait_until(lambda: reads(camera))
    assert camera.counts["lost"] >= 1


def test_a_frozen_camera_is_not_read_for_ever(camera: OpenCVCamera, server: MjpegServer) -> None:
    server.frozen = True
    wait_until(lambda: not reads(camera))
    server.frozen = False
    wait_until(lambda: reads(camera))


def test_a_camera_that_falls_silent_while_the_clock_goes_back_is_silent(server: MjpegServer) -> None:
    back_ns = [0]
    config = OpenCVCameraConfig(server.url, 48, 64, 50.0)
    camera = OpenCVCamera(config, clock=lambda: time.monotonic_ns() - back_ns[0])
    camera.connect()
    server.frozen = True
    time.sleep(0.1)
    back_ns[0] = 3600 * 10**9
    assert not reads(camera)
    camera.close()


def test_another_size_is_refused(server: MjpegServer) -> None:
    with pytest.raises(HardwareError, match="gives 64x48, expected 640x480"):
        OpenCVCamera(OpenCVCameraConfig(server.url, 480, 640, 30.0)).connect()


def test_an_absent_camera_is_named_once(capfd: pytest.CaptureFixture[str]) -> None:
    for device in ("/dev/robolearn-no-such-camera", "http://127.0.0.1:9/stream"):
        with pytest.raises(HardwareError, match=f"cannot open camera front \\({device}"):
            OpenCVCamera(OpenCVCameraConfig(device, 48, 64, 30.0, name="front")).connect()
    assert "WARN" not in capfd.readouterr().err


# OpenCV on a V4L2 device, of which this machine may have none


class Device:
    """What cv2.VideoCapture does with a webcam: takes settings, in its own way, and stamps frames."""

    settings: dict[int, float]

    def __init__(self, path: str, backend: int) -> None:
        assert (path, backend) == ("/dev/video0", cv2.CAP_V4L2)
        self.settings = {}
        self.released = False
        Device.last = self

    last: Device

    def isOpened(self) -> bool:
        return True

    def set(self, key: int, value: float) -> bool:
        self.settings[key] = value
        return key != cv2.CAP_PROP_GAIN

    def get(self, key: int) -> float:
        if key == cv2.CAP_PROP_POS_MSEC:
            return time.monotonic() * 1e3 - 40.0
        return self.settings.get(key, 0.0)

    def grab(self) -> bool:
        time.sleep(0.01)
        return True

    def retrieve(self) -> tuple[bool, Any]:
        return True, np.full((48, 64, 3), 7, np.uint8)

    def getBackendName(self) -> str:
        return "V4L2"

    def release(self) -> None:
        self.released = True


CONFIG = OpenCVCameraConfig("/dev/video0", 48, 64, 30.0, exposure=120.0)


def test_a_device_is_set_up_and_its_own_stamps_are_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cv2, "VideoCapture", Device)
    shift_ns = 10**15  # of the caller's clock
    camera = OpenCVCamera(CONFIG, clock=lambda: time.monotonic_ns() + shift_ns)
    camera.connect()
    age_s = (time.monotonic_ns() + shift_ns - camera.read().stamp_ns) * 1e-9
    assert age_s >= 0.04
    settings = Device.last.settings
    assert settings[cv2.CAP_PROP_FOURCC] == cv2.VideoWriter.fourcc(*"MJPG")
    assert (settings[cv2.CAP_PROP_AUTO_EXPOSURE], settings[cv2.CAP_PROP_EXPOSURE]) == (1, 120.0)
    camera.close()
    assert Device.last.released


def test_a_setting_that_the_device_does_not_take_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cv2, "VideoCapture", Device)
    with pytest.raises(HardwareError, match=r"does not take gain 5; see `v4l2-ctl"):
        OpenCVCamera(replace(CONFIG, gain=5.0)).connect()
    assert Device.last.released


# A video file


@pytest.fixture
def video(tmp_path: Path) -> Path:
    path = tmp_path / "front.mp4"
    write_video(path, [np.full((48, 64, 3), level, np.uint8) for level in range(0, 200, 20)], 20.0, scale=1)
    return path


def test_a_video_plays_at_its_rate_and_starts_over(video: Path) -> None:
    now = [1_000_000_000]
    camera = VideoCamera(VideoCameraConfig(video, "front"), clock=lambda: now[0])
    assert (camera.spec.height, camera.spec.width, camera.spec.rate_hz) == (48, 64, 20.0)
    camera.connect()
    for step, level in [(0, 0), (1, 20), (1, 20), (5, 100), (9, 180), (10, 0), (12, 40)]:
        now[0] = 1_000_000_000 + step * 50_000_000 + 1_000_000
        shown = camera.read()
        np.testing.assert_allclose(shown.image, level, atol=3)
        assert shown.stamp_ns == 1_000_000_000 + step * 50_000_000
    assert camera.counts == {"frames": 13, "dropped": 13 - 6}
    now[0] += 3600 * 10**9
    assert 0 <= now[0] - camera.read().stamp_ns <= 50_000_000


@pytest.mark.parametrize("content", [None, b"not a video", "another size"])
def test_a_video_that_is_no_longer_there_is_silent_and_comes_back(video: Path, content: bytes | str | None) -> None:
    now, good = [1_000_000_000], video.read_bytes()
    camera = VideoCamera(VideoCameraConfig(video, "front"), clock=lambda: now[0])
    camera.connect()
    camera.read()
    video.unlink()
    if isinstance(content, bytes):
        video.write_bytes(content)
    elif content is not None:
        write_video(video, [np.zeros((32, 64, 3), np.uint8)] * 10, 20.0, scale=1)
    for _ in range(2):
        now[0] += 900_000_000
        with pytest.raises(HardwareError, match=r"front\.mp4 gives no more pictures \(.*put .* back"):
            camera.read()
    video.write_bytes(good)
    assert camera.read().image.shape == (48, 64, 3)


@pytest.mark.parametrize("content", [None, b"", b"not a video"])
def test_a_file_that_is_no_video_is_refused(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "x.mp4"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(HardwareError, match=r"x\.mp4 is no video"):
        VideoCamera(VideoCameraConfig(path))


# RealSense, by its package's interface


@pytest.fixture
def realsense(monkeypatch: pytest.MonkeyPatch) -> StandInRealSense:
    device = StandInRealSense("42")
    monkeypatch.setitem(sys.modules, "pyrealsense2", device)
    return device


def test_a_realsense_is_set_up_stamped_and_comes_back(realsense: StandInRealSense) -> None:
    config = RealSenseCameraConfig("42", 48, 64, 100, exposure=80.0, gain=16.0, max_age_s=0.3, retry_s=0.05)
    camera = RealSenseCamera(config)
    camera.connect()
    assert realsense.options == {"enable_auto_exposure": 0.0, "exposure": 80.0, "gain": 16.0}
    frame = camera.read()
    assert frame.image.shape == (48, 64, 3)
    assert time.monotonic_ns() - frame.stamp_ns >= 20_000_000  # when it was taken, not when it came
    realsense.plugged = False
    wait_until(lambda: not reads(camera))
    realsense.plugged = True
    wait_until(lambda: reads(camera))
    assert camera.counts["lost"] >= 1
    realsense.blind = True
    seen_ns = camera.read().stamp_ns + 300_000_000
    wait_until(lambda: reads(camera) and camera.read().stamp_ns > seen_ns)
    camera.close()


@pytest.mark.parametrize("unit_m", [0.001, 0.0001, 0.5])
def test_depth_of_a_realsense_lies_on_its_picture_in_millimetres(realsense: StandInRealSense, unit_m: float) -> None:
    realsense.depth_scale = unit_m
    camera = RealSenseCamera(RealSenseCameraConfig("42", 47, 63, 100, depth=True))
    camera.connect()
    frame = camera.read()
    camera.close()
    assert frame.depth is not None
    count = int(frame.image[0, 0, 0]) - 40
    measured = np.arange(32).repeat(2)[:63] * (10 + count % 50)
    depth = np.rint(measured * unit_m * 1000)
    np.testing.assert_array_equal(frame.depth, np.tile(np.where(depth > 65_535, 0, depth), (47, 1)))
    assert frame.depth.any()
    assert frame.depth.max() <= 65_535


def test_a_realsense_without_depth_is_told_apart(realsense: StandInRealSense) -> None:
    realsense.has_depth = False
    with pytest.raises(HardwareError, match=r"cannot open .* with 64x48 and depth at 30 Hz"):
        RealSenseCamera(RealSenseCameraConfig("42", 48, 64, 30, depth=True)).connect()
    camera = RealSenseCamera(RealSenseCameraConfig("42", 48, 64, 30))
    camera.connect()
    assert camera.read().depth is None
    camera.close()


def test_depth_that_cannot_be_told_is_not_measured() -> None:
    metres = np.array([0.0, 0.0004, 0.0006, 1.2344, 65.535, 65.536, 1e300, -1.0, np.nan, np.inf, -np.inf])
    np.testing.assert_array_equal(depth_mm(metres, 1.0), [0, 0, 1, 1234, 65_535, 0, 0, 0, 0, 0, 0])
    every = np.arange(65_536, dtype=np.uint16)
    np.testing.assert_array_equal(depth_mm(every, float(np.float32(0.001))), every)


def test_a_realsense_that_is_not_there_is_named(realsense: StandInRealSense, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(HardwareError, match=r"RealSense 7\) .*USB 3"):
        RealSenseCamera(RealSenseCameraConfig("7", 48, 64, 30)).connect()
    monkeypatch.setitem(sys.modules, "pyrealsense2", None)
    with pytest.raises(HardwareError, match="pip install pyrealsense2"):
        RealSenseCamera(RealSenseCameraConfig("42", 48, 64, 30)).connect()
