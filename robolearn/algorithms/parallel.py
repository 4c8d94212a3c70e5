"""One training that runs in several processes, each with its share of every batch: what they exchange."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, distributed


def averaged(gradients: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Their means over all processes, in one exchange. There is one process unless somebody started more."""
    if not _several():
        return tuple(gradients)
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    distributed.all_reduce(flat)
    flat /= distributed.get_world_size()
    parts = flat.split([gradient.numel() for gradient in gradients])
    return tuple(part.view_as(gradient) for part, gradient in zip(parts, gradients, strict=True))


def weighted_mean(values: Tensor, weights: Tensor) -> Tensor:
    """Of values by weights of the same shape. Where it is differentiated, the mean of `averaged` gradients is that of
    the mean over the rows of all processes, whose weights may differ in their sums."""
    total = weights.sum()
    if torch.is_grad_enabled() and _several():  # the validation of a process is its own
        total = total.detach().clone()
        distributed.all_reduce(total)
        total /= distributed.get_world_size()
    return (values * weights).sum() / total.clamp_min(1e-6)


def _several() -> bool:
    return distributed.is_available() and distributed.is_initialized()
