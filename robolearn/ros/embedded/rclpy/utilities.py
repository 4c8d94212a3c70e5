"""`rclpy.utilities`."""

from __future__ import annotations

import sys
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING

from robolearn.ros.arguments import without_ros_arguments

if TYPE_CHECKING:
    from .context import Context

_default_context: Context | None = None
_lock = threading.Lock()


def get_default_context(*, shutting_down: bool = False) -> Context:
    """The context of calls that name none. After a shutdown the next call makes a new one."""
    global _default_context
    from .context import Context

    with _lock:
        if _default_context is None:
            _default_context = Context()
        context = _default_context
        if shutting_down:
            _default_context = None
        return context


def ok(*, context: Context | None = None) -> bool:
    return (get_default_context() if context is None else context).ok()


def shutdown(*, context: Context | None = None) -> None:
    (get_default_context(shutting_down=True) if context is None else context).shutdown()


def try_shutdown(*, context: Context | None = None) -> None:
    (get_default_context(shutting_down=True) if context is None else context).try_shutdown()


def remove_ros_args(args: Sequence[str] | None = None) -> list[str]:
    return without_ros_arguments(sys.argv if args is None else args)


def get_rmw_implementation_identifier() -> str:
    return "rmw_cyclonedds_cpp"


def timeout_sec_to_nsec(timeout_sec: float | None) -> int:
    """None or negative waits for ever, which is -1."""
    return -1 if timeout_sec is None or timeout_sec < 0 else int(timeout_sec * 1e9)
