"""Encoders that turn images and text into vectors for the reward models. Legend: N images, F features, H W image.

A reward model is built on features that are frozen, or trained together with its head. `small` is a convolutional net
with spatial-softmax keypoints and hashed words, trained here; `open_clip` is any CLIP by name or directory, frozen.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor, nn

from robolearn.errors import SpecError, UnknownNameError
from robolearn.networks.encoders import ImageEncoder
from robolearn.networks.open_clip import OpenClip, OpenClipConfig
from robolearn.rewards.reward_model import Episodes, version_of

PIXELS_AT_ONCE = 1 << 22  # in one pass of what is not learned from: some 400 MB of the small encoder's maps


class Encoder(Protocol):
    """Images and sentences to vectors. `image_size` and `text_size` are their lengths."""

    image_size: int
    text_size: int

    def images(self, images: Tensor) -> Tensor:
        """uint8 (N, H, W, 3) -> float32 (N, image_size). Raises SpecError for a size that it cannot take."""
        ...

    def text(self, text: Sequence[str]) -> Tensor:
        """N sentences -> float32 (N, text_size)."""
        ...


@dataclass(frozen=True)
class EncoderConfig:
    """Which features a reward model stands on."""

    name: str = "small"  # of ENCODERS
    image_height: int = 32  # [px], of `small`, which takes one size only
    image_width: int = 32  # [px]
    channels: tuple[int, ...] = (16, 32, 32)  # convolutions of `small`
    words: int = 64  # slots of the hashed bag of words of `small`
    open_clip: OpenClipConfig = field(default_factory=OpenClipConfig)  # of `open_clip`


class SmallEncoder(nn.Module):
    """Keypoints of a small convolutional net, and a bag of hashed words of unit length."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self._size = config.image_height, config.image_width
        self.net = ImageEncoder(config.image_height, config.image_width, config.channels)
        self.image_size = self.net.output_size
        self.text_size = config.words

    def images(self, images: Tensor) -> Tensor:
        if tuple(images.shape[1:3]) != self._size:
            wanted, came = (" x ".join(map(str, size)) for size in (self._size, images.shape[1:3]))
            raise SpecError(
                f"the reward model wants images of {wanted} pixels, {came} came; score episodes with such images, or "
                "train one on these"
            )
        if torch.is_grad_enabled():
            return self.net(images)
        return torch.cat([self.net(part) for part in in_parts(images)])

    def text(self, text: Sequence[str]) -> Tensor:
        device = next(self.net.parameters()).device
        return hashed_words(text, self.text_size).to(device)


class FrozenClip(nn.Module):
    """Unit embeddings of a CLIP that is not trained; only a fingerprint of it is part of the state."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self._clip = OpenClip(config.open_clip)
        self.image_size = self.text_size = self._clip.size

        digits = version_of(config, self._clip.weights())
        self.register_buffer("fingerprint", torch.tensor(list(bytes.fromhex(digits)), dtype=torch.uint8))

    def images(self, images: Tensor) -> Tensor:
        return self._clip.images(images).to(self.get_buffer("fingerprint").device)

    def text(self, text: Sequence[str]) -> Tensor:
        return self._clip.text(text).to(self.get_buffer("fingerprint").device)


ENCODERS: dict[str, Callable[[EncoderConfig], SmallEncoder | FrozenClip]] = {
    "small": SmallEncoder,
    "open_clip": FrozenClip,
}
"""Every encoder by name."""


def make_encoder(config: EncoderConfig) -> SmallEncoder | FrozenClip:
    """The encoder of `config`. Raises UnknownNameError with the near misses."""
    if config.name not in ENCODERS:
        raise UnknownNameError("encoder", config.name, ENCODERS)
    return ENCODERS[config.name](config)


def in_parts(images: Tensor) -> tuple[Tensor, ...]:
    """Images (N, H, W, 3), a few at a time: a whole episode of large ones would take gigabytes to look at."""
    return images.split(max(PIXELS_AT_ONCE // (images.shape[1] * images.shape[2]), 1))


def step_features(
    encoder: Encoder, episodes: Episodes, cameras: Sequence[str], proprio_size: int, device: torch.device
) -> Tensor:
    """Features (B, T, F) of every step: all cameras in order, then proprio of so many entries (0: none).
    Differentiable. Raises SpecError for episodes that do not fit."""
    episodes.check(cameras, proprio_size)
    images = [episodes.images[camera].to(device).flatten(0, 1) for camera in cameras]
    parts = [encoder.images(each).unflatten(0, episodes.shape) for each in images]
    if proprio_size and episodes.proprio is not None:
        parts.append(episodes.proprio.to(device).float())
    return torch.cat(parts, -1)


def hashed_words(text: Sequence[str], size: int) -> Tensor:
    """(N, size) counts of words by CRC-32 of the lower-case word, each row of unit length (zero without words).

    CRC-32 and not `hash()`, which differs from process to process.
    """
    counts = torch.zeros(len(text), size)
    for row, sentence in enumerate(text):
        for word in re.findall(r"\w+", sentence.lower()):
            counts[row, zlib.crc32(word.encode()) % size] += 1.0
    return nn.functional.normalize(counts, dim=-1)
