"""Pictures that come raw, compressed, or first one and then the other, as the recorder hears them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import rclpy
from robolearn_nodes import convert, topics
from robolearn_nodes.heard_camera import HeardCamera
from robolearn_nodes.node import COMPRESSED, crowded, heard_topic, unheard
from robolearn_nodes.streams import Streams
from sensor_msgs.msg import CompressedImage, Image

from robolearn.datasets.contract import graph_contract
from robolearn.datasets.store import DatasetSpec
from robolearn.errors import SpecError
from robolearn.specs import InterfaceSpec, image_spec
from robolearn.tasks import make_task

RAW = topics.image_topic("front")
ROBOT = make_task("reach-v1").robot_spec
SPEC = DatasetSpec(ROBOT, InterfaceSpec({"image_front": image_spec(16, 24)}, ROBOT.action_spec, 20.0))
PICTURE = np.full((16, 24, 3), (200, 60, 20), np.uint8)


def until(node: Any, done: Callable[[], Any], act: Callable[[], None]) -> None:
    for _ in range(200):
        act()
        rclpy.spin_once(node, timeout_sec=0.02)
        if done():
            return
    raise AssertionError("waited in vain")


@pytest.mark.usefixtures("ros")
def test_the_recorder_hears_a_camera_that_comes_compressed_and_raw_as_soon_as_it_comes_so() -> None:
    node = rclpy.create_node("test")
    came: list[tuple[int, dict[str, Any]]] = []
    names = Streams(node, graph_contract(SPEC), lambda _, stamp, read: came.append((stamp, read())), False).topics
    assert RAW in names
    assert unheard(node, [RAW]) == f"nobody publishes /{RAW} yet; is its node running?"
    jpegs = node.create_publisher(CompressedImage, RAW + COMPRESSED, topics.STREAM)
    sent = convert.compressed_image_message(PICTURE, 7, "front")
    until(node, lambda: came, lambda: jpegs.publish(sent))
    stamp_ns, fields = came[0]
    assert stamp_ns == 7
    assert np.abs(fields["image_front"].astype(int) - PICTURE).max() < 8
    assert (unheard(node, [RAW]), heard_topic(node, RAW)) == ("", f"/{RAW}{COMPRESSED}")
    second = node.create_publisher(CompressedImage, RAW + COMPRESSED, topics.STREAM)
    assert crowded(node, [RAW]).startswith(f"2 nodes publish /{RAW}{COMPRESSED}; ")
    node.destroy_publisher(second)
    images = node.create_publisher(Image, RAW, topics.STREAM)
    came.clear()
    until(node, lambda: came, lambda: images.publish(convert.image_message(PICTURE, 8, "front")))
    np.testing.assert_array_equal(came[-1][1]["image_front"], PICTURE)
    assert not jpegs.get_subscription_count()  # nobody makes JPEG for nobody
    node.destroy_node()


@pytest.mark.usefixtures("ros")
def test_a_topic_that_is_named_compressed_is_so_though_raw_pictures_come_too() -> None:
    node = rclpy.create_node("test", cli_args=["--ros-args", "-r", f"{RAW}:={RAW}{COMPRESSED}"])
    other = rclpy.create_node("camera")
    images, jpegs = (
        other.create_publisher(kind, name, topics.STREAM)
        for kind, name in ((Image, RAW), (CompressedImage, RAW + COMPRESSED))
    )
    came: list[Any] = []
    HeardCamera(node, RAW, came.append, topics.STREAM)

    def both() -> None:
        images.publish(convert.image_message(PICTURE, 1, "front"))
        jpegs.publish(CompressedImage(format="jpeg", data=b"no picture"))

    until(node, lambda: came, both)
    assert {type(message) for message in came} == {CompressedImage}
    with pytest.raises(SpecError, match="cannot be decoded"):
        convert.picture(came[0])
    node.destroy_node()
    other.destroy_node()
