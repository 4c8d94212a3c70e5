"""Learning curves of an algorithm on an environment: `python benchmarks/learning_curves.py sac gym:Pendulum-v1 ...`.

Writes <algorithm>_<task>.json into --out, by default benchmarks/results: for each seed the steps, mean and spread of
the evaluation episodes, the seconds that it took, and in a task that knows success the step of the first evaluation
with a rate of --success (null: there is none). Seeds that are there already are kept. With --processes, so
many seeds learn at a time, each with one thread; the file is written again while they do, and of a seed that was
not finished it holds what there is.
"""

from __future__ import annotations

import argparse
import csv
import json
import multiprocessing
import statistics
import sys
import tempfile
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from pathlib import Path
from typing import get_args

import torch

from robolearn.algorithms.compute import Compute, Precision
from robolearn.recipes.train import train_policy
from robolearn.recipes.train_request import TrainRequest
from robolearn.recipes.value_bias import value_bias
from robolearn.recipes.workers import end_with_parent

RESULTS = Path(__file__).parent / "results"
NUMBERS = ("return_mean", "return_std", "success_rate", "value", "temperature")
LOOK_S = 10.0  # between looks at the curves


def compute_of(args: argparse.Namespace) -> Compute:
    return Compute(args.device, args.compile, args.precision).settled()


def run(args: argparse.Namespace, seed: int, folder: Path) -> dict:
    """Learn, and tell how long it took."""
    torch.set_num_threads(1)
    request = TrainRequest(
        algorithm=args.algorithm,
        task=args.task,
        out=folder,
        steps=args.steps,
        seed=seed,
        offline_data=args.offline_data,
        num_envs=args.num_envs,
        compute=compute_of(args),
        settings=args.set,
    )
    result = train_policy(request, lambda step, text: print(f"seed {seed}: {step} {text}", file=sys.stderr))
    bias = value_bias(folder) if args.value_bias else {}
    return {"train_seconds": result["train_seconds"], "time_shares": result["time_shares"], **bias}


def curve(folder: Path) -> list[dict]:
    """What the evaluations of a run found so far."""
    if not (folder / "metrics.csv").is_file():
        return []
    with (folder / "metrics.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row.get("return_mean")]
    return [{"step": int(row["step"]), **{n: float(row[n]) for n in NUMBERS if row.get(n)}} for row in rows]


def steps_to(points: list[dict], success: float) -> int | None:
    """The step of the first evaluation with such a success rate."""
    return next((point["step"] for point in points if point["success_rate"] >= success), None)


def write(file: Path, args: argparse.Namespace, rows: list[dict]) -> None:
    rows = sorted((row for row in rows if row["curve"]), key=lambda row: row["seed"])
    rows = [
        row | ({"steps_to_success": steps_to(row["curve"], args.success)} if "success_rate" in row["curve"][0] else {})
        for row in rows
    ]
    last = [row["curve"][-1]["return_mean"] for row in rows if "train_seconds" in row]
    answer = {
        "algorithm": args.algorithm,
        "task": args.task,
        "steps": args.steps,
        "settings": [
            *args.set,
            f"num_envs={args.num_envs}",
            f"precision={compute_of(args).precision}",
            f"device={args.device}",
            *(["compiled"] if args.compile else []),
        ],
        "last_return_mean": statistics.mean(last) if last else None,
        "last_return_std": statistics.pstdev(last) if last else None,
        "success": args.success,
        "runs": rows,
    }
    file.write_text(json.dumps(answer, indent=1) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("algorithm")
    parser.add_argument("task")
    parser.add_argument("--steps", type=int, default=10_000)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--offline-data", type=Path)
    parser.add_argument("--num-envs", type=int, default=1)
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--precision", default="auto", choices=get_args(Precision))
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--processes", type=int, default=1, help="seeds that learn at a time")
    parser.add_argument("--success", type=float, default=0.95, help="rate that counts as learned")
    parser.add_argument("--value-bias", action="store_true", help="of sac, dsac and rlpd: see recipes/value_bias.py")
    parser.add_argument("--set", nargs="*", default=[])
    parser.add_argument("--name", help="of the result, without .json")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the result")
    parser.add_argument("--json", action="store_true", help="as it always does: print one JSON object")
    args = parser.parse_args()
    file = args.out / f"{args.name or args.algorithm + '_' + args.task.removeprefix('gym:').replace(':', '_')}.json"
    args.out.mkdir(parents=True, exist_ok=True)
    known = json.loads(file.read_text())["runs"] if file.is_file() else []
    known = [row for row in known if "train_seconds" in row]
    spawn = multiprocessing.get_context("spawn")
    with (
        tempfile.TemporaryDirectory() as folder,
        ProcessPoolExecutor(args.processes, mp_context=spawn, initializer=end_with_parent) as pool,
    ):
        folders = {s: Path(folder) / str(s) for s in args.seeds if all(row["seed"] != s for row in known)}
        under_way: dict[Future, int] = {pool.submit(run, args, seed, where): seed for seed, where in folders.items()}
        while under_way:
            for future in wait(under_way, LOOK_S, FIRST_COMPLETED).done:
                seed = under_way.pop(future)
                known.append({"seed": seed, "curve": curve(folders[seed]), **future.result()})
            write(file, args, [*known, *({"seed": s, "curve": curve(folders[s])} for s in under_way.values())])
    print(file.read_text())


if __name__ == "__main__":
    main()
