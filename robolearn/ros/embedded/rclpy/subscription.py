"""`rclpy.subscription`."""

from __future__ import annotations

import inspect
import time
from collections import deque
from collections.abc import Callable
from enum import Enum
from typing import Any

from robolearn.ros import messages
from robolearn.ros.messages import Message
from robolearn.ros.session import LocalSubscription, Payload

from .callback_groups import CallbackGroup
from .event_handler import EventHandler, SubscriptionEventCallbacks, unfit
from .exceptions import InvalidHandle
from .logging import get_logger
from .qos import HistoryPolicy, QoSProfile


def warn_malformed(logger_name: str, count: int, error: Exception) -> None:
    """A line for the 1st, 10th, 100th ... malformed message of one endpoint, so that a flood stays readable."""
    if count in (1, 10, 100, 1000) or count % 10_000 == 0:
        get_logger(logger_name).warning(f"dropped {count} malformed message(s) so far: {error}")


class Subscription:
    """Calls back with every message of one topic, in the order of arrival."""

    class CallbackType(Enum):
        MessageOnly = 0
        WithMessageInfo = 1

    def __init__(
        self,
        msg_type: type[Message],
        topic: str,
        callback: Callable[..., Any],
        callback_group: CallbackGroup,
        qos_profile: QoSProfile,
        raw: bool,
        logger_name: str,
        event_callbacks: SubscriptionEventCallbacks | None,
    ) -> None:
        self.msg_type = msg_type
        self.topic = self.topic_name = topic
        self.callback = callback
        self.callback_group = callback_group
        self.qos_profile = qos_profile
        self.raw = raw
        self.malformed_count = 0
        keep_all = qos_profile.history is HistoryPolicy.KEEP_ALL
        self._queue: deque[tuple[Payload, int, int]] = deque(maxlen=None if keep_all else max(1, qos_profile.depth))
        self._drained = False
        self._with_info = _wants_info(callback)
        self._logger_name = logger_name
        self._wake: Callable[[], None] = lambda: None
        self._end: LocalSubscription | None = None
        self._events = EventHandler(event_callbacks or SubscriptionEventCallbacks(), callback_group, self._warn)

    def _deliver(self, message: Message, stamp_ns: int) -> None:
        """Called by publishers of this process, in their thread."""
        self._queue.append((message, stamp_ns, time.time_ns()))
        self._wake()

    @property
    def _source(self) -> Any:
        return None if self._end is None else self._end.reader

    def _drain(self) -> None:
        """Take over what other processes sent. The queue keeps the last `depth` of everything."""
        self._drained = True
        if self._end is not None:
            now_ns = time.time_ns()
            self._queue.extend((data, stamp_ns, now_ns) for data, stamp_ns in self._end.reader.take())
            self._events.take(self._end.reader.events)

    def _warn(self, policy: str) -> None:
        """Tell of a publisher that this subscription will hear nothing of."""
        get_logger(self._logger_name).warning(
            f"a publisher of {self.topic} is not heard by this subscription: its {unfit(policy)}; give both the same"
        )

    def _is_ready(self) -> bool:
        return bool(self._queue)

    def _take(self) -> Callable[[], Any] | None:
        if not self._drained:  # what came while other callbacks ran pushes out what is too old by now
            self._drain()
        self._drained = False
        try:
            payload, stamp_ns, received_ns = self._queue.popleft()
        except IndexError:
            return None
        message: Any = payload
        if self.raw and isinstance(payload, Message):
            message = bytes(messages.serialize(payload))
        elif not self.raw and isinstance(payload, bytes):
            try:
                message = messages.deserialize(payload, self.msg_type)
            except ValueError as error:
                self.malformed_count += 1
                warn_malformed(self._logger_name, self.malformed_count, error)
                return None
        if not self._with_info:
            return lambda: self.callback(message)
        info = {"source_timestamp": stamp_ns, "received_timestamp": received_ns, "publication_sequence_number": None}
        info["reception_sequence_number"] = None
        return lambda: self.callback(message, info)

    def get_publisher_count(self) -> int:
        if self._end is None:
            raise InvalidHandle("cannot use Destroyable because destruction was requested")
        return self._end.matched()

    def destroy(self) -> None:
        end, self._end = self._end, None
        self._queue.clear()
        if end is not None:
            end.close()

    def __enter__(self) -> Subscription:
        return self

    def __exit__(self, *_: object) -> None:
        self.destroy()


def _wants_info(callback: Callable[..., Any]) -> bool:
    """Whether the callback takes the message and its info, and not the message alone."""
    try:
        signature = inspect.signature(callback)
    except ValueError:  # a builtin such as list.append
        return False
    try:
        signature.bind(object())
    except TypeError:
        try:
            signature.bind(object(), object())
        except TypeError:
            raise RuntimeError(
                "Subscription.__init__(): callback should be either be callable with one argument "
                "(to get only the message) or two (to get message and message info)"
            ) from None
        return True
    return False
