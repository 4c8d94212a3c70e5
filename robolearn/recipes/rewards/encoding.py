"""Encoders for the size of a dataset's images, and the training of a small one on single images.

A temporal model on top sees windows of a dozen images a sample. It stands on frozen features: those of a CLIP, or of a
small encoder that has first learned to tell, image by image, what the model will be asked. Legend: N images, D targets.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from robolearn.datasets.image_cache import ImageCache
from robolearn.errors import DatasetError
from robolearn.networks.augmentation import random_shift
from robolearn.recipes.rewards.data import RewardData
from robolearn.recipes.rewards.settings import REPORT_STEPS, Report, TrainingSettings
from robolearn.recipes.training_loop import due
from robolearn.rewards.features import EncoderConfig, SmallEncoder
from robolearn.rewards.reward_model import initial_weights

MAX_SHIFT_PX = 2
KEPT_BYTES = 512 << 20  # of decoded images


def encoder_config(data: RewardData, settings: TrainingSettings) -> EncoderConfig:
    """The settings' encoder, for the images of the cameras. Raises DatasetError for a camera that is not there, and for
    images of several sizes, where the encoder is a small one."""
    sizes = {camera: data.image_size(camera) for camera in settings.cameras}
    if settings.encoder.name == "small" and len(set(sizes.values())) > 1:
        came = ", ".join(f"{camera} of {height} x {width}" for camera, (height, width) in sizes.items())
        raise DatasetError(
            f"{data.path} has images of several sizes ({came}), and the small encoder takes one; give cameras of one "
            "size, or --encoder open_clip, which takes any"
        )
    height, width = sizes[settings.cameras[0]]
    return replace(settings.encoder, image_height=height, image_width=width)


class ImagePool:
    """Images of steps (N, 2), each an episode's index and a step of it, read when they are wanted. Those of a small
    dataset are decoded once and kept; of a large one nothing is, so that memory does not grow with it."""

    def __init__(self, data: RewardData, cameras: Sequence[str], steps: NDArray[np.int64]) -> None:
        episode, step = steps.T
        which, place = np.unique(episode, return_inverse=True)
        first = np.cumsum([0, *(data.store.episodes[index].length for index in which[:-1])])
        rows, budget = np.arange(len(steps)), KEPT_BYTES // len(cameras)
        self._images: dict[str, ImageCache] = {}
        for camera in cameras:
            seen = np.concatenate([data.seen_steps(int(index), camera) for index in which])[first[place] + step]
            self._images[camera] = ImageCache(data.store, [_field(camera)], episode, rows - seen, "uint8", budget, None)

    @property
    def cameras(self) -> tuple[str, ...]:
        return tuple(self._images)

    def get(self, camera: str, rows: Tensor) -> Tensor:
        """Images (M, H, W, 3) uint8 of these rows (M,)."""
        return torch.from_numpy(self._images[camera].get(_field(camera), rows.numpy()))


def _field(camera: str) -> str:
    return f"image_{camera}"


def steps_of(data: RewardData, indices: Sequence[int]) -> NDArray[np.int64]:
    """All steps (N, 2) of these episodes, one after the other."""
    lengths = [data.store.episodes[index].length for index in indices]
    step = np.concatenate([np.arange(length) for length in lengths])
    return np.stack([np.repeat(np.asarray(indices, np.int64), lengths), step], 1)


def pretrain(
    encoder: nn.Module,
    images: ImagePool,
    draw: Callable[[torch.Generator], Tensor],
    loss: Callable[[Tensor, Tensor], Tensor],
    outputs: int,
    settings: TrainingSettings,
    report: Report,
) -> None:
    """Train a small encoder so that a linear layer on single images has a low loss; a frozen one is left as it is.

    `draw` gives the rows (M,) of a batch in the pool, `loss` takes (M, outputs) and rows.
    """
    if not isinstance(encoder, SmallEncoder):
        return
    device = settings.device
    generator = torch.Generator().manual_seed(settings.seed)
    with initial_weights(settings.seed):
        head = nn.Linear(encoder.image_size, outputs).to(device)
    encoder.to(device).train()
    optimizer = torch.optim.AdamW([*encoder.parameters(), *head.parameters()], settings.learning_rate)
    for step in range(settings.steps):
        rows = draw(generator)
        shifted = random_shift(images.get(images.cameras[step % len(images.cameras)], rows), MAX_SHIFT_PX, generator)
        value = loss(head(encoder.images(shifted.to(device))), rows)
        optimizer.zero_grad(set_to_none=True)
        value.backward()
        optimizer.step()
        if due(step + 1, step, REPORT_STEPS, settings.steps):
            report(step + 1, f"encoder loss {float(value.detach()):.4f}")
    encoder.requires_grad_(False)
