"""Learning curves of Stable-Baselines3, judged as `learning_curves.py` judges ours, on the same episodes.

    PYTHON benchmarks/learning_curves_peers.py sac Pendulum-v1 --steps 10000 --seeds 0 1 2 3 4

PYTHON has stable-baselines3 installed. Settings are the library's defaults. Writes
benchmarks/results/sb3_<algorithm>_<environment>.json.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path

import gymnasium
import numpy as np
import stable_baselines3
import torch

RESULTS = Path(__file__).parent / "results"
EVALUATION_SEED = 1_000_000  # of robolearn/recipes/evaluate.py


def judge(model: stable_baselines3.SAC, name: str, episodes: int) -> list[float]:
    """Returns of episodes by the most likely action."""
    env, returns = gymnasium.make(name), []
    for episode in range(episodes):
        seen, _ = env.reset(seed=EVALUATION_SEED + episode)
        total, over = 0.0, False
        while not over:
            seen, reward, terminated, truncated, _ = env.step(model.predict(seen, deterministic=True)[0])
            total, over = total + float(reward), terminated or truncated
        returns.append(total)
    env.close()
    return returns


def run(args: argparse.Namespace, seed: int) -> dict:
    model = getattr(stable_baselines3, args.algorithm.upper())("MlpPolicy", args.environment, seed=seed, device="cpu")
    curve, started = [], time.process_time()
    every = args.steps // args.evaluations
    for step in range(every, args.steps + 1, every):
        model.learn(every, reset_num_timesteps=False)
        returns = judge(model, args.environment, args.episodes)
        curve.append({"step": step, "return_mean": float(np.mean(returns)), "return_std": float(np.std(returns))})
        print(seed, curve[-1], flush=True)
    return {"seed": seed, "curve": curve, "cpu_seconds": time.process_time() - started}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("algorithm")
    parser.add_argument("environment")
    parser.add_argument("--steps", type=int, default=10_000)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--evaluations", type=int, default=10)
    parser.add_argument("--episodes", type=int, default=10)
    args = parser.parse_args()
    torch.set_num_threads(1)
    file = RESULTS / f"sb3_{args.algorithm}_{args.environment}.json"
    runs = json.loads(file.read_text())["runs"] if file.is_file() else []
    for seed in args.seeds:
        if any(row["seed"] == seed for row in runs):
            continue
        runs = sorted([*runs, run(args, seed)], key=lambda row: row["seed"])
        last = [row["curve"][-1]["return_mean"] for row in runs]
        about = {"algorithm": f"sb3 {stable_baselines3.__version__} {args.algorithm}", "task": args.environment}
        numbers = {"last_return_mean": statistics.mean(last), "last_return_std": statistics.pstdev(last)}
        file.write_text(json.dumps({**about, "steps": args.steps, **numbers, "runs": runs}, indent=1) + "\n")


if __name__ == "__main__":
    main()
