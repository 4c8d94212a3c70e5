"""Coding of one zarr chunk, followed by its CRC-32C.

Names and settings are those that other zarr readers know: `imagecodecs_jpeg` and `imagecodecs_jpegxl` are the codecs of
the packages `imagecodecs` and `imagecodecs-zarr`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import google_crc32c
import imagecodecs
import numpy as np
from numpy.typing import NDArray

from robolearn.datasets.store import ImageCodec
from robolearn.datasets.video_codec import Video
from robolearn.specs import ArraySpec

BYTES = {"name": "bytes", "configuration": {"endian": "little"}}


class Codec(Protocol):
    """Codes a chunk (rows, ...) of an array."""

    def encode(self, chunk: NDArray) -> bytes: ...

    def decode(self, data: bytes, out: NDArray) -> None:
        """Decode into `out` (rows, ...), C-contiguous. Raises ValueError or RuntimeError when `data` does not fit."""
        ...

    def to_zarr(self) -> list[dict[str, Any]]:
        """The entries of `codecs` in zarr.json, without the checksum."""
        ...


def with_checksum(data: bytes) -> bytes:
    """The zarr codec `crc32c`: the data and its little-endian checksum."""
    return data + int(google_crc32c.value(data)).to_bytes(4, "little")


def without_checksum(data: bytes) -> bytes:
    """Undo `with_checksum`. Raises ValueError when the data changed since."""
    body = data[:-4]
    if len(data) < 4 or google_crc32c.value(body) != int.from_bytes(data[-4:], "little"):
        raise ValueError("checksum does not fit")
    return body


@dataclass(frozen=True)
class Zstd:
    """Little-endian bytes, compressed. Lossless."""

    level: int = 1

    def encode(self, chunk: NDArray) -> bytes:
        return bytes(imagecodecs.zstd_encode(np.ascontiguousarray(chunk).tobytes(), self.level))

    def decode(self, data: bytes, out: NDArray) -> None:
        size = len(imagecodecs.zstd_decode(data, out=out.data.cast("B")))
        if size != out.nbytes:
            raise ValueError(f"chunk holds {size} bytes, expected {out.nbytes}")

    def to_zarr(self) -> list[dict[str, Any]]:
        return [BYTES, {"name": "zstd", "configuration": {"level": self.level, "checksum": False}}]


@dataclass(frozen=True)
class Jpeg:
    """One picture (1, H, W, 3) or (1, H, W) uint8. Lossy."""

    quality: int

    def encode(self, chunk: NDArray) -> bytes:
        return bytes(imagecodecs.jpeg8_encode(chunk[0], level=self.quality))

    def decode(self, data: bytes, out: NDArray) -> None:
        imagecodecs.jpeg8_decode(data, out=out[0])

    def to_zarr(self) -> list[dict[str, Any]]:
        return [{"name": "imagecodecs_jpeg", "configuration": {"level": self.quality}}]


@dataclass(frozen=True)
class Jpegxl:
    """One picture (1, H, W, 3) or (1, H, W), uint8 or uint16. Lossless at distance 0."""

    effort: int = 1
    distance: float = 0.0

    def encode(self, chunk: NDArray) -> bytes:
        return bytes(imagecodecs.jpegxl_encode(chunk[0], numthreads=1, **self._settings))

    def decode(self, data: bytes, out: NDArray) -> None:
        imagecodecs.jpegxl_decode(data, out=out[0], numthreads=1)

    def to_zarr(self) -> list[dict[str, Any]]:
        return [{"name": "imagecodecs_jpegxl", "configuration": self._settings}]

    @property
    def _settings(self) -> dict[str, Any]:
        if self.distance:
            return {"effort": self.effort, "distance": self.distance}
        return {"effort": self.effort, "lossless": True}


LOSSY_EFFORT = 3  # of JPEG-XL
DECODE_ERRORS = (ValueError, RuntimeError)


def image_codec(settings: ImageCodec, spec: ArraySpec) -> tuple[Codec, int]:
    """The codec, and how many times it is expected to shrink a picture. Depth is lossless, see ImageCodec."""
    if settings.name == "zstd":
        return Zstd(), 1
    eight_bit = spec.dtype == "uint8"
    if settings.name == "jpegxl" and settings.distance and eight_bit:
        return Jpegxl(LOSSY_EFFORT, settings.distance), 12
    if settings.is_video and eight_bit and spec.shape[2:] == (3,):
        return Video(settings.name, settings.crf, settings.group), 100
    if settings.name == "jpeg" and eight_bit:
        return Jpeg(settings.quality), 8
    return Jpegxl(), 2
