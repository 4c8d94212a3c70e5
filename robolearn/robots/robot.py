"""The Robot protocol: what the platform asks of a machine, real or simulated."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from robolearn.specs import RobotSpec
from robolearn.types import RobotState


@dataclass(frozen=True)
class Health:
    """Slow measurements of a robot, (J,) each. Robots that make them have it as `health`.

    load: thousandths as the motor reports them: of its torque (STS3215, XL430) or of an ampere (XL330)."""

    load: NDArray[np.float32]
    voltage_v: NDArray[np.float32]
    temperature_c: NDArray[np.float32]
    stamp_ns: int


@runtime_checkable
class Robot(Protocol):
    """A machine with J joints under position control. Every `write` has been through the SafetyFilter."""

    spec: RobotSpec

    def connect(self) -> None:
        """Open the device. Raises HardwareError naming port and remedy."""
        ...

    def read(self) -> RobotState:
        """Newest measured state. Raises HardwareError when the device is silent."""
        ...

    def write(self, action: NDArray[np.float32]) -> None:
        """Send joint position targets (J,) in the spec's unit."""
        ...

    def close(self) -> None:
        """Leave the device holding its position. May be called twice."""
        ...
