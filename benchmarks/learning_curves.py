"""Learning curves of an algorithm on an environment: `python benchmarks/learning_curves.py sac gym:Pendulum-v1 ...`.

Writes benchmarks/results/<algorithm>_<task>.json: for each seed the steps, the mean and spread of the evaluation
episodes, and the seconds that it took. Seeds that are there already are kept.
"""

from __future__ import annotations

import argparse
import csv
import json
import statistics
import sys
import tempfile
from pathlib import Path

import torch

from robolearn.algorithms.compile import Compute
from robolearn.recipes.train import TrainRequest, train_policy

RESULTS = Path(__file__).parent / "results"


def run(args: argparse.Namespace, seed: int) -> dict:
    with tempfile.TemporaryDirectory() as folder:
        request = TrainRequest(
            algorithm=args.algorithm,
            task=args.task,
            out=Path(folder) / "run",
            steps=args.steps,
            seed=seed,
            offline_data=args.offline_data,
            num_envs=args.num_envs,
            compute=Compute("cpu", args.compile, args.precision),
            settings=args.set,
        )
        result = train_policy(request, lambda step, text: print(f"seed {seed}: {step} {text}", file=sys.stderr))
        with (request.run / "metrics.csv").open() as file:
            rows = [row for row in csv.DictReader(file) if row["return_mean"]]
    names = ("return_mean", "return_std", "success_rate")
    curve = [{"step": int(row["step"]), **{n: float(row[n]) for n in names if row[n]}} for row in rows]
    return {
        "seed": seed,
        "curve": curve,
        "train_seconds": result["train_seconds"],
        "time_shares": result["time_shares"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("algorithm")
    parser.add_argument("task")
    parser.add_argument("--steps", type=int, default=10_000)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--offline-data", type=Path)
    parser.add_argument("--num-envs", type=int, default=1)
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--precision", default="float32", choices=("float32", "bfloat16"))
    parser.add_argument("--set", nargs="*", default=[])
    parser.add_argument("--name", help="of the result, without .json")
    parser.add_argument("--json", action="store_true", help="as it always does: print one JSON object")
    args = parser.parse_args()
    torch.set_num_threads(1)
    file = RESULTS / f"{args.name or args.algorithm + '_' + args.task.removeprefix('gym:')}.json"
    file.parent.mkdir(exist_ok=True)
    known = json.loads(file.read_text())["runs"] if file.is_file() else []
    for seed in args.seeds:
        if any(row["seed"] == seed for row in known):
            continue
        known = sorted([*known, run(args, seed)], key=lambda row: row["seed"])
        last = [row["curve"][-1]["return_mean"] for row in known]
        answer = {
            "algorithm": args.algorithm,
            "task": args.task,
            "steps": args.steps,
            "settings": [*args.set, f"num_envs={args.num_envs}", f"precision={args.precision}"],
            "last_return_mean": statistics.mean(last),
            "last_return_std": statistics.pstdev(last),
            "runs": known,
        }
        file.write_text(json.dumps(answer, indent=1) + "\n")
    print(file.read_text())


if __name__ == "__main__":
    main()
