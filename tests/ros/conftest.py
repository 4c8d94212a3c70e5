"""Every test process has a ROS domain of its own, so that suites running side by side do not meet.

`ROBOLEARN_PEER_PYTHON` names the interpreter of the other processes: that of a native ROS 2 makes every test with
`other_process` a test of interoperability.
"""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import robolearn.ros  # isort: skip  supplies rclpy where ROS 2 is not installed

os.environ["ROS_DOMAIN_ID"] = str(1 + os.getpid() % 100)

import rclpy
from rclpy.node import Node

assert robolearn.ros


@pytest.fixture
def context() -> Iterator[None]:
    """An open default context."""
    rclpy.init(args=[])
    yield
    rclpy.try_shutdown()


@pytest.fixture
def node(context: None) -> Iterator[Node]:
    """A node of the default context."""
    node = rclpy.create_node("tested")
    yield node
    node.destroy_node()


@pytest.fixture
def spin_until() -> Callable[..., bool]:
    """Spin nodes until a condition holds; false if it does not within the time."""

    def spin(condition: Callable[[], Any], *nodes: Node, timeout_s: float = 10.0) -> bool:
        executor = rclpy.executors.SingleThreadedExecutor()
        for node in nodes:
            executor.add_node(node)
        end = time.monotonic() + timeout_s
        try:
            while not condition():
                if time.monotonic() > end:
                    return False
                executor.spin_once(timeout_sec=0.05)
            return True
        finally:
            executor.shutdown()

    return spin


@pytest.fixture
def other_process() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start Python code as another process with rclpy; it is ended after the test."""
    yield from _starter()


@pytest.fixture(scope="module")
def lasting_process() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """The same for all tests of a module, after which it is ended."""
    yield from _starter()


def _starter() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    started: list[subprocess.Popen[str]] = []

    def start(code: str, *args: str, env: dict[str, str] | None = None) -> subprocess.Popen[str]:
        text = "import robolearn.ros\nimport rclpy\n" + textwrap.dedent(code)
        process = subprocess.Popen(
            [os.environ.get("ROBOLEARN_PEER_PYTHON", sys.executable), "-c", text, *args],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | (env or {}),
        )
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()
