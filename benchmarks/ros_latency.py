"""Round trip of a JointState at 200 Hz and of a service between two processes, over whatever rclpy is there.

    python benchmarks/ros_latency.py [--seconds 10] [--calls 500]

Runs unchanged on native ROS 2 when it is sourced. Prints one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time

import robolearn.ros  # isort: skip  supplies rclpy where ROS 2 is not installed
import rclpy
from rclpy.executors import ExternalShutdownException
from sensor_msgs.msg import JointState
from std_srvs.srv import Trigger

RATE_HZ = 200
JOINTS = [f"joint_{index}" for index in range(7)]
WARM_UP_S = 1.0


def echo() -> None:
    """The other process: sends every JointState back, answers every call."""
    rclpy.init()
    node = rclpy.create_node("latency_echo")
    back = node.create_publisher(JointState, "latency/pong", 10)
    node.create_subscription(JointState, "latency/ping", back.publish, 10)

    def answer(request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        response.success = True
        return response

    node.create_service(Trigger, "latency/call", answer)
    try:
        rclpy.spin(node)
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    finally:
        node.destroy_node()
        rclpy.try_shutdown()


def quantile_us(samples_ns: list[int], fraction: float) -> float:
    return round(sorted(samples_ns)[int(fraction * (len(samples_ns) - 1))] / 1e3, 1)


def measure_topic(node: rclpy.node.Node, seconds: float) -> tuple[list[int], int]:
    """Round trips [ns] after the warm-up, and how many were sent."""
    round_trips: list[int] = []
    sent_ns: dict[int, int] = {}
    sent = 0

    def arrived(message: JointState) -> None:
        stamp = sent_ns.pop(message.header.stamp.sec, None)
        if stamp is not None:
            round_trips.append(time.perf_counter_ns() - stamp)

    def send() -> None:
        nonlocal sent
        sent += 1
        message = JointState()
        message.header.stamp.sec = sent
        message.name = JOINTS
        message.position = message.velocity = message.effort = [0.1] * len(JOINTS)
        sent_ns[sent] = time.perf_counter_ns()
        ping.publish(message)

    ping = node.create_publisher(JointState, "latency/ping", 10)
    node.create_subscription(JointState, "latency/pong", arrived, 10)
    while node.count_subscribers("latency/ping") < 1 or node.count_publishers("latency/pong") < 1:
        rclpy.spin_once(node, timeout_sec=0.1)
    node.create_timer(1.0 / RATE_HZ, send)
    executor = rclpy.executors.SingleThreadedExecutor()
    executor.add_node(node)
    end = time.monotonic() + WARM_UP_S + seconds
    while time.monotonic() < end:
        executor.spin_once(timeout_sec=0.1)
    executor.remove_node(node)
    warm_up = int(WARM_UP_S * RATE_HZ)
    return round_trips[warm_up:], sent - warm_up


def measure_service(node: rclpy.node.Node, calls: int) -> list[int]:
    client = node.create_client(Trigger, "latency/call")
    if not client.wait_for_service(timeout_sec=10.0):
        raise SystemExit("the echo process did not come up")
    executor = rclpy.executors.SingleThreadedExecutor()
    executor.add_node(node)
    taken: list[int] = []
    for _ in range(calls + 50):
        start = time.perf_counter_ns()
        executor.spin_until_future_complete(client.call_async(Trigger.Request()))
        taken.append(time.perf_counter_ns() - start)
    executor.remove_node(node)
    return taken[50:]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--json", action="store_true", help="as it always does: print one JSON object")
    parser.add_argument("--calls", type=int, default=500)
    parser.add_argument("--echo", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.echo:
        echo()
        return
    other = subprocess.Popen([sys.executable, __file__, "--echo"], env=os.environ)
    try:
        rclpy.init()
        node = rclpy.create_node("latency_ping")
        services = measure_service(node, options.calls)
        topics, sent = measure_topic(node, options.seconds)
        print(
            json.dumps(
                {
                    "client": "native" if robolearn.ros.is_native() else "embedded",
                    "rtt_p50_us": quantile_us(topics, 0.5),
                    "rtt_p99_us": quantile_us(topics, 0.99),
                    "rtt_mean_us": round(statistics.fmean(topics) / 1e3, 1),
                    "received_fraction": round(len(topics) / sent, 4),
                    "service_rtt_p50_us": quantile_us(services, 0.5),
                    "service_rtt_p99_us": quantile_us(services, 0.99),
                    "load_average": os.getloadavg()[0],
                }
            )
        )
        node.destroy_node()
        rclpy.shutdown()
    finally:
        other.terminate()
        other.wait(timeout=10)


if __name__ == "__main__":
    main()
