"""A robot without a machine or physics, for tests and dry runs. Legend: J joints."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from robolearn.errors import HardwareError
from robolearn.specs import RobotSpec
from robolearn.tasks.kinematics import SO101
from robolearn.types import RobotState


class FakeRobot:
    """Joints that run to their targets at their full speed and stop there.

    clock: where its stamps come from [ns]. silent_after: number of reads after which the device no longer answers.
    """

    def __init__(
        self, spec: RobotSpec = SO101, clock: Callable[[], int] = time.monotonic_ns, silent_after: int | None = None
    ) -> None:
        self.spec = spec
        self._clock = clock
        self._reads_left = silent_after
        self._connected = False
        self._max_speed = np.array(spec.max_speed)
        self._low, self._high = np.array(spec.position_low), np.array(spec.position_high)
        self._position = np.clip(np.zeros(len(spec.joint_names)), self._low, self._high)
        self._velocity = np.zeros_like(self._position)
        self._target = self._position.copy()
        self._stamp_ns = 0

    def connect(self) -> None:
        self._connected = True
        self._stamp_ns = self._clock()

    def read(self) -> RobotState:
        """State now. Raises HardwareError while it is not connected, or once it has gone silent."""
        self._require_connection()
        if self._reads_left is not None:
            if self._reads_left == 0:
                raise HardwareError(f"fake robot {self.spec.name} is silent; check its cable, then connect again")
            self._reads_left -= 1
        self._move(self._clock())
        position, velocity = self._position.astype(np.float32), self._velocity.astype(np.float32)
        return RobotState(position, velocity, self._stamp_ns)

    def write(self, action: NDArray[np.float32]) -> None:
        """Set joint targets (J,). Raises SpecError for another shape or a value that is not finite."""
        self._require_connection()
        target = self.spec.action_spec.check("action", action)
        self._move(self._clock())
        self._target = np.clip(target.astype(np.float64), self._low, self._high)

    def close(self) -> None:
        """Stop where it is."""
        self._target = self._position.copy()
        self._connected = False

    def _require_connection(self) -> None:
        if not self._connected:
            raise HardwareError(f"fake robot {self.spec.name} is not connected; call connect() first")

    def _move(self, now_ns: int) -> None:
        elapsed_s = max(now_ns - self._stamp_ns, 0) * 1e-9
        step = np.clip(self._target - self._position, -self._max_speed * elapsed_s, self._max_speed * elapsed_s)
        self._position += step
        self._velocity = step / elapsed_s if elapsed_s > 0 else np.zeros_like(step)
        self._stamp_ns = max(now_ns, self._stamp_ns)
