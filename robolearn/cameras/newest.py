"""One frame between the thread that captures and whoever reads: the newest, never a queue."""

from __future__ import annotations

import threading
from collections import Counter

from robolearn.types import Frame

LATE_PERIODS = 1.5  # a longer gap between two frames makes the second one late


class NewestFrame:
    """Holds the newest frame.

    `counts` since the start: frames, dropped (replaced before anybody had read them), late (came more than 1.5 periods
    after the one before).
    """

    def __init__(self, rate_hz: float) -> None:
        self.counts: Counter[str] = Counter()
        self._late_ns = LATE_PERIODS * 1e9 / rate_hz
        self._arrived = threading.Condition()
        self._frame: Frame | None = None
        self._seen = True

    def put(self, frame: Frame) -> None:
        """A new frame was captured."""
        with self._arrived:
            self.counts["frames"] += 1
            self.counts["dropped"] += not self._seen
            if self._frame is not None and frame.stamp_ns - self._frame.stamp_ns > self._late_ns:
                self.counts["late"] += 1
            self._frame, self._seen = frame, False
            self._arrived.notify_all()

    def get(self, wait_s: float = 0.0) -> Frame | None:
        """The newest frame; waits up to `wait_s` for the first one."""
        with self._arrived:
            self._arrived.wait_for(lambda: self._frame is not None, wait_s)
            self._seen = True
            return self._frame

    def wait(self, stamp_ns: int, timeout_s: float) -> None:
        """Until there is a frame of another stamp, or the time is over."""
        with self._arrived:
            self._arrived.wait_for(lambda: self._frame is not None and self._frame.stamp_ns != stamp_ns, timeout_s)
