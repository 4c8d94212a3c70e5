"""Two 640x480 rgb8 cameras at 30 Hz between two processes, with reliable and with sensor QoS.

    python benchmarks/ros_images.py [--seconds 60]

Runs unchanged on native ROS 2 when it is sourced. Prints one JSON object.
"""

from __future__ import annotations

import argparse
import array
import json
import os
import resource
import statistics
import subprocess
import sys
import time

import robolearn.ros  # isort: skip  supplies rclpy where ROS 2 is not installed
import rclpy
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.qos import QoSProfile, qos_profile_sensor_data
from sensor_msgs.msg import Image

RATE_HZ = 30
CAMERAS = ("left", "right")
WIDTH, HEIGHT = 640, 480


def profile_of(name: str) -> QoSProfile:
    return qos_profile_sensor_data if name == "sensor" else QoSProfile(depth=10)


def cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def publish(qos: str, seconds: float) -> None:
    """The cameras' process: prints the CPU that it used, in percent of a core."""
    rclpy.init()
    node = rclpy.create_node("image_source")
    publishers = {name: node.create_publisher(Image, f"{name}/image_raw", profile_of(qos)) for name in CAMERAS}
    while not all(publisher.get_subscription_count() for publisher in publishers.values()):
        rclpy.spin_once(node, timeout_sec=0.05)
    pixels = array.array("B", os.urandom(WIDTH * HEIGHT * 3))
    image = Image(height=HEIGHT, width=WIDTH, encoding="rgb8", step=WIDTH * 3)
    image.data = pixels
    sent = 0
    total = int(seconds * RATE_HZ)

    def send() -> None:
        nonlocal sent
        if sent >= total:
            return
        for name, publisher in publishers.items():
            stamp_ns = time.time_ns()
            image.header.frame_id = name
            image.header.stamp.sec, image.header.stamp.nanosec = divmod(stamp_ns, 10**9)
            publisher.publish(image)
        sent += 1

    node.create_timer(1.0 / RATE_HZ, send)
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    start, start_cpu_s = time.monotonic(), cpu_s()
    try:
        while sent < total:
            executor.spin_once(timeout_sec=0.1)
        used = 100 * (cpu_s() - start_cpu_s) / (time.monotonic() - start)
        print(json.dumps({"sent": sent * len(CAMERAS), "cpu_percent": used}), flush=True)
        executor.spin()
    except (KeyboardInterrupt, ExternalShutdownException):
        rclpy.try_shutdown()


def measure(qos: str, seconds: float) -> dict[str, float]:
    """Receive in this process what another one sends."""
    command = [sys.executable, __file__, "--publish", qos, "--seconds", str(seconds)]
    rclpy.init()
    node = rclpy.create_node("image_sink")
    latencies_ms: list[float] = []

    def arrived(image: Image) -> None:
        stamp_ns = image.header.stamp.sec * 10**9 + image.header.stamp.nanosec
        latencies_ms.append((time.time_ns() - stamp_ns) / 1e6)

    for name in CAMERAS:
        node.create_subscription(Image, f"{name}/image_raw", arrived, profile_of(qos))
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    other = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        while not latencies_ms:
            executor.spin_once(timeout_sec=0.1)
        start, start_cpu_s = time.monotonic(), cpu_s()
        while time.monotonic() - start < seconds:
            executor.spin_once(timeout_sec=0.1)
        used = 100 * (cpu_s() - start_cpu_s) / (time.monotonic() - start)
        assert other.stdout is not None
        told = json.loads(other.stdout.readline())
        end = time.monotonic() + 1.0
        while time.monotonic() < end:
            executor.spin_once(timeout_sec=0.1)
    finally:
        other.terminate()
        other.communicate(timeout=10)
    node.destroy_node()
    rclpy.shutdown()
    return {
        "sent": told["sent"],
        "drops": told["sent"] - len(latencies_ms),
        "latency_p50_ms": statistics.median(latencies_ms),
        "cpu_percent_publisher": told["cpu_percent"],
        "cpu_percent_subscriber": used,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--json", action="store_true", help="as it always does: print one JSON object")
    parser.add_argument("--publish", choices=("reliable", "sensor"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.publish:
        publish(options.publish, options.seconds)
        return
    reliable, sensor = measure("reliable", options.seconds), measure("sensor", options.seconds)
    print(
        json.dumps(
            {
                "client": "native" if robolearn.ros.is_native() else "embedded",
                "images_sent": reliable["sent"],
                "drops_reliable": reliable["drops"],
                "drops_sensor_fraction": round(sensor["drops"] / sensor["sent"], 5),
                "latency_p50_ms": round(reliable["latency_p50_ms"], 3),
                "cpu_percent_publisher": round(reliable["cpu_percent_publisher"], 2),
                "cpu_percent_subscriber": round(reliable["cpu_percent_subscriber"], 2),
                "load_average": os.getloadavg()[0],
            }
        )
    )


if __name__ == "__main__":
    main()
