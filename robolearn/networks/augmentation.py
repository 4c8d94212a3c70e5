"""Image augmentation on the device of the batch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor


def random_shift(images: Tensor, max_shift_px: int, generator: torch.Generator | None = None) -> Tensor:
    """Shift every image by its own random whole number of pixels in each direction; the border is repeated.

    images: (B, H, W, ...) of any dtype. Source: DrQ, "Image augmentation is all you need", Kostrikov et al. 2020,
    section 3.1 (their pad and crop, without the padded copy).
    """
    if max_shift_px == 0:
        return images
    batch, height, width = images.shape[:3]
    device = images.device
    shift = torch.randint(-max_shift_px, max_shift_px + 1, (2, batch, 1), generator=generator, device=device)
    rows = (torch.arange(height, device=device) + shift[0]).clamp_(0, height - 1)
    columns = (torch.arange(width, device=device) + shift[1]).clamp_(0, width - 1)
    rows = rows + torch.arange(batch, device=device)[:, None] * height  # of all images
    pixels = rows[:, :, None] * width + columns[:, None, :]
    return images.flatten(0, 2).index_select(0, pixels.flatten()).view(images.shape)  # a third of the time of [...]


def shifted(
    batch: Mapping[str, Tensor], cameras: Iterable[str], max_shift_px: int, generator: torch.Generator | None = None
) -> dict[str, Tensor]:
    """The batch with the images (B, H, W, C) or (B, O, H, W, C) of the cameras, and those of the next observation where
    there are some, shifted; those of a history alike. Vectors that stand in for images stay."""
    names = [name for camera in cameras for name in (camera, f"next_{camera}") if name in batch]
    answer = dict(batch)
    for name in names:
        images = batch[name]
        if images.ndim == 4:
            answer[name] = random_shift(images, max_shift_px, generator)
        elif images.ndim == 5:
            answer[name] = random_shift(images.movedim(1, 3), max_shift_px, generator).movedim(3, 1)
    return answer


def shifted_at(
    batch: Mapping[str, Tensor], cameras: Sequence[str], max_shift_px: int, seed: int, step: int
) -> Mapping[str, Tensor]:
    """As `shifted`, by what the seed and the step alone draw."""
    if not cameras:
        return batch
    generator = torch.Generator(batch[cameras[0]].device).manual_seed((seed * 1_000_003 + step) % 2**63)
    return shifted(batch, cameras, max_shift_px, generator)
