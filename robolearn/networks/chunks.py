"""Action chunks as inputs of a network. Legend: B batch, K chunk, A action."""

from __future__ import annotations

import torch
from torch import Tensor


def held(chunk: Tensor, mask: Tensor, start: Tensor) -> Tensor:
    """The chunk (B, K, A) with each step that the mask (B, K) hides replaced by the last one before it that is shown,
    or by `start` (B, A) where there is none."""
    steps = torch.arange(chunk.shape[1], device=chunk.device)
    last = torch.where(mask, steps, -1).cummax(dim=1).values[..., None]
    shown = chunk.gather(1, last.clamp_min(0).expand_as(chunk))
    return torch.where(last < 0, start[:, None, :], shown)
