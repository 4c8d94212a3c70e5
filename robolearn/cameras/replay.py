"""A camera that plays recorded frames again. Legend: T frames, H W image."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from robolearn.errors import HardwareError, SpecError
from robolearn.specs import CameraSpec
from robolearn.types import Frame


class ReplayCamera:
    """Gives `images` (T, H, W, 3) uint8 one by one with their stamps (T,) [ns]; connecting starts from the first.

    Raises SpecError when the arrays do not belong together.
    """

    def __init__(self, name: str, images: NDArray[np.uint8], stamps_ns: NDArray[np.int64]) -> None:
        if images.ndim != 4 or images.shape[3] != 3 or images.dtype != np.uint8:
            raise SpecError(f"frames of {name} are {images.dtype} {images.shape}, expected uint8 (T, H, W, 3)")
        if stamps_ns.shape != images.shape[:1] or (np.diff(stamps_ns) <= 0).any():
            raise SpecError(f"{name} has {len(images)} frames; expected as many stamps, each later than the one before")
        period_ns = float(np.median(np.diff(stamps_ns))) if len(stamps_ns) > 1 else 1e9
        self.spec = CameraSpec(name, images.shape[1], images.shape[2], rate_hz=1e9 / period_ns)
        self._images, self._stamps_ns = images, stamps_ns
        self._next: int | None = None

    def connect(self) -> None:
        self._next = 0

    def read(self) -> Frame:
        """The next frame. Raises HardwareError while it is not connected, or after the last one."""
        if self._next is None:
            raise HardwareError(f"replay of {self.spec.name} is not connected; call connect() first")
        if self._next == len(self._images):
            raise HardwareError(
                f"replay of {self.spec.name} is over after {self._next} frames; connect again to repeat"
            )
        frame = Frame(self._images[self._next].copy(), int(self._stamps_ns[self._next]))
        self._next += 1
        return frame

    def close(self) -> None:
        self._next = None
