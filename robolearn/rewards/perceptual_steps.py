"""Unsupervised perceptual rewards: steps of a task found in a few demonstrations, and a classifier of each.

Sermanet et al., "Unsupervised perceptual rewards for imitation learning", 2017. Features f (T, F) of a demonstration
are cut into n steps so that the mean over steps of (mean over features of their std within the step) is least. For each
step k from the second on, the M features with the largest

    z_i = a |m+_i - m-_i| - (s+_i + s-_i)         +: frames of the step, -: all others

are kept, and        R_k(f) = -mean_i ((f_i - m+_i) / s+_i)^2,    R = sum_k 2^(k - 1) R_k

Differences: the exact split is found by dynamic programming in O(n T^2), not by the paper's recursion in O(T^(n-1)),
which is kept as the reference for the test; the mean over steps is not weighted by their length, so a minimum length is
enforced; std has a floor. Legend: T steps, F features, n steps of the task.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from robolearn.errors import SpecError
from robolearn.rewards.features import EncoderConfig, make_encoder
from robolearn.rewards.reward_model import Episodes, Kind, RewardOutput, initial_weights, masked, version_of

Array = NDArray[np.float64]


@dataclass(frozen=True)
class PerceptualStepsConfig:
    """Settings of PerceptualStepsReward."""

    camera: str = "front"
    steps: int = 3  # n
    min_length: int = 3  # of a step [frames]
    features: int = 32  # M: features kept for each step
    separation_weight: float = 1.0  # a
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    seed: int = 0  # of the encoder's weights


def segment_costs(features: Array) -> Array:
    """(T + 1, T + 1): mean over features of the std of frames a .. b - 1, at [a, b]; infinite where b <= a."""
    steps = len(features)
    centred = features - features.mean(0)
    total = np.concatenate([np.zeros((1, features.shape[1])), np.cumsum(centred, 0)])
    square = np.concatenate([np.zeros((1, features.shape[1])), np.cumsum(centred**2, 0)])
    cost = np.full((steps + 1, steps + 1), np.inf)
    for a in range(steps):
        count = np.arange(1, steps - a + 1)[:, None]
        variance = (square[a + 1 :] - square[a]) / count - ((total[a + 1 :] - total[a]) / count) ** 2
        cost[a, a + 1 :] = np.sqrt(np.maximum(variance, 0.0)).mean(1)
    return cost


def split_exact(cost: Array, segments: int, min_length: int) -> tuple[int, ...]:
    """First frames of segments 1 .. n - 1 of the cheapest split, by dynamic programming."""
    steps = len(cost) - 1
    if segments * min_length > steps:
        raise SpecError(f"{steps} frames cannot hold {segments} steps of {min_length} frames; ask for fewer")
    allowed = np.where(np.arange(steps + 1)[None] - np.arange(steps + 1)[:, None] >= min_length, cost, np.inf)
    best, choices = allowed[0].copy(), []
    for _ in range(segments - 1):
        candidates = best[:, None] + allowed
        choices.append(candidates.argmin(0))
        best = candidates.min(0)
    cuts, end = [], steps
    for choice in reversed(choices):
        end = int(choice[end])
        cuts.append(end)
    return tuple(reversed(cuts))


def split_recursive(cost: Array, segments: int, min_length: int, start: int = 0) -> tuple[float, tuple[int, ...]]:
    """The paper's search over all splits: summed cost and cuts. Exponential in `segments`."""
    steps = len(cost) - 1
    if segments == 1:
        return (float(cost[start, steps]) if steps - start >= min_length else float("inf")), ()
    best: tuple[float, tuple[int, ...]] = (float("inf"), ())
    for cut in range(start + min_length, steps - min_length * (segments - 1) + 1):
        rest, cuts = split_recursive(cost, segments - 1, min_length, cut)
        if cost[start, cut] + rest < best[0]:
            best = (float(cost[start, cut]) + rest, (cut, *cuts))
    return best


class PerceptualStepsReward(nn.Module):
    """Weighted step classifiers over frozen features. The value grows from step to step of the task."""

    config_type: ClassVar = PerceptualStepsConfig
    id = "perceptual_steps"
    kind: Kind = "reward"
    causal = True

    def __init__(self, config: PerceptualStepsConfig) -> None:
        super().__init__()
        if config.steps < 2:
            raise SpecError(f"{config.steps} step of a task rewards nothing; ask for 2 or more")
        self.config = config
        with initial_weights(config.seed):
            self.encoder = make_encoder(config.encoder)
        shape = (config.steps - 1, self.encoder.image_size)
        self.register_buffer("mean", torch.zeros(shape))
        self.register_buffer("std", torch.ones(shape))
        self.register_buffer("kept", torch.ones(shape))

    @property
    def version(self) -> str:
        return version_of(self.config, self.state_dict())

    @torch.no_grad()
    def fit(self, demonstrations: Iterable[Tensor]) -> list[tuple[int, ...]]:
        """Find the steps in demonstrations (T, H, W, 3) uint8 and their classifiers; returns the cuts of each."""
        device = self.get_buffer("mean").device
        features = [self.encoder.images(images.to(device)).double().cpu().numpy() for images in demonstrations]
        config = self.config
        cuts = [split_exact(segment_costs(one), config.steps, config.min_length) for one in features]
        for k in range(1, config.steps):
            inside = [_inside(one, cut, k) for one, cut in zip(features, cuts, strict=True)]
            mean, std, kept = step_statistics(
                np.concatenate(features), np.concatenate(inside), config.features, config.separation_weight
            )
            for name, value in (("mean", mean), ("std", std), ("kept", kept)):
                self.get_buffer(name)[k - 1] = torch.from_numpy(value).float()
        return cuts

    @torch.no_grad()
    def score(self, episodes: Episodes) -> RewardOutput:
        """Reward of every step. `raw`: the reward of each step of the task from the second on (B, T, n - 1)."""
        episodes.check((self.config.camera,))
        mean, std, kept = (self.get_buffer(name) for name in ("mean", "std", "kept"))
        images = episodes.images[self.config.camera].to(mean.device)
        features = self.encoder.images(images.flatten(0, 1)).unflatten(0, episodes.shape)
        error = ((features[..., None, :] - mean) / std).square() * kept
        parts = -error.sum(-1) / kept.sum(-1)
        weight = 2.0 ** torch.arange(1, self.config.steps, device=mean.device)
        value = (parts * weight).sum(-1)
        return masked(RewardOutput(value, torch.ones_like(value), {"steps": parts}), episodes.valid(value.device))


def step_statistics(
    features: Array, inside: NDArray[np.bool_], keep: int, separation_weight: float
) -> tuple[Array, Array, Array]:
    """Mean and std (F,) of the frames inside a step, and 1 for each of the `keep` features that tell it apart."""
    mean, outer = features[inside].mean(0), features[~inside].mean(0)
    std, outer_std = features[inside].std(0), features[~inside].std(0)
    separation = separation_weight * np.abs(mean - outer) - (std + outer_std)
    kept = np.zeros(features.shape[1])
    kept[np.argsort(separation)[::-1][:keep]] = 1.0
    return mean, np.maximum(std, max(1e-3 * float(features.std()), 1e-6)), kept


def _inside(features: Array, cuts: tuple[int, ...], k: int) -> NDArray[np.bool_]:
    """Which frames belong to step k."""
    start, end = list(pairwise([0, *cuts, len(features)]))[k]
    frames = np.arange(len(features))
    return (frames >= start) & (frames < end)
