"""Gradient updates a second of our algorithms beside their peers, measured in turns in one run.

    python benchmarks/update_speed.py --json [--peers PYTHON] [--corl FOLDER] [--threads N]

Observation 17, action 6, networks of 2 x 256, batches of 256, replay sampling included. PYTHON is an interpreter with
peers installed (stable-baselines3, sbx-rl, d3rlpy), by default that of the variable ROBOLEARN_PEERS; FOLDER is a
checkout of corl-team/CORL, by default of ROBOLEARN_CORL. Each contender is a process of its own that waits for its
turn; a figure is the median over the rounds. RLPD's rate is of whole steps: 20 updates of ten critics with layer norm,
one of the actor. `float32` and `bfloat16` are ours compiled, by the precision of the products of hidden layers; `plain`
is ours without the compiler, in float32; `products` does nothing but the matrix products of `plain`, so no update in
float32 that takes its products from torch can be faster. `updates_per_s` and the ratios beside it are of the default,
float32.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
BATCH, ROWS, WIDE = 256, 20_000, (256, 256)
TORCH_PEERS = {
    "sac": ("sb3",),
    "rlpd": ("sb3",),
    "iql": ("corl", "d3rlpy"),
    "cql": ("corl", "d3rlpy"),
    "calql": ("corl",),
}
JAX_PEERS: dict[str, tuple[str, ...]] = {"sac": ("sbx",), "rlpd": ("sbx",), "iql": (), "cql": (), "calql": ()}
OURS = ("float32", "bfloat16", "plain", "products")
DEFAULT = "float32"
RLPD_UTD = 20


def worker(variant: str, name: str, threads: int, device: str) -> None:
    """Ours: prints `ready`, then a rate for each number of seconds on stdin."""
    import numpy as np
    import torch

    from robolearn.algorithms import ALGORITHMS
    from robolearn.algorithms.compute import Compute
    from robolearn.datasets.replay_buffer import ReplayBuffer, ReplayBufferConfig
    from robolearn.policies.gaussian import GaussianPolicyConfig
    from robolearn.specs import ArraySpec, InterfaceSpec

    torch.set_num_threads(threads)
    spec = InterfaceSpec({"state": ArraySpec((17,))}, ArraySpec((6,), low=(-1.0,) * 6, high=(1.0,) * 6), 20.0)
    conservative = name in ("cql", "calql")
    settings: dict[str, Any] = {"critic_hidden_sizes": WIDE}
    if conservative:  # CORL's actor has three layers
        settings["policy"] = GaussianPolicyConfig(hidden_sizes=(256, 256, 256))
    made = ALGORITHMS[name]
    compiled = variant in ("float32", "bfloat16")
    compute = Compute(device, compiled, "bfloat16" if variant == "bfloat16" else "float32")
    learner = made(spec, {}, made.config_type(**settings), 0, device, compute.wrapper())
    buffer = ReplayBuffer(spec, ReplayBufferConfig(ROWS))
    rng = np.random.default_rng(0)
    buffer.begin({"state": rng.normal(size=17).astype(np.float32)})
    for _ in range(ROWS - 1):
        action, seen = rng.uniform(-1, 1, 6).astype(np.float32), rng.normal(size=17).astype(np.float32)
        buffer.append(action, float(rng.normal()), {"state": seen}, False, False)
    utd = RLPD_UTD if name == "rlpd" else 1

    def update() -> None:
        batch = buffer.sample(utd * BATCH, rng)
        learner.update({key: torch.from_numpy(values).to(device) for key, values in batch.items()})

    def finish() -> None:
        if device != "cpu":
            torch.cuda.synchronize()

    for _ in range(5):
        update()
    if variant == "products":
        update = products(update)
    print("ready", flush=True)
    for line in sys.stdin:
        seconds, done, started, used = float(line), 0, time.perf_counter(), time.process_time()
        while time.perf_counter() - started < seconds:
            update()
            done += utd
        finish()
        wall_s, cpu_s = time.perf_counter() - started, time.process_time() - used
        print(f"rate {done / wall_s} {done / cpu_s}", flush=True)


def products(update: Callable[[], None]) -> Callable[[], None]:
    """The matrix products of `update` alone, of the same shapes and layouts, into buffers that are there."""
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode

    aten = torch.ops.aten
    factors = {aten.mm.default: 0, aten.bmm.default: 0, aten.addmm.default: 1, aten.baddbmm.default: 1}
    calls: list[tuple[Callable[..., Any], tuple[torch.Tensor, torch.Tensor], torch.Tensor]] = []

    class Recorder(TorchDispatchMode):
        def __torch_dispatch__(self, op: Any, types: Any, inputs: Any = (), kwargs: Any = None) -> Any:
            answer = op(*inputs, **(kwargs or {}))
            if op in factors:
                first = factors[op]
                multiply = torch.mm if answer.dim() == 2 else torch.bmm
                calls.append((multiply, tuple(inputs[first : first + 2]), torch.empty_like(answer)))
            return answer

    with Recorder():
        update()

    def alone() -> None:
        with torch.no_grad():
            for multiply, pair, out in calls:
                multiply(*pair, out=out)

    return alone


class Contender:
    """A process that waits for its turn."""

    def __init__(self, command: list[str], threads: int) -> None:
        env = {**os.environ, "OMP_NUM_THREADS": str(threads)}
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=env
        )
        self.rates: list[tuple[float, float]] = []  # of wall and of CPU time

    def _answer(self) -> list[str]:
        assert self.process.stdout
        for line in self.process.stdout:
            if line.startswith(("ready", "rate ")):
                return line.split()
        return []

    def warm_up(self) -> bool:
        """Whether it runs at all."""
        return self._answer() == ["ready"]

    def turn(self, seconds: float) -> None:
        assert self.process.stdin
        self.process.stdin.write(f"{seconds}\n")
        self.process.stdin.flush()
        _, wall, cpu = self._answer()
        self.rates.append((float(wall), float(cpu)))

    def close(self) -> None:
        assert self.process.stdin
        self.process.stdin.close()
        self.process.wait()


def measure(name: str, args: argparse.Namespace) -> dict[str, Any]:
    """All contenders of one algorithm."""
    commands = {
        v: [sys.executable, str(HERE / "update_speed.py"), "--worker", v, "--algorithms", name] for v in args.ours
    }
    common = ["--threads", str(args.threads), "--device", args.device]
    commands = {key: [*command, *common] for key, command in commands.items()}
    if args.peers:
        for peer in (*TORCH_PEERS[name], *JAX_PEERS[name]):
            if peer != "corl" or args.corl:
                commands[peer] = [args.peers, str(HERE / "update_speed_peers.py"), peer, name, str(args.threads)]
                commands[peer] += [args.device, *([args.corl] if args.corl else [])]
    contenders = {}
    for key, command in commands.items():
        contender = Contender(command, args.threads)
        if contender.warm_up():
            contenders[key] = contender
        else:
            print(f"{name}: {key} does not run here", file=sys.stderr)
    for _ in range(args.rounds):
        for contender in contenders.values():
            contender.turn(args.seconds)
    for contender in contenders.values():
        contender.close()
    scale = RLPD_UTD if name == "rlpd" else 1  # whole steps
    clock = 1 if args.cpu_time else 0
    rates = {
        key: statistics.median(rate[clock] for rate in contender.rates) / scale for key, contender in contenders.items()
    }

    def over(variant: str, peers: tuple[str, ...]) -> float | None:
        best = max((rates[peer] for peer in peers if peer in rates), default=None)
        return round(rates[variant] / best, 2) if best and variant in rates else None

    def figures(variant: str) -> dict[str, Any]:
        return {
            "updates_per_s": rates.get(variant),
            "over_best_torch_peer": over(variant, TORCH_PEERS[name]),
            "over_best_jax_peer": over(variant, JAX_PEERS[name]),
            "over_plain": over(variant, ("plain",)),
        }

    answer: dict[str, Any] = {**figures(DEFAULT), **{key: figures(key) for key in ("float32", "bfloat16")}}
    return {**answer, "rates": {key: round(rate, 2) for key, rate in rates.items()}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--peers", default=os.environ.get("ROBOLEARN_PEERS", ""))
    parser.add_argument("--corl", default=os.environ.get("ROBOLEARN_CORL", ""))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu", help="cpu or cuda, of the peers too")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--cpu-time", action="store_true", help="rates of CPU seconds, for a machine that others use")
    parser.add_argument("--algorithms", nargs="+", choices=tuple(TORCH_PEERS), default=tuple(TORCH_PEERS))
    parser.add_argument("--ours", nargs="+", choices=OURS, default=OURS)
    parser.add_argument("--worker", choices=OURS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        return worker(args.worker, args.algorithms[0], args.threads, args.device)
    answer = {name: measure(name, args) for name in args.algorithms}
    if args.json:
        print(json.dumps({"threads": args.threads, "cpu_time": args.cpu_time, "algorithms": answer}, indent=2))
    else:
        for name, row in answer.items():
            print(f"{name:6}", "  ".join(f"{key} {rate:.1f}/s" for key, rate in row["rates"].items()))
    return None


if __name__ == "__main__":
    main()
