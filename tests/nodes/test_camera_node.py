"""The camera node in this process."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
from cells import standin_cell
from robolearn_nodes import convert
from robolearn_nodes.camera_node import CameraNode

import robolearn.ros  # noqa: F401  supplies rclpy and the messages where ROS 2 is not installed

# isort: split
import rclpy

from robolearn.cameras.fake import FakeCamera
from robolearn.cameras.standin import MjpegServer
from robolearn.recipes.graph import free_domain_id
from robolearn.specs import CameraSpec

FRONT = "cameras:\n  front: {driver: opencv, device: none, height: 8, width: 8, rate_hz: 100}\n"

REALSENSE = (
    "cameras:\n  front: {driver: realsense, serial: '42', height: 4, width: 8, rate_hz: 100, depth: true}\n"
    "  wrist: {driver: realsense, serial: '43', height: 4, width: 8, rate_hz: 100}\n"
)


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Iterator[CameraNode]:
    """The node of a cell with these cameras."""
    monkeypatch.setenv("ROS_DOMAIN_ID", str(free_domain_id()))
    with standin_cell(tmp_path, request.param) as (cell, _):
        rclpy.init(args=["--ros-args", "-p", f"cell:={cell}"])
        node = CameraNode()
    yield node
    node.destroy_node()
    rclpy.shutdown()


@pytest.mark.parametrize("node", [FRONT], indirect=True)
def test_pictures_go_on_when_the_clock_has_gone_back(node: CameraNode, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[Any] = []
    back_ns = [0]
    node._images["front"].publish = sent.append
    now = SimpleNamespace(now=lambda: SimpleNamespace(nanoseconds=time.time_ns() - back_ns[0]))
    monkeypatch.setattr(node, "get_clock", lambda: now)
    camera = FakeCamera(CameraSpec("front", 8, 8, 100.0), lambda: time.time_ns() - back_ns[0])
    camera.connect()
    thread = threading.Thread(target=node._run, args=("front", camera))
    thread.start()
    try:
        for back in (0, 3600 * 10**9):
            back_ns[0] = back
            sent.clear()
            end_s = time.monotonic() + 3
            while len(sent) < 5 and time.monotonic() < end_s:
                time.sleep(0.01)
            stamps = [convert.stamp_ns(image.header.stamp) for image in sent[1:5]]
            assert len(stamps) == 4
            assert abs(stamps[-1] + back - time.time_ns()) < 10**9
    finally:
        node._closing.set()
        thread.join()


@pytest.mark.parametrize("node", [REALSENSE], indirect=True)
def test_depth_is_published_with_its_picture_of_cameras_that_give_it(node: CameraNode) -> None:
    pictures, depths = [], []
    node._images["front"].publish = pictures.append
    node._depths["front"].publish = depths.append
    camera = FakeCamera(CameraSpec("front", 4, 8, 100.0, depth=True))
    camera.connect()
    frame = camera.read()
    node._publish("front", frame)
    (picture,), (depth,) = pictures, depths
    assert depth.header == picture.header
    assert (depth.encoding, depth.header.frame_id) == ("16UC1", "front_optical_frame")
    np.testing.assert_array_equal(convert.depth(depth), frame.depth)
    assert node._depths["front"].topic_name == "/camera/front/depth/image_raw"
    assert list(node._depths) == ["front"]  # not of `wrist`


def test_a_camera_that_says_when_a_frame_has_come_is_asked_once_a_frame(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However slow it is: in the dark an automatic exposure halves its rate."""
    monkeypatch.setenv("ROS_DOMAIN_ID", str(free_domain_id()))
    with contextlib.ExitStack() as opened:
        server = opened.enter_context(MjpegServer(rate_hz=10.0))
        cameras = f"cameras:\n  front: {{driver: opencv, device: {server.url}, height: 48, width: 64, rate_hz: 100}}\n"
        cell, _ = opened.enter_context(standin_cell(tmp_path, cameras))
        rclpy.init(args=["--ros-args", "-p", f"cell:={cell}"])
        node = CameraNode()
        opened.callback(rclpy.shutdown)
        opened.callback(node.destroy_node)
        sent: list[Any] = []
        camera: Any = node._cameras["front"]
        read = Mock(wraps=camera.read)
        monkeypatch.setattr(camera, "read", read)
        monkeypatch.setattr(node._images["front"], "publish", sent.append)
        camera.connect()
        node._threads[0].start()
        end_s = time.monotonic() + 30
        while len(sent) < 10 and time.monotonic() < end_s:
            time.sleep(0.01)
        assert 10 <= len(sent) <= read.call_count < 3 * len(sent)


@pytest.mark.parametrize("node", [""], indirect=True)
def test_the_node_of_a_cell_without_cameras_stays(node: CameraNode, monkeypatch: pytest.MonkeyPatch) -> None:
    """A launch file would start it again and again."""
    spun: list[CameraNode] = []
    monkeypatch.setattr(rclpy, "spin", spun.append)
    node.work()
    assert spun == [node]


@pytest.mark.parametrize("node", [FRONT], indirect=True)
def test_a_thread_that_fails_ends_its_node(node: CameraNode, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else it would go on without the camera, and say that all is well."""
    camera = node._cameras["front"]
    monkeypatch.setattr(camera, "connect", lambda: None)
    monkeypatch.setattr(camera, "read", lambda: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        node.work()
