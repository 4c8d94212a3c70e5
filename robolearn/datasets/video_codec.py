"""Short groups of pictures, coded as video: H.264 or AV1 by FFmpeg.

A group is the number of its packets (uint16), their lengths (uint32 each), and the packets: one a picture, in order of
time, the first of which is a key frame. So a picture takes no more than the packets up to its own.
"""

from __future__ import annotations

import os
import struct
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import av
import numpy as np
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

os.environ.setdefault("SVT_LOG", "1")  # the AV1 encoder tells its settings for every group otherwise

ENCODERS: dict[str, tuple[str, str, dict[str, str]]] = {
    # Without B frames and lookahead every picture is coded when it comes, so an episode's end waits for none.
    "h264": ("libx264", "yuv444p", {"preset": "faster", "tune": "zerolatency", "bf": "0"}),
    "av1": ("libsvtav1", "yuv420p", {"preset": "8", "svtav1-params": "lp=1"}),
}
DECODERS = {"h264": "h264", "av1": "libdav1d"}


@dataclass(frozen=True)
class Video:
    """A group (rows, H, W, 3) uint8. Lossy."""

    codec: str
    crf: int
    rows: int  # of a whole group

    def encode(self, chunk: NDArray) -> bytes:
        encoder = VideoEncoder(self, chunk.shape[1], chunk.shape[2])
        for picture in chunk:
            encoder.add(picture)
        return encoder.finish()

    def decode(self, data: bytes, out: NDArray) -> None:
        """The first pictures of a group into `out` (n, H, W, 3); black where it has fewer."""
        self.open(data, len(out)).read(0, out)

    def open(self, data: bytes, number: int) -> Group:
        """The first `number` pictures of a group. Raises ValueError when it is damaged."""
        context = av.CodecContext.create(DECODERS[self.codec], "r")
        context.thread_count = 1
        frames: list[av.VideoFrame] = []
        try:
            for packet in [*_packets(data, number), None]:
                frames += context.decode(None if packet is None else av.Packet(packet))  # type: ignore[attr-defined]
        except av.FFmpegError as error:
            raise ValueError(f"video: {error}") from error
        return Group(frames, number)

    def to_zarr(self) -> list[dict[str, Any]]:
        return [{"name": "robolearn_video", "configuration": {"codec": self.codec, "crf": self.crf}}]


class Group:
    """Decoded pictures of a group. They become RGB when they are asked for, which takes longer than decoding them."""

    def __init__(self, frames: list[av.VideoFrame], number: int) -> None:
        self.number = number  # of pictures that are known; behind the last one that was coded they are black
        self._frames = frames

    def read(self, first: int, out: NDArray) -> None:
        """The pictures from `first` on into `out` (n, H, W, 3). Raises ValueError when they are of another size."""
        for row, picture in enumerate(out, start=first):
            if row >= len(self._frames):
                picture[...] = 0
                continue
            frame = self._frames[row]
            if (frame.height, frame.width) != picture.shape[:2]:
                raise ValueError(f"video: picture is {frame.height}x{frame.width}")
            picture[...] = _reformatter().reformat(frame, format="rgb24").to_ndarray()


_local = threading.local()


def _reformatter() -> VideoReformatter:
    """One a thread: it keeps its tables from picture to picture."""
    if not hasattr(_local, "reformatter"):
        _local.reformatter = VideoReformatter()
    return _local.reformatter


class VideoEncoder:
    """Codes the pictures of one group as they come."""

    def __init__(self, settings: Video, height: int, width: int) -> None:
        name, pixel_format, options = ENCODERS[settings.codec]
        context: Any = av.CodecContext.create(name, "w")
        context.width, context.height, context.pix_fmt = width, height, pixel_format
        context.time_base, context.thread_count = Fraction(1, 30), 1
        context.gop_size = settings.rows
        context.options = {**options, "crf": str(settings.crf), "g": str(settings.rows)}
        self._context, self._format = context, pixel_format
        self._number = 0
        self._packets: list[bytes] = []

    def add(self, picture: NDArray[np.uint8]) -> None:
        """Add a picture (H, W, 3)."""
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
        frame = _reformatter().reformat(frame, format=self._format)
        frame.pts = self._number
        self._number += 1
        self._packets += [bytes(packet) for packet in self._context.encode(frame)]

    def finish(self) -> bytes:
        """The group; there is nothing to add to it any more."""
        self._packets += [bytes(packet) for packet in self._context.encode(None)]
        lengths = [len(packet) for packet in self._packets]
        return b"".join([struct.pack(f"<H{len(lengths)}I", len(lengths), *lengths), *self._packets])


def _packets(data: bytes, number: int) -> Iterator[bytes]:
    """The first packets of a group. Raises ValueError when it is cut off."""
    try:
        (count,) = struct.unpack_from("<H", data)
        lengths = struct.unpack_from(f"<{count}I", data, 2)
    except struct.error as error:
        raise ValueError(f"video group of {len(data)} bytes is cut off") from error
    at = 2 + 4 * count
    if at + sum(lengths) != len(data):
        raise ValueError(f"video group has {len(data)} bytes, its packets take {at + sum(lengths)}")
    for length in lengths[:number]:
        yield data[at : at + length]
        at += length
