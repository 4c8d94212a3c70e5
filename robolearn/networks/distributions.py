"""Distributions of actions in [-1, 1]. The noise is passed in, so that every draw can be repeated.

Legend: (..., A) mean, logarithm of the standard deviation, noise and action; log-probabilities are (...,).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

LOG_2, LOG_2_PI = math.log(2.0), math.log(2.0 * math.pi)
EDGE = 1e-5  # an action of a dataset is read as at least this far from -1 and 1, where tanh has no inverse


def gaussian_log_prob(mean: Tensor, log_std: Tensor, value: Tensor) -> Tensor:
    """Of a diagonal Gaussian."""
    return (-0.5 * ((value - mean) * torch.exp(-log_std)).square() - log_std - 0.5 * LOG_2_PI).sum(-1)


def tanh_gaussian_sample(mean: Tensor, log_std: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    """Action tanh(u), u = mean + std * noise, and its log-probability (Haarnoja et al. 2018, appendix C).

    log(1 - tanh(u)^2) is computed as 2 (log 2 - u - softplus(-2u)), which does not lose its digits for large u.
    """
    before = mean + torch.exp(log_std) * noise
    log_prob = -0.5 * noise.square() - log_std - 0.5 * LOG_2_PI - _log_slope(before)
    return torch.tanh(before), log_prob.sum(-1)


def tanh_gaussian_log_prob(mean: Tensor, log_std: Tensor, action: Tensor) -> Tensor:
    """Log-probability of a given action."""
    before = torch.atanh(action.clamp(-1.0 + EDGE, 1.0 - EDGE))
    return gaussian_log_prob(mean, log_std, before) - _log_slope(before).sum(-1)


def _log_slope(before: Tensor) -> Tensor:
    return 2.0 * (LOG_2 - before - functional.softplus(-2.0 * before))
