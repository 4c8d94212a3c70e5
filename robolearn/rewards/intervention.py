"""Intervention as reward: an expert's takeover says that what was done just before was wrong.

Luo et al., "RLIF: interactive imitation learning as reinforcement learning", 2023, section 4. All task reward is
dropped; the transition before each takeover gets -1 and everything else 0, the expert's own steps included, which are
stored and learned from as well. It needs no expert better than the learner, only one that knows when it goes wrong.

    r_t = -1  if the expert acts at t + 1 and did not at t, else 0

Difference: an idle step costs the learner a factor of the discount in the eyes of a value-based trigger, so a learner
that is never stopped may learn to stand still; `step_cost` is there for that. Legend: T steps.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from robolearn.types import PEOPLE


@dataclass(frozen=True)
class InterventionConfig:
    """Settings of the relabelling."""

    penalty: float = 1.0  # taken off the transition before a takeover
    step_cost: float = 0.0  # taken off every transition, so that standing still does not pay


def intervention_reward(source: NDArray[np.uint8], config: InterventionConfig) -> NDArray[np.float32]:
    """Reward (T,) of one episode from who acted, `source` (T,) of ActionSource. A takeover at step 0 blames nobody."""
    expert = np.isin(source, PEOPLE)
    takeover_next = np.zeros(len(expert), bool)
    takeover_next[:-1] = expert[1:] & ~expert[:-1]
    return (-config.step_cost - config.penalty * takeover_next).astype(np.float32)
