"""A CLIP of two megabytes that knows where a robot arm points, made in seconds and without a network.

It proves the whole path of the VLM rewards where no weights can be downloaded: vocabulary, text tower, image tower,
saved as any local open_clip directory is. The images are the twin's (`fixture_images.py`): its arm in random postures,
colours and views, which points up, down, left, right or between (the direction of shoulder to tool).

Training is InfoNCE (Radford et al. 2021) with graded targets instead of one positive a row: a caption of direction c
is right for an image of direction a as exp(-k |a - c|) k pi / (1 - exp(-k pi)), a density whose mean over c is 1, which
is how right a caption without direction is. k falls with the length at which the arm is seen, for what points at the
camera points nowhere. With one positive a row the reward would rank directions only as an indicator can; with the
cosine of a - c in the place of its size it would be flat about its top, and 20 degrees less than what an arm's posture
changes; a density that were highest at 1 whatever its k would call what points nowhere as right as what points there.
The captions are few, so every step uses all of them: no caption is drawn, and the loss is less noisy.

    loss = H(softmax_j target_ij, softmax_j logit_ij) + the same by columns     k pi = 10 for arms of 25 cm and more
"""

from __future__ import annotations

import gzip
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor

from robolearn.networks.open_clip import VOCABULARY_FILE, import_open_clip
from robolearn.rewards.fixture_images import draw_arms
from robolearn.rewards.reward_model import initial_weights
from robolearn.twin.arm_painter import PALETTES, SIZE

DIRECTIONS = ("right", "up right", "up", "up left", "left", "down left", "down", "down right")  # every 45 degrees
TEMPLATES = ("a robot arm pointing {}", "the arm points {}", "the robot is reaching {}", "an arm stretched {}")
GENERIC = "a robot arm"
CONCENTRATION = 10.0  # k pi of the graded targets: logarithm of how much more right a direction is than its opposite
WHOLE_M = 0.25  # length in the picture from which on an arm's direction counts in full


@dataclass(frozen=True)
class TinyClipConfig:
    """How the fixture is trained."""

    images: int = 9000
    batch_size: int = 96
    steps: int = 800
    learning_rate: float = 2e-3  # peak of one cycle
    palettes: tuple[str, ...] = tuple(PALETTES)  # that are seen
    max_bend_rad: float = 1.4  # of the elbow
    any_posture: float = 0.5  # share of arms in any posture at all
    seed: int = 0


def train_tiny_clip(directory: Path, config: TinyClipConfig, colour_words: bool = False) -> None:
    """Render, train and save a network that `OpenClipConfig(model_dir=...)` reads. 800 steps are 95 s of one core."""
    captions, directions, palettes = _captions(colour_words)
    directory.mkdir(parents=True, exist_ok=True)
    _write_description(directory, captions)
    rng = np.random.default_rng(config.seed)
    arms = draw_arms(rng, config.images, config.palettes, (0.0, config.max_bend_rad), config.any_posture)
    model, tokenizer = _new_model(directory, config.seed)
    model = model.to(memory_format=torch.channels_last)  # as the images lie in memory; faster by half on a CPU
    tokens = tokenizer(captions)
    optimizer = torch.optim.AdamW(model.parameters(), lr=config.learning_rate, betas=(0.9, 0.98), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, config.learning_rate, total_steps=config.steps)
    pixels = _normalized(arms.images)
    seen = torch.from_numpy(arms.length / WHOLE_M).clamp(max=1.0)
    right = graded_targets(torch.from_numpy(arms.angle), torch.from_numpy(directions), seen)
    right *= torch.tensor([[palette in (None, arm) for palette in palettes] for arm in arms.palette])
    model.train()
    for _ in range(config.steps):
        rows = rng.integers(config.images, size=config.batch_size)
        colours = np.arange(3) if colour_words else rng.permutation(3)  # directions must not hang on the palette
        features, words, scale = model(pixels[rows][:, colours], tokens)[:3]
        logits = scale * features @ words.T
        target = right[rows]
        loss = 0.5 * (_soft_cross_entropy(logits, target) + _soft_cross_entropy(logits.T, target.T))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        schedule.step()
        with torch.no_grad():
            model.logit_scale.clamp_(0.0, math.log(100.0))
    _save(model, directory)


def save_untrained(directory: Path, seed: int = 0) -> None:
    """The same network with its initial weights: what a reward must not be confused with."""
    directory.mkdir(parents=True, exist_ok=True)
    _write_description(directory, _captions(False)[0])
    _save(_new_model(directory, seed)[0], directory)


def graded_targets(angle: Tensor, direction: Tensor, seen: Tensor) -> Tensor:
    """(N, M): how right each of M captions is for N images, as a density over directions whose mean is 1; NaN as
    direction is a generic caption, always 1.

    seen: (N,) share of its length that an arm is seen at; at 0 all captions are equally right, and less than those that
    fit an arm seen in full.
    """
    k = (CONCENTRATION * seen[:, None]).clamp(min=1e-6)
    off = torch.remainder(angle[:, None] - direction[None] + math.pi, 2.0 * math.pi) - math.pi
    graded = torch.exp(-k * off.abs() / math.pi) * k / -torch.expm1(-k)
    return torch.where(direction.isnan()[None], 1.0, graded).float()


def _captions(colour_words: bool) -> tuple[list[str], NDArray[np.float64], list[str | None]]:
    """Every caption, its direction [rad], NaN without one, and the palette that it names."""
    plain = [template.format(name) for name in DIRECTIONS for template in TEMPLATES] + [GENERIC]
    directions = [i * math.pi / 4 for i in range(8) for _ in TEMPLATES] + [math.nan]
    captions = list(plain)
    palettes: list[str | None] = [None] * len(plain)
    for palette in PALETTES if colour_words else ():
        captions += [_coloured(caption, palette) for caption in plain]
        palettes += [palette] * len(plain)
    return captions, np.array(directions * (len(captions) // len(plain))), palettes


def _coloured(caption: str, palette: str) -> str:
    return (
        caption.replace("robot", f"{palette} robot") if "robot" in caption else caption.replace("arm", f"{palette} arm")
    )


def _soft_cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    return -(target / target.sum(1, keepdim=True) * logits.log_softmax(1)).sum(1).mean()


def _normalized(images: NDArray[np.uint8]) -> Tensor:
    return torch.from_numpy(images).permute(0, 3, 1, 2).float().div_(127.5).sub_(1.0)


def _write_description(directory: Path, captions: Sequence[str]) -> None:
    """Vocabulary and config. The vocabulary merges every word of the captions, letter by letter."""
    merges: dict[str, None] = {}
    for word in dict.fromkeys(word for caption in captions for word in caption.split()):
        letters = [*word[:-1], f"{word[-1]}</w>"]
        for i in range(1, len(letters)):
            merges[f"{''.join(letters[:i])} {letters[i]}"] = None
    with gzip.GzipFile(directory / VOCABULARY_FILE, "wb", mtime=0) as file:
        file.write("\n".join(["#version: 0.2", *merges]).encode())  # a last newline would count as a merge
    description = {
        "model_cfg": {
            "embed_dim": 64,
            "vision_cfg": {"image_size": SIZE, "layers": [1, 1, 1, 1], "width": 8, "head_width": 64},
            "text_cfg": {
                "context_length": 16,
                "vocab_size": 512 + len(merges) + 2,  # bytes with and without end of word, merges, start and end
                "width": 64,
                "heads": 2,
                "layers": 2,
            },
        },
        "preprocess_cfg": {
            "mean": [0.5] * 3,
            "std": [0.5] * 3,
            "interpolation": "bicubic",
            "resize_mode": "squash",
        },
    }
    (directory / "open_clip_config.json").write_text(json.dumps(description, indent=2) + "\n", encoding="utf-8")


def _new_model(directory: Path, seed: int) -> tuple[Any, Any]:
    open_clip = import_open_clip()
    description = json.loads((directory / "open_clip_config.json").read_text(encoding="utf-8"))["model_cfg"]
    with initial_weights(seed):
        model = open_clip.CLIP(**description)
    tokenizer = open_clip.SimpleTokenizer(
        bpe_path=str(directory / VOCABULARY_FILE), context_length=description["text_cfg"]["context_length"]
    )
    return model, tokenizer


def _save(model: torch.nn.Module, directory: Path) -> None:
    weights = {name: tensor.detach().contiguous() for name, tensor in model.state_dict().items()}
    save_file(weights, directory / "open_clip_model.safetensors")
