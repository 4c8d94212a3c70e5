"""VLM-RM's experiment in our size: SAC on nothing but what a CLIP sees brings the twin's arm into a named pose.

The CLIP is the fixture of 2 MB, trained on pictures of the arm in other colours, lights and views than the twin's own.
Prompts: the four captions of a direction, as "a robot arm pointing up"; the baseline "a robot arm". Judged by the
task, and by how far from the direction the arm points at the end of an episode. Writes
benchmarks/results/vlm_policy.json; rows that are there are kept.

    python benchmarks/vlm_policy.py up left right down --seeds 0 1
"""

from __future__ import annotations

import argparse
import fcntl
import json
import statistics
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from robolearn.algorithms.compute import Compute
from robolearn.networks.open_clip import OpenClipConfig
from robolearn.policies.checkpoint import load_policy
from robolearn.recipes.environments import make_environments
from robolearn.recipes.evaluate import evaluate_policy
from robolearn.recipes.rewards.online import learn_from_model, settings_for
from robolearn.recipes.seeds import EVALUATION_SEED
from robolearn.recipes.training_data import tensors
from robolearn.rewards.fixture import TEMPLATES, TinyClipConfig, train_tiny_clip
from robolearn.rewards.vlm import VLMConfig, VLMReward
from robolearn.tasks.point import ANGLES, SHOULDER, pointing

LOOKED_AT = (30, 59)  # steps after which the pose is measured; the task lasts 60
RESULT = Path(__file__).parent / "results" / "vlm_policy.json"


def pose_error_deg(checkpoint: Path, direction: str, episodes: int, steps: int) -> list[float]:
    """How far from its direction the arm points after `steps`, in each episode."""
    policy: Any = load_policy(checkpoint)
    envs: Any = make_environments(f"point_{direction}-v1", episodes)
    envs.task.dwell_steps = envs.task.max_steps + 1  # so that nothing ends before
    observation, _ = envs.reset(seed=[EVALUATION_SEED + i for i in range(episodes)])
    for _ in range(steps):
        observation = envs.step(policy.best(tensors(observation, "cpu")).numpy())[0]
    envs.close()
    angle, _ = pointing(observation[f"pose_{SHOULDER}"][:, :3], observation["pose_tool"][:, :3])
    off = (angle - ANGLES[direction] + np.pi) % (2 * np.pi) - np.pi
    return np.degrees(np.abs(off)).tolist()


def measure(direction: str, seed: int, args: argparse.Namespace, clip: Path) -> dict:
    prompts = tuple(caption.format(direction) for caption in TEMPLATES), ("a robot arm",)
    model = VLMReward(VLMConfig(*prompts, args.alpha, clip=OpenClipConfig(model_dir=str(clip))))
    task = f"point_{direction}-v1"
    settings, config = settings_for(task)
    settings = replace(settings, steps=args.steps or settings.steps)
    started_s = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        answer = learn_from_model(task, model, out, settings, config, seed, Compute("cpu", compile=True))
        learned_s = time.process_time() - started_s
        success = evaluate_policy(answer["checkpoint"], task, args.episodes)["success_rate"]
        errors = {
            steps: statistics.median(pose_error_deg(Path(answer["checkpoint"]), direction, args.episodes, steps))
            for steps in LOOKED_AT
        }
    row = {
        "direction": direction,
        "seed": seed,
        "alpha": args.alpha,
        "steps": answer["steps"],
        "cpu_minutes": round(learned_s / 60, 1),
        "success_rate": success,
        **{f"pose_error_{steps}_steps_deg": round(error, 1) for steps, error in errors.items()},
        "reward_by_chance": round(answer["reward_mean"][0], 3),
        "reward_best": round(max(answer["reward_mean"]), 3),
    }
    print(json.dumps(row), file=sys.stderr, flush=True)
    return row


def save(row: dict, args: argparse.Namespace) -> None:
    """Merge into the file, which several of us may write."""
    with RESULT.open("a+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        rows = json.loads(file.read() or '{"runs": []}')["runs"]
        rows = sorted([*rows, row], key=lambda each: (each["alpha"], each["direction"], each["seed"]))
        file.truncate(0)
        about = {"evaluation_episodes": args.episodes, "runs": rows}
        file.write(json.dumps(about, indent=1) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directions", nargs="*", default=["up", "left", "right", "down"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--alpha", type=float, default=0.0)
    parser.add_argument("--steps", type=int, help="of the environments; what `reward online` takes by default")
    parser.add_argument("--episodes", type=int, default=30, help="fresh ones, of each evaluation")
    parser.add_argument("--clip", type=Path, help="keep the CLIP here; trained when it is not there")
    parser.add_argument("--json", action="store_true", help="print the result, too")
    args = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        clip = args.clip or Path(folder) / "clip"
        if not clip.exists():
            train_tiny_clip(clip, TinyClipConfig())
        for seed in args.seeds:
            for direction in args.directions:
                wanted = (direction, seed, args.alpha)
                known = json.loads(RESULT.read_text())["runs"] if RESULT.is_file() else []
                if all((row["direction"], row["seed"], row["alpha"]) != wanted for row in known):
                    save(measure(direction, seed, args, clip), args)
    if args.json:
        print(RESULT.read_text())


if __name__ == "__main__":
    main()
