"""From comparisons of pictures to a policy: `robolearn reward policy` against cloning the same data.

60 episodes of mixed quality and 20 of play on `push-v1`; a rule stands for the vision model and answers 20 % of the
pairs wrongly. Nothing else of outcome or reward is looked at. Cloning is IQL with weights that are all alike, so both
policies have the same network, data and number of updates. Writes benchmarks/results/preference_policy.json.

    python benchmarks/preference_policy.py --seeds 0 1 2
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from pathlib import Path

import torch

from robolearn.algorithms.compile import Compute
from robolearn.algorithms.iql import IQLConfig
from robolearn.recipes.collect import CollectConfig, collect_episodes
from robolearn.recipes.evaluate import evaluate_policy
from robolearn.recipes.rewards.policy import policy_from_preferences
from robolearn.recipes.rewards.settings import TrainingSettings
from robolearn.recipes.train_offline import train_offline

RESULT = Path(__file__).parent / "results" / "preference_policy.json"
TASK = "push-v1"


def record(dataset: Path) -> None:
    """The data, which depends on seeds alone."""
    collect_episodes(CollectConfig(TASK, manner="mixed"), dataset, 60)
    collect_episodes(CollectConfig(TASK, manner="play"), dataset, 20)


def measure(dataset: Path, seed: int, args: argparse.Namespace) -> dict:
    def tell(done: int, text: str) -> None:
        if done % 2000 == 0:
            print(f"seed {seed}: {done} {text}", file=sys.stderr)

    settings = TrainingSettings(seed=seed, labeller="task", wrong_answers=args.wrong_answers, pairs=args.pairs)
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        made = policy_from_preferences(dataset, out, settings, args.steps, True, tell)
        cloned = train_offline(
            "iql",
            dataset,
            out / "cloned",
            args.steps,
            seed,
            IQLConfig(inverse_temperature=0.0),
            reward=made["column"],
            task=TASK,
            compute=Compute(compile=True),
            progress=tell,
        )
        success = {
            name: evaluate_policy(checkpoint, TASK, args.episodes)["success_rate"]
            for name, checkpoint in (("reward_policy", made["checkpoint"]), ("cloning", cloned["latest_checkpoint"]))
        }
    audit = {name: made["audit"][name] for name in ("success_auroc", "voc_success", "progress_spearman", "passed")}
    print(f"seed {seed}: {success} {audit}", file=sys.stderr)
    return {"seed": seed, "success": success, "reward": audit}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=20_000, help="updates of each policy")
    parser.add_argument("--episodes", type=int, default=100, help="fresh ones, of each evaluation")
    parser.add_argument("--pairs", type=int, default=1000)
    parser.add_argument("--wrong-answers", type=float, default=0.2)
    parser.add_argument("--dataset", type=Path, help="keep the data here; recorded when it is not there")
    args = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        dataset = args.dataset or Path(folder) / "push.zarr"
        if not dataset.exists():
            record(dataset)
        rows = [measure(dataset, seed, args) for seed in args.seeds]
    names = rows[0]["success"]
    every = {name: [row["success"][name] for row in rows] for name in names}
    answer = {
        "task": TASK,
        "episodes": 80,
        "pairs": args.pairs,
        "wrong_answers": args.wrong_answers,
        "steps": args.steps,
        "evaluation_episodes": args.episodes,
        "success_mean": {name: round(statistics.mean(every[name]), 3) for name in names},
        "success_std": {name: round(statistics.pstdev(every[name]), 3) for name in names},
        "runs": rows,
    }
    RESULT.write_text(json.dumps(answer, indent=1) + "\n")
    print(RESULT.read_text())


if __name__ == "__main__":
    main()
