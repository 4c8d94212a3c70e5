"""`rclpy.guard_condition`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .callback_groups import CallbackGroup
from .context import Context
from .utilities import get_default_context


class GuardCondition:
    """Has the executor call back once it is triggered."""

    def __init__(
        self, callback: Callable[[], Any] | None, callback_group: CallbackGroup | None, context: Context | None = None
    ) -> None:
        self._context = get_default_context() if context is None else context
        self.callback = callback
        self.callback_group = callback_group
        self._triggered = False
        self._wake: Callable[[], None] = lambda: None

    def trigger(self) -> None:
        self._triggered = True
        self._wake()

    _source = None

    def _is_ready(self) -> bool:
        return self._triggered

    def _take(self) -> Callable[[], Any] | None:
        self._triggered = False
        return self.callback

    def destroy(self) -> None:
        self._triggered = False
