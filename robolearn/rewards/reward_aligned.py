"""RA-BC: how much each step of a demonstration is worth imitating, by the progress that followed it.

Chen et al., "SARM", 2025, section 4. With progress y and the policy's chunk of D steps, r_t = y_{t+D} - y_t (D cut at
the end of the episode); m = max(mean r, 0) and s = std r over the dataset:

    w = 1 if r > k;  clip((r - (m - 2 s)) / (4 s), 0, 1) if 0 <= r <= k;  0 if r < 0;  1 where progress is missing

and the loss of a batch is divided by the sum of its weights (`algorithms/imitation.py`). A mean weight near 1 says that
k is too low: put it near mean r.
Differences: the statistics are of the whole dataset, not running. Legend: T steps, N samples.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from robolearn.errors import SpecError

Array = NDArray[np.float64]


@dataclass(frozen=True)
class RewardAlignedConfig:
    """Settings of RA-BC's weights."""

    chunk_steps: int = 16  # D: steps that one action chunk covers
    full_weight_above: float = 0.01  # k: progress in a chunk that earns weight 1

    def __post_init__(self) -> None:
        if self.chunk_steps < 1:
            raise SpecError(f"chunk_steps is {self.chunk_steps}; a chunk of actions covers at least 1 step")


def chunk_progress(progress: Array, chunk_steps: int) -> Array:
    """r (T,): progress of one episode (T,) within the chunk that starts at each step."""
    ahead = np.minimum(np.arange(len(progress)) + chunk_steps, len(progress) - 1)
    return progress[ahead] - progress


def reward_aligned_weights(gain: Array, mean: float, std: float, config: RewardAlignedConfig) -> Array:
    """Weight (N,) in [0, 1] of samples whose chunks gained `gain`; NaN, where progress is missing, counts 1."""
    mean = max(mean, 0.0)
    middle = np.clip((gain - (mean - 2.0 * std)) / (4.0 * std + 1e-6), 0.0, 1.0)
    weight = np.where(gain > config.full_weight_above, 1.0, np.where(gain >= 0.0, middle, 0.0))
    return np.where(np.isnan(gain), 1.0, weight)
