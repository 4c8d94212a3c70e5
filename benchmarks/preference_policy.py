"""From comparisons of pictures to a policy: `robolearn reward policy` against cloning the same data.

60 episodes of mixed quality and 20 of play on `push-v1`; a rule stands for the vision model and answers 20 % of the
pairs wrongly. Nothing else of outcome or reward is looked at. Cloning is IQL with weights that are all alike, so both
policies have the same network, data and number of updates. Writes benchmarks/results/preference_policy.json; seeds
that are there already are kept.

    python benchmarks/preference_policy.py --seeds 0 1 2
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import torch

from robolearn.algorithms.compute import Compute
from robolearn.recipes.collect import CollectConfig, collect_episodes
from robolearn.recipes.rewards.policy import policy_from_preferences
from robolearn.recipes.rewards.settings import TrainingSettings
from robolearn.recipes.rewards.tool_policy import SETTINGS, learn_offline

RESULT = Path(__file__).parent / "results" / "preference_policy.json"
TASK = "push-v1"


def record(dataset: Path) -> None:
    """The data, which depends on seeds alone."""
    collect_episodes(CollectConfig(TASK, manner="mixed"), dataset, 60)
    collect_episodes(CollectConfig(TASK, manner="play"), dataset, 20)


def measure(dataset: Path, seed: int, args: argparse.Namespace) -> dict:
    def tell(done: int, text: str) -> None:
        if done % 500 == 0:
            print(f"seed {seed}: {done} {text}", file=sys.stderr)

    settings = TrainingSettings(
        seed=seed, labeller="task", wrong_answers=args.wrong_answers, pairs=args.pairs, steps=args.reward_steps
    )
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        made = policy_from_preferences(dataset, out, settings, args.steps, args.compile, args.episodes, tell)
        cloning = replace(SETTINGS, steps=args.steps, inverse_temperature=0.0)
        compute = Compute(compile=args.compile)
        cloned = learn_offline(
            dataset, TASK, made["column"], out / "cloned", cloning, seed, compute, args.episodes, tell
        )
        success = {"reward_policy": made["success_rate"], "cloning": cloned["success_rate"]}
    audit = {name: made["audit"][name] for name in ("success_auroc", "voc_success", "progress_spearman", "passed")}
    print(f"seed {seed}: {success} {audit}", file=sys.stderr)
    return {"seed": seed, "success": success, "reward": audit}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--reward-steps", type=int, default=300, help="updates of the reward's encoder")
    parser.add_argument("--steps", type=int, default=3000, help="updates of each policy")
    parser.add_argument("--episodes", type=int, default=100, help="fresh ones, of each evaluation")
    parser.add_argument("--pairs", type=int, default=1000)
    parser.add_argument("--wrong-answers", type=float, default=0.2)
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--dataset", type=Path, help="keep the data here; recorded when it is not there")
    parser.add_argument("--json", action="store_true", help="print the result, too")
    args = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        dataset = args.dataset or Path(folder) / "push.zarr"
        if not dataset.exists():
            record(dataset)
        rows = json.loads(RESULT.read_text())["runs"] if RESULT.is_file() else []
        for seed in args.seeds:
            if all(row["seed"] != seed for row in rows):
                rows = sorted([*rows, measure(dataset, seed, args)], key=lambda row: row["seed"])
                write(rows, args)
    if args.json:
        print(RESULT.read_text())


def write(rows: list[dict], args: argparse.Namespace) -> None:
    names = rows[0]["success"]
    every = {name: [row["success"][name] for row in rows] for name in names}
    answer = {
        "task": TASK,
        "episodes": 80,
        "pairs": args.pairs,
        "wrong_answers": args.wrong_answers,
        "reward_steps": args.reward_steps,
        "steps": args.steps,
        "evaluation_episodes": args.episodes,
        "success_mean": {name: round(statistics.mean(every[name]), 3) for name in names},
        "success_std": {name: round(statistics.pstdev(every[name]), 3) for name in names},
        "runs": rows,
    }
    RESULT.write_text(json.dumps(answer, indent=1) + "\n")


if __name__ == "__main__":
    main()
