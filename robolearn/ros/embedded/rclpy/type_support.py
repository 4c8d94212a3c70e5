"""Checks that a type is a message, service or action class."""

from __future__ import annotations

from typing import Any

from robolearn.ros.messages import Message

from .exceptions import NoTypeSupportImportedException


def check_for_type_support(cls: Any, kind: str) -> None:
    """`kind` is 'msg', 'srv' or 'action'. Raises NoTypeSupportImportedException."""
    wanted = {"msg": "_FIELD_TYPES", "srv": "Request", "action": "Goal"}[kind]
    fits = isinstance(cls, type) and hasattr(cls, "_TYPE") and hasattr(cls, wanted)
    if not fits or (kind == "msg" and not issubclass(cls, Message)):
        raise NoTypeSupportImportedException(f"{cls!r} is no {kind} type, e.g. std_msgs.msg.String")


def check_is_valid_msg_type(cls: Any) -> None:
    check_for_type_support(cls, "msg")


def check_is_valid_srv_type(cls: Any) -> None:
    check_for_type_support(cls, "srv")
