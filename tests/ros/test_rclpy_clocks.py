"""Times, timers, rates and simulated time. Written against rclpy's public API."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable

import pytest
from rclpy.clock import ClockType
from rclpy.duration import Duration
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.time import Time
from rosgraph_msgs.msg import Clock

SpinUntil = Callable[..., bool]


def test_timers_keep_their_period_and_can_be_cancelled(node: Node, spin_until: SpinUntil) -> None:
    calls: list[int] = []
    timer = node.create_timer(0.01, lambda: calls.append(1))
    assert spin_until(lambda: len(calls) >= 5, node)
    timer.cancel()
    count = len(calls)
    assert timer.is_canceled()
    assert not spin_until(lambda: len(calls) > count, node, timeout_s=0.1)
    timer.reset()
    assert spin_until(lambda: len(calls) > count, node)


def test_times_and_durations() -> None:
    time_1 = Time(seconds=1, nanoseconds=500, clock_type=ClockType.ROS_TIME)
    assert time_1.seconds_nanoseconds() == (1, 500)
    assert (time_1 + Duration(seconds=2)).nanoseconds == 3_000_000_500
    assert (time_1 - Duration(nanoseconds=500)).nanoseconds == 1_000_000_000
    assert (time_1 - Time(seconds=1, clock_type=ClockType.ROS_TIME)).nanoseconds == 500
    assert Time.from_msg(time_1.to_msg()) == time_1
    with pytest.raises(TypeError):
        _ = time_1 < Time(seconds=2, clock_type=ClockType.SYSTEM_TIME)


def test_simulated_time_drives_clock_and_timers(context: None, spin_until: SpinUntil) -> None:
    node = Node("simulated", parameter_overrides=[Parameter("use_sim_time", value=True)])
    source = Node("source")
    publisher = source.create_publisher(Clock, "/clock", 10)
    calls: list[int] = []
    node.create_timer(1.0, lambda: calls.append(node.get_clock().now().nanoseconds))

    def tick(seconds: int) -> None:
        publisher.publish(Clock(clock=Time(seconds=seconds).to_msg()))
        assert spin_until(lambda: node.get_clock().now().nanoseconds == seconds * 10**9, node, source)

    assert node.get_clock().now().nanoseconds == 0
    for second in (10, 11, 12):
        tick(second)
        spin_until(lambda: False, node, timeout_s=0.06)
    assert calls == [10 * 10**9, 11 * 10**9, 12 * 10**9]
    node.destroy_node()
    source.destroy_node()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_sleep(node: Node, number: signal.Signals) -> None:
    threading.Timer(0.1, os.kill, (os.getpid(), number)).start()
    with pytest.raises(KeyboardInterrupt) if number == signal.SIGINT else contextlib.nullcontext():
        assert not node.get_clock().sleep_for(Duration(seconds=3))
    assert not node.context.ok()


def test_rate_sleeps(node: Node) -> None:
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    thread = threading.Thread(target=executor.spin, daemon=True)
    thread.start()
    rate = node.create_rate(50.0)
    start = time.monotonic()
    for _ in range(3):
        rate.sleep()
    assert time.monotonic() - start >= 0.03
    node.destroy_rate(rate)
    executor.shutdown()
    thread.join(timeout=5)
