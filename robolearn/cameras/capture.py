"""A thread that captures from one device: newest frame, silence, counts, and opening again after it was unplugged."""

from __future__ import annotations

import logging
import math
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Protocol

from robolearn.cameras.newest import NewestFrame
from robolearn.errors import HardwareError
from robolearn.types import Frame

log = logging.getLogger(__name__)

JOIN_S = 3.0  # a device that is being waited for gives up by itself within it


class Source(Protocol):
    """A device that was opened."""

    def grab(self) -> Frame | None:
        """Wait for the next frame; None when the device has gone."""
        ...

    def release(self) -> None: ...


@dataclass(frozen=True)
class CaptureTiming:
    """How long is waited for what."""

    first_frame_s: float
    max_age_s: float
    retry_s: float


def require_positive(config: object) -> None:
    """Raise HardwareError where a size, the rate or a time of a camera's configuration is none."""
    for name in ("height", "width", "rate_hz", *(field.name for field in fields(CaptureTiming))):
        value = getattr(config, name)
        if not 0 < value < math.inf:
            raise HardwareError(f"{name} is {value:g}, expected more than 0")


class Capture:
    """`open` opens the device, or raises HardwareError; `who` names it in errors.

    `counts`: frames, dropped, late (see `NewestFrame`), lost (times that the device had gone).
    """

    def __init__(
        self,
        who: str,
        rate_hz: float,
        timing: CaptureTiming,
        clock: Callable[[], int],
        open: Callable[[], Source],
    ) -> None:
        self._who, self._rate_hz, self._timing, self._clock, self._open = who, rate_hz, timing, clock, open
        self._newest = NewestFrame(rate_hz)
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None
        self._trouble = ""

    @property
    def counts(self) -> Counter[str]:
        return self._newest.counts

    def start(self) -> None:
        """Open the device and wait for the first frame. Raises HardwareError."""
        self.stop()
        source = self._open()
        self._newest, self._closing, self._trouble = NewestFrame(self._rate_hz), threading.Event(), ""
        args = (source, self._newest, self._closing)
        self._thread = threading.Thread(target=self._run, args=args, daemon=True)
        self._thread.start()
        if self._newest.get(self._timing.first_frame_s) is None:
            self.stop()
            raise HardwareError(
                f"{self._who} opened but gave no frame in {self._timing.first_frame_s:g} s; check its cable and that "
                "nobody else reads it"
            )

    def read(self) -> Frame:
        """Newest frame (H, W, 3), with its depth. Raises HardwareError while it is not started, or once it has gone
        silent."""
        frame = self._newest.get() if self._thread is not None else None
        if frame is None:
            raise HardwareError(f"{self._who} is not connected; call connect() first")
        age_s = (self._clock() - frame.stamp_ns) * 1e-9
        if abs(age_s) > self._timing.max_age_s:  # one of the future was taken before the clock went back
            raise HardwareError(
                f"{self._who} is silent: its newest frame is {age_s:.2f} s old, at most {self._timing.max_age_s:g} s; "
                f"{self._trouble or 'check its cable'}"
            )
        return Frame(frame.image.copy(), frame.stamp_ns, None if frame.depth is None else frame.depth.copy())

    def wait(self, stamp_ns: int, timeout_s: float) -> None:
        """Until the newest frame is another than that of the stamp, or the time is over."""
        self._newest.wait(stamp_ns, timeout_s)

    def stop(self) -> None:
        self._closing.set()
        if self._thread is not None:
            self._thread.join(JOIN_S)
            self._thread = None

    def _run(self, source: Source | None, newest: NewestFrame, closing: threading.Event) -> None:
        """Capture until `closing`; when the device is lost, open it again."""
        while not closing.is_set():
            frame = source.grab() if source is not None else None
            if frame is not None:
                newest.put(frame)
                continue
            if source is not None:
                source.release()
                source = None
                newest.counts["lost"] += 1
                self._trouble = "the device was lost"
                log.warning("%s was lost; trying to open it again", self._who)
            if closing.wait(self._timing.retry_s):
                return
            try:
                source = self._open()
                log.warning("%s is back", self._who)
            except HardwareError as error:
                self._trouble = str(error)
        if source is not None:
            source.release()


class CapturedCamera:
    """A camera with such a thread behind it, which its driver makes. `counts` are the thread's."""

    _capture: Capture

    @property
    def counts(self) -> Counter[str]:
        return self._capture.counts

    def connect(self) -> None:
        """Open the device, set it up, and wait for the first frame. Raises HardwareError."""
        self._capture.start()

    def read(self) -> Frame:
        """Newest frame (H, W, 3). Raises HardwareError while it is not connected, or once it has gone silent."""
        return self._capture.read()

    def wait(self, stamp_ns: int, timeout_s: float) -> None:
        """Until the newest frame is another than that of the stamp, or the time is over."""
        self._capture.wait(stamp_ns, timeout_s)

    def close(self) -> None:
        self._capture.stop()
