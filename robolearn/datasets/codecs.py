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
    """One picture (1, H, W, 3) or (1, H, W), uint8 or uint16. Lossless."""

    effort: int = 1

    def encode(self, chunk: NDArray) -> bytes:
        return bytes(imagecodecs.jpegxl_encode(chunk[0], lossless=True, effort=self.effort, numthreads=1))

    def decode(self, data: bytes, out: NDArray) -> None:
        imagecodecs.jpegxl_decode(data, out=out[0], numthreads=1)

    def to_zarr(self) -> list[dict[str, Any]]:
        return [{"name": "imagecodecs_jpegxl", "configuration": {"effort": self.effort, "lossless": True}}]


DECODE_ERRORS = (ValueError, RuntimeError)


def image_codec(settings: ImageCodec, dtype: np.dtype) -> tuple[Codec, int]:
    """The codec, and how many times it is expected to shrink a picture. JPEG has 8 bit: more get JPEG-XL."""
    if settings.name == "zstd":
        return Zstd(), 1
    if settings.name == "jpegxl" or dtype != np.uint8:
        return Jpegxl(), 2
    return Jpeg(settings.quality), 8
