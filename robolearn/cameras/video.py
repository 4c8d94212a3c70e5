"""A camera that plays a video file at its own rate, over and over: for dry runs and tests of what follows a camera."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from robolearn.errors import HardwareError
from robolearn.specs import CameraSpec
from robolearn.types import Frame


@dataclass(frozen=True)
class VideoCameraConfig:
    """One file."""

    path: Path
    name: str = "camera"
    rate_hz: float | None = None  # None: the file's own

    def __post_init__(self) -> None:
        if self.rate_hz is not None and not 0 < self.rate_hz < math.inf:
            raise HardwareError(f"rate_hz is {self.rate_hz:g}, expected more than 0")


class VideoCamera:
    """Frame `i` is taken `i` periods after `connect`, as a camera would; frames that nobody reads in time are dropped.

    `counts`: frames, dropped. Raises HardwareError for a file that is no video.
    """

    config_type = VideoCameraConfig

    def __init__(self, config: VideoCameraConfig, clock: Callable[[], int] = time.monotonic_ns) -> None:
        """Reads the file's header. clock: what it plays by [ns]."""
        import av

        self.config = config
        self.counts: Counter[str] = Counter()
        self._clock = clock
        try:
            with av.open(str(config.path.absolute())) as container:
                stream = container.streams.video[0]
                height, width, rate = stream.height, stream.width, config.rate_hz or float(stream.average_rate or 0)
        except (OSError, IndexError, ValueError) as error:
            raise HardwareError(f"{config.path} is no video ({error}); give the path of one") from error
        if rate <= 0:
            raise HardwareError(f"{config.path} does not say its frame rate; give rate_hz")
        self.spec = CameraSpec(config.name, height, width, rate)
        self._start_ns: int | None = None
        self._images: Iterator[NDArray[np.uint8]] = iter(())
        self._next = 0
        self._image: NDArray[np.uint8] | None = None

    def connect(self) -> None:
        """Begin with the first frame, now."""
        self._images, self._image, self._next = self._play(), None, 0
        self.counts.clear()
        self._start_ns = self._clock()

    def read(self) -> Frame:
        """The frame that is due (H, W, 3). Raises HardwareError while it is not connected."""
        if self._start_ns is None:
            raise HardwareError(f"camera {self.spec.name} ({self.config.path}) is not connected; call connect() first")
        due = max(0, int((self._clock() - self._start_ns) * 1e-9 * self.spec.rate_hz))
        behind = due - self._next
        if behind > self.spec.rate_hz:  # nobody looked for a second: do not decode what nobody will see
            self.counts["dropped"] += behind
            self._next = due
        while self._next <= due:
            try:
                self._image = next(self._images)
            except (OSError, IndexError, ValueError) as error:
                self._images = self._play()  # the next reading tries again
                raise HardwareError(
                    f"{self.config.path} gives no more pictures ({error}); put the file that it was back"
                ) from error
            self.counts["dropped"] += self._next < due
            self.counts["frames"] += 1
            self._next += 1
        assert self._image is not None
        stamp_ns = self._start_ns + int((self._next - 1) * 1e9 / self.spec.rate_hz)
        return Frame(self._image.copy(), stamp_ns)

    def close(self) -> None:
        self._start_ns = None
        self._images = iter(())

    def _play(self) -> Iterator[NDArray[np.uint8]]:
        import av

        spec = self.spec
        while True:
            shown = 0
            with av.open(str(self.config.path.absolute())) as container:
                for frame in container.decode(video=0):
                    if (frame.height, frame.width) != (spec.height, spec.width):
                        raise ValueError(f"{frame.width}x{frame.height}, and it was {spec.width}x{spec.height}")
                    shown += 1
                    yield frame.to_ndarray(format="rgb24").astype(np.uint8, copy=False)
            if not shown:
                raise ValueError("it has no frames")
