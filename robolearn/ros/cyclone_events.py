"""What DDS tells of a reader or writer besides samples: missed deadlines, lost liveliness, ends that do not fit."""

from __future__ import annotations

import ctypes
from collections.abc import Iterable, Mapping
from typing import Any

from cyclonedds.core import DDSStatus
from cyclonedds.internal import dds_c_t

from robolearn.ros import cyclone_calls
from robolearn.ros.transport import INCOMPATIBLE_QOS, EndpointEvent

POLICIES = {2: "durability", 4: "deadline", 8: "liveliness", 11: "reliability"}  # as DDS numbers them
READER_EVENTS = {
    INCOMPATIBLE_QOS: "requested_incompatible_qos",
    "deadline": "requested_deadline_missed",
    "liveliness": "liveliness_changed",
    "message_lost": "sample_lost",
}
WRITER_EVENTS = {
    INCOMPATIBLE_QOS: "offered_incompatible_qos",
    "deadline": "offered_deadline_missed",
    "liveliness": "liveliness_lost",
}
STATUSES = {name: getattr(dds_c_t, f"{name}_status") for name in {*READER_EVENTS.values(), *WRITER_EVENTS.values()}}


class CycloneEvents:
    """Of one endpoint. A wait that it is attached to ends with what is watched, at first incompatible ends alone."""

    def __init__(self, endpoint: Any, known: Mapping[str, str]) -> None:
        self._endpoint, self._known = endpoint, known
        self._statuses: dict[str, Any] = {}
        self.watch([INCOMPATIBLE_QOS])

    def watch(self, kinds: Iterable[str]) -> None:
        """End waits for these, too."""
        self._statuses |= {kind: STATUSES[self._known[kind]]() for kind in kinds}
        mask = 0
        for kind in self._statuses:
            mask |= getattr(DDSStatus, self._known[kind].title().replace("_", ""))
        self._endpoint.set_status_mask(mask)

    def take(self) -> list[EndpointEvent]:
        """What is watched and has happened since the last call; nothing of an endpoint that is gone."""
        happened = []
        for kind, status in list(self._statuses.items()):
            read = cyclone_calls.status_of[self._known[kind]]
            if read(self._endpoint._ref, ctypes.byref(status)) < 0:
                continue
            counts = {name: int(getattr(status, name)) for name, _ in status._fields_}
            if any(count for name, count in counts.items() if name.endswith("_change")):
                policy = counts.pop("last_policy_id", 0)
                happened.append(EndpointEvent(kind, counts, POLICIES.get(policy, f"policy {policy}")))
        return happened
