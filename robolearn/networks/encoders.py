"""Image encoders. Legend: B batch, H W image, F feature maps, D embedding."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional


class SpatialSoftmax(nn.Module):
    """Expected image position of each feature map: (B, F, H, W) -> (B, 2F), x then y in [-1, 1].

    Every map becomes one keypoint, finer than a pixel: "Deep spatial autoencoders for visuomotor learning", Finn et
    al. 2016, eq. 2. The temperature is learned, one for all maps.
    """

    def __init__(self, height: int, width: int) -> None:
        super().__init__()
        self.log_temperature = nn.Parameter(torch.zeros(()))
        self.register_buffer("x", torch.linspace(-1.0, 1.0, width), persistent=False)
        self.register_buffer("y", torch.linspace(-1.0, 1.0, height), persistent=False)

    def forward(self, maps: Tensor) -> Tensor:
        batch, features, height, width = maps.shape
        flat = maps.permute(0, 2, 3, 1).reshape(batch, height * width, features).float()  # free in channels_last
        weight = torch.softmax(flat * torch.exp(-self.log_temperature), dim=1).view(batch, height, width, features)
        x = torch.einsum("bhwf,w->bf", weight, self.get_buffer("x"))
        y = torch.einsum("bhwf,h->bf", weight, self.get_buffer("y"))
        return torch.cat([x, y], dim=1)


class ImageEncoder(nn.Module):
    """Convolutions with spatial-softmax keypoints: uint8 (B, H, W, 3) -> (B, 2F), F the last of `channels`.

    Each block of `block` by `block` pixels is averaged to one first, in images that do not come so already. The first
    two convolutions halve the resolution; the rest keep it. Everything runs in channels_last, which is how images lie
    in memory here, and which is several times faster on a CPU.
    """

    def __init__(self, height: int, width: int, channels: Sequence[int] = (16, 32, 32), block: int = 1) -> None:
        super().__init__()
        self._block, self._height = block, height
        height, width = height // block, width // block
        layers: list[nn.Module] = []
        fan_in = 3
        for i, fan_out in enumerate(channels):
            kernel = 5 if i == 0 else 3
            stride = 2 if i < 2 else 1
            layers.append(nn.Conv2d(fan_in, fan_out, kernel, stride, padding=kernel // 2))
            if i < len(channels) - 1:
                layers.append(nn.ReLU())
            height, width = -(-height // stride), -(-width // stride)
            fan_in = fan_out
        self.convolutions = nn.Sequential(*layers).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.keypoints = SpatialSoftmax(height, width)
        self.output_size = 2 * channels[-1]

    def forward(self, images: Tensor) -> Tensor:
        with torch.autocast(images.device.type, enabled=False):  # keypoints lie finer than a pixel
            pixels = images.permute(0, 3, 1, 2).float()
            if self._block > 1 and images.shape[1] == self._height:
                pixels = functional.avg_pool2d(pixels, self._block)
            return self.keypoints(self.convolutions(pixels / 127.5 - 1.0))


class FrozenEncoder(nn.Module):
    """Images (B, H, W, 3) uint8, or their embeddings (B, D) when they were made before, to (B, output_size) by a frozen
    network and a layer that is trained. The network is no part of the state, its version is."""

    def __init__(self, network: str, output_size: int) -> None:
        super().__init__()
        from robolearn.networks.open_clip import open_clip_network  # brings open_clip, an extra

        self.network = open_clip_network(network)
        self.head = nn.Linear(self.network.size, output_size)
        self.register_buffer("version", torch.tensor(self.network.version()))

    def forward(self, images: Tensor) -> Tensor:
        if images.is_floating_point():
            return self.head(images)
        self.network.to(images.device)
        return self.head(self.network.images(images))

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *others: Any) -> None:
        version = state_dict.get(f"{prefix}version")
        if version is not None and version.item() != self.get_buffer("version").item():
            others[-1].append(f"the frozen network of {prefix.rstrip('.')} has other weights than in training")
        super()._load_from_state_dict(state_dict, prefix, *others)
