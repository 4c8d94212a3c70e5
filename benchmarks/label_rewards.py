"""How fast is a dataset labelled, beside the bare encoder on images that lie in memory already?

Labelling decodes the images, runs the encoder, makes rewards of the embeddings and writes them, crash-safe. Both run in
turns over the same images; the ratio of their rates is what counts. `cpu_over_bare_encoder` is that of their processor
time, which other people's work on the machine changes less, but which sees nothing of what runs side by side. Then a
dataset four times as large is labelled: `growth_mb` is by how much the peak of memory rises.

    python benchmarks/label_rewards.py --json                  # a tiny CLIP of 2 MB, where overhead shows most
    python benchmarks/label_rewards.py --arch ViT-B-32 --json  # a real architecture with random weights
"""

from __future__ import annotations

import argparse
import json
import logging
import resource
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from robolearn.datasets.store import DatasetSpec, EpisodeMeta
from robolearn.datasets.zarr_store import ZarrStore
from robolearn.networks.open_clip import OpenClip, OpenClipConfig, import_open_clip
from robolearn.recipes.rewards.data import RewardData
from robolearn.recipes.rewards.label import label_dataset
from robolearn.rewards.fixture import save_untrained
from robolearn.rewards.vlm import VLMConfig, VLMReward
from robolearn.specs import ArraySpec, InterfaceSpec, RobotSpec, image_spec
from robolearn.types import EpisodeOutcome


def record(path: Path, episodes: int, steps: int, size: int) -> None:
    """Episodes with one camera of size x size pixels: a smooth background, a moving block, sensor noise."""
    robot = RobotSpec("bench", ("a",), (-1.0,), (1.0,), (1.0,))
    fields = {"proprio": ArraySpec((2,)), "image_front": image_spec(size, size)}
    store = ZarrStore.create(path, DatasetSpec(robot, InterfaceSpec(fields, ArraySpec((1,), names=("a",)), 30.0)))
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:size, :size]
    background = np.stack([128 + 80 * np.sin(x / 9 + c) * np.cos(y / 11) for c in range(3)], -1)
    noisy = (background + rng.normal(0, 2, (16, *background.shape))).clip(0, 255).astype(np.uint8)
    with store.writer() as writer:
        for _ in range(episodes):
            writer.begin(EpisodeMeta(instruction="push the block"))
            for step in range(steps):
                image = noisy[rng.integers(len(noisy))].copy()
                left = step % (size - 20)
                image[40:60, left : left + 20] = (220, 40, 40)
                values = {
                    "proprio": np.zeros(2, np.float32),
                    "image_front": image,
                    "action": np.zeros(1, np.float32),
                }
                writer.append(values, dict.fromkeys(values, step))
            writer.commit(EpisodeOutcome(True, True, False))


def network(folder: Path, arch: str) -> Path:
    """A directory with an untrained network."""
    if not arch:
        save_untrained(folder)
        return folder
    open_clip = import_open_clip()
    from safetensors.torch import save_file

    folder.mkdir()
    config = {"model_cfg": open_clip.get_model_config(arch), "preprocess_cfg": {}}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    save_file(dict(open_clip.create_model(arch).state_dict()), folder / "open_clip_model.safetensors")
    return folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--arch", default="", help="architecture of open_clip; a tiny one where empty")
    parser.add_argument("--episodes", type=int, default=40)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--size", type=int, default=128, help="height and width of the images [px]")
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="float32")
    args = parser.parse_args()
    logging.disable(logging.WARNING)
    with tempfile.TemporaryDirectory() as scratch:
        dataset, large = Path(scratch) / "bench.zarr", Path(scratch) / "large.zarr"
        record(dataset, args.episodes, args.steps, args.size)
        record(large, 4 * args.episodes, args.steps, args.size)
        folder = network(Path(scratch) / "clip", args.arch)
        clip = OpenClipConfig(
            model_dir=str(folder), batch_size=args.batch, device=args.device, precision=args.precision
        )
        model, encoder = VLMReward(VLMConfig(goal=("a block at the right edge",), alpha=0.0, clip=clip)), OpenClip(clip)
        data = RewardData(dataset)
        images = torch.from_numpy(np.concatenate([data.images(i, "front") for i in range(args.episodes)]))
        encoder.images(images[: args.batch])
        rates, cpu = [], []
        for number in range(args.rounds):
            started_s, cpu_s = time.perf_counter(), time.process_time()
            encoder.images(images).cpu()
            bare, bare_cpu_s = len(images) / (time.perf_counter() - started_s), time.process_time() - cpu_s
            started_s, cpu_s = time.perf_counter(), time.process_time()
            label_dataset(dataset, model, f"reward/round{number}")
            rates.append((len(images) / (time.perf_counter() - started_s), bare))
            cpu.append(bare_cpu_s / (time.process_time() - cpu_s))
        peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        label_dataset(large, model, "reward/large")
        growth_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024 - peak_mb
    answer = {
        "over_bare_encoder": round(statistics.median(mine / bare for mine, bare in rates), 3),
        "cpu_over_bare_encoder": round(statistics.median(cpu), 3),
        "images_per_s": round(statistics.median(mine for mine, _ in rates), 1),
        "bare_images_per_s": round(statistics.median(bare for _, bare in rates), 1),
        "arch": args.arch or "tiny",
        "device": args.device,
        "images": len(images),
        "peak_mb": round(peak_mb, 1),
        "growth_mb": round(growth_mb, 1),
    }
    print(json.dumps(answer, indent=2) if args.json else "\n".join(f"{k}: {v}" for k, v in answer.items()))


if __name__ == "__main__":
    main()
