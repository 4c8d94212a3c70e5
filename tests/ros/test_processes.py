"""Nodes in two processes. Written against rclpy's public API."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile
from sensor_msgs.msg import Image, JointState
from std_msgs.msg import Int32, String
from std_srvs.srv import SetBool

SpinUntil = Callable[..., bool]
Start = Callable[..., subprocess.Popen[str]]

LATCHED = QoSProfile(depth=5, durability=DurabilityPolicy.TRANSIENT_LOCAL)
ECHO = """
    from sensor_msgs.msg import Image, JointState
    from std_srvs.srv import SetBool
    rclpy.init()
    node = rclpy.create_node("echo", namespace="/far")
    joints = node.create_publisher(JointState, "/joints_back", 10)
    images = node.create_publisher(Image, "/image_back", 10)
    node.create_subscription(JointState, "/joints", joints.publish, 10)
    node.create_subscription(Image, "/image", images.publish, 10)
    def answer(request, response):
        response.success = not request.data
        response.message = "far"
        return response
    node.create_service(SetBool, "/negate", answer)
    rclpy.spin(node)
"""


def test_topics_and_services_both_ways(node: Node, spin_until: SpinUntil, other_process: Start) -> None:
    other_process(ECHO)
    received: list[Any] = []
    joints = node.create_publisher(JointState, "joints", 10)
    images = node.create_publisher(Image, "image", 10)
    node.create_subscription(JointState, "joints_back", received.append, 10)
    node.create_subscription(Image, "image_back", received.append, 10)
    assert spin_until(lambda: joints.get_subscription_count() and images.get_subscription_count(), node)
    assert spin_until(lambda: node.count_publishers("joints_back") and node.count_publishers("image_back"), node)
    assert ("echo", "/far") in node.get_node_names_and_namespaces()
    message = JointState(name=["a", "b"], position=[0.5, -1.0])
    joints.publish(message)
    assert spin_until(lambda: received, node)
    assert received.pop() == message
    pixels = np.random.default_rng(0).integers(0, 256, (480, 640, 3), dtype=np.uint8)
    image = Image(height=480, width=640, encoding="rgb8", step=1920, data=pixels.tobytes())
    images.publish(image)
    assert spin_until(lambda: received, node)
    assert received.pop() == image
    client = node.create_client(SetBool, "negate")
    assert client.wait_for_service(timeout_sec=10.0)
    future = client.call_async(SetBool.Request(data=False))
    assert spin_until(future.done, node)
    assert (future.result().success, future.result().message) == (True, "far")


def test_a_late_joiner_in_another_process_gets_the_last_samples(
    node: Node, spin_until: SpinUntil, other_process: Start
) -> None:
    publisher = node.create_publisher(Int32, "latched", LATCHED)
    for number in range(8):
        publisher.publish(Int32(data=number))
    process = other_process("""
        from rclpy.qos import DurabilityPolicy, QoSProfile
        from std_msgs.msg import Int32
        rclpy.init()
        node = rclpy.create_node("late")
        got = []
        profile = QoSProfile(depth=5, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        node.create_subscription(Int32, "/latched", lambda m: got.append(m.data), profile)
        while len(got) < 5:
            rclpy.spin_once(node, timeout_sec=0.1)
        print(got, flush=True)
        rclpy.shutdown()
    """)
    assert process.communicate(timeout=20)[0].strip() == "[3, 4, 5, 6, 7]"


def test_a_busy_subscriber_with_a_deep_queue_loses_nothing(
    node: Node, spin_until: SpinUntil, other_process: Start
) -> None:
    process = other_process("""
        import time
        from std_msgs.msg import Int32
        rclpy.init()
        node = rclpy.create_node("recorder")
        got = []
        node.create_subscription(Int32, "/stream", lambda m: got.append(m.data), 1000)
        while not got:
            rclpy.spin_once(node, timeout_sec=0.1)
        end = time.monotonic() + 1.0
        while time.monotonic() < end:  # busy, holding the interpreter
            sum(range(1000))
        while got[-1] < 500:
            rclpy.spin_once(node, timeout_sec=0.1)
        print(got == list(range(501)), flush=True)
        rclpy.shutdown()
    """)
    publisher = node.create_publisher(Int32, "stream", 1000)
    assert spin_until(publisher.get_subscription_count, node, timeout_s=20)
    for number in range(501):
        publisher.publish(Int32(data=number))
        time.sleep(0.001)
    assert process.communicate(timeout=30)[0].strip() == "True"


def test_a_killed_process_leaves_the_graph_within_three_seconds(
    node: Node, spin_until: SpinUntil, other_process: Start
) -> None:
    process = other_process(ECHO)
    assert spin_until(lambda: "echo" in node.get_node_names(), node, timeout_s=20)
    process.kill()
    start = time.monotonic()
    assert spin_until(lambda: "echo" not in node.get_node_names(), node, timeout_s=10)
    if not native():
        assert time.monotonic() - start < 4.0  # the lease, with a margin for a loaded machine


def native() -> bool:
    import robolearn.ros

    return robolearn.ros.is_native()


SPINNER = """
    import sys
    from rclpy.executors import ExternalShutdownException
    rclpy.init()
    node = rclpy.create_node("spinner")
    node.create_timer(0.2, lambda: print("up", flush=True))
    try:
        rclpy.spin(node)
    except KeyboardInterrupt:
        print("interrupt")
    except ExternalShutdownException:
        print("external")
    finally:
        node.destroy_node()
        rclpy.try_shutdown()
"""


def stopped_by(process: subprocess.Popen[str], number: signal.Signals) -> tuple[str, str]:
    assert process.stdout is not None
    assert process.stdout.readline().strip() == "up"
    process.send_signal(number)
    out, errors = process.communicate(timeout=10)
    assert process.returncode == 0, errors
    return (out.split() or ["returned"])[-1], errors


def test_sigint_ends_spin_like_a_keyboard_interrupt(other_process: Start) -> None:
    out, errors = stopped_by(other_process(SPINNER), signal.SIGINT)
    assert out in ("interrupt", "external", "returned")
    assert "Traceback" not in errors


def test_sigterm_ends_spin_cleanly(other_process: Start) -> None:
    out, errors = stopped_by(other_process(SPINNER), signal.SIGTERM)
    assert out in ("external", "returned")  # between two callbacks, spin ends without a word
    assert "Traceback" not in errors


def test_parameters_of_another_process(node: Node, spin_until: SpinUntil, other_process: Start) -> None:
    from rcl_interfaces.srv import GetParameters

    other_process(
        """
        import sys
        rclpy.init(args=sys.argv)
        node = rclpy.create_node("holder")
        node.declare_parameter("gain", 1.0)
        rclpy.spin(node)
        """,
        *["--ros-args", "-p", "gain:=4.5", "-r", "__node:=renamed"],
    )
    client = node.create_client(GetParameters, "/renamed/get_parameters")
    assert client.wait_for_service(timeout_sec=20.0)
    future = client.call_async(GetParameters.Request(names=["gain"]))
    assert spin_until(future.done, node)
    assert future.result().values[0].double_value == 4.5


def test_log_lines_reach_rosout(node: Node, spin_until: SpinUntil) -> None:
    from rcl_interfaces.msg import Log

    lines: list[Log] = []
    node.create_subscription(Log, "/rosout", lines.append, 100)
    node.get_logger().error("something broke")
    assert spin_until(lambda: any(line.msg == "something broke" for line in lines), node)


def test_strings_of_another_process_keep_their_encoding(
    node: Node, spin_until: SpinUntil, other_process: Start
) -> None:
    other_process("""
        from std_msgs.msg import String
        rclpy.init()
        node = rclpy.create_node("writer")
        publisher = node.create_publisher(String, "/text", 10)
        node.create_timer(0.05, lambda: publisher.publish(String(data="h\\u00e9llo")))
        rclpy.spin(node)
    """)
    received: list[String] = []
    node.create_subscription(String, "/text", received.append, 10)
    assert spin_until(lambda: received, node, timeout_s=20)
    assert received[0].data == "héllo"
