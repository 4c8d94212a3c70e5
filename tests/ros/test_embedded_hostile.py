"""Bytes of strangers, on the real wire: subscriptions and services stay up, and every string is counted once: by DDS,
which writes a line for each that does not fit the type, or by us.

RTPS datagrams are written by hand in the name of a real publisher and a real client (RTPS 2.5, sections 8.3 and 9.4).
"""

from __future__ import annotations

import os
import random
import socket
import struct
import subprocess
import time
from collections.abc import Callable
from typing import Any

import pytest
from rclpy.node import Node
from rclpy.qos import QoSProfile
from sensor_msgs.msg import JointState
from std_srvs.srv import SetBool

from robolearn.ros import messages

SpinUntil = Callable[..., bool]
Start = Callable[..., subprocess.Popen[str]]

NEIGHBOUR = """
    from sensor_msgs.msg import JointState
    from std_srvs.srv import SetBool
    rclpy.init()
    node = rclpy.create_node("neighbour")
    publisher = node.create_publisher(JointState, "/open", 10000)
    client = node.create_client(SetBool, "/open_service")
    rclpy.spin(node)
"""
DATA, LITTLE_ENDIAN_WITH_DATA = 0x15, 0x05
STRINGS = 10_000


def datagram(gid: bytes, sequence: int, payload: bytes) -> bytes:
    """A DATA submessage of the writer with this gid."""
    payload += b"\0" * (-len(payload) % 4)
    body = struct.pack("<HH4s4siI", 0, 16, bytes(4), gid[12:], 0, sequence) + payload
    return b"RTPS\x02\x01\x01\x10" + gid[:12] + struct.pack("<BBH", DATA, LITTLE_ENDIAN_WITH_DATA, len(body)) + body


def hostile(count: int, true: bytes) -> list[bytes]:
    """Random strings, and truncated and altered true messages, each with a CDR header: without one DDS takes none."""
    generator = random.Random(0)
    strings = []
    for _ in range(count):
        if generator.random() < 0.5:
            strings.append(true[:4] + generator.randbytes(4 * generator.randrange(1, 16)))
            continue
        altered = bytearray(true[: 4 * generator.randrange(2, len(true) // 4)])
        for _ in range(min(3, len(altered) - 4)):
            altered[generator.randrange(4, len(altered))] = generator.randrange(256)
        strings.append(bytes(altered))
    return strings


def test_ten_thousand_hostile_strings_on_the_wire(
    node: Node, spin_until: SpinUntil, other_process: Start, capfd: pytest.CaptureFixture[str]
) -> None:
    received: list[JointState] = []
    asked: list[Any] = []

    def answer(request: Any, response: Any) -> Any:
        asked.append(request)
        return response

    subscription: Any = node.create_subscription(JointState, "open", received.append, 10_000)
    service: Any = node.create_service(SetBool, "open_service", answer, qos_profile=QoSProfile(depth=10_000))
    other_process(NEIGHBOUR)
    request_topic = "rq/open_serviceRequest"
    assert spin_until(lambda: node.count_publishers("open") and node.count_clients("open_service"), node, timeout_s=30)
    (publisher,) = node.get_publishers_info_by_topic("open")
    (client,) = node.get_publishers_info_by_topic(request_topic, no_mangle=True)
    assert spin_until(lambda: subscription.get_publisher_count() == 1, node)
    true = bytes(messages.serialize(JointState(name=["shoulder", "gripper"], position=[1.0, 2.0])))
    true += b"\0" * (-len(true) % 4)
    first_data_port = 7400 + 250 * int(os.environ["ROS_DOMAIN_ID"]) + 11
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as mouth:

        def say(gid: bytes, sequence: int, payload: bytes) -> None:
            for index in range(3):
                mouth.sendto(datagram(gid, sequence, payload), ("127.0.0.1", first_data_port + 2 * index))

        say(bytes(publisher.endpoint_gid), 1, true)
        assert spin_until(lambda: received, node)
        assert received[0].name == ["shoulder", "gripper"]
        sequence = 1
        for string in hostile(STRINGS // 2, true):
            sequence += 1
            say(bytes(publisher.endpoint_gid), sequence, string)
            say(bytes(client.endpoint_gid), sequence - 1, string)
            if sequence % 50 == 0:
                time.sleep(0.005)
        end = time.monotonic() + 1.0
        spin_until(lambda: time.monotonic() > end, node)
    errors = capfd.readouterr().err
    refused = {kind: errors.count(f": deserialization {kind}/open") for kind in ("rt", "rq")}  # by DDS, a line each
    counted = refused["rt"] + subscription.malformed_count + len(received) - 1
    counted += refused["rq"] + service.malformed_count + len(asked)
    assert 0.5 * STRINGS < counted <= STRINGS  # a loaded machine loses datagrams
    assert len(received) + len(asked) < 0.1 * STRINGS
    assert "Traceback" not in errors
    node.create_publisher(JointState, "open", 10).publish(JointState(name=["alive"]))
    assert spin_until(lambda: received[-1].name == ["alive"], node)
    call = node.create_client(SetBool, "open_service").call_async(SetBool.Request(data=True))
    assert spin_until(call.done, node)
