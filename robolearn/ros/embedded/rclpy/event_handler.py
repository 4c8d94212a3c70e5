"""`rclpy.event_handler`: what happens to publishers and subscriptions besides messages.

Deadlines and liveliness are those of other processes: between two ends of one process messages are handed over, which
misses nothing. An end of this process whose type or quality of service does not fit is told to the subscription.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Any

from robolearn.ros.transport import (
    INCOMPATIBLE_QOS,
    INCOMPATIBLE_TYPE,
    MATCHED,
    TYPE_POLICY,
    EndpointEvent,
    EndpointEvents,
)

from .callback_groups import CallbackGroup
from .qos import QoSPolicyKind


class QoSSubscriptionEventType(IntEnum):
    RCL_SUBSCRIPTION_REQUESTED_DEADLINE_MISSED = 0
    RCL_SUBSCRIPTION_LIVELINESS_CHANGED = 1
    RCL_SUBSCRIPTION_REQUESTED_INCOMPATIBLE_QOS = 2
    RCL_SUBSCRIPTION_MESSAGE_LOST = 3
    RCL_SUBSCRIPTION_INCOMPATIBLE_TYPE = 4
    RCL_SUBSCRIPTION_MATCHED = 5


class QoSPublisherEventType(IntEnum):
    RCL_PUBLISHER_OFFERED_DEADLINE_MISSED = 0
    RCL_PUBLISHER_LIVELINESS_LOST = 1
    RCL_PUBLISHER_OFFERED_INCOMPATIBLE_QOS = 2
    RCL_PUBLISHER_INCOMPATIBLE_TYPE = 3
    RCL_PUBLISHER_MATCHED = 4


class UnsupportedEventTypeError(RuntimeError):
    """Of a native middleware that does not tell of some kind of event; this one tells of all."""


@dataclass(frozen=True)
class QoSRequestedDeadlineMissedInfo:
    """Times that no message came within the deadline, ever and since the last event; so for the others that count."""

    total_count: int
    total_count_change: int


class QoSOfferedDeadlineMissedInfo(QoSRequestedDeadlineMissedInfo):
    """Times that nothing was published within the deadline."""


class QoSLivelinessLostInfo(QoSRequestedDeadlineMissedInfo):
    """Times that the publisher did not say within its lease that it lives."""


class QoSMessageLostInfo(QoSRequestedDeadlineMissedInfo):
    """Messages that did not arrive."""


class IncompatibleTypeInfo(QoSRequestedDeadlineMissedInfo):
    """Ends of this topic with another type."""


@dataclass(frozen=True)
class QoSLivelinessChangedInfo:
    """Publishers that live, and those that have not said so within their lease."""

    alive_count: int
    not_alive_count: int
    alive_count_change: int
    not_alive_count_change: int


@dataclass(frozen=True)
class QoSSubscriptionMatchedInfo:
    """Ends that fit: ever, and now."""

    total_count: int
    total_count_change: int
    current_count: int
    current_count_change: int


QoSPublisherMatchedInfo = QoSSubscriptionMatchedInfo


@dataclass(frozen=True)
class QoSRequestedIncompatibleQoSInfo:
    """Ends that do not fit, and the policy of the last one."""

    total_count: int
    total_count_change: int
    last_policy_kind: QoSPolicyKind


QoSOfferedIncompatibleQoSInfo = QoSRequestedIncompatibleQoSInfo
OF_SUBSCRIPTIONS: Mapping[str, Any] = {
    INCOMPATIBLE_QOS: QoSRequestedIncompatibleQoSInfo,
    INCOMPATIBLE_TYPE: IncompatibleTypeInfo,
    "deadline": QoSRequestedDeadlineMissedInfo,
    "liveliness": QoSLivelinessChangedInfo,
    "message_lost": QoSMessageLostInfo,
    MATCHED: QoSSubscriptionMatchedInfo,
}
OF_PUBLISHERS: Mapping[str, Any] = {
    INCOMPATIBLE_QOS: QoSOfferedIncompatibleQoSInfo,
    INCOMPATIBLE_TYPE: IncompatibleTypeInfo,
    "deadline": QoSOfferedDeadlineMissedInfo,
    "liveliness": QoSLivelinessLostInfo,
    MATCHED: QoSPublisherMatchedInfo,
}


UNFIT = (INCOMPATIBLE_QOS, INCOMPATIBLE_TYPE)
SUMMED = (*UNFIT, MATCHED)


class _Callbacks:
    """By kind of event."""

    def __init__(self, infos: Mapping[str, Any], use_default: bool, **given: Callable[[Any], None] | None) -> None:
        self.infos, self.use_default_callbacks = infos, use_default
        self.given = {kind: callback for kind, callback in given.items() if callback is not None}


class SubscriptionEventCallbacks(_Callbacks):
    """Without a callback of its own a publisher whose type or quality of service does not fit is a warning."""

    def __init__(
        self,
        *,
        deadline: Callable[[QoSRequestedDeadlineMissedInfo], None] | None = None,
        liveliness: Callable[[QoSLivelinessChangedInfo], None] | None = None,
        message_lost: Callable[[QoSMessageLostInfo], None] | None = None,
        incompatible_type: Callable[[IncompatibleTypeInfo], None] | None = None,
        incompatible_qos: Callable[[QoSRequestedIncompatibleQoSInfo], None] | None = None,
        matched: Callable[[QoSSubscriptionMatchedInfo], None] | None = None,
        use_default_callbacks: bool = True,
    ) -> None:
        super().__init__(
            OF_SUBSCRIPTIONS, use_default_callbacks, deadline=deadline, liveliness=liveliness,
            message_lost=message_lost, incompatible_type=incompatible_type, incompatible_qos=incompatible_qos,
            matched=matched,
        )  # fmt: skip


class PublisherEventCallbacks(_Callbacks):
    """Without a callback of its own a subscription whose type or quality of service does not fit is a warning."""

    def __init__(
        self,
        *,
        deadline: Callable[[QoSOfferedDeadlineMissedInfo], None] | None = None,
        liveliness: Callable[[QoSLivelinessLostInfo], None] | None = None,
        incompatible_type: Callable[[IncompatibleTypeInfo], None] | None = None,
        incompatible_qos: Callable[[QoSOfferedIncompatibleQoSInfo], None] | None = None,
        matched: Callable[[QoSPublisherMatchedInfo], None] | None = None,
        use_default_callbacks: bool = True,
    ) -> None:
        super().__init__(
            OF_PUBLISHERS, use_default_callbacks, deadline=deadline, liveliness=liveliness,
            incompatible_type=incompatible_type, incompatible_qos=incompatible_qos, matched=matched,
        )  # fmt: skip


def unfit(policy: str) -> str:
    """What it is of an end that does not fit, in words."""
    return "type is another" if policy == TYPE_POLICY else f"quality of service does not fit ({policy})"


class EventHandler:
    """Calls back, in the executor, with what has happened to one endpoint; `warn` is told the policy of an end that
    does not fit where no callback is."""

    _source = None  # its endpoint is what is waited for

    def __init__(self, callbacks: _Callbacks, group: CallbackGroup, warn: Callable[[str], None]) -> None:
        self.callbacks, self.callback_group = callbacks.given, group
        self._infos, self._warn = callbacks.infos, warn if callbacks.use_default_callbacks else lambda policy: None
        self._waiting: deque[EndpointEvent] = deque()
        self._sums: Counter[tuple[str, str]] = Counter()  # of the ends of this process and of others
        self._wake: Callable[[], None] = lambda: None

    def take(self, events: EndpointEvents) -> None:
        """Take over what the endpoint tells."""
        for event in events.take():
            self._put(event)

    def refuse(self, policy: str) -> None:
        """An end of this process does not fit."""
        kind = INCOMPATIBLE_TYPE if policy == TYPE_POLICY else INCOMPATIBLE_QOS
        self._put(EndpointEvent(kind, {"total_count": 1, "total_count_change": 1}, policy))
        self._wake()

    def meet(self, change: int) -> None:
        """An end of this process fits, or is gone."""
        came = max(change, 0)
        counts = {"total_count": came, "total_count_change": came}
        self._put(EndpointEvent(MATCHED, {**counts, "current_count": change, "current_count_change": change}))
        self._wake()

    def _put(self, event: EndpointEvent) -> None:
        if event.kind in self.callbacks:
            self._waiting.append(self._summed(event) if event.kind in SUMMED else event)
        elif event.kind in UNFIT:
            self._warn(event.policy)

    def _summed(self, event: EndpointEvent) -> EndpointEvent:
        """With the ends of this process, of which DDS knows nothing, among those that were counted."""
        counts = dict(event.counts)
        for name in counts.keys() & {"total_count", "current_count"}:
            self._sums[event.kind, name] += counts[f"{name}_change"]
            counts[name] = self._sums[event.kind, name]
        return replace(event, counts=counts)

    def _is_ready(self) -> bool:
        return bool(self._waiting)

    def _take(self) -> Callable[[], Any] | None:
        try:
            event = self._waiting.popleft()
        except IndexError:  # another thread was first
            return None
        counts: dict[str, Any] = {name: n for name, n in event.counts.items() if not name.startswith("last_")}
        if event.kind == INCOMPATIBLE_QOS:
            counts["last_policy_kind"] = QoSPolicyKind.__members__.get(event.policy.upper(), QoSPolicyKind.INVALID)
        info = self._infos[event.kind](**counts)
        return lambda: self.callbacks[event.kind](info)

    def destroy(self) -> None:
        self._waiting.clear()
