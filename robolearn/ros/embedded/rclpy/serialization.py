"""`rclpy.serialization`."""

from __future__ import annotations

from typing import Any

from robolearn.ros import messages

from .type_support import check_for_type_support


def serialize_message(message: Any) -> bytes:
    """CDR bytes of a message."""
    check_for_type_support(type(message), "msg")
    return bytes(messages.serialize(message))


def deserialize_message(serialized_message: bytes, message_type: Any) -> Any:
    """The message of CDR bytes. Raises ValueError."""
    check_for_type_support(message_type, "msg")
    return messages.deserialize(serialized_message, message_type)
