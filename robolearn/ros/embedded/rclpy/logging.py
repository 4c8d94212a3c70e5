"""`rclpy.logging`: lines in the format of ROS on stderr, and on /rosout for the loggers of nodes."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

from .clock_type import ClockType
from .logging_severity import LoggingSeverity

__all__ = ["LoggingSeverity", "RcutilsLogger", "get_logger", "get_logging_severity_from_string", "set_logger_level"]

_levels: dict[str, LoggingSeverity] = {"": LoggingSeverity.INFO}
_rosout: dict[str, Callable[[LoggingSeverity, str, str, int, FrameType], None]] = {}
Filter = dict[str, Any]
_state: dict[tuple[str, int, str], float | bool] = {}  # per call site: when it last spoke, or that it has spoken


def get_logging_severity_from_string(name: str) -> LoggingSeverity:
    text = "WARN" if name.upper() == "WARNING" else name.upper()
    if text not in LoggingSeverity.__members__:
        raise ValueError(f"unknown log level {name!r}; known: debug, info, warn, error, fatal")
    return LoggingSeverity[text]


def set_levels(levels: list[tuple[str | None, str]]) -> None:
    """Apply `--log-level` arguments."""
    for name, level in levels:
        _levels[name or ""] = get_logging_severity_from_string(level)


def set_logger_level(name: str, level: int, detailed_error: bool = False) -> None:
    _levels[name] = LoggingSeverity(level)


def get_logger_level(name: str) -> LoggingSeverity:
    return _levels.get(name, LoggingSeverity.UNSET)


def get_logger_effective_level(name: str) -> LoggingSeverity:
    """Of the logger itself, or of its nearest ancestor with a level."""
    while True:
        level = _levels.get(name, LoggingSeverity.UNSET)
        if level is not LoggingSeverity.UNSET or not name:
            return level or LoggingSeverity.INFO
        name = name.rpartition(".")[0]


def publish_to_rosout(name: str, publish: Callable[[LoggingSeverity, str, str, int, FrameType], None] | None) -> None:
    """Send the lines of one node's loggers to its /rosout publisher; None ends that."""
    if publish is None:
        _rosout.pop(name, None)
    else:
        _rosout[name] = publish


class RcutilsLogger:
    """A named logger."""

    def __init__(self, name: str = "") -> None:
        self.name = name

    def get_child(self, name: str) -> RcutilsLogger:
        if not name:
            raise ValueError("Child logger name must not be empty.")
        return RcutilsLogger(f"{self.name}.{name}" if self.name else name)

    def set_level(self, level: int) -> None:
        set_logger_level(self.name, level)

    def get_effective_level(self) -> LoggingSeverity:
        return get_logger_effective_level(self.name)

    def is_enabled_for(self, severity: int) -> bool:
        return severity >= self.get_effective_level()

    def log(self, message: Any, severity: int, name: str | None = None, **filters: Any) -> bool:
        """Write one line. Filters: once, skip_first, throttle_duration_sec, throttle_time_source_type."""
        severity = LoggingSeverity(severity)
        if not self.is_enabled_for(severity):
            return False
        frame = sys._getframe(1)
        while frame.f_back is not None and frame.f_code.co_filename == __file__:
            frame = frame.f_back
        if filters and not _passes(frame, filters):
            return False
        stamp_ns = time.time_ns()
        name = self.name if name is None else name
        line = f"[{severity.name}] [{stamp_ns // 10**9}.{stamp_ns % 10**9:09d}] [{name}]: {message}\n"
        with contextlib.suppress(OSError):  # who reads it is gone, or the disk is full: the node goes on, as natively
            sys.stderr.write(line)
            sys.stderr.flush()
        publish = _publisher_for(name)
        if publish is not None:
            publish(severity, name, str(message), stamp_ns, frame)
        return True

    def debug(self, message: Any, **filters: Any) -> bool:
        return self.log(message, LoggingSeverity.DEBUG, **filters)

    def info(self, message: Any, **filters: Any) -> bool:
        return self.log(message, LoggingSeverity.INFO, **filters)

    def warning(self, message: Any, **filters: Any) -> bool:
        return self.log(message, LoggingSeverity.WARN, **filters)

    warn = warning

    def error(self, message: Any, **filters: Any) -> bool:
        return self.log(message, LoggingSeverity.ERROR, **filters)

    def fatal(self, message: Any, **filters: Any) -> bool:
        return self.log(message, LoggingSeverity.FATAL, **filters)


def _publisher_for(name: str) -> Callable[[LoggingSeverity, str, str, int, FrameType], None] | None:
    while name and name not in _rosout:
        name = name.rpartition(".")[0]
    return _rosout.get(name)


def _passes(frame: FrameType, filters: Filter) -> bool:
    """Apply the filters at the place of the call."""
    unknown = filters.keys() - {"once", "skip_first", "throttle_duration_sec", "throttle_time_source_type"}
    if unknown:
        raise TypeError(f"unknown logging parameter(s) {sorted(unknown)}")
    site = (frame.f_code.co_filename, frame.f_lineno)
    passes = True
    if filters.get("skip_first"):
        passes = bool(_state.get((*site, "skip_first")))
        _state[(*site, "skip_first")] = True
    if filters.get("once"):
        passes = passes and not _state.get((*site, "once"))
        _state[(*site, "once")] = True
    period = filters.get("throttle_duration_sec")
    if passes and period is not None:
        source = filters.get("throttle_time_source_type")
        now = time.monotonic() if source in (None, ClockType.STEADY_TIME) else source.now().nanoseconds / 1e9
        last = _state.get((*site, "throttle"))
        passes = last is None or now - last >= period
        if passes:
            _state[(*site, "throttle")] = now
    return passes


def get_logger(name: str) -> RcutilsLogger:
    if not name:
        raise ValueError("Logger name must not be empty.")
    return RcutilsLogger(name)
