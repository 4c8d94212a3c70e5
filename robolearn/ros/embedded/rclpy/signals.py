"""`rclpy.signals`: SIGINT and SIGTERM shut every context down.

Ctrl-C is a KeyboardInterrupt in the user's code at once. In the middle of this library's code it could be swallowed by
a destructor or by the DDS binding, so there it waits for the next place that can pass it on. Where the library waits
for another thread, as in a synchronous call, there is no such place, and nothing that could swallow it.
"""

from __future__ import annotations

import signal
import sys
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
_LIBRARY = ("rclpy.", "robolearn.ros.", "cyclonedds.", "rosbags.")
_waiting: list[BaseException] = []


def _handle(number: int, frame: FrameType | None) -> None:
    from .context import contexts

    for context in list(contexts):
        context._interrupt()
    previous = _previous.get(signal.Signals(number))
    if not callable(previous):
        return
    if _waiting or not _in_library(frame):
        previous(number, frame)  # Python's own handler of SIGINT raises KeyboardInterrupt
        return
    try:
        previous(number, frame)
    except KeyboardInterrupt as interrupt:
        _waiting.append(interrupt)


def _in_library(frame: FrameType | None) -> bool:
    """Whether this library runs, or Python's own library on its behalf, and does not just wait for another thread."""
    if frame is not None and frame.f_code is threading.Condition.wait.__code__:
        return False
    while frame is not None:
        module = f"{frame.f_globals.get('__name__', '')}."
        if module.startswith(_LIBRARY):
            return True
        if module.partition(".")[0] not in sys.stdlib_module_names:
            return False
        frame = frame.f_back
    return False


def raise_waiting() -> None:
    """Raise the KeyboardInterrupt that has waited, if there is one and this is the thread that it is for."""
    if _waiting and threading.current_thread() is threading.main_thread():
        interrupt = _waiting[0]
        _waiting.clear()
        raise interrupt


def forget_waiting() -> None:
    """The context is left anyway."""
    _waiting.clear()


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
