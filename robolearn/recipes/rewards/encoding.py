"""Encoders for the size of a dataset's images, and the training of a small one on single images.

A temporal model on top sees windows of a dozen images a sample. It stands on frozen features: those of a CLIP, or of a
small encoder that has first learned to tell, image by image, what the model will be asked. Legend: N images, D targets.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from robolearn.networks.augmentation import random_shift
from robolearn.recipes.rewards.data import RewardData
from robolearn.recipes.rewards.settings import REPORT_STEPS, Report, TrainingSettings
from robolearn.recipes.training_loop import due
from robolearn.rewards.features import EncoderConfig, SmallEncoder
from robolearn.rewards.reward_model import initial_weights

MAX_SHIFT_PX = 2


def encoder_config(data: RewardData, settings: TrainingSettings) -> EncoderConfig:
    """The settings' encoder, for the images of the first camera."""
    height, width = data.image_size(settings.cameras[0])
    return replace(settings.encoder, image_height=height, image_width=width)


def image_pool(data: RewardData, indices: Sequence[int], cameras: Sequence[str]) -> dict[str, Tensor]:
    """All images (N, H, W, 3) uint8 of these episodes by camera, one after the other."""
    return {
        camera: torch.from_numpy(np.concatenate([data.images(index, camera) for index in indices]))
        for camera in cameras
    }


def pretrain(
    encoder: nn.Module,
    images: Mapping[str, Tensor],
    draw: Callable[[torch.Generator], Tensor],
    loss: Callable[[Tensor, Tensor], Tensor],
    outputs: int,
    settings: TrainingSettings,
    report: Report,
) -> None:
    """Train a small encoder so that a linear layer on single images has a low loss; a frozen one is left as it is.

    `draw` gives the rows (M,) of a batch in the images (N, H, W, 3) of each camera, `loss` takes (M, outputs) and rows.
    """
    if not isinstance(encoder, SmallEncoder):
        return
    device = settings.device
    generator = torch.Generator().manual_seed(settings.seed)
    with initial_weights(settings.seed):
        head = nn.Linear(encoder.image_size, outputs).to(device)
    encoder.to(device).train()
    optimizer = torch.optim.AdamW([*encoder.parameters(), *head.parameters()], settings.learning_rate)
    cameras = list(images)
    for step in range(settings.steps):
        rows = draw(generator)
        shifted = random_shift(images[cameras[step % len(cameras)]][rows], MAX_SHIFT_PX, generator)
        value = loss(head(encoder.images(shifted.to(device))), rows)
        optimizer.zero_grad(set_to_none=True)
        value.backward()
        optimizer.step()
        if due(step + 1, step, REPORT_STEPS, settings.steps):
            report(step + 1, f"encoder loss {float(value.detach()):.4f}")
    encoder.requires_grad_(False)
