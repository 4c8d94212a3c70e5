"""The policy server in lockstep with the twin in real time: an MLP policy at 50 Hz, from observation to action.

    python benchmarks/policy_server.py [--seconds 60]

Twin and policy are the nodes of the workspace, each a process of its own. The twin measures, on its own clock, the time
from an observation that it is about to publish to the command that answers it. A tick is missed when the twin had to
hold the robot in it. Prints one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import robolearn.ros  # isort: skip  supplies rclpy where ROS 2 is not installed
import rclpy
from robolearn_msgs.msg import EpisodeEvent
from robolearn_msgs.srv import StartEpisode
from robolearn_nodes import topics
from std_srvs.srv import Trigger

from robolearn.networks.normalizer import FieldStatistics
from robolearn.policies.checkpoint import save_policy
from robolearn.policies.chunking import ChunkPolicy, ChunkPolicyConfig
from robolearn.recipes.graph import free_domain_id
from robolearn.specs import InterfaceSpec
from robolearn.tasks import make_task

RATE_HZ = 50
TASK = "pick_place-v1"
START_TIMEOUT_S = 120.0


def save_mlp(path: Path) -> None:
    """An untrained policy that looks at proprio alone and stays about where it is: it never ends an episode early."""
    robot, control_hz = make_task(TASK).robot_spec, make_task(TASK).control_hz
    spec = InterfaceSpec({"proprio": robot.proprio_spec}, robot.action_spec, control_hz)
    still = {
        name: FieldStatistics((0.0,) * size, (0.01,) * size, (-1.0,) * size, (1.0,) * size)
        for name, size in (("proprio", 12), ("action", 6))
    }
    save_policy(ChunkPolicy(spec, still, ChunkPolicyConfig()), path)


def start(node: str, **parameters: Any) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", f"robolearn_nodes.{node}_node", "--ros-args"]
    for key, value in parameters.items():
        command += ["-p", f"{key}:={value}"]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL)


def call(node: Any, kind: Any, name: str, **request: Any) -> Any:
    """Until the server agrees: nodes that have just started may not have found each other yet."""
    client = node.create_client(kind, name)
    end = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < end:
        if client.wait_for_service(1.0):
            future = client.call_async(kind.Request(**request))
            rclpy.spin_until_future_complete(node, future, timeout_sec=10.0)
            if future.done() and future.result().success:
                return
            time.sleep(0.1)
    raise SystemExit(f"{name} did not agree within {START_TIMEOUT_S:g} s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--json", action="store_true", help="as it always does: print one JSON object")
    options = parser.parse_args()
    os.environ["ROS_DOMAIN_ID"] = str(free_domain_id())
    ended: list[Any] = []
    with tempfile.TemporaryDirectory() as folder:
        save_mlp(Path(folder) / "mlp")
        factor = RATE_HZ / make_task(TASK).control_hz
        nodes = [
            start("twin", task=TASK, cameras=" ", realtime_factor=factor, max_held_steps=0),
            start("policy", task=TASK, policy=Path(folder) / "mlp"),
        ]
        try:
            rclpy.init()
            node = rclpy.create_node("policy_server_benchmark")
            node.create_subscription(EpisodeEvent, topics.EPISODE, ended.append, 10)
            call(node, Trigger, topics.RESET_POLICY)
            steps, seed = 0, 0
            while steps < options.seconds * RATE_HZ:
                ended.clear()
                call(node, StartEpisode, topics.START_EPISODE, episode_id=f"benchmark-{seed}", seed=seed)
                while not ended or ended[-1].event != EpisodeEvent.ENDED:
                    rclpy.spin_once(node, timeout_sec=0.5)
                if seed == 0:  # it loads what it needs: not counted
                    rows = []
                else:
                    rows.append(ended[-1])
                    steps += ended[-1].num_steps
                seed += 1
            node.destroy_node()
            rclpy.shutdown()
        finally:
            for process in nodes:
                process.terminate()
            for process in nodes:
                process.wait(timeout=30)
    print(
        json.dumps(
            {
                "client": "native" if robolearn.ros.is_native() else "embedded",
                "rate_hz": RATE_HZ,
                "ticks": steps,
                "missed_ticks": sum(row.held_steps for row in rows),
                "observation_to_action_p50_ms": round(statistics.median(row.loop_p50_ms for row in rows), 3),
                "observation_to_action_p99_ms": round(max(row.loop_p99_ms for row in rows), 3),
                "load_average": os.getloadavg()[0],
            }
        )
    )


if __name__ == "__main__":
    main()
