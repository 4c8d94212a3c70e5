"""The twin's robot and cameras, seen as any other device of a cell."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from robolearn.errors import HardwareError, UnknownNameError
from robolearn.twin.twin import Twin
from robolearn.types import Frame, RobotState


class TwinRobot:
    """The arm of a twin. `write` sets the targets; time passes when the twin's owner calls `Twin.advance`."""

    def __init__(self, twin: Twin) -> None:
        self.spec = twin.robot_spec
        self._twin = twin
        self._connected = False

    def connect(self) -> None:
        self._connected = True

    def read(self) -> RobotState:
        """Measured state at the twin's stamp. Raises HardwareError while it is not connected."""
        self._require_connection()
        return self._twin.robot_state()

    def write(self, action: NDArray[np.float32]) -> None:
        """Set joint targets (J,) [rad]. Raises SpecError for another shape or a value that is not finite."""
        self._require_connection()
        self._twin.command(action)

    def close(self) -> None:
        """The servos keep their last targets."""
        self._connected = False

    def _require_connection(self) -> None:
        if not self._connected:
            raise HardwareError(f"robot {self.spec.name} of the twin is not connected; call connect() first")


class TwinCamera:
    """One camera of a twin. Raises UnknownNameError for a camera that the twin was not made with."""

    def __init__(self, twin: Twin, name: str) -> None:
        if name not in twin.camera_specs:
            raise UnknownNameError("camera", name, twin.camera_specs)
        self.spec = twin.camera_specs[name]
        self._twin = twin
        self._connected = False

    def connect(self) -> None:
        self._connected = True

    def read(self) -> Frame:
        """A picture of this instant. Raises HardwareError while it is not connected."""
        if not self._connected:
            raise HardwareError(f"camera {self.spec.name} of the twin is not connected; call connect() first")
        return Frame(self._twin.render(self.spec.name), self._twin.stamp_ns)

    def close(self) -> None:
        self._connected = False
