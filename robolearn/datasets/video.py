"""Video files: writing one a frame at a time, and reading those of others by time, in order."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from robolearn.errors import DatasetError

MAX_PIXELS = 1 << 26  # of a frame, that is 8192 x 8192
CODECS = {
    # name: (encoder, options); groups of two frames, so that one of them is had without decoding many
    "av1": ("libsvtav1", {"g": "2", "crf": "30", "preset": "12", "svtav1-params": "lp=1"}),
    "h264": ("libx264", {"g": "2", "crf": "23", "preset": "fast", "bf": "0"}),
}


def pixel_format(shape: tuple[int, ...]) -> str:
    """Of a video of pictures (H, W, ...): the usual one, whose colours have half the resolution, wants even sizes."""
    return "yuv444p" if shape[0] % 2 or shape[1] % 2 else "yuv420p"


class VideoWriter:
    """One MP4 file of frames (H, W, 3) uint8 RGB, or (H, W) grey, at a steady rate. A context manager."""

    def __init__(self, path: Path, fps: float, shape: tuple[int, ...], codec: str = "h264") -> None:
        encoder, options = CODECS[codec]
        path.parent.mkdir(parents=True, exist_ok=True)
        self.num_frames = self.num_bytes = 0
        self._whole = True
        path.open("wb").close()  # whose error names the file, as PyAV's does not
        self._container = av.open(str(path.absolute()), "w")  # of others FFmpeg takes `a:` for the name of a protocol
        self.rate = Fraction(fps).limit_denominator(1001)  # at which its frames come
        stream: Any = self._container.add_stream(encoder, self.rate, options=options)
        stream.height, stream.width = shape[:2]
        stream.pix_fmt = pixel_format(shape)
        stream.codec_context.thread_count = 1
        self._stream = stream
        self._format = "rgb24" if len(shape) == 3 else "gray"

    def append(self, image: NDArray[np.uint8]) -> None:
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), self._format)
        frame.pts = self.num_frames
        frame.time_base = 1 / self.rate
        self._mux(self._stream.encode(frame))
        self.num_frames += 1

    def _mux(self, packets: list[Any]) -> None:
        self._whole = False  # where this fails, as on a full disk: FFmpeg would crash if it were asked for more
        self._container.mux(packets)
        self._whole = True
        self.num_bytes += sum(packet.size for packet in packets)

    def close(self) -> None:
        if self._container is None:
            return
        container, self._container = self._container, None  # type: ignore[assignment]
        if self._whole:
            container.mux(self._stream.encode())
        container.close()

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


class VideoReader:
    """Frames of files by time, read forward: cheap when files and times come in order. A context manager."""

    def __init__(self, what: str) -> None:
        self._what = what  # for messages
        self._path: Path | None = None
        self._container: Any = None
        self._frames: Iterator[Any] = iter(())
        self._frame: Any = None  # decoded, but not handed out
        self._time_s = 0.0  # last asked for

    def read(self, path: Path, time_s: float, tolerance_s: float) -> NDArray[np.uint8] | None:
        """The frame (H, W, 3) nearest to the time; None where none is within the tolerance.

        Raises DatasetError when the file cannot be opened or decoded.
        """
        try:
            back = time_s < self._time_s if self._frame is None else self._frame.time > time_s + tolerance_s
            if path != self._path or back:
                self._open(path, time_s)
            self._time_s = time_s
            while self._frame is not None and self._frame.time < time_s - tolerance_s:
                self._frame = next(self._frames, None)
            if self._frame is None or self._frame.time > time_s + tolerance_s:
                return None
            return self._frame.to_ndarray(format="rgb24")
        except (av.FFmpegError, OSError, ValueError, IndexError) as error:
            raise DatasetError(f"{path}: {self._what} cannot be decoded: {error}") from error

    def _open(self, path: Path, time_s: float) -> None:
        self.close()
        self._container = av.open(str(path.absolute()))
        stream = self._container.streams.video[0]
        if stream.width * stream.height > MAX_PIXELS:
            raise DatasetError(f"{path}: {self._what} has frames of {stream.width} x {stream.height}; refused")
        stream.codec_context.options = {"max_pixels": str(MAX_PIXELS)}  # frames behind the first ones may be larger
        if time_s > 0:
            self._container.seek(int(time_s / stream.time_base), stream=stream)  # to the key frame before it
        self._frames = self._container.decode(stream)
        self._path, self._frame = path, next(self._frames, None)

    def close(self) -> None:
        if self._container is not None:
            self._container.close()
        self._container = self._path = self._frame = None

    def __enter__(self) -> VideoReader:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()
