"""The state machine of managed nodes (https://design.ros2.org/articles/node_lifecycle.html), as tables."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum


class TransitionCallbackReturn(IntEnum):
    """What a transition callback reports."""

    SUCCESS = 97
    FAILURE = 98
    ERROR = 99


UNCONFIGURED, INACTIVE, ACTIVE, FINALIZED = 1, 2, 3, 4
ERROR_PROCESSING = 15
LABELS = {
    0: "unknown",
    UNCONFIGURED: "unconfigured",
    INACTIVE: "inactive",
    ACTIVE: "active",
    FINALIZED: "finalized",
    10: "configuring",
    11: "cleaningup",
    12: "shuttingdown",
    13: "activating",
    14: "deactivating",
    ERROR_PROCESSING: "errorprocessing",
}


@dataclass(frozen=True)
class Transition:
    """A transition that somebody may ask for: where it starts, what runs, and where it ends."""

    id: int
    label: str
    start: int
    via: int
    success: int
    failure: int
    outcome_id: int  # of "success"; failure and error are the next two numbers

    @property
    def callback(self) -> str:
        return f"on_{self.label}"


TRANSITIONS = (
    Transition(1, "configure", UNCONFIGURED, 10, INACTIVE, UNCONFIGURED, 10),
    Transition(2, "cleanup", INACTIVE, 11, UNCONFIGURED, INACTIVE, 20),
    Transition(3, "activate", INACTIVE, 13, ACTIVE, INACTIVE, 30),
    Transition(4, "deactivate", ACTIVE, 14, INACTIVE, ACTIVE, 40),
    Transition(5, "shutdown", UNCONFIGURED, 12, FINALIZED, FINALIZED, 50),
    Transition(6, "shutdown", INACTIVE, 12, FINALIZED, FINALIZED, 50),
    Transition(7, "shutdown", ACTIVE, 12, FINALIZED, FINALIZED, 50),
)
