"""`rclpy.signals`: SIGINT and SIGTERM shut every context down."""

from __future__ import annotations

import signal
import threading
from enum import IntFlag
from types import FrameType
from typing import Any


class SignalHandlerOptions(IntFlag):
    """Which signals to handle."""

    NO = 0
    SIGINT = 1
    SIGTERM = 2
    ALL = 3


_SIGNALS = {SignalHandlerOptions.SIGINT: signal.SIGINT, SignalHandlerOptions.SIGTERM: signal.SIGTERM}
_previous: dict[signal.Signals, Any] = {}


def _handle(number: int, frame: FrameType | None) -> None:
    from .context import contexts

    for context in list(contexts):
        context._interrupt()
    previous = _previous.get(signal.Signals(number))
    if callable(previous):  # Python's own handler of SIGINT raises KeyboardInterrupt
        previous(number, frame)


def install_signal_handlers(options: SignalHandlerOptions = SignalHandlerOptions.ALL) -> None:
    """Take over the signals. Outside the main thread Python allows none, and none is taken."""
    if threading.current_thread() is not threading.main_thread():
        return
    for option, number in _SIGNALS.items():
        if option in options and number not in _previous:
            _previous[number] = signal.signal(number, _handle)


def get_current_signal_handlers_options() -> SignalHandlerOptions:
    return SignalHandlerOptions(sum(option for option, number in _SIGNALS.items() if number in _previous))


def uninstall_signal_handlers() -> None:
    """Give the signals back."""
    if threading.current_thread() is threading.main_thread():
        for number, handler in list(_previous.items()):
            signal.signal(number, handler)
            del _previous[number]
