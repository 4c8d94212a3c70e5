"""What happens when learners that were trained on a dataset begin to act: returns just before and after, plotted.

`python benchmarks/offline_to_online.py gym:Pendulum-v1 DATASET --reward reward --json` trains CQL and Cal-QL on the
dataset, then lets each go on in the task: `cql` and `calql` with half of every batch from the dataset, `wsrl` (critics
of Cal-QL, no data, first steps by the policy as it is) and `sac` (the same networks as `calql`, no data, nothing done).
Every curve begins with the policy of the pre-training; it is of success where the task knows it, else of return. Writes
benchmarks/results/offline_to_online_<task>.json and .png; runs that are there already are kept.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from robolearn.algorithms.compute import Compute
from robolearn.recipes.train import train_policy
from robolearn.recipes.train_request import TrainRequest

RESULTS = Path(__file__).parent / "results"
ENSEMBLE = ("num_critics=10", "critic_layer_norm=true")  # what WSRL wants of its pre-training
WSRL = (
    "num_critics=10",
    "utd=4",
    "actor_learning_rate=1e-4",
    "critic_learning_rate=3e-4",
    "polyak=0.005",
    "backup_entropy=false",
)  # of the paper


@dataclass(frozen=True)
class Way:
    """From a dataset to the task: the algorithms before and after, their settings, and whether the data stays."""

    before: str
    after: str
    data: bool
    settings_before: tuple[str, ...] = ()
    settings_after: tuple[str, ...] = ()


WAYS = {
    "calql": Way("calql", "calql", True),
    "cql": Way("cql", "cql", True),
    "wsrl": Way("calql", "rlpd", False, ENSEMBLE, WSRL),
    "sac": Way("calql", "sac", False),
}
LOOKS = {
    "calql": ("Cal-QL", "#1a7f37"),
    "wsrl": ("WSRL (dotted: begins to learn)", "#0969da"),
    "cql": ("CQL", "#cf222e"),
    "sac": ("SAC from Cal-QL's networks,\nno data, no warm-up", "#9a6700"),
}
"""Label and colour."""


def run(args: argparse.Namespace, name: str, seed: int, folder: Path) -> dict[str, Any]:
    """One way with one seed: its curve, whose step 0 is the policy of the pre-training."""
    way = WAYS[name]
    compute = Compute("cpu", args.compile)
    pre = folder / f"{way.before}{'_'.join(way.settings_before)}_{seed}"
    if not pre.exists():
        settings = [*args.set, *args.set_conservative, *way.settings_before]
        request = TrainRequest(way.before, args.dataset, args.task, pre, args.offline_steps, seed, reward=args.reward)
        train_policy(replace(request, settings=settings, compute=compute))
    online = [f"online.evaluations={args.evaluations}", f"online.evaluation_episodes={args.episodes}"]
    online += [f"online.warmup_steps={args.warmup_steps}"] * (name == "wsrl")
    online += args.set_conservative if way.after in ("cql", "calql") else []
    request = TrainRequest(
        way.after,
        task=args.task,
        out=folder / f"{name}_{seed}_online",
        steps=args.steps,
        seed=seed,
        init_from=pre,
        offline_data=args.dataset if way.data else None,
        compute=compute,
        settings=[*args.set, *way.settings_after, *online],
    )
    train_policy(request)
    with (request.run / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    measure = "success_rate" if rows[0]["success_rate"] else "return_mean"
    curve = [{"step": int(row["step"]), measure: float(row[measure])} for row in rows if row[measure]]
    return {"way": name, "seed": seed, "curve": curve}


def plot(rows: list[dict[str, Any]], task: str, path: Path, warmup_steps: int = 0) -> None:
    """Mean over the seeds, and each seed as a thin line; where WSRL begins to learn, as a dotted line."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.2), layout="constrained")
    axis = figure.subplots()
    measure = next(name for name in rows[0]["curve"][0] if name != "step")
    for name, (label, colour) in LOOKS.items():
        curves = [row["curve"] for row in rows if row["way"] == name]
        if not curves:
            continue
        steps = [point["step"] for point in curves[0]]
        values = np.array([[point[measure] for point in curve] for curve in curves])
        axis.plot(steps, values.T, color=colour, linewidth=0.6, alpha=0.5)
        axis.plot(
            steps,
            values.mean(0),
            color=colour,
            linewidth=2.5,
            marker="o",
            markersize=4,
            label=f"{label} ({len(curves)} seeds)",
        )
        if name == "wsrl" and warmup_steps:
            axis.axvline(warmup_steps, color=colour, linewidth=0.8, linestyle=":")
    if measure == "success_rate":
        axis.set_ylim(-0.02, 1.02)
    axis.grid(alpha=0.25)
    axis.set_xlabel("environment steps after the pre-training")
    axis.set_ylabel({"return_mean": "return", "success_rate": "success"}[measure])
    axis.set_title(f"{task}: mean over the seeds (thin: each)", fontsize=10)
    figure.legend(loc="outside right center", fontsize=8, frameon=False)
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task")
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--reward", help="of the dataset, as `train --reward`")
    parser.add_argument("--ways", nargs="+", default=list(WAYS), choices=WAYS)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--offline-steps", type=int, default=2000)
    parser.add_argument("--steps", type=int, default=2000, help="in the task")
    parser.add_argument("--warmup-steps", type=int, default=400, help="of wsrl")
    parser.add_argument("--evaluations", type=int, default=10)
    parser.add_argument("--episodes", type=int, default=10, help="of an evaluation")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--set", nargs="*", default=[], help="settings of every training")
    parser.add_argument("--set-conservative", nargs="*", default=[], help="settings of every training by CQL or Cal-QL")
    parser.add_argument("--json", action="store_true", help="print the result as one JSON object")
    args = parser.parse_args()
    torch.set_num_threads(1)
    file = RESULTS / f"offline_to_online_{args.task.replace('gym:', '').replace(':', '_')}.json"
    known: dict[str, Any] = json.loads(file.read_text()) if file.is_file() else {"rows": []}
    known |= {"task": args.task, "offline_steps": args.offline_steps, "warmup_steps": args.warmup_steps}
    known |= {"settings": [*args.set, *args.set_conservative]}
    done = {(row["way"], row["seed"]) for row in known["rows"]}
    with tempfile.TemporaryDirectory() as folder:
        for seed in args.seeds:
            for name in args.ways:
                if (name, seed) not in done:
                    row = run(args, name, seed, Path(folder))
                    print(row, file=sys.stderr, flush=True)
                    known["rows"].append(row)
                    file.write_text(json.dumps(known, indent=1) + "\n")
    plot(known["rows"], args.task, file.with_suffix(".png"), args.warmup_steps)
    if args.json:
        print(json.dumps(known))


if __name__ == "__main__":
    main()
