"""rclpy where ROS 2 is not installed: the API of the ROS 2 client library over Cyclone DDS."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .context import Context
from .executors import Executor, SingleThreadedExecutor
from .node import Node
from .parameter import Parameter
from .signals import SignalHandlerOptions, install_signal_handlers, raise_waiting, uninstall_signal_handlers
from .task import Future
from .utilities import get_default_context, get_rmw_implementation_identifier, ok
from .utilities import shutdown as _shutdown
from .utilities import try_shutdown as _try_shutdown

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "Context",
    "Future",
    "Node",
    "Parameter",
    "create_node",
    "get_default_context",
    "get_global_executor",
    "get_rmw_implementation_identifier",
    "init",
    "ok",
    "shutdown",
    "spin",
    "spin_once",
    "spin_until_future_complete",
    "try_shutdown",
]

_global_executor: Executor | None = None


class _Initialized:
    """What `init` returns: with it in a `with` statement, shutdown follows by itself."""

    def __init__(self, context: Context | None) -> None:
        self._context = context

    def __enter__(self) -> _Initialized:
        return self

    def __exit__(self, *_: object) -> None:
        try_shutdown(context=self._context)


def init(
    *,
    args: list[str] | None = None,
    context: Context | None = None,
    domain_id: int | None = None,
    signal_handler_options: SignalHandlerOptions | None = None,
) -> Any:
    """Join the ROS domain. Raises TransportError if that fails, RuntimeError if it was done before."""
    if signal_handler_options is None:
        default = context is None or context is get_default_context()
        signal_handler_options = SignalHandlerOptions.ALL if default else SignalHandlerOptions.NO
    (get_default_context() if context is None else context).init(args, domain_id=domain_id)
    install_signal_handlers(signal_handler_options)
    return _Initialized(context)


def shutdown(*, context: Context | None = None, uninstall_handlers: bool | None = None) -> None:
    """Leave the domain. Raises RuntimeError if it is not joined."""
    _end(context, uninstall_handlers, _shutdown)


def try_shutdown(*, context: Context | None = None, uninstall_handlers: bool | None = None) -> None:
    """Leave the domain if it is joined."""
    _end(context, uninstall_handlers, _try_shutdown)


def _end(context: Context | None, uninstall_handlers: bool | None, end: Callable[..., None]) -> None:
    global _global_executor
    is_default = context is None or context is get_default_context()
    try:
        end(context=None if is_default else context)
    finally:
        if is_default and _global_executor is not None:
            _global_executor.shutdown()
            _global_executor = None
    if uninstall_handlers or (uninstall_handlers is None and is_default):
        uninstall_signal_handlers()


def create_node(node_name: str, **options: Any) -> Node:
    return Node(node_name, **options)


def get_global_executor() -> Executor:
    """The executor of the module's spin functions."""
    global _global_executor
    if _global_executor is None:
        _global_executor = SingleThreadedExecutor()
    return _global_executor


def spin_once(node: Node, *, executor: Executor | None = None, timeout_sec: float | None = None) -> None:
    """Run one callback of the node, or return after the time."""
    executor = get_global_executor() if executor is None else executor
    added = executor.add_node(node)
    try:
        executor.spin_once(timeout_sec=timeout_sec)
    finally:
        if added:
            executor.remove_node(node)


def spin(node: Node, executor: Executor | None = None) -> None:
    """Run the node's callbacks until the context is shut down."""
    executor = get_global_executor() if executor is None else executor
    added = executor.add_node(node)
    try:
        while executor.context.ok():
            executor.spin_once()
        raise_waiting()
    finally:
        if added:
            executor.remove_node(node)


def spin_until_future_complete(
    node: Node, future: Future, executor: Executor | None = None, timeout_sec: float | None = None
) -> None:
    """Run the node's callbacks until the future is done, the time is over or the context is shut down."""
    executor = get_global_executor() if executor is None else executor
    added = executor.add_node(node)
    try:
        executor.spin_until_future_complete(future, timeout_sec)
    finally:
        if added:
            executor.remove_node(node)
