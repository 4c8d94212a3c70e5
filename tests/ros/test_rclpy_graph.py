"""Names, contexts, logging, and what a process sees of its own graph. Written against rclpy's public API."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable

import pytest
import rclpy
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from rclpy.qos import ReliabilityPolicy, qos_profile_sensor_data
from sensor_msgs.msg import JointState
from std_msgs.msg import String
from std_srvs.srv import Trigger

SpinUntil = Callable[..., bool]


@pytest.mark.parametrize("name", ["", "1abc", "a-b", "a b", "a/b"])
def test_invalid_node_names(context: None, name: str) -> None:
    with pytest.raises(Exception, match=r"(?i)node name"):
        Node(name)


@pytest.mark.parametrize("topic", ["", "1abc", "a//b", "a b", "a/"])
def test_invalid_topic_names(node: Node, topic: str) -> None:
    with pytest.raises(Exception, match=r"(?i)topic name"):
        node.create_publisher(String, topic, 10)


def test_graph_of_one_process(node: Node) -> None:
    publisher = node.create_publisher(JointState, "joint_states", 10)
    node.create_subscription(JointState, "joint_states", lambda m: None, qos_profile_sensor_data)
    node.create_service(Trigger, "~/go", lambda request, response: response)
    assert "tested" in node.get_node_names()
    assert ("tested", "/") in node.get_node_names_and_namespaces()
    assert ("/joint_states", ["sensor_msgs/msg/JointState"]) in node.get_topic_names_and_types()
    assert ("/tested/go", ["std_srvs/srv/Trigger"]) in node.get_service_names_and_types()
    assert node.count_publishers("joint_states") == node.count_subscribers("/joint_states") == 1
    (info,) = node.get_publishers_info_by_topic("joint_states")
    assert (info.node_name, info.node_namespace, info.topic_type) == ("tested", "/", "sensor_msgs/msg/JointState")
    assert info.qos_profile.reliability == ReliabilityPolicy.RELIABLE
    (info,) = node.get_subscriptions_info_by_topic("joint_states")
    assert info.qos_profile.reliability == ReliabilityPolicy.BEST_EFFORT
    node.destroy_publisher(publisher)
    assert node.count_publishers("joint_states") == 0


def test_nothing_works_before_init_or_after_shutdown() -> None:
    context = rclpy.Context()
    with pytest.raises(Exception, match=r"(?i)init"):
        Node("early", context=context)
    rclpy.init(args=[], context=context)
    with pytest.raises(RuntimeError):
        rclpy.init(args=[], context=context)
    node = Node("late", context=context)
    publisher = node.create_publisher(String, "x", 10)
    rclpy.shutdown(context=context)
    assert not rclpy.ok(context=context)
    with pytest.raises(RuntimeError):
        publisher.publish(String())
    with pytest.raises(RuntimeError):
        rclpy.shutdown(context=context)


def test_shutdown_from_another_thread_ends_spin(context: None) -> None:
    node = Node("spun")
    threading.Timer(0.1, rclpy.shutdown).start()
    with contextlib.suppress(ExternalShutdownException):  # or it returns: whichever it notices first
        rclpy.spin(node)
    assert not rclpy.ok()


def test_logger_levels_and_filters(
    node: Node, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    logger = node.get_logger()
    logger.debug("hidden")
    logger.info("shown")
    for _ in range(3):
        logger.warning("only once", once=True)
    for _ in range(3):
        logger.error("throttled", throttle_duration_sec=60.0)
    errors = capfd.readouterr().err
    assert "hidden" not in errors
    assert "[INFO]" in errors
    assert "[tested]: shown" in errors
    assert errors.count("only once") == errors.count("throttled") == 1
    with open("/dev/full", "w", buffering=1) as full, monkeypatch.context() as patch:
        patch.setattr("sys.stderr", full)
        assert logger.info("to a full disk, which is no reason for a node to end")
        os.dup2(os.open(os.devnull, os.O_WRONLY), full.fileno())
