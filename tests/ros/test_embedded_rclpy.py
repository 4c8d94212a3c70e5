"""The embedded rclpy where it must differ from a naive one: the user's names are the user's, nothing is lost."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable
from typing import Any

import pytest
from rclpy.executors import MultiThreadedExecutor
from rclpy.lifecycle import LifecycleNode
from rclpy.node import Node
from std_msgs.msg import String

SpinUntil = Callable[..., bool]
Start = Callable[..., subprocess.Popen[str]]


class Later:
    """Awaiting it gives way to others once, without a future."""

    def __await__(self) -> Any:
        yield


def test_coroutines_that_give_way_are_not_lost(node: Node) -> None:
    executor = MultiThreadedExecutor(num_threads=8)
    executor.add_node(node)

    async def count() -> int:
        for _ in range(50):
            await Later()
        return 50

    tasks = [executor.create_task(count) for _ in range(20)]
    for task in tasks:
        executor.spin_until_future_complete(task, timeout_sec=20.0)
    assert [task.result() for task in tasks] == [50] * 20
    executor.shutdown()


PRIVATE = """
    _name _namespace _context _session _record _clock _logger _parameters _publishers _subscriptions _services
    _clients _timers _guards _extra _rates _executor _arguments _rosout _time_source _destroyed _state _managed
    _events _add _destroy _resolve _overrides _waitables _run _call _move _trigger _available _get_state
    _change_state _wake _default_callback_group _parameter_events _publish_log _of_node _check_alive _set_executor
"""


def test_a_subclass_may_use_any_private_name(context: None, spin_until: SpinUntil) -> None:
    kind = type("Mine", (LifecycleNode,), dict.fromkeys(PRIVATE.split(), "mine"))
    mine: Any = kind("mine")
    for name in PRIVATE.split():
        setattr(mine, name, "mine")
    received: list[String] = []
    mine.create_subscription(String, "own", received.append, 10)
    mine.declare_parameter("gain", 1.0)
    assert mine.trigger_configure()
    mine.create_publisher(String, "own", 10).publish(String(data="x"))
    mine.get_logger().info("here")
    assert spin_until(lambda: received, mine)
    assert "mine" in mine.get_node_names()
    assert mine.get_publisher_names_and_types_by_node("mine", "/")
    mine.destroy_node()


BUSY = """
    import sys
    from rclpy.executors import ExternalShutdownException
    from std_msgs.msg import String
    rclpy.init()
    node = rclpy.create_node("busy")
    publisher = node.create_publisher(String, "/busy", 10)
    node.create_subscription(String, "/busy", lambda message: None, 10)
    try:
        print("up", flush=True)
        while True:
            publisher.publish(String(data="x"))
            node.get_node_names()
            node.count_publishers("/busy")
            rclpy.spin_once(node, timeout_sec=0.0)
    except KeyboardInterrupt:
        print("interrupt")
    finally:
        node.destroy_node()
        rclpy.try_shutdown()
"""


def test_a_timer_goes_on_when_the_systems_clock_is_set_back(
    node: Node, spin_until: SpinUntil, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []
    real = time.time_ns
    node.create_timer(0.01, lambda: calls.append(real()))
    assert spin_until(lambda: calls, node)
    monkeypatch.setattr(time, "time_ns", lambda: real() - 3_600_000_000_000)
    before = len(calls)
    assert spin_until(lambda: len(calls) > before + 2, node, timeout_s=5.0)


def test_ctrl_c_in_the_middle_of_the_library_ends_without_a_traceback(other_process: Start) -> None:
    """Most of the time is spent in the DDS binding, which calls Python back."""
    processes = [other_process(BUSY) for _ in range(2)]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline().strip() == "up"
    for process in processes:
        process.send_signal(signal.SIGINT)
    for process in processes:
        out, errors = process.communicate(timeout=30)
        assert (out.strip(), process.returncode) == ("interrupt", 0), errors
        assert "Traceback" not in errors
        assert "Exception ignored" not in errors
