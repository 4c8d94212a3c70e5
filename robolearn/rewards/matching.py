"""Rewards by matching a demonstration, and a discount that grows with what has been mastered.

    nearest state     r_t = -min_j C_tj
    optimal transport r_t = -sum_j C_tj mu_tj,  mu = argmin <C, mu> - eps H(mu) with uniform margins (Cuturi 2013)

C is the cosine distance between the features of step t and step j of the demonstration; in the second form the rewards
of an episode sum to minus its transport cost. Liu et al., "Imitation learning from observation with automatic discount
scheduling" (ADS), 2024: early steps are learned first, so the discount follows the progress u, the largest k for which
the nearest demonstration steps of frames 1..k hold a growing subsequence of length >= share k:

    discount = base^(1 / u)        base 0.2, share 0.9, 0.9 at the start

Difference: where J is less than the demonstration had, only every so many frames are looked at, for two frames in a row
that are nearest to the same step grow no subsequence.
Nearest states are said to serve as well as transport (2025); they are also causal. Legend: B episodes, T steps, J steps
of the demonstration, F features.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from robolearn.rewards.features import EncoderConfig, make_encoder
from robolearn.rewards.reward_model import Episodes, Kind, RewardOutput, initial_weights, masked, version_of


@dataclass(frozen=True)
class MatchingConfig:
    """Settings of MatchingReward."""

    camera: str = "front"
    method: Literal["nearest", "transport"] = "nearest"
    demonstration_steps: int = 32  # J: steps that every demonstration is resampled to
    demonstrated_steps: int = 0  # that it had before; 0 for J
    regularization: float = 0.01  # eps of the transport, in units of the cost
    iterations: int = 500  # of Sinkhorn
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    seed: int = 0  # of the encoder's weights


@dataclass(frozen=True)
class DiscountConfig:
    """Settings of ADS."""

    base: float = 0.2
    share: float = 0.9  # of the frames up to k that must be in growing order
    initial: float = 0.9  # discount before there is progress


def cosine_cost(states: Tensor, demonstration: Tensor) -> Tensor:
    """(..., T, J) in [0, 2] from features (..., T, F) and (J, F)."""
    return 1.0 - nn.functional.normalize(states, dim=-1) @ nn.functional.normalize(demonstration, dim=-1).T


def sinkhorn_plan(cost: Tensor, regularization: float, iterations: int) -> Tensor:
    """Transport plan (T, J) with margins 1/T and 1/J, computed on logarithms in double precision."""
    kernel = -cost.double() / regularization
    rows, columns = -float(np.log(cost.shape[0])), -float(np.log(cost.shape[1]))
    v = torch.zeros_like(kernel[0])
    u = torch.zeros_like(kernel[:, 0])
    for _ in range(iterations):
        u = rows - torch.logsumexp(kernel + v, 1)
        v = columns - torch.logsumexp(kernel + u[:, None], 0)
    return torch.exp(kernel + u[:, None] + v)


def transport_reward(cost: Tensor, regularization: float, iterations: int) -> Tensor:
    """Reward (T,) of each step from the cost (T, J)."""
    return -(cost.double() * sinkhorn_plan(cost, regularization, iterations)).sum(1)


def matched_steps(nearest: NDArray, share: float) -> NDArray[np.int64]:
    """Progress u of ADS after each frame (T,), from the nearest step of each (T,): how many frames follow the
    demonstration."""
    tails: list[int] = []  # smallest end of a growing subsequence of each length
    progress = np.zeros(len(nearest), np.int64)
    for k, step in enumerate(nearest.tolist(), start=1):
        place = bisect_left(tails, step)
        tails[place : place + 1] = [step]
        follows = len(tails) >= share * k - 1e-9
        progress[k - 1] = k if follows else progress[k - 2] if k > 1 else 0
    return progress


def scheduled_discount(progress: int, config: DiscountConfig) -> float:
    """Discount for the progress `progress`."""
    return config.base ** (1.0 / progress) if progress > 0 else config.initial


class MatchingReward(nn.Module):
    """Compares the images of an episode with one demonstration, whose features are part of the model."""

    config_type: ClassVar = MatchingConfig
    id = "matching"
    kind: Kind = "reward"

    def __init__(self, config: MatchingConfig) -> None:
        super().__init__()
        self.config = config
        self.causal = config.method == "nearest"
        with initial_weights(config.seed):
            self.encoder = make_encoder(config.encoder)
            self.register_buffer("demonstration", torch.randn(config.demonstration_steps, self.encoder.image_size))

    @property
    def version(self) -> str:
        return version_of(self.config, self.state_dict())

    @torch.no_grad()
    def set_demonstration(self, images: Tensor) -> None:
        """Match against images (T, H, W, 3) uint8, resampled to `demonstration_steps`."""
        steps = torch.linspace(0, len(images) - 1, self.config.demonstration_steps).round().long()
        features = self.encoder.images(images.to(self.get_buffer("demonstration").device)[steps])
        self.get_buffer("demonstration").copy_(features)

    @torch.no_grad()
    def score(self, episodes: Episodes) -> RewardOutput:
        """Reward of every step, at most 0. `raw`: the nearest step of the demonstration, and `followed`, how many steps
        have followed it up to then, by which the discount is scheduled."""
        episodes.check((self.config.camera,))
        demonstration = self.get_buffer("demonstration")
        images = episodes.images[self.config.camera].to(demonstration.device)
        features = self.encoder.images(images.flatten(0, 1)).unflatten(0, episodes.shape)
        cost = cosine_cost(features, demonstration)
        valid = episodes.valid(cost.device)
        value = -cost.amin(-1)
        if self.config.method == "transport":
            for row, length in enumerate(valid.sum(1).tolist()):
                plan_cost = cost[row, :length]
                reward = transport_reward(plan_cost, self.config.regularization, self.config.iterations)
                value[row, :length] = reward.float()
        nearest = cost.argmin(-1)
        followed = torch.stack([self._followed(row) for row in nearest.cpu().numpy()]).to(nearest.device)
        raw = {"nearest": nearest, "followed": torch.where(valid, followed, 0)}
        return masked(RewardOutput(value, torch.ones_like(value), raw), valid)

    def _followed(self, nearest: NDArray[np.int64]) -> Tensor:
        """Progress u (T,) of one episode, in its own frames."""
        every = max(self.config.demonstrated_steps / self.config.demonstration_steps, 1.0)
        looked_at = (np.arange(np.ceil(len(nearest) / every)) * every).astype(np.int64)
        progress = matched_steps(nearest[looked_at], DiscountConfig().share)
        frames = np.searchsorted(looked_at, np.arange(len(nearest)), side="right") - 1
        return torch.from_numpy(np.minimum(np.round(progress[frames] * every), np.arange(len(nearest)) + 1.0)).long()
