"""The Teleoperator protocol: a person's hands on the controls. Legend: J joints."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from robolearn.types import RobotState


class TeleopEvent(Enum):
    """What a person says beside moving the robot."""

    STOP = "stop"  # emergency: hold, and let nobody move the robot until it is resumed
    SUCCESS = "success"  # the episode is over and went well
    FAILURE = "failure"  # the episode is over and went wrong
    DISCARD = "discard"  # the episode is over and is not to be kept


@dataclass(frozen=True)
class TeleopCommand:
    """One reading. `action`: joint targets (J,) float32, None while the person is not in charge; `reason` says why not,
    where the person should do something about it."""

    action: NDArray[np.float32] | None = None
    events: tuple[TeleopEvent, ...] = ()
    reason: str = ""


@runtime_checkable
class Fed(Protocol):
    """A teleoperator whose device is not on this computer: what its person does comes in as messages."""

    def feed(self, message: Mapping[str, Any], now_ns: int) -> None:
        """One message, on the clock of `read`; may come from another thread. Raises SpecError for one that is none."""
        ...


@runtime_checkable
class Teleoperator(Protocol):
    """A device that a person moves a robot with. Made for one RobotSpec."""

    def connect(self) -> None:
        """Open the device. Raises HardwareError naming device and remedy."""
        ...

    def read(self, state: RobotState, now_ns: int) -> TeleopCommand:
        """What the person wants at `now_ns` of the robot that is in `state`. Never waits.

        Raises HardwareError when the device is silent.
        """
        ...

    def close(self) -> None:
        """Release the device. May be called twice."""
        ...
