"""Every reward model on the same held-out episodes of `pick_place-v1`, best first.

60 episodes by experts, slow, hesitating and failing ones; a fifth is held out, the same for all. `vlm` has the CLIP of
the tests, which has seen nothing but arms that point, so it shows what a CLIP is worth that does not know the task.
`keypoints` follows the red block along waypoints that are read off one demonstration. Writes
benchmarks/results/reward_leaderboard.json, and with --page an HTML page.

    python benchmarks/reward_leaderboard.py
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from robolearn.networks.open_clip import OpenClipConfig
from robolearn.recipes.collect import CollectConfig, collect_episodes
from robolearn.recipes.rewards.audit import audit_models
from robolearn.recipes.rewards.data import RewardData
from robolearn.recipes.rewards.page import write_audit_page
from robolearn.recipes.rewards.settings import TrainingSettings
from robolearn.recipes.rewards.training import TRAINERS, split_episodes
from robolearn.rewards.fixture import TinyClipConfig, train_tiny_clip
from robolearn.rewards.keypoints import KeypointsConfig, KeypointsReward, colour_track
from robolearn.rewards.vlm import VLMConfig

RESULT = Path(__file__).parent / "results" / "reward_leaderboard.json"
TASK = "pick_place-v1"
WAYPOINTS = 5


def keypoints(data: RewardData, learn: list[int]) -> KeypointsReward:
    """Waypoints along the block's way in the shortest success."""
    good = min((i for i in learn if data.store.episodes[i].success), key=lambda i: data.store.episodes[i].length)
    defaults = KeypointsConfig()
    images = torch.from_numpy(data.images(good, defaults.camera))[None]
    track = colour_track(images, defaults.colour, defaults.colour_distance)[0]
    seen = track[track.isfinite().all(-1)]
    way = torch.cat([torch.zeros(1), seen.diff(dim=0).norm(dim=-1).cumsum(0)])
    at = [int((way >= share * float(way[-1])).float().argmax()) for share in np.linspace(0, 1, WAYPOINTS)]
    points = [tuple(round(float(v), 3) for v in seen[i]) for i in at]
    return KeypointsReward(KeypointsConfig(waypoints=tuple(dict.fromkeys(points))))  # type: ignore[arg-type]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=400, help="gradient steps of each training")
    parser.add_argument("--clip-steps", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--page", type=Path, help="folder of the HTML page")
    parser.add_argument("--dataset", type=Path, help="keep the data here; recorded when it is not there")
    parser.add_argument("--json", action="store_true", help="print the result, too")
    args = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        dataset = args.dataset or Path(folder) / "mixed.zarr"
        if not dataset.exists():
            collect_episodes(CollectConfig(TASK, manner="mixed"), dataset, 60)
        data = RewardData(dataset)
        settings = TrainingSettings(cameras=("front", "wrist"), steps=args.steps, seed=args.seed)
        learn, held_out = split_episodes(data, settings)
        models: dict[str, Any] = {}
        cpu_s: dict[str, float] = {}
        clip = Path(folder) / "clip"
        train_tiny_clip(clip, TinyClipConfig(steps=args.clip_steps))
        goal, scene = ("a robot arm pointing down",), ("a robot arm",)
        settings = replace(settings, vlm=VLMConfig(goal, scene, 0.0, clip=OpenClipConfig(model_dir=str(clip))))
        for name in [name for name in TRAINERS if name != "keypoints"]:  # which would ask an endpoint
            started_s = time.process_time()
            models[name] = TRAINERS[name](data, learn, settings, lambda done, text: None)
            cpu_s[name] = round(time.process_time() - started_s, 1)
            print(name, cpu_s[name], file=sys.stderr, flush=True)
        models["keypoints"] = keypoints(data, learn)
        audits = audit_models(data, held_out, models)
        if args.page is not None:
            args.page.mkdir(parents=True, exist_ok=True)
            write_audit_page(args.page / "audit.html", data, audits)
    answer = {"task": TASK, "steps": args.steps, "seed": args.seed, "train_cpu_s": cpu_s, **audits.to_json()}
    RESULT.write_text(json.dumps(answer, indent=1) + "\n")
    if args.json:
        print(RESULT.read_text())


if __name__ == "__main__":
    main()
