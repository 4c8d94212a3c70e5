"""Learning curves of Stable-Baselines3, judged as `learning_curves.py` judges ours, on the same episodes.

    PYTHON benchmarks/learning_curves_peers.py sac Pendulum-v1 --steps 10000 --seeds 0 1 2 3 4

PYTHON has stable-baselines3 installed. Settings are the library's defaults. Writes
sb3_<algorithm>_<environment>.json into --out, by default benchmarks/results; of a seed that was not finished it holds
what there is.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import statistics
import tempfile
import time
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from pathlib import Path

import gymnasium
import numpy as np
import stable_baselines3
import torch

RESULTS = Path(__file__).parent / "results"
SELECTION_SEED = 2_000_000  # of robolearn/recipes/seeds.py
LOOK_S = 10.0  # between looks at the curves


def judge(model: stable_baselines3.SAC, name: str, episodes: int) -> list[float]:
    """Returns of episodes by the most likely action."""
    env, returns = gymnasium.make(name), []
    for episode in range(episodes):
        seen, _ = env.reset(seed=SELECTION_SEED + episode)
        total, over = 0.0, False
        while not over:
            seen, reward, terminated, truncated, _ = env.step(model.predict(seen, deterministic=True)[0])
            total, over = total + float(reward), terminated or truncated
        returns.append(total)
    env.close()
    return returns


def run(args: argparse.Namespace, seed: int, file: Path) -> None:
    """Learn, and write the curve into a file of its own whenever it has grown."""
    torch.set_num_threads(1)
    made = getattr(stable_baselines3, args.algorithm.upper())
    model = made("MlpPolicy", args.environment, seed=seed, device=args.device)
    curve: list[dict] = []
    started, used = time.perf_counter(), time.process_time()
    every = args.steps // args.evaluations
    for step in range(every, args.steps + 1, every):
        model.learn(every, reset_num_timesteps=False)
        returns = judge(model, args.environment, args.episodes)
        curve.append({"step": step, "return_mean": float(np.mean(returns)), "return_std": float(np.std(returns))})
        row = {"seed": seed, "curve": curve, "cpu_seconds": time.process_time() - used}
        part = file.with_suffix(".part")
        part.write_text(json.dumps({**row, "train_seconds": time.perf_counter() - started}))
        part.replace(file)


def finished(row: dict, args: argparse.Namespace) -> bool:
    return row["curve"][-1]["step"] > args.steps - args.steps // args.evaluations


def write(file: Path, args: argparse.Namespace, rows: list[dict]) -> None:
    rows = sorted(rows, key=lambda row: row["seed"])
    last = [row["curve"][-1]["return_mean"] for row in rows if finished(row, args)]
    answer = {
        "algorithm": f"sb3 {stable_baselines3.__version__} {args.algorithm}",
        "task": args.environment,
        "steps": args.steps,
        "settings": [f"device={args.device}"],
        "last_return_mean": statistics.mean(last) if last else None,
        "last_return_std": statistics.pstdev(last) if last else None,
        "runs": rows,
    }
    file.write_text(json.dumps(answer, indent=1) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("algorithm")
    parser.add_argument("environment")
    parser.add_argument("--steps", type=int, default=10_000)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--evaluations", type=int, default=10)
    parser.add_argument("--episodes", type=int, default=10)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--processes", type=int, default=1, help="seeds that learn at a time, each with one thread")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the result")
    args = parser.parse_args()
    file = args.out / f"sb3_{args.algorithm}_{args.environment}.json"
    args.out.mkdir(parents=True, exist_ok=True)
    runs = json.loads(file.read_text())["runs"] if file.is_file() else []
    runs = [row for row in runs if finished(row, args)]
    spawn = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder, ProcessPoolExecutor(args.processes, mp_context=spawn) as pool:
        files = {s: Path(folder) / f"{s}.json" for s in args.seeds if all(row["seed"] != s for row in runs)}
        under_way = [pool.submit(run, args, seed, where) for seed, where in files.items()]
        while under_way:
            done, left = wait(under_way, LOOK_S, FIRST_COMPLETED)
            under_way = list(left)
            for future in done:
                future.result()
            write(file, args, [*runs, *(json.loads(where.read_text()) for where in files.values() if where.is_file())])


if __name__ == "__main__":
    main()
