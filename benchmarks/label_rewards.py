"""How fast is a dataset labelled, beside the bare encoder on images that lie in its memory already?

Labelling reads and decodes the images, runs the encoder, makes rewards of the embeddings and writes them, crash-safe.
Both run in turns over images of the same dataset, as many of them, in batches of one size, for a processor that is hot
is slower; the ratio of their rates is what counts.
`open_clip`: the network as that library makes it, for bfloat16 in its fastest mode, with weights in bfloat16; on a GPU
ours launches its kernels together, and there and on a CPU a ViT's first convolution in bfloat16 is a product.
`cpu_over_bare_encoder` is that of their processor time, which other people's work on the machine changes less, but
which sees nothing of what runs side by side. `read_images_per_s` is what reading and decoding alone would do.
`growth_mb`: a quarter of the dataset is labelled, then all of it; by how much does the peak of memory rise.

    python benchmarks/label_rewards.py --json                  # a tiny CLIP of 2 MB, where overhead shows most
    python benchmarks/label_rewards.py --arch ViT-B-32 --json  # a real architecture with random weights
    python benchmarks/label_rewards.py --arch ViT-B-32 --size 224 --episodes 320 --steps 256 \\
        --device cuda --precision bfloat16 --json
"""

from __future__ import annotations

import argparse
import json
import logging
import multiprocessing
import os
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from robolearn.datasets.edit import merge
from robolearn.datasets.store import DatasetSpec, EpisodeMeta
from robolearn.datasets.zarr_store import ZarrStore
from robolearn.networks.open_clip import OpenClip, OpenClipConfig, import_open_clip
from robolearn.recipes.rewards.data import RewardData
from robolearn.recipes.rewards.label import label_dataset
from robolearn.recipes.rewards.read_ahead import ReadAhead
from robolearn.recipes.rewards.side_by_side import SideBySide
from robolearn.rewards.vlm import VLMConfig, VLMReward
from robolearn.specs import ArraySpec, InterfaceSpec, RobotSpec, image_spec
from robolearn.types import EpisodeOutcome


def record(path: Path, episodes: int, steps: int, size: int, seed: int) -> None:
    """Episodes with one camera of size x size pixels: a smooth background, a moving block, sensor noise."""
    robot = RobotSpec("bench", ("a",), (-1.0,), (1.0,), (1.0,))
    fields = {"proprio": ArraySpec((2,)), "image_front": image_spec(size, size)}
    store = ZarrStore.create(path, DatasetSpec(robot, InterfaceSpec(fields, ArraySpec((1,), names=("a",)), 30.0)))
    rng = np.random.default_rng(seed)
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


def record_side_by_side(path: Path, args: argparse.Namespace) -> tuple[Path, Path]:
    """A quarter of the dataset, and the whole; every core records a part."""
    cores = len(os.sched_getaffinity(0))
    quarter = [Path(f"{path}.{i}") for i in range(cores)]
    rest = [Path(f"{path}.{i}") for i in range(cores, 4 * cores)]
    each = max(args.episodes // (4 * cores), 1)
    with multiprocessing.get_context("fork").Pool(cores) as pool:
        pool.starmap(record, [(part, each, args.steps, args.size, i) for i, part in enumerate(quarter + rest)])
    small, whole = path / "quarter.zarr", path / "whole.zarr"
    merge(quarter, small)
    merge(quarter + rest, whole)
    return small, whole


def network(folder: Path, arch: str) -> Path:
    """A directory with an untrained network."""
    if not arch:
        from robolearn.rewards.fixture import save_untrained  # which draws, and needs the twin

        save_untrained(folder)
        return folder
    open_clip = import_open_clip()
    from safetensors.torch import save_file

    folder.mkdir()
    config = {"model_cfg": open_clip.get_model_config(arch), "preprocess_cfg": {}}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    save_file(dict(open_clip.create_model(arch).state_dict()), folder / "open_clip_model.safetensors")
    return folder


def by_open_clip(config: OpenClipConfig) -> Callable[[torch.Tensor], None]:
    """The same by open_clip alone."""
    open_clip = import_open_clip()
    precision = "pure_bf16" if config.precision == "bfloat16" else "fp32"
    model = open_clip.create_model(f"local-dir:{config.model_dir}", precision=precision, device=config.device).eval()
    kept = next(model.parameters()).dtype
    mean, std = (
        torch.tensor(values, device=config.device).view(1, 3, 1, 1) * 255.0
        for values in (open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD)
    )
    size = model.visual.image_size
    height, width = size if isinstance(size, (tuple, list)) else (size, size)

    @torch.no_grad()
    def embed(images: torch.Tensor) -> torch.Tensor:
        pixels = images.permute(0, 3, 1, 2)
        if pixels.shape[-2:] != (height, width):
            pixels = pixels if config.device == "cpu" else pixels.float()  # which alone filters bytes
            pixels = torch.nn.functional.interpolate(pixels, (height, width), mode="bicubic", antialias=True)
        return model.encode_image(pixels.float().sub_(mean).div_(std).to(kept), normalize=True)

    def all_of(images: torch.Tensor) -> None:
        torch.cat([embed(part) for part in images.split(config.batch_size)]).cpu()

    return all_of


def rate(embed: Callable[[torch.Tensor], None], images: torch.Tensor, rounds: int) -> float:
    """Images a second, `rounds` times over the same ones."""
    started_s = time.perf_counter()
    for _ in range(rounds):
        embed(images)
    return rounds * len(images) / (time.perf_counter() - started_s)


def read_alone(dataset: Path, device: str) -> float:
    """Images that are read and decoded in a second, as for a device of this kind."""
    data = RewardData(dataset)
    work: ReadAhead | SideBySide
    if device == "cpu":
        work = SideBySide(lambda group: data.episodes(group, ("front",)).shape)
    else:
        work = ReadAhead(data, ("front",), lambda episodes: None, torch.device(device))
    height, width = data.image_size("front")
    groups = data.groups(range(len(data.store.episodes)), work.group_steps(data.store.num_steps, 3 * height * width))
    started_s = time.perf_counter()
    for _ in work.run(groups):
        pass
    return data.store.num_steps / (time.perf_counter() - started_s)


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--arch", default="", help="architecture of open_clip; a tiny one where empty")
    parser.add_argument("--episodes", type=int, default=80)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--size", type=int, default=128, help="height and width of the images [px]")
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--resident", type=int, default=8192, help="images that the bare encoder has in memory")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="float32")
    args = parser.parse_args()
    logging.disable(logging.WARNING)
    with tempfile.TemporaryDirectory() as scratch:
        small, whole = record_side_by_side(Path(scratch), args)
        folder = network(Path(scratch) / "clip", args.arch)
        clip = OpenClipConfig(
            model_dir=str(folder), batch_size=args.batch, device=args.device, precision=args.precision
        )
        model, encoder = VLMReward(VLMConfig(goal=("a block at the right edge",), alpha=0.0, clip=clip)), OpenClip(clip)
        label_dataset(small, model, "reward/quarter")
        quarter_mb = peak_mb()
        label_dataset(whole, model, "reward/whole")  # warms up, too
        labelling_mb = peak_mb()
        data = RewardData(whole)
        episodes = range(-(-args.resident // args.steps))
        images = np.concatenate([data.images(i % len(data.store.episodes), "front") for i in episodes])
        resident = torch.from_numpy(images[: args.resident]).to(args.device)

        def bare(images: torch.Tensor) -> None:
            encoder.images(images).cpu()

        plain = by_open_clip(clip)
        for each in (bare, plain):
            each(resident[: 5 * args.batch])
        rates, cpu, rounds = [], [], -(-args.episodes * args.steps // len(resident))
        for number in range(args.rounds):
            cpu_s = time.process_time()
            bare_rate = rate(bare, resident, rounds)
            bare_cpu_s = (time.process_time() - cpu_s) / (rounds * len(resident))
            started_s, cpu_s = time.perf_counter(), time.process_time()
            done = label_dataset(whole, model, f"reward/round{number}")["images"]
            label_rate = done / (time.perf_counter() - started_s)
            cpu.append(bare_cpu_s / ((time.process_time() - cpu_s) / done))
            rates.append((label_rate, bare_rate, rate(plain, resident, rounds)))
        read_rate = read_alone(whole, args.device)
    answer = {
        "over_bare_encoder": round(statistics.median(mine / bare for mine, bare, _ in rates), 3),
        "over_open_clip": round(statistics.median(mine / plain for mine, _, plain in rates), 3),
        "cpu_over_bare_encoder": round(statistics.median(cpu), 3),
        "images_per_s": round(statistics.median(mine for mine, _, _ in rates), 1),
        "bare_images_per_s": round(statistics.median(bare for _, bare, _ in rates), 1),
        "open_clip_images_per_s": round(statistics.median(plain for _, _, plain in rates), 1),
        "read_images_per_s": round(read_rate, 1),
        "arch": args.arch or "tiny",
        "device": torch.cuda.get_device_name(args.device) if args.device.startswith("cuda") else args.device,
        "cores": len(os.sched_getaffinity(0)),
        "precision": args.precision,
        "batch": args.batch,
        "size": args.size,
        "images": done,
        "peak_mb": round(labelling_mb, 1),
        "growth_mb": round(labelling_mb - quarter_mb, 1),
    }
    print(json.dumps(answer, indent=2) if args.json else "\n".join(f"{k}: {v}" for k, v in answer.items()))


if __name__ == "__main__":
    main()
