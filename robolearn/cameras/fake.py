"""A camera without a device: a pattern that changes with every frame. Legend: H W image."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from robolearn.errors import HardwareError
from robolearn.specs import CameraSpec
from robolearn.types import Frame


class FakeCamera:
    """Red rises to the right, green downwards, blue counts frames. Depth, where the spec has it, rises to the right and
    with the frames.

    clock: where its stamps come from [ns]. silent_after: number of frames after which the device no longer answers.
    """

    def __init__(
        self,
        spec: CameraSpec = CameraSpec("fake", 96, 96, 20.0),  # noqa: B008, it is frozen
        clock: Callable[[], int] = time.monotonic_ns,
        silent_after: int | None = None,
    ) -> None:
        self.spec = spec
        self._clock = clock
        self._frames_left = silent_after
        self._count = 0
        self._connected = False
        self._pattern = np.zeros((spec.height, spec.width, 3), np.uint8)
        self._pattern[..., 0] = np.linspace(0, 255, spec.width, dtype=np.uint8)
        self._pattern[..., 1] = np.linspace(0, 255, spec.height, dtype=np.uint8)[:, None]

    def connect(self) -> None:
        self._connected = True

    def read(self) -> Frame:
        """The next frame (H, W, 3). Raises HardwareError while it is not connected, or once it has gone silent."""
        if not self._connected:
            raise HardwareError(f"fake camera {self.spec.name} is not connected; call connect() first")
        if self._frames_left is not None:
            if self._frames_left == 0:
                raise HardwareError(f"fake camera {self.spec.name} is silent; check its cable, then connect again")
            self._frames_left -= 1
        image = self._pattern.copy()
        image[..., 2] = self._count % 256
        depth = self._depth() if self.spec.depth else None
        self._count += 1
        return Frame(image, self._clock(), depth)

    def _depth(self) -> NDArray[np.uint16]:
        columns = np.arange(self.spec.width, dtype=np.uint16) * np.uint16(10 + self._count % 10)
        return np.tile(columns, (self.spec.height, 1))

    def close(self) -> None:
        self._connected = False
