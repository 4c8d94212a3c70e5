"""What the operator's page costs and how fast its stop button is.

    python benchmarks/web_live.py [--seconds 15] [--json]

Streams: a process publishes two 640x480 cameras and joint states at 30 Hz; the web node, in a process of its own, sends
them to onlookers over WebSockets, who say at once that they have drawn them. Processor time of the web node's process,
for each picture that came through and in percent of a core at 60 pictures a second; for one onlooker, for three, and
with nobody looking. Age: from the stamp of a picture until an onlooker has it.

Stop: the twin in an episode, real Chromium on its page; from the click (the event's own stamp) until another node of
the graph hears that the robot holds.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

import robolearn.ros  # noqa: F401  supplies rclpy and the messages where ROS 2 is not installed

# isort: split
import rclpy
from rclpy.executors import ExternalShutdownException
from robolearn_nodes import convert, topics
from sensor_msgs.msg import Image, JointState
from trajectory_msgs.msg import JointTrajectory
from websockets.sync.client import connect
from websockets.typing import Origin

from robolearn.recipes.graph import free_domain_id
from robolearn.types import RobotState

RATE_HZ, HEIGHT, WIDTH, CAMERAS = 30.0, 480, 640, ("front", "wrist")
JOINTS = ("shoulder_pan", "shoulder_lift", "elbow_flex", "wrist_flex", "wrist_roll", "gripper")
START_S = 60.0


def publish() -> None:
    """The cameras and the arm."""
    rclpy.init()
    node = rclpy.create_node("cameras")
    qos = topics.IMAGE_QOS["reliable"]
    writers = {name: node.create_publisher(Image, topics.image_topic(name), qos) for name in CAMERAS}
    states = node.create_publisher(JointState, topics.JOINT_STATES, topics.STREAM)
    rng, (y, x) = np.random.default_rng(0), np.mgrid[0:HEIGHT, 0:WIDTH]
    noise = rng.normal(0, 6, (HEIGHT, WIDTH + 64))
    scenes = []
    for shift in range(16):
        wave = 128 + 90 * np.sin((x + 4 * shift) / 40) + noise[:, shift : shift + WIDTH]
        scenes.append(np.stack([wave, wave[::-1], (x + y) % 255], -1).clip(0, 255).astype(np.uint8))
    count = 0

    def tick() -> None:
        nonlocal count
        now_ns, count = time.time_ns(), count + 1
        for writer in writers.values():
            writer.publish(convert.image_message(scenes[count % 16], now_ns, "camera"))
        pose = np.full(6, 0.1 * np.sin(count / 30), np.float32)
        states.publish(convert.joint_state_message(RobotState(pose, np.zeros(6, np.float32), now_ns), JOINTS))

    node.create_timer(1 / RATE_HZ, tick)
    with suppress(KeyboardInterrupt, ExternalShutdownException):
        rclpy.spin(node)


@contextmanager
def running(*words: object) -> Iterator[int]:
    """A Python process and its children, ended at the end."""
    child = subprocess.Popen(
        [sys.executable, *map(str, words)],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    try:
        yield child.pid
    finally:
        child.send_signal(signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            child.wait(20)
        if child.poll() is None:
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def wait_for(port: int) -> None:
    end_s = time.monotonic() + START_S
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1.0).close()
            return
        except OSError:
            if time.monotonic() > end_s:
                raise
            time.sleep(0.2)


def cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Onlooker:
    """Looks at all cameras and at the state."""

    def __init__(self, port: int) -> None:
        self.pictures = 0
        self.ages_ms: list[float] = []
        self._closing = False
        self._threads = [
            threading.Thread(target=self._look, args=(port, path), daemon=True)
            for path in ("state", *(f"camera/{name}" for name in CAMERAS))
        ]
        for thread in self._threads:
            thread.start()

    def _look(self, port: int, path: str) -> None:
        with connect(f"ws://127.0.0.1:{port}/api/live/{path}", origin=Origin(f"http://127.0.0.1:{port}")) as ws:
            while not self._closing:
                try:
                    message = ws.recv(timeout=0.5)
                except TimeoutError:
                    continue
                if isinstance(message, bytes):
                    self.ages_ms.append((time.time() - struct.unpack_from("<d", message)[0]) * 1e3)
                    self.pictures += 1
                    ws.send("drawn")

    def close(self) -> None:
        self._closing = True
        for thread in self._threads:
            thread.join()


def streams(seconds: float) -> dict[str, Any]:
    port = free_port()
    found: dict[str, Any] = {}
    web = ("-m", "robolearn_nodes.web_node", "--ros-args", "-p", f"port:={port}")
    with running(__file__, "--publish"), running(*web) as pid:
        wait_for(port)
        time.sleep(3.0)
        for onlookers in (0, 1, 3):
            looking = [Onlooker(port) for _ in range(onlookers)]
            time.sleep(2.0)
            before, began_s, came = cpu_s(pid), time.monotonic(), [one.pictures for one in looking]
            time.sleep(seconds)
            spent_s, wall_s = cpu_s(pid) - before, time.monotonic() - began_s
            if not looking:
                found["cpu_percent_nobody_looks"] = round(100 * spent_s / wall_s, 1)
                continue
            pictures = (looking[0].pictures - came[0]) or 1
            ages = np.percentile(looking[0].ages_ms, [50, 99])
            for one in looking:
                one.close()
            name = f"{onlookers}_onlooker{'s' * (onlookers > 1)}"
            found |= {
                f"pictures_per_s_{name}": round(pictures / wall_s, 1),
                f"cpu_percent_{name}": round(100 * spent_s / wall_s, 1),
                f"cpu_percent_at_60_per_s_{name}": round(100 * spent_s / pictures * len(CAMERAS) * RATE_HZ, 1),
                f"age_p50_ms_{name}": round(float(ages[0]), 1),
                f"age_p99_ms_{name}": round(float(ages[1]), 1),
            }
    return found


def stops(count: int) -> dict[str, Any]:
    from playwright.sync_api import sync_playwright

    port = free_port()
    held: list[float] = []
    reason = [""]
    rclpy.init()
    node = rclpy.create_node("ears")

    def on_sent(message: JointTrajectory) -> None:
        if message.header.frame_id == "emergency stop" != reason[0]:
            held.append(time.time() * 1e3)
        reason[0] = message.header.frame_id

    node.create_subscription(JointTrajectory, topics.COMMAND_SENT, on_sent, topics.STREAM)

    def spin() -> None:
        with suppress(ExternalShutdownException):
            rclpy.spin(node)

    thread = threading.Thread(target=spin, daemon=True)
    thread.start()

    def ask(what: str) -> None:
        origin = f"http://127.0.0.1:{port}"
        request = urllib.request.Request(f"{origin}/api/live/ask/{what}", method="POST", headers={"Origin": origin})
        end_s = time.monotonic() + START_S
        while True:
            try:
                urllib.request.urlopen(request).read()
                return
            except OSError:
                if time.monotonic() > end_s:
                    raise
                time.sleep(0.2)

    delays: list[float] = []
    flags = ["--disable-gpu", "--disable-quic", "--no-first-run", *(["--no-sandbox"] if os.getuid() == 0 else [])]
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        record = ("-m", "robolearn.cli", "record", "--twin", "reach-v1", "--teleop", "web", "--web-port", port)
        with running(*record, "--out", f"{folder}/d.zarr"):
            wait_for(port)
            browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=flags)
            page = browser.new_page()
            page.goto(f"http://127.0.0.1:{port}")
            page.evaluate("addEventListener('click', (e) => (window.at = performance.timeOrigin + e.timeStamp), true)")
            ask("start")
            page.get_by_text("Recording", exact=True).wait_for(timeout=START_S * 1e3)
            while len(delays) < count:
                heard = len(held)
                page.get_by_role("button", name="Stop", exact=True).click()
                end_s = time.monotonic() + START_S
                while len(held) == heard and time.monotonic() < end_s:
                    time.sleep(0.005)
                delays.append(held[heard] - page.evaluate("window.at"))
                time.sleep(0.1 + 0.3 * np.random.default_rng(len(delays)).random())  # at any moment of a tick
                ask("resume")
                time.sleep(0.2)
            browser.close()
    rclpy.shutdown()
    thread.join()
    return {
        "stop_p50_ms": round(statistics.median(delays), 1),
        "stop_worst_ms": round(max(delays), 1),
        "stops": count,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=15.0)
    parser.add_argument("--stops", type=int, default=30)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--publish", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.publish:
        publish()
        return
    os.environ["ROS_DOMAIN_ID"] = str(free_domain_id())
    found = streams(arguments.seconds) if arguments.seconds else {}
    found |= stops(arguments.stops) if arguments.stops else {}
    if arguments.json:
        print(json.dumps(found, indent=2))
    else:
        for name, value in found.items():
            print(f"{name:40} {value}")


if __name__ == "__main__":
    main()
