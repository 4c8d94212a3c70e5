"""What the path from a command to the motors adds, and how soon an arm stands when commands cease.

    python benchmarks/hardware.py [--seconds 20] [--json]

Command to bus: at 100 Hz, six motors, from the moment that a command is there (before the safety filter) to the moment
that a stand-in bus in another process has its packet; and the processor time of that (filter and driver), which other
programs do not lengthen. Stopping: streams that move as fast as the limits allow and then
cease, 150 for each set of limits; the time from the last command until the last output that differs from its
predecessor, beside what the limits promise.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from robolearn.robots.calibration import Calibration, JointCalibration
from robolearn.robots.safety import SafetyConfig, SafetyFilter
from robolearn.robots.servo_arm import MODELS, ServoArm, ServoArmConfig
from robolearn.robots.servo_bus import BusConfig
from robolearn.robots.standin import StandInBus
from robolearn.robots.standin_wire import Instruction
from robolearn.tasks.kinematics import SO101
from robolearn.types import RobotState

RATE_HZ = 100
STREAMS = 150


class StampedBus(StandInBus):
    """Notes when it got each goal."""

    def __init__(self, kind: str, path: Path) -> None:
        super().__init__(kind, path=path)
        self.stamps_ns: list[int] = []
        self._goal = MODELS[kind].goal(0, 0)[0]

    def _answers(self, instruction: Instruction) -> bytes:
        if instruction.kind == "sync_write" and instruction.address == self._goal:
            self.stamps_ns.append(time.monotonic_ns())
        return super()._answers(instruction)


def serve(kind: str, path: Path, pipe: Connection) -> None:
    with StampedBus(kind, path) as bus:
        pipe.send("ready")
        pipe.recv()
        pipe.send(bus.stamps_ns)


def command_to_bus(kind: str, seconds: float) -> dict[str, float]:
    """Latency of each command [ms], by percentile; and the whole tick: read, filter, write."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        ends = zip(SO101.joint_names, SO101.position_low, SO101.position_high, strict=True)
        joints = tuple(JointCalibration(joint, i + 1, 2048, 1, low, high) for i, (joint, low, high) in enumerate(ends))
        Calibration(kind, 4096, 0.0, joints).save(folder / "arm.json")
        ours, theirs = multiprocessing.Pipe()
        bus = multiprocessing.Process(target=serve, args=(kind, folder / "arm", theirs), daemon=True)
        bus.start()
        ours.recv()
        patient = BusConfig(answer_timeout_s=0.2)  # the machine may be busy
        arm = ServoArm(ServoArmConfig(str(folder / "arm"), folder / "arm.json", bus=patient))
        arm.connect()
        safety = SafetyFilter(arm.spec, SafetyConfig(max_acceleration=20.0, max_command_age_s=1.0), 1 / RATE_HZ)
        safety.reset(arm.read())
        begun_ns, sent_ns, ticks, cpu = time.monotonic_ns(), [], [], []
        for tick in range(round(seconds * RATE_HZ)):
            time.sleep(max(0.0, (begun_ns + tick * 1_000_000_000 // RATE_HZ - time.monotonic_ns()) * 1e-9))
            start_ns = time.monotonic_ns()
            state = arm.read()
            command = (0.3 * np.sin(0.05 * tick + np.arange(6))).astype(np.float32)
            now_ns, cpu_ns = time.monotonic_ns(), time.thread_time_ns()
            safety.watch(state, arm.health)
            arm.write(safety.filter(command, now_ns, now_ns).command)
            cpu.append((time.thread_time_ns() - cpu_ns) / 1e6)
            sent_ns.append(now_ns)
            ticks.append(time.monotonic_ns() - start_ns)
        arm.close()
        time.sleep(0.5)
        ours.send("stop")
        stamps_ns = np.array(ours.recv())
        bus.join()
    seen_ns = stamps_ns[np.searchsorted(stamps_ns, sent_ns)]  # the first packet after each command
    latency, whole = (seen_ns - np.array(sent_ns)) / 1e6, np.array(ticks) / 1e6
    return {
        "command_to_bus_p50_ms": round(float(np.percentile(latency, 50)), 3),
        "command_to_bus_p99_ms": round(float(np.percentile(latency, 99)), 3),
        "command_to_bus_max_ms": round(float(latency.max()), 3),
        "command_cpu_p99_ms": round(float(np.percentile(cpu, 99)), 3),
        "tick_p50_ms": round(float(np.percentile(whole, 50)), 3),
        "tick_p99_ms": round(float(np.percentile(whole, 99)), 3),
    }


def stopping(config: SafetyConfig, rate_hz: float) -> dict[str, float]:
    """The longest way to rest when commands cease, in streams of random targets; see this file's beginning."""
    rng, period_ns, worst_ns = np.random.default_rng(0), round(1e9 / rate_hz), 0
    low, high = np.array(SO101.position_low), np.array(SO101.position_high)
    for _ in range(STREAMS):
        safety = SafetyFilter(SO101, config, 1 / rate_hz)
        safety.reset(RobotState(rng.uniform(low, high).astype(np.float32), np.zeros(6, np.float32), 0))
        command = safety.filter(None, 0, 0).command
        now_ns, way = 0, rng.choice([-1, 1], 6)
        for _ in range(int(rng.integers(3, 40))):
            now_ns += period_ns
            ahead = np.clip(command + 0.2 * (high - low) * way, low, high).astype(np.float32)
            command, last_ns = safety.filter(ahead, now_ns, now_ns).command, now_ns
        moved_ns = last_ns
        while now_ns - moved_ns < 400_000_000:  # whoever drives the robot repeats the newest command until it is stale
            now_ns += period_ns
            before, command = command, safety.filter(ahead, last_ns, now_ns).command
            if (command != before).any():
                moved_ns = now_ns
        worst_ns = max(worst_ns, moved_ns - last_ns)
    promised_s = config.max_command_age_s + 1 / rate_hz + safety.max_braking_s
    return {"stopping_time_max_s": round(worst_ns * 1e-9, 3), "promised_s": round(promised_s, 3)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=20.0, help="of each bus")
    parser.add_argument("--json", action="store_true", help="no words, only the object")
    args = parser.parse_args()
    answer: dict[str, Any] = {"load_1min": os.getloadavg()[0], "rate_hz": RATE_HZ}
    for kind in MODELS:
        answer[kind] = command_to_bus(kind, args.seconds)
    answer["stopping"] = {
        "speed limits alone, 20 Hz": stopping(SafetyConfig(), 20.0),
        "20 rad/s2, 30 Hz": stopping(SafetyConfig(max_acceleration=20.0, max_command_age_s=0.1), 30.0),
        "20 rad/s2, 400 rad/s3, 100 Hz": stopping(SafetyConfig(max_acceleration=20.0, max_jerk=400.0), 100.0),
    }
    print(json.dumps(answer, indent=None if args.json else 2))


if __name__ == "__main__":
    main()
