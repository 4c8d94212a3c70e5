"""What a participant of the domain hears and remembers: this host only, the living only."""

from __future__ import annotations

import os
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import rclpy
from cyclonedds.builtin import BuiltinDataReader
from rclpy.node import Node

SpinUntil = Callable[..., bool]
Start = Callable[..., subprocess.Popen[str]]

PREFIX = slice(8, 20)  # of the participant, in an RTPS header


def first_port(domain_id: int) -> int:
    """Where participant 0 of a domain hears announcements."""
    return 7400 + 250 * domain_id + 10


@pytest.fixture
def outside_address() -> str:
    """An address of this host that is not loopback."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # sends nothing
        except OSError:
            pytest.skip("this host has the loopback interface only")
        return str(probe.getsockname()[0])


@pytest.fixture
def announcement() -> Iterator[bytes]:
    """What the participant of a context announces, as it stands on the wire."""
    context = rclpy.Context()
    port = first_port(int(os.environ["ROS_DOMAIN_ID"])) + 2 * 7
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as ear:
        ear.bind(("127.0.0.1", port))
        ear.settimeout(10)
        context.init([])
        yield ear.recv(65536)
    context.shutdown()


def test_only_participants_of_this_host_are_heard(outside_address: str, announcement: bytes) -> None:
    domain_id = int(os.environ["ROS_DOMAIN_ID"])
    context = rclpy.Context()
    context.init([])
    transport: Any = context.handle.transport
    prefix = announcement[PREFIX]

    def known(number: int) -> bool:
        return any(p.key.bytes.startswith(stranger(number)) for p in transport._read(0))

    def stranger(number: int) -> bytes:
        return bytes([1, 16, number]) + prefix[3:]

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as mouth:
        for number, address in ((1, outside_address), (2, "127.0.0.1")):
            forged = announcement.replace(prefix, stranger(number))
            for index in range(4):  # whatever index the context got
                mouth.sendto(forged, (address, first_port(domain_id) + 2 * index))
    end = time.monotonic() + 10
    while not known(2) and time.monotonic() < end:
        time.sleep(0.05)
    assert known(2)  # on loopback it is one of us
    assert not known(1)
    context.shutdown()


def test_a_peer_of_the_subnet_range_is_found_although_it_came_later(
    node: Node, spin_until: SpinUntil, other_process: Start
) -> None:
    other_process(
        """
        rclpy.init()
        rclpy.spin(rclpy.create_node("neighbour"))
        """,
        env={"ROS_AUTOMATIC_DISCOVERY_RANGE": "SUBNET"},  # what a stock ROS 2 has
    )
    assert spin_until(lambda: "neighbour" in node.get_node_names(), node, timeout_s=30)


def test_what_has_left_is_forgotten(node: Node, spin_until: SpinUntil) -> None:
    transport: Any = node.context.handle.transport
    for _ in range(3):
        other = rclpy.Context()
        rclpy.init(args=[], context=other)
        guest = rclpy.create_node("guest", context=other)
        assert spin_until(lambda: "guest" in node.get_node_names(), node)
        guest.destroy_node()
        rclpy.shutdown(context=other)
        assert spin_until(lambda: "guest" not in node.get_node_names(), node)
    assert spin_until(lambda: len(transport._read(0)) == 1, node)
    transport.graph()
    assert list(transport._announced) == [transport.gid]
    assert len(transport._builtin[0].read(1000)) == 1
    own = {endpoint.gid for endpoint in transport.graph().endpoints}
    assert len(transport._builtin[1].read(1000)) + len(transport._builtin[2].read(1000)) == len(own)


def test_one_thread_at_a_time_reads_who_is_there(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    """The library reads into memory that all threads of a process share: two at once ended in a segmentation fault."""
    inside, most = threading.Semaphore(1), [0]

    def read(reader: BuiltinDataReader[Any], *args: Any) -> list[Any]:
        most[0] += not inside.acquire(blocking=False)
        time.sleep(0.02)  # in which the others get to run
        inside.release()
        return untouched(reader, *args)

    untouched = BuiltinDataReader.read
    monkeypatch.setattr(BuiltinDataReader, "read", read)
    threads = [threading.Thread(target=node.context.handle.transport.graph) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [0]
