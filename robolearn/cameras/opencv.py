"""Cameras that OpenCV opens: V4L2 devices (USB webcams) and network streams (RTSP, MJPEG over HTTP).

A thread of its own captures; `read` gives the newest frame at once and never an old one: after `max_age_s` without a
new frame it raises HardwareError, while the thread tries to open the device again every `retry_s`.

A frame's stamp is the time of its capture on the caller's clock. V4L2 says when the frame was taken (its buffers are
stamped by the monotonic clock); for a stream, whose encoder and network delay are unknown, it is the time of arrival.
Exposure and gain are fixed when they are given: automatic ones change the pictures under a policy, and in the dark they
halve the frame rate.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from robolearn.cameras.capture import Capture, CapturedCamera, CaptureTiming, require_positive
from robolearn.errors import HardwareError
from robolearn.specs import CameraSpec
from robolearn.types import Frame

V4L2_MANUAL_EXPOSURE, V4L2_AUTOMATIC_EXPOSURE = 1, 3
STREAM_TIMEOUT_MS = 2000


@dataclass(frozen=True)
class OpenCVCameraConfig:
    """One camera."""

    device: str  # /dev/v4l/by-id/..., or an address (rtsp://..., http://...)
    height: int
    width: int
    rate_hz: float
    name: str = "camera"
    fourcc: str = "MJPG"  # pixel format of a V4L2 device; raw ones fill a USB hub
    exposure: float | None = None  # [0.1 ms] on most devices; None: automatic
    gain: float | None = None  # in the device's unit; None: its own
    first_frame_s: float = 5.0  # to wait for the first frame when connecting
    max_age_s: float = 0.5  # of the newest frame, before the camera counts as silent
    retry_s: float = 1.0  # between two attempts to open a device that was lost

    def __post_init__(self) -> None:
        require_positive(self)
        if len(self.fourcc) not in (0, 4):
            raise HardwareError(f"fourcc is {self.fourcc!r}, expected four letters as in MJPG, or none")


class OpenCVCamera(CapturedCamera):
    """The driver."""

    config_type = OpenCVCameraConfig

    def __init__(self, config: OpenCVCameraConfig, clock: Callable[[], int] = time.monotonic_ns) -> None:
        """Opens nothing. clock: where stamps come from [ns]."""
        self.config = config
        self.spec = CameraSpec(config.name, config.height, config.width, config.rate_hz)
        self._clock = clock
        timing = CaptureTiming(config.first_frame_s, config.max_age_s, config.retry_s)
        who = f"camera {config.name} ({config.device})"
        self._capture = Capture(who, config.rate_hz, timing, clock, lambda: _Device(self._open(), self.spec, clock))

    def _open(self) -> Any:
        """The device, set up. Raises HardwareError when it is absent or gives another size."""
        import cv2

        config = self.config
        cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_ERROR)  # what is absent is told below
        if "://" in config.device:
            timeouts = [
                cv2.CAP_PROP_OPEN_TIMEOUT_MSEC,
                STREAM_TIMEOUT_MS,
                cv2.CAP_PROP_READ_TIMEOUT_MSEC,
                STREAM_TIMEOUT_MS,
            ]
            capture = cv2.VideoCapture(config.device, cv2.CAP_FFMPEG, timeouts)
        else:
            capture = cv2.VideoCapture(config.device, cv2.CAP_V4L2)
        if not capture.isOpened():
            raise HardwareError(
                f"cannot open camera {self.spec.name} ({config.device}); check its cable, its address, that nobody "
                "else uses it, and that this user is in the group video"
            )
        if "://" not in config.device:
            self._set_up(capture)
        size = int(capture.get(cv2.CAP_PROP_FRAME_HEIGHT)), int(capture.get(cv2.CAP_PROP_FRAME_WIDTH))
        if size != (config.height, config.width):
            capture.release()
            raise HardwareError(
                f"camera {self.spec.name} ({config.device}) gives {size[1]}x{size[0]}, expected "
                f"{config.width}x{config.height}; see `v4l2-ctl -d {config.device} --list-formats-ext`"
            )
        return capture

    def _set_up(self, capture: Any) -> None:
        import cv2

        config = self.config
        if config.fourcc:
            capture.set(cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*config.fourcc))
        capture.set(cv2.CAP_PROP_FRAME_WIDTH, config.width)
        capture.set(cv2.CAP_PROP_FRAME_HEIGHT, config.height)
        capture.set(cv2.CAP_PROP_FPS, config.rate_hz)
        capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)
        manual = config.exposure is not None
        capture.set(cv2.CAP_PROP_AUTO_EXPOSURE, V4L2_MANUAL_EXPOSURE if manual else V4L2_AUTOMATIC_EXPOSURE)
        for what, setting, value in (
            ("exposure", cv2.CAP_PROP_EXPOSURE, config.exposure),
            ("gain", cv2.CAP_PROP_GAIN, config.gain),
        ):
            if value is not None and not (capture.set(setting, value) and abs(capture.get(setting) - value) < 1):
                capture.release()
                raise HardwareError(
                    f"camera {self.spec.name} ({config.device}) does not take {what} {value:g}; see "
                    f"`v4l2-ctl -d {config.device} --list-ctrls`, or leave {what} out"
                )


class _Device:
    """An opened device. What is not a picture of the wanted size counts as lost."""

    def __init__(self, capture: Any, spec: CameraSpec, clock: Callable[[], int]) -> None:
        self._capture, self._spec, self._clock = capture, spec, clock

    def grab(self) -> Frame | None:
        import cv2

        if not self._capture.grab():
            return None
        now_ns, monotonic_ns = self._clock(), time.monotonic_ns()
        if self._capture.getBackendName() == "V4L2":
            now_ns = stamp_of_capture(self._capture.get(cv2.CAP_PROP_POS_MSEC), monotonic_ns, now_ns)
        ok, image = self._capture.retrieve()
        if not ok or image.shape != (self._spec.height, self._spec.width, 3):
            return None
        return Frame(cv2.cvtColor(image, cv2.COLOR_BGR2RGB).astype(np.uint8, copy=False), now_ns)

    def release(self) -> None:
        self._capture.release()


def stamp_of_capture(buffer_ms: float, monotonic_ns: int, now_ns: int) -> int:
    """When a frame was taken, on the caller's clock, which shows `now_ns` while the monotonic one shows `monotonic_ns`.

    buffer_ms: V4L2's own stamp of the frame. One that cannot be (another clock, or none) counts as now.
    """
    age_ns = monotonic_ns - round(buffer_ms * 1e6)
    return now_ns - age_ns if buffer_ms > 0 and 0 <= age_ns < 1_000_000_000 else now_ns
