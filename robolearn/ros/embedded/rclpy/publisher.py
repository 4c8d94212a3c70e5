"""`rclpy.publisher`."""

from __future__ import annotations

from typing import Any

from robolearn.ros.messages import Message
from robolearn.ros.session import LocalPublisher

from .callback_groups import CallbackGroup
from .context import Context
from .duration import Duration
from .event_handler import EventHandler, PublisherEventCallbacks, unfit
from .exceptions import InvalidHandle, RCLError
from .logging import get_logger
from .qos import QoSProfile
from .signals import raise_waiting


class Publisher:
    """Sends messages of one type on one topic."""

    def __init__(
        self,
        context: Context,
        msg_type: type[Message],
        topic: str,
        qos_profile: QoSProfile,
        callback_group: CallbackGroup,
        logger_name: str,
        event_callbacks: PublisherEventCallbacks | None,
    ) -> None:
        self._end: LocalPublisher | None = None
        self._context = context
        self.msg_type = msg_type
        self.topic = self.topic_name = topic
        self.qos_profile = qos_profile
        self.callback_group = callback_group
        self._logger_name = logger_name
        self._events = EventHandler(event_callbacks or PublisherEventCallbacks(), callback_group, self._warn)

    @property
    def _source(self) -> Any:
        return None if self._end is None else self._end.writer

    def _drain(self) -> None:
        """Take over what is told of this publisher."""
        if self._end is not None:
            self._events.take(self._end.writer.events)

    def _is_ready(self) -> bool:
        return False  # its events are called back with by their handler

    def _warn(self, policy: str) -> None:
        """Tell of a subscription that will hear nothing of this publisher."""
        get_logger(self._logger_name).warning(
            f"a subscription of {self.topic} hears nothing of this publisher, whose {unfit(policy)}; give both the same"
        )

    def _open(self) -> LocalPublisher:
        if self._end is None:
            raise InvalidHandle("cannot use Destroyable because destruction was requested")
        if not self._context.ok():
            raise_waiting()
            raise RCLError(f"Failed to publish on {self.topic}: publisher's context is invalid")
        return self._end

    def publish(self, msg: Any) -> None:
        """Send a message, or its CDR bytes. The message may be changed and sent again afterwards."""
        end = self._end
        if end is None or not self._context._ok:
            end = self._open()
        if type(msg) is not self.msg_type and not isinstance(msg, bytes):
            raise TypeError(f"Expected {self.msg_type}, got {type(msg)}")
        end.publish(msg)

    def get_subscription_count(self) -> int:
        return self._open().matched()

    def assert_liveliness(self) -> None:
        self._open().writer.assert_liveliness()

    def wait_for_all_acked(self, timeout: Duration | None = None) -> bool:
        """Whether all that was sent has arrived at reliable subscriptions of other processes within the time."""
        endless = timeout is None or timeout.nanoseconds < 0
        return self._open().writer.wait_for_acks(2**63 - 1 if endless or timeout is None else timeout.nanoseconds)

    def destroy(self) -> None:
        end, self._end = self._end, None
        if end is not None:
            end.close()

    def __enter__(self) -> Publisher:
        return self

    def __exit__(self, *_: object) -> None:
        self.destroy()
