"""Publishers and subscriptions in one process. Written against rclpy's public API."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
import rclpy
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, qos_profile_sensor_data
from rclpy.serialization import deserialize_message
from sensor_msgs.msg import JointState
from std_msgs.msg import Int32, String

SpinUntil = Callable[..., bool]


def test_messages_arrive_in_order_and_unchanged(node: Node, spin_until: SpinUntil) -> None:
    received: list[JointState] = []
    publisher = node.create_publisher(JointState, "joints", 10)
    node.create_subscription(JointState, "joints", received.append, 10)
    message = JointState(name=["a"], position=[0.0])
    for index in range(5):
        message.position[0] = float(index)
        publisher.publish(message)
        message.header.frame_id = "changed after publish"
        message.header.frame_id = ""
    assert spin_until(lambda: len(received) == 5, node)
    assert [list(m.position) for m in received] == [[float(i)] for i in range(5)]


def test_keep_last_drops_the_oldest(node: Node, spin_until: SpinUntil) -> None:
    received: list[int] = []
    publisher = node.create_publisher(Int32, "numbers", 100)
    node.create_subscription(Int32, "numbers", lambda m: received.append(m.data), 3)
    for index in range(10):
        publisher.publish(Int32(data=index))
    assert spin_until(lambda: received and received[-1] == 9, node)
    assert received == [7, 8, 9]


@pytest.mark.parametrize("elsewhere", [False, True])
@pytest.mark.parametrize("publisher_first", [False, True])
def test_incompatible_qos_delivers_nothing_and_is_told(
    node: Node, spin_until: SpinUntil, capfd: pytest.CaptureFixture[str], elsewhere: bool, publisher_first: bool
) -> None:
    received: list[String] = []
    context = rclpy.Context() if elsewhere else node.context
    if elsewhere:
        rclpy.init(args=[], context=context)
    other = rclpy.create_node("other", context=context)
    said = ""

    def told() -> bool:
        nonlocal said
        said += capfd.readouterr().err
        return "reliability" in said.lower() and "/weak" in said

    make = [
        lambda: other.create_publisher(String, "weak", qos_profile_sensor_data),
        lambda: node.create_subscription(String, "weak", received.append, 10),
    ]
    publisher, _ = [entity() for entity in (make if publisher_first else reversed(make))][
        :: 1 if publisher_first else -1
    ]
    assert spin_until(told, node)
    publisher.publish(String(data="x"))
    assert not spin_until(lambda: received, node, timeout_s=0.1)
    assert said.count("reliability") <= 1
    other.destroy_node()
    if elsewhere:
        rclpy.shutdown(context=context)


def test_a_late_joiner_gets_the_last_of_a_latched_topic(node: Node, spin_until: SpinUntil) -> None:
    latched = QoSProfile(depth=2, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    publisher = node.create_publisher(String, "state", latched)
    for text in "abc":
        publisher.publish(String(data=text))
    received: list[str] = []
    node.create_subscription(String, "state", lambda m: received.append(m.data), latched)
    assert spin_until(lambda: len(received) >= 2, node)
    assert received == ["b", "c"]


def test_subscription_callback_with_info(node: Node, spin_until: SpinUntil) -> None:
    infos: list[Any] = []
    publisher = node.create_publisher(String, "info", 10)
    node.create_subscription(String, "info", lambda message, info: infos.append(info), 10)
    publisher.publish(String())
    assert spin_until(lambda: infos, node)
    assert abs(infos[0]["source_timestamp"] - time.time_ns()) < 60e9


def test_raw_subscription_gives_bytes(node: Node, spin_until: SpinUntil) -> None:
    received: list[bytes] = []
    publisher = node.create_publisher(String, "raw", 10)
    node.create_subscription(String, "raw", received.append, 10, raw=True)
    publisher.publish(String(data="hi"))
    assert spin_until(lambda: received, node)
    assert received[0].startswith(b"\x00\x01\x00\x00\x03\x00\x00\x00hi\x00")
    assert deserialize_message(received[0], String) == String(data="hi")


def test_publish_of_another_type_is_refused(node: Node) -> None:
    publisher = node.create_publisher(String, "typed", 10)
    with pytest.raises(TypeError):
        publisher.publish(Int32())
    with pytest.raises(Exception, match=r"(?i)type"):
        node.create_publisher(3, "typed", 10)


def test_destroyed_subscriptions_stay_silent(node: Node, spin_until: SpinUntil) -> None:
    received: list[String] = []
    publisher = node.create_publisher(String, "gone", 10)
    subscription = node.create_subscription(String, "gone", received.append, 10)
    assert publisher.get_subscription_count() == 1
    assert node.destroy_subscription(subscription)
    publisher.publish(String())
    assert not spin_until(lambda: received, node, timeout_s=0.2)
    assert publisher.get_subscription_count() == 0


def test_wait_for_message(node: Node) -> None:
    from rclpy.wait_for_message import wait_for_message

    publisher = node.create_publisher(String, "awaited", 10)
    assert wait_for_message(String, node, "awaited", time_to_wait=0.05) == (False, None)
    timer = threading.Timer(0.1, lambda: publisher.publish(String(data="here")))
    timer.start()
    found, message = wait_for_message(String, node, "awaited", time_to_wait=5.0)
    timer.join()
    assert found
    assert message.data == "here"
