"""Gradients of one training that runs in several processes, each with its share of every batch."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, distributed


def averaged(gradients: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Their means over all processes, in one exchange. There is one process unless somebody started more."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return tuple(gradients)
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    distributed.all_reduce(flat)
    flat /= distributed.get_world_size()
    parts = flat.split([gradient.numel() for gradient in gradients])
    return tuple(part.view_as(gradient) for part, gradient in zip(parts, gradients, strict=True))
