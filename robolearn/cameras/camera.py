"""The Camera protocol."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from robolearn.specs import CameraSpec
from robolearn.types import Frame


@runtime_checkable
class Camera(Protocol):
    """Something that gives RGB pictures with their capture time; with depth, too, where its spec says so."""

    spec: CameraSpec

    def connect(self) -> None:
        """Open the device. Raises HardwareError naming the device and remedy."""
        ...

    def read(self) -> Frame:
        """Newest frame. Raises HardwareError when the device is silent."""
        ...

    def close(self) -> None:
        """Release the device. May be called twice."""
        ...


@runtime_checkable
class CapturingCamera(Camera, Protocol):
    """One whose own thread captures, so that nobody has to ask it again and again, with a picture copied each time."""

    def wait(self, stamp_ns: int, timeout_s: float) -> None:
        """Until the newest frame is another than that of the stamp, or the time is over."""
        ...
