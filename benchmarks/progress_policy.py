"""Progress from images of mixed demonstrations, and what cloning gains by it: SARM, then RA-BC against plain cloning.

60 episodes of `pick_place-v1` by experts, slow, hesitating and failing ones, two cameras. A fifth of them is held
out of the progress model, judged on those. Both clonings learn from all episodes, alike but for the weights. Writes
benchmarks/results/progress_policy.json; seeds that are there already are kept.

    python benchmarks/progress_policy.py --seeds 0 1 2
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from pathlib import Path

import torch

from robolearn.algorithms.bc import BCConfig
from robolearn.recipes.collect import CollectConfig, collect_episodes
from robolearn.recipes.evaluate import evaluate_policy
from robolearn.recipes.rewards.label import label_dataset
from robolearn.recipes.rewards.settings import TrainingSettings
from robolearn.recipes.rewards.training import train_reward
from robolearn.recipes.rewards.weights import weigh_dataset
from robolearn.recipes.train_offline import train_offline
from robolearn.rewards.reward_aligned import RewardAlignedConfig
from robolearn.rewards.saved import load_reward

RESULT = Path(__file__).parent / "results" / "progress_policy.json"
TASK = "pick_place-v1"


def measure(dataset: Path, seed: int, args: argparse.Namespace) -> dict:
    def tell(done: int, text: str) -> None:
        if done % 100 == 0:
            print(f"seed {seed}: {done} {text}", file=sys.stderr)

    settings = TrainingSettings(cameras=("front", "wrist"), steps=args.progress_steps, seed=seed)
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        trained = train_reward("progress", dataset, out / "progress", settings, tell)
        column = label_dataset(dataset, load_reward(trained.path))["column"]
        weights = weigh_dataset(dataset, column, RewardAlignedConfig())
        success = {}
        for name, weight in (("plain", ""), ("weighted", weights["column"])):
            config = BCConfig(episodes="all", weight=weight)
            run = train_offline("bc", dataset, out / name, args.steps, seed, config, progress=tell)
            answer = evaluate_policy(run["latest_checkpoint"], TASK, args.episodes)
            success[name] = answer["success_rate"]
    names = ("progress_spearman", "stage_accuracy", "success_auroc", "voc_success", "passed")
    audit = {name: trained.audit[name] for name in names}
    print(f"seed {seed}: {success} {audit}", file=sys.stderr)
    return {"seed": seed, "success": success, "mean_weight": weights["mean_weight"], "progress": audit}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--progress-steps", type=int, default=400)
    parser.add_argument("--steps", type=int, default=1500, help="updates of each cloning")
    parser.add_argument("--episodes", type=int, default=50, help="fresh ones, of each evaluation")
    parser.add_argument("--dataset", type=Path, help="keep the data here; recorded when it is not there")
    parser.add_argument("--json", action="store_true", help="print the result, too")
    args = parser.parse_args()
    torch.set_num_threads(1)
    rows = json.loads(RESULT.read_text())["runs"] if RESULT.is_file() else []
    with tempfile.TemporaryDirectory() as folder:
        dataset = args.dataset or Path(folder) / "mixed.zarr"
        if not dataset.exists():
            collect_episodes(CollectConfig(TASK, manner="mixed"), dataset, 60)
        for seed in args.seeds:
            if all(row["seed"] != seed for row in rows):
                rows = sorted([*rows, measure(dataset, seed, args)], key=lambda row: row["seed"])
                write(rows, args)
    if args.json:
        print(RESULT.read_text())


def write(rows: list[dict], args: argparse.Namespace) -> None:
    every = {name: [row["success"][name] for row in rows] for name in ("plain", "weighted")}
    answer = {
        "task": TASK,
        "episodes": 60,
        "steps": args.steps,
        "evaluation_episodes": args.episodes,
        "success_mean": {name: round(statistics.mean(values), 3) for name, values in every.items()},
        "success_std": {name: round(statistics.pstdev(values), 3) for name, values in every.items()},
        "runs": rows,
    }
    RESULT.write_text(json.dumps(answer, indent=1) + "\n")


if __name__ == "__main__":
    main()
