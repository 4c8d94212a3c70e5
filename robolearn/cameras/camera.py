"""The Camera protocol."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from robolearn.specs import CameraSpec
from robolearn.types import Frame


@runtime_checkable
class Camera(Protocol):
    """Something that gives RGB pictures with their capture time."""

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
