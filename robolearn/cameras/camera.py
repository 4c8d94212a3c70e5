"""The Camera protocol."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from robolearn.types import Frame


@dataclass(frozen=True)
class CameraSpec:
    """Size in pixels and rate of a camera; its images are the observation field `image_<name>`."""

    name: str
    height: int
    width: int
    rate_hz: float


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
