"""Colour pictures and depth of an Intel RealSense camera. The package `pyrealsense2` is imported when one is connected.

Capture, silence and reconnection are those of every camera here (`capture.py`). A frame's stamp is the camera's own
(SDK option `global_time_enabled`: the time of capture on this computer's wall clock), moved to the caller's clock.
Depth is that of the colour picture's pixels (`align` of the SDK), and has that one's stamp.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from robolearn.cameras.capture import Capture, CapturedCamera, CaptureTiming, require_positive
from robolearn.errors import HardwareError
from robolearn.specs import CameraSpec
from robolearn.types import Frame, depth_mm

FRAME_TIMEOUT_MS = 1000


@dataclass(frozen=True)
class RealSenseCameraConfig:
    """One camera."""

    serial: str  # see `robolearn cell find cameras`
    height: int
    width: int
    rate_hz: int
    name: str = "camera"
    depth: bool = False  # whether depth is given, too, aligned to the pictures
    exposure: float | None = None  # [0.1 ms]; None: automatic
    gain: float | None = None  # in the device's unit; wants exposure
    first_frame_s: float = 5.0
    max_age_s: float = 0.5
    retry_s: float = 1.0

    def __post_init__(self) -> None:
        require_positive(self)


class RealSenseCamera(CapturedCamera):
    """The driver."""

    config_type = RealSenseCameraConfig

    def __init__(self, config: RealSenseCameraConfig, clock: Callable[[], int] = time.monotonic_ns) -> None:
        """Opens nothing. clock: where stamps come from [ns]."""
        self.config = config
        self.spec = CameraSpec(config.name, config.height, config.width, float(config.rate_hz), config.depth)
        timing = CaptureTiming(config.first_frame_s, config.max_age_s, config.retry_s)
        self._who = f"camera {config.name} (RealSense {config.serial})"
        self._capture = Capture(self._who, config.rate_hz, timing, clock, lambda: self._open(clock))

    def _open(self, clock: Callable[[], int]) -> _Pipeline:
        try:
            import pyrealsense2 as rs
        except ImportError as error:
            raise HardwareError(f"{self._who} needs the package pyrealsense2; pip install pyrealsense2") from error
        config, asked, pipeline = self.config, rs.config(), rs.pipeline()
        asked.enable_device(config.serial)
        asked.enable_stream(rs.stream.color, config.width, config.height, rs.format.rgb8, config.rate_hz)
        if config.depth:  # of whatever size the device has: aligned it is that of the pictures
            asked.enable_stream(rs.stream.depth, rs.format.z16, config.rate_hz)
        try:
            profile = pipeline.start(asked)
        except RuntimeError as error:
            size = f"{config.width}x{config.height}{' and depth' if config.depth else ''}"
            raise HardwareError(
                f"cannot open {self._who} with {size} at {config.rate_hz} Hz: {error}; check its cable (USB 3), its "
                "serial number and `rs-enumerate-devices`"
            ) from error
        try:
            sensor = profile.get_device().first_color_sensor()
            sensor.set_option(rs.option.enable_auto_exposure, 0.0 if config.exposure is not None else 1.0)
            for option, value in ((rs.option.exposure, config.exposure), (rs.option.gain, config.gain)):
                if value is not None:
                    sensor.set_option(option, value)
            unit_m = float(profile.get_device().first_depth_sensor().get_depth_scale()) if config.depth else 0.0
        except RuntimeError as error:
            pipeline.stop()
            raise HardwareError(
                f"{self._who} does not take its exposure or gain, or tell the unit of its depth: {error}"
            ) from error
        align = rs.align(rs.stream.color).process if config.depth else None
        return _Pipeline(pipeline, clock, rs.timestamp_domain.global_time, align, unit_m)


class _Pipeline:
    """A pipeline that runs. align: of one with depth, moves that of a set of frames to the pixels of its colours;
    unit_m: what its numbers count [m]."""

    def __init__(
        self,
        pipeline: Any,
        clock: Callable[[], int],
        global_time: Any,
        align: Callable[[Any], Any] | None,
        unit_m: float,
    ) -> None:
        self._pipeline, self._clock, self._global_time = pipeline, clock, global_time
        self._align, self._unit_m = align, unit_m

    def grab(self) -> Frame | None:
        try:
            frames = self._pipeline.wait_for_frames(FRAME_TIMEOUT_MS)
            frame = frames.get_color_frame()
            now_ns, wall_ns = self._clock(), time.time_ns()
            age_ns = wall_ns - round(frame.get_timestamp() * 1e6)
            if frame.get_frame_timestamp_domain() != self._global_time or not 0 <= age_ns < 1_000_000_000:
                age_ns = 0
            image, depth = np.array(frame.get_data(), np.uint8), None
            if self._align is not None:
                measured = np.asarray(self._align(frames).get_depth_frame().get_data(), np.uint16)
                depth = depth_mm(measured, self._unit_m)
            return Frame(image, now_ns - age_ns, depth)
        except RuntimeError:  # the SDK's word for a frame that did not come, or came without its colours or depth
            return None

    def release(self) -> None:
        with contextlib.suppress(RuntimeError):  # a device that has gone
            self._pipeline.stop()
