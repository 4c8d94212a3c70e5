"""`rclpy.lifecycle.managed_entity`."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from .states import TransitionCallbackReturn


class ManagedEntity:
    """Takes part in its node's transitions."""

    def on_configure(self, state: Any) -> TransitionCallbackReturn:
        return TransitionCallbackReturn.SUCCESS

    def on_cleanup(self, state: Any) -> TransitionCallbackReturn:
        return TransitionCallbackReturn.SUCCESS

    def on_shutdown(self, state: Any) -> TransitionCallbackReturn:
        return TransitionCallbackReturn.SUCCESS

    def on_activate(self, state: Any) -> TransitionCallbackReturn:
        return TransitionCallbackReturn.SUCCESS

    def on_deactivate(self, state: Any) -> TransitionCallbackReturn:
        return TransitionCallbackReturn.SUCCESS

    def on_error(self, state: Any) -> TransitionCallbackReturn:
        return TransitionCallbackReturn.SUCCESS


class SimpleManagedEntity(ManagedEntity):
    """Enabled while the node is active."""

    def __init__(self) -> None:
        self._enabled = False

    def on_activate(self, state: Any) -> TransitionCallbackReturn:
        self._enabled = True
        return TransitionCallbackReturn.SUCCESS

    def on_deactivate(self, state: Any) -> TransitionCallbackReturn:
        self._enabled = False
        return TransitionCallbackReturn.SUCCESS

    @property
    def is_activated(self) -> bool:
        return self._enabled

    @staticmethod
    def when_enabled(method: Callable[..., Any]) -> Callable[..., Any]:
        """Decorate a method to do nothing while the entity is not enabled."""

        @wraps(method)
        def wrapper(self: SimpleManagedEntity, *args: Any, **kwargs: Any) -> Any:
            return method(self, *args, **kwargs) if self._enabled else None

        return wrapper
