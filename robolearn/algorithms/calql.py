"""Calibrated Q-learning.

Nakamoto et al., "Cal-QL: Calibrated offline RL pre-training for efficient online fine-tuning", NeurIPS 2023: CQL that
never pushes the value of its own actions below what the data's policy got, so that values have the right scale when
fine-tuning begins, and nothing is unlearned. Legend: B batch, E critics, A action, N sampled actions; s' next state.

    y      = r + discount * bootstrap * (min_e Q'_e(s', a') - alpha * log pi(a' | s')),   a' ~ pi(s'), by default
             without the entropy
    bound  = return to go of the data's episode from s
    soft   = t * log mean exp over N uniform actions of Q_e(s, a) / t - log density(a)
             and N actions each of pi(s) and pi(s') of max(Q_e(s, a), bound) / t - log density(a)
    critic = mean over B, sum over E of (Q_e(s, a) - y)^2 + conservatism * (soft - Q_e(s, a))
    actor  = mean of alpha * log pi(a | s) - min_e Q_e(s, a),      a ~ pi(s)
    alpha  = mean of -log(alpha) * (log pi(a | s) + target_entropy)

The bound holds for the policy's actions alone. An episode that is still running has none (minus infinity), which leaves
CQL. All else, and what differs from the paper's code, is CQL's as it stands in `cql.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from robolearn.algorithms.algorithm import Batch, Metrics
from robolearn.algorithms.cql import CQL, CQLConfig


@dataclass(frozen=True)
class CalQLConfig(CQLConfig):
    """Settings of Cal-QL, which are those of CQL."""


class CalQL(CQL):
    """CQL whose push stops at the bound."""

    config_type: ClassVar[Any] = CalQLConfig
    metrics: ClassVar[tuple[str, ...]] = (
        "critic_loss",
        "gap",
        "bounded",
        "value",
        "actor_loss",
        "entropy",
        "temperature",
    )

    def pushed(self, values: Tensor, batch: Batch) -> tuple[Tensor, Metrics]:
        """Below the bound a value of the policy's actions gets no gradient from the push."""
        bound, count = batch["return_to_go"], self.config.num_actions
        anywhere, own = values[:, :count], values[:, count:]
        return torch.cat([anywhere, own.maximum(bound)], dim=1), {"bounded": (own < bound).float().mean()}
