"""`rclpy.wait_for_message`."""

from __future__ import annotations

import time
from typing import Any

from .qos import QoSProfile


def wait_for_message(
    msg_type: Any, node: Any, topic: str, *, qos_profile: QoSProfile | int = 1, time_to_wait: float = -1
) -> tuple[bool, Any]:
    """(True, the next message of a topic), or (False, None) after the time [s]. Does not spin the node."""
    subscription = node.create_subscription(msg_type, topic, lambda _: None, qos_profile)
    node._rclpy.subscriptions.remove(subscription)  # an executor of the node is not to take the message
    executor = node.executor
    if executor is not None:
        executor._ignore(subscription)
    received: list[Any] = []
    subscription.callback = received.append
    waiter = node._rclpy.session.transport.create_waiter()
    waiter.attach(subscription._source, subscription)
    subscription._wake = waiter.wake
    end = time.monotonic() + time_to_wait
    try:
        while node.context.ok() and not received:
            remaining = 1.0 if time_to_wait < 0 else end - time.monotonic()
            if remaining <= 0:
                break
            waiter.wait(int(remaining * 1e9))
            subscription._drain()
            work = subscription._take() if subscription._is_ready() else None
            if work is not None:
                work()
    finally:
        waiter.close()
        subscription.destroy()
    return (True, received[0]) if received else (False, None)
