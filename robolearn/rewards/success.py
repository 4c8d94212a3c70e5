"""Success classifier: is the task done in these images?

The reward of SERL and HIL-SERL (Luo et al. 2024) and of RoboFuME (Yang et al. 2023): one logit from all cameras,
trained on half positive and half negative images, near-misses among the negatives.

    loss = BCE(logit, done)        value = sigmoid(logit)        done for m consecutive frames above the threshold

Differences: a decision needs m frames in a row, because one wrong frame would end the episode; the threshold is chosen
on held-out failures, episode by episode as they would be decided, for a stated false-positive rate, and what so few can
say of it is told; calibration is measured; a small encoder is trained along, where theirs is frozen, as a CLIP is here.
Legend: N images, B episodes, T steps.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import ceil, exp, inf, lgamma, log, log1p
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from robolearn.errors import SpecError
from robolearn.networks.augmentation import random_shift
from robolearn.rewards.features import EncoderConfig, make_encoder
from robolearn.rewards.reward_model import Episodes, Kind, RewardOutput, initial_weights, masked, version_of

MIN_FOUND = 0.8  # of the successes, whatever false-positive rate that takes
CHOSEN_SHARE = 1 / 3  # of the failed episodes, that the threshold is chosen on


@dataclass(frozen=True)
class SuccessConfig:
    """Settings of SuccessReward."""

    cameras: tuple[str, ...] = ("front",)
    encoder: EncoderConfig = field(default_factory=EncoderConfig)  # each camera has its own where it is trained
    hidden_size: int = 256
    dropout: float = 0.1
    threshold: float = 0.85  # of the probability, for a frame to count (`episode_threshold`)
    consecutive: int = 3  # m: frames in a row that make a decision
    max_shift_px: int = 2  # random shift of the images while training
    seed: int = 0  # of the initial weights


class SuccessReward(nn.Module):
    """The probability of success of every step; `decisions` makes the sparse reward of it."""

    config_type: ClassVar = SuccessConfig
    id = "success"
    kind: Kind = "success"
    causal = True

    def __init__(self, config: SuccessConfig) -> None:
        super().__init__()
        self.config = config
        with initial_weights(config.seed):
            encoders = [make_encoder(config.encoder) for _ in config.cameras]
            self.encoders = nn.ModuleList(encoders)
            size = sum(encoder.image_size for encoder in encoders)
            self.head = nn.Sequential(
                nn.Linear(size, config.hidden_size),
                nn.Dropout(config.dropout),
                nn.LayerNorm(config.hidden_size),
                nn.ReLU(),
                nn.Linear(config.hidden_size, 1),
            )

    @property
    def version(self) -> str:
        return version_of(self.config, self.state_dict())

    def forward(self, images: Mapping[str, Tensor]) -> Tensor:
        """Logits (N,) of images (N, H, W, 3) uint8 by camera."""
        parts = [
            encoder.images(images[camera])  # type: ignore[operator]
            for camera, encoder in zip(self.config.cameras, self.encoders, strict=True)
        ]
        return self.head(torch.cat(parts, -1))[:, 0]

    def loss(self, images: Mapping[str, Tensor], done: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Binary cross-entropy of a batch with random shifts; done (N,) bool."""
        shifted = {name: random_shift(image, self.config.max_shift_px, generator) for name, image in images.items()}
        return nn.functional.binary_cross_entropy_with_logits(self(shifted), done.float())

    @torch.no_grad()
    def score(self, episodes: Episodes) -> RewardOutput:
        """Probability of success. Confidence is how far it is from even odds. `raw`: `logit` and `done`."""
        self.eval()
        episodes.check(self.config.cameras)
        device = next(self.head.parameters()).device
        flat = {camera: episodes.images[camera].to(device).flatten(0, 1) for camera in self.config.cameras}
        logit = self(flat).view(episodes.shape)
        valid = episodes.valid(device)
        value = torch.where(valid, torch.sigmoid(logit), 0.0)
        raw = {"logit": logit, "done": decisions(value, self.config.threshold, self.config.consecutive)}
        return masked(RewardOutput(value, (2.0 * value - 1.0).abs(), raw), valid)


def decisions(probability: Tensor, threshold: float, consecutive: int) -> Tensor:
    """(B, T) bool: true from the step at which `consecutive` frames in a row have been above the threshold."""
    return (_least_of_last(probability, consecutive) > threshold).cummax(-1).values


def decision_strength(probability: Tensor, consecutive: int) -> Tensor:
    """(B,) of probabilities, or other values, (B, T): the threshold below which `decisions` calls an episode done at
    some step; -inf for one that is too short."""
    return _least_of_last(probability, consecutive).amax(-1)


def _least_of_last(probability: Tensor, count: int) -> Tensor:
    """(B, T) the least of the last `count` values; -inf where there are not so many yet."""
    return nn.functional.pad(probability, (count - 1, 0), value=-inf).unfold(-1, count, 1).amin(-1)


def decided(probability: NDArray, settings: Mapping[str, Any]) -> NDArray[np.bool_]:
    """`decisions` of one episode (T,) by the settings of the classifier, as a column keeps them."""
    known = torch.from_numpy(probability.astype(np.float32))[None]
    return decisions(known, float(settings["threshold"]), int(settings["consecutive"]))[0].numpy()


def balanced_rows(rng: np.random.Generator, done: NDArray[np.bool_], batch_size: int) -> NDArray[np.int64]:
    """Rows of a batch, half of them successes. Raises SpecError where one side is empty."""
    positive, negative = np.flatnonzero(done), np.flatnonzero(~done)
    if len(positive) == 0 or len(negative) == 0:
        raise SpecError(f"{len(positive)} images of success and {len(negative)} of failure; a classifier needs both")
    half = batch_size // 2
    return np.concatenate([rng.choice(positive, half), rng.choice(negative, batch_size - half)])


def episode_threshold(strength: NDArray, false_positive_rate: float) -> float:
    """Least threshold at which at most this share of failed episodes is called done, by their `decision_strength` (B,).

    Of fewer than 1 / rate episodes that is none; what it says of others is their `rate_bound`.
    """
    return float(np.sort(strength)[::-1][int(len(strength) * false_positive_rate)])


def threshold_between(failed: NDArray, succeeded: NDArray, false_positive_rate: float) -> float:
    """`episode_threshold` of failed episodes by their `decision_strength` (B,); or, where few successes would be found
    then (some failures look like one), the one at which a share MIN_FOUND of them is, by the least value (N,) of their
    frames that are done."""
    found = np.quantile(succeeded.astype(np.float32), 1.0 - MIN_FOUND)
    return min(episode_threshold(failed, false_positive_rate), float(np.nextafter(found, np.float32(-inf))))


def rate_bound(found: int, count: int) -> float:
    """Below which a rate is, at 95 % confidence, when `found` of `count` independent cases were found.

    Clopper and Pearson (1934), one-sided: the rate at which so few are found in a twentieth of all samples. Of none
    found it is 1 - 0.05^(1 / count): 0.14 for 20, 0.01 for 299.
    """
    low, high = found / count, 1.0
    ways = [lgamma(count + 1) - lgamma(i + 1) - lgamma(count - i + 1) for i in range(found + 1)]
    while high - low > 1e-9:
        rate = (low + high) / 2
        so_few = sum(exp(way + i * log(rate) + (count - i) * log1p(-rate)) for i, way in enumerate(ways))
        low, high = (rate, high) if so_few > 0.05 else (low, rate)
    return high


def set_aside(failed: Sequence[int], rng: np.random.Generator) -> list[int]:
    """Of failed episodes those that the threshold is chosen on and nothing is learned from; none where there are fewer
    than two."""
    mixed = rng.permutation(failed).tolist()
    return mixed[: max(round(len(mixed) * CHOSEN_SHARE), 1)] if len(mixed) > 1 else []


def threshold_in_words(threshold: float, found: int, count: int) -> str:
    """Of `count` failed episodes that it was chosen on, `found` are called done: what that says of others."""
    if not count:
        return f"threshold {threshold:g}, for no failed episode is left to choose it on"
    percent = ceil(round(100 * rate_bound(found, count), 3))
    return (
        f"threshold {threshold:.3f}: {found} of {count} failed episodes are called done, which says "
        f"below {percent} % of all at 95 % confidence"
    )


def area_under_roc(score: NDArray, done: NDArray[np.bool_]) -> float:
    """Probability that a success scores above a failure, ties counting half (Mann-Whitney)."""
    positive, negative = score[done], np.sort(score[~done])
    if len(positive) == 0 or len(negative) == 0:
        raise SpecError("the area under the ROC curve needs successes and failures")
    below = np.searchsorted(negative, positive, "left")
    upto = np.searchsorted(negative, positive, "right")
    return float((below + upto).mean() / (2 * len(negative)))


def calibration(
    probability: NDArray, done: NDArray[np.bool_], bins: int = 10
) -> tuple[float, list[tuple[float, float, int]]]:
    """Expected calibration error, and per filled bin: mean probability, share of successes, count."""
    which = np.minimum((probability * bins).astype(int), bins - 1)
    table = [
        (float(probability[which == i].mean()), float(done[which == i].mean()), int((which == i).sum()))
        for i in range(bins)
        if (which == i).any()
    ]
    error = sum(count * abs(said - was) for said, was, count in table) / len(probability)
    return float(error), table
