"""The image codecs for zarr-python, which finds them by the entry points of group `zarr.codecs`.

Where `imagecodecs.zarr` exists (Python 3.12 and later) it is used, so that both agree on one class; else these stand in
for it under the same names and settings.
"""

from __future__ import annotations

import asyncio
from typing import Any, Self

import imagecodecs
import numpy as np
from zarr.abc.codec import ArrayBytesCodec
from zarr.core.array_spec import ArraySpec
from zarr.core.buffer import Buffer, NDBuffer
from zarr.core.common import JSON, parse_named_configuration

from robolearn.datasets.video_codec import Video


class _ImageCodec(ArrayBytesCodec):
    """A chunk of one picture, coded by a pair of functions of imagecodecs."""

    is_fixed_size = False
    name: str
    functions: tuple[str, str]  # encode, decode

    def __init__(self, **configuration: Any) -> None:
        self.configuration = configuration

    @classmethod
    def from_dict(cls, data: dict[str, JSON]) -> Self:
        _, configuration = parse_named_configuration(data, cls.name, require_configuration=False)
        return cls(**(configuration or {}))

    def to_dict(self) -> dict[str, JSON]:
        return {"name": self.name, "configuration": self.configuration}

    def compute_encoded_size(self, input_byte_length: int, chunk_spec: ArraySpec) -> int:
        raise NotImplementedError("the size of a coded picture is not known beforehand")

    async def _decode_single(self, chunk_data: Buffer, chunk_spec: ArraySpec) -> NDBuffer:
        decode = getattr(imagecodecs, self.functions[1])
        picture = await asyncio.to_thread(decode, chunk_data.to_bytes())
        return chunk_spec.prototype.nd_buffer.from_numpy_array(picture.reshape(chunk_spec.shape))

    async def _encode_single(self, chunk_data: NDBuffer, chunk_spec: ArraySpec) -> Buffer | None:
        encode = getattr(imagecodecs, self.functions[0])
        picture = np.squeeze(chunk_data.as_numpy_array())
        data = await asyncio.to_thread(lambda: encode(picture, **self.configuration))
        return chunk_spec.prototype.buffer.from_bytes(data)


class _Jpeg(_ImageCodec):
    name = "imagecodecs_jpeg"
    functions = ("jpeg8_encode", "jpeg8_decode")


class _Jpegxl(_ImageCodec):
    name = "imagecodecs_jpegxl"
    functions = ("jpegxl_encode", "jpegxl_decode")


class VideoGroups(ArrayBytesCodec):
    """A group of frames, see `video_codec`."""

    is_fixed_size = False

    def __init__(self, codec: str = "h264", crf: int = 24) -> None:
        self.codec, self.crf = codec, crf

    @classmethod
    def from_dict(cls, data: dict[str, JSON]) -> Self:
        _, configuration = parse_named_configuration(data, "robolearn_video", require_configuration=False)
        return cls(**(configuration or {}))  # type: ignore[arg-type]

    def to_dict(self) -> dict[str, JSON]:
        return {"name": "robolearn_video", "configuration": {"codec": self.codec, "crf": self.crf}}

    def compute_encoded_size(self, input_byte_length: int, chunk_spec: ArraySpec) -> int:
        raise NotImplementedError("the size of a coded group is not known beforehand")

    async def _decode_single(self, chunk_data: Buffer, chunk_spec: ArraySpec) -> NDBuffer:
        frames = np.empty(chunk_spec.shape, np.uint8)
        video = Video(self.codec, self.crf, chunk_spec.shape[0])
        await asyncio.to_thread(video.decode, chunk_data.to_bytes(), frames)
        return chunk_spec.prototype.nd_buffer.from_numpy_array(frames)

    async def _encode_single(self, chunk_data: NDBuffer, chunk_spec: ArraySpec) -> Buffer | None:
        video = Video(self.codec, self.crf, chunk_spec.shape[0])
        data = await asyncio.to_thread(video.encode, chunk_data.as_numpy_array())
        return chunk_spec.prototype.buffer.from_bytes(data)


try:
    from imagecodecs.zarr import Jpeg, Jpegxl
except ImportError:
    Jpeg, Jpegxl = _Jpeg, _Jpegxl
