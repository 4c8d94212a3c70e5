"""What DDS tells of a reader or writer besides samples: matches, missed deadlines, lost liveliness, ends
that do not fit."""

from __future__ import annotations

import ctypes
from collections.abc import Iterable, Mapping
from typing import Any

from cyclonedds.core import DDSStatus
from cyclonedds.internal import dds_c_t

from robolearn.ros import cyclone_calls
from robolearn.ros.transport import INCOMPATIBLE_QOS, INCOMPATIBLE_TYPE, MATCHED, TYPE_POLICY, EndpointEvent

POLICIES = {2: "durability", 4: "deadline", 8: "liveliness", 11: "reliability", 24: TYPE_POLICY}  # as DDS numbers them
READER_EVENTS = {
    INCOMPATIBLE_QOS: "requested_incompatible_qos",
    "deadline": "requested_deadline_missed",
    "liveliness": "liveliness_changed",
    "message_lost": "sample_lost",
    MATCHED: "subscription_matched",
}
WRITER_EVENTS = {
    INCOMPATIBLE_QOS: "offered_incompatible_qos",
    "deadline": "offered_deadline_missed",
    "liveliness": "liveliness_lost",
    MATCHED: "publication_matched",
}


class CycloneEvents:
    """Of one endpoint. A wait that it is attached to ends with what is watched, at first incompatible ends alone."""

    def __init__(self, endpoint: Any, known: Mapping[str, str]) -> None:
        self._endpoint, self._known = endpoint, known
        self._watched: dict[str, _Status] = {}
        self.watch([INCOMPATIBLE_QOS])

    def watch(self, kinds: Iterable[str]) -> None:
        """End waits for these, too."""
        self._watched |= {kind: _Status(self._known[kind]) for kind in kinds if kind != INCOMPATIBLE_TYPE}
        self._endpoint.set_status_mask(sum(status.bit for status in self._watched.values()))

    def take(self) -> list[EndpointEvent]:
        """What is watched and has happened since the last call; nothing of an endpoint that is gone."""
        happened = []
        for kind, status in list(self._watched.items()):
            if status.changed(self._endpoint._ref):
                counts = status.counts()
                number = counts.pop("last_policy_id", 0)
                policy = POLICIES.get(number, f"policy {number}")
                happened.append(EndpointEvent(INCOMPATIBLE_TYPE if policy == TYPE_POLICY else kind, counts, policy))
        return happened


class _Status:
    """One status of DDS, with room for it: it is asked for with every message."""

    def __init__(self, name: str) -> None:
        self._read = cyclone_calls.status_of[name]
        self._room = getattr(dds_c_t, f"{name}_status")()
        self._at = ctypes.byref(self._room)
        self._changes = [field for field, _ in self._room._fields_ if field.endswith("_change")]
        self.bit: int = getattr(DDSStatus, name.title().replace("_", ""))

    def changed(self, endpoint: int) -> bool:
        return self._read(endpoint, self._at) >= 0 and any(getattr(self._room, field) for field in self._changes)

    def counts(self) -> dict[str, int]:
        return {field: int(getattr(self._room, field)) for field, _ in self._room._fields_}
