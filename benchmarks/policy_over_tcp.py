"""What `robolearn serve` adds to a policy: an observation with two pictures there, a chunk of 16 x 7 back.

    python benchmarks/policy_over_tcp.py [--pixels 128 480] [--calls 500]

Two processes on loopback, 50 calls a second, a policy that answers at once. Prints one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time

import numpy as np

from robolearn.serving.client import RemotePolicy
from robolearn.serving.server import PolicyServer
from robolearn.specs import InterfaceSpec, RobotSpec, image_spec
from robolearn.types import ActionChunk, Observation

RATE_HZ = 50.0
JOINTS = tuple(f"joint_{index}" for index in range(7))
ROBOT = RobotSpec("arm", JOINTS, (-1.0,) * 7, (1.0,) * 7, (1.0,) * 7)


class Ready:
    """Answers at once."""

    def __init__(self, pixels: int) -> None:
        images = {f"image_{name}": image_spec(pixels, pixels) for name in ("front", "wrist")}
        self.spec = InterfaceSpec({"proprio": ROBOT.proprio_spec, **images}, ROBOT.action_spec, RATE_HZ)
        self._actions = np.zeros((16, 7), np.float32)

    def reset(self, seed: int = 0) -> None:
        pass

    def act(self, observation: Observation, stamp_ns: int) -> ActionChunk:
        return ActionChunk(self._actions, stamp_ns, stamp_ns, round(1e9 / RATE_HZ))


def serve(pixels: int) -> None:
    server = PolicyServer("ready", lambda: Ready(pixels), "127.0.0.1", 0)
    print(server.address, flush=True)
    server.serve()


def measure(pixels: int, calls: int) -> dict[str, float]:
    command = [sys.executable, __file__, "--serve", str(pixels)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ) as other:
        assert other.stdout is not None
        policy = RemotePolicy(other.stdout.readline().strip())
        generator = np.random.default_rng(0)
        observation = {
            name: generator.integers(0, 255, spec.shape).astype(spec.dtype)
            for name, spec in policy.spec.observation.items()
        }
        taken_ms = []
        for call in range(calls + 50):
            start = time.perf_counter()
            policy.act(observation, call)
            taken_ms.append((time.perf_counter() - start) * 1e3)
            time.sleep(max(0.0, 1 / RATE_HZ - taken_ms[-1] * 1e-3))
        policy.close()
        other.terminate()
    p50, p99 = np.percentile(taken_ms[50:], [50, 99])
    size = sum(array.nbytes for array in observation.values())
    return {
        "observation_bytes": size,
        "observation_to_action_p50_ms": round(float(p50), 3),
        "observation_to_action_p99_ms": round(float(p99), 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pixels", type=int, nargs="+", default=[128, 480])
    parser.add_argument("--json", action="store_true", help="as it always does: print one JSON object")
    parser.add_argument("--calls", type=int, default=500)
    parser.add_argument("--serve", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(options.serve)
        return
    rows = {f"{pixels}x{pixels}": measure(pixels, options.calls) for pixels in options.pixels}
    print(json.dumps({"sizes": rows, "load_average": os.getloadavg()[0]}))


if __name__ == "__main__":
    main()
