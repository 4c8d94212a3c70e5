"""Executors, callback groups and guard conditions. Written against rclpy's public API."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest
import rclpy
from rclpy.executors import MultiThreadedExecutor, SingleThreadedExecutor
from rclpy.node import Node
from std_msgs.msg import String

SpinUntil = Callable[..., bool]


def test_exceptions_of_callbacks_leave_spin(node: Node) -> None:
    def fail() -> None:
        raise ZeroDivisionError("in the callback")

    node.create_timer(0.01, fail)
    with pytest.raises(ZeroDivisionError):
        rclpy.spin(node)


def test_guard_condition_from_another_thread(node: Node, spin_until: SpinUntil) -> None:
    seen: list[int] = []
    guard = node.create_guard_condition(lambda: seen.append(1))
    threading.Timer(0.05, guard.trigger).start()
    assert spin_until(lambda: seen, node)
    assert seen == [1]


def test_multi_threaded_executor_runs_groups_in_parallel(node: Node) -> None:
    from rclpy.callback_groups import MutuallyExclusiveCallbackGroup

    both = threading.Barrier(2, timeout=5)
    done: list[int] = []

    def meet() -> None:
        both.wait()
        done.append(1)

    for _ in range(2):
        node.create_guard_condition(meet, callback_group=MutuallyExclusiveCallbackGroup()).trigger()
    executor = MultiThreadedExecutor(num_threads=2)
    executor.add_node(node)
    end = time.monotonic() + 5
    while len(done) < 2 and time.monotonic() < end:
        executor.spin_once(timeout_sec=0.1)
    executor.shutdown()
    assert len(done) >= 2


def test_one_group_is_never_entered_twice(node: Node) -> None:
    inside, most = 0, 0
    calls = 0

    def work() -> None:
        nonlocal inside, most, calls
        inside += 1
        most = max(most, inside)
        time.sleep(0.005)
        inside -= 1
        calls += 1

    for _ in range(3):
        node.create_timer(0.002, work)
    executor = MultiThreadedExecutor(num_threads=3)
    executor.add_node(node)
    end = time.monotonic() + 5
    while calls < 10 and time.monotonic() < end:
        executor.spin_once(timeout_sec=0.1)
    executor.shutdown()
    assert calls >= 10
    assert most == 1


def test_entities_come_and_go_while_the_node_is_spun(node: Node) -> None:
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    thread = threading.Thread(target=executor.spin, daemon=True)
    thread.start()
    received: list[String] = []
    for index in range(5):
        publisher = node.create_publisher(String, f"topic_{index}", 10)
        subscription = node.create_subscription(String, f"topic_{index}", received.append, 10)
        publisher.publish(String())
        end = time.monotonic() + 5
        while len(received) <= index and time.monotonic() < end:
            time.sleep(0.002)
        node.destroy_subscription(subscription)
        node.destroy_publisher(publisher)
    executor.shutdown()
    thread.join(timeout=5)
    assert not thread.is_alive()
    assert len(received) == 5


def test_a_busy_group_does_not_make_the_executor_spin_idly(node: Node) -> None:
    release = threading.Event()
    polls = 0
    executor = MultiThreadedExecutor(num_threads=2)

    def block() -> None:
        release.wait(timeout=5)

    node.create_guard_condition(block).trigger()
    node.create_timer(0.001, lambda: None)
    executor.add_node(node)
    end = time.monotonic() + 0.3
    while time.monotonic() < end:
        executor.spin_once(timeout_sec=0.05)
        polls += 1
    release.set()
    executor.shutdown()
    assert polls < 200
