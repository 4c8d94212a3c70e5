"""`rclpy.clock`."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from .clock_type import ClockType
from .context import Context
from .duration import Duration
from .exceptions import NotInitializedException, TimeSourceChangedException
from .time import Time
from .utilities import get_default_context

__all__ = ["Clock", "ClockChange", "ClockType", "JumpHandle", "JumpThreshold", "ROSClock", "TimeJump"]


LOOK_S = 0.1  # while a clock is slept by, whether a signal has ended the context


class ClockChange(IntEnum):
    """What a jump did to the source of time."""

    ROS_TIME_NO_CHANGE = 1
    ROS_TIME_ACTIVATED = 2
    ROS_TIME_DEACTIVATED = 3
    SYSTEM_TIME_NO_CHANGE = 4


class JumpThreshold:
    """Which jumps to tell of."""

    def __init__(
        self, *, min_forward: Duration | None, min_backward: Duration | None, on_clock_change: bool = True
    ) -> None:
        if min_forward is not None and min_forward.nanoseconds <= 0:
            raise ValueError("min_forward must be a positive non-zero duration")
        if min_backward is not None and min_backward.nanoseconds >= 0:
            raise ValueError("min_backward must be a negative non-zero duration")
        if min_forward is None and min_backward is None and not on_clock_change:
            raise ValueError("At least one jump threshold must be enabled")
        self.min_forward, self.min_backward, self.on_clock_change = min_forward, min_backward, on_clock_change


@dataclass(frozen=True)
class TimeJump:
    """A jump of the clock."""

    clock_change: ClockChange
    delta: Duration


class JumpHandle:
    """Registration of a pair of jump callbacks; `unregister` ends it."""

    def __init__(
        self,
        clock: Clock,
        threshold: JumpThreshold,
        pre: Callable[[], None] | None,
        post: Callable[[TimeJump], None] | None,
    ) -> None:
        if pre is None and post is None:
            raise ValueError("One of pre_callback or post_callback must be callable")
        self._clock, self.threshold, self.pre, self.post = clock, threshold, pre, post

    def wants(self, jump: TimeJump) -> bool:
        threshold = self.threshold
        if jump.clock_change in (ClockChange.ROS_TIME_ACTIVATED, ClockChange.ROS_TIME_DEACTIVATED):
            return threshold.on_clock_change
        forward, backward = threshold.min_forward, threshold.min_backward
        return (forward is not None and jump.delta >= forward) or (backward is not None and jump.delta <= backward)

    def unregister(self) -> None:
        if self in self._clock._jump_handles:
            self._clock._jump_handles.remove(self)

    def __enter__(self) -> JumpHandle:
        return self

    def __exit__(self, *_: object) -> None:
        self.unregister()


class Clock:
    """A clock. Nothing is simulated unless it is a ROSClock with an override."""

    def __new__(cls, *, clock_type: ClockType = ClockType.SYSTEM_TIME) -> Clock:
        if not isinstance(clock_type, ClockType):
            raise TypeError("Clock type must be a ClockType enum")
        return super().__new__(ROSClock if clock_type is ClockType.ROS_TIME else cls)

    def __init__(self, *, clock_type: ClockType = ClockType.SYSTEM_TIME) -> None:
        self._clock_type = clock_type
        self._jump_handles: list[JumpHandle] = []
        self._changed = threading.Condition()
        self._listeners: list[Callable[[], None]] = []

    @property
    def clock_type(self) -> ClockType:
        return self._clock_type

    @property
    def _simulated(self) -> bool:
        return False

    def __repr__(self) -> str:
        return f"Clock(clock_type={self._clock_type.name})"

    def _now_ns(self) -> int:
        return time.monotonic_ns() if self._clock_type is ClockType.STEADY_TIME else time.time_ns()

    def now(self) -> Time:
        return Time(nanoseconds=self._now_ns(), clock_type=self._clock_type)

    def create_jump_callback(
        self,
        threshold: JumpThreshold,
        *,
        pre_callback: Callable[[], None] | None = None,
        post_callback: Callable[[TimeJump], None] | None = None,
    ) -> JumpHandle:
        handle = JumpHandle(self, threshold, pre_callback, post_callback)
        self._jump_handles.append(handle)
        return handle

    def _on_update(self, listener: Callable[[], None]) -> None:
        """Call `listener` whenever simulated time moves."""
        self._listeners.append(listener)

    def sleep_until(self, until: Time, context: Context | None = None) -> bool:
        """Block until the clock reaches `until`. False if the context ended or the time source changed first."""
        context = get_default_context() if context is None else context
        if not context.ok():
            raise NotInitializedException
        if until.clock_type != self._clock_type:
            raise ValueError("until's clock type does not match this clock's type")
        simulated = self._simulated
        context.on_shutdown(self._notify)
        with self._changed:
            while context.ok() and self._simulated == simulated:
                remaining_ns = until.nanoseconds - self._now_ns()
                if remaining_ns <= 0:
                    return True
                self._changed.wait(LOOK_S if simulated else min(remaining_ns / 1e9, LOOK_S))
        return False

    def sleep_for(self, rel_time: Duration, context: Context | None = None) -> bool:
        return self.sleep_until(self.now() + rel_time, context)

    def _notify(self) -> None:
        with self._changed:
            self._changed.notify_all()
        for listener in list(self._listeners):
            listener()


class ROSClock(Clock):
    """System time, or the time of `/clock` while it is overridden."""

    def __new__(cls, **_: Any) -> ROSClock:
        return super().__new__(cls, clock_type=ClockType.ROS_TIME)  # type: ignore[return-value]

    def __init__(self, **_: Any) -> None:
        super().__init__(clock_type=ClockType.ROS_TIME)
        self._override_ns: int | None = None

    @property
    def _simulated(self) -> bool:
        return self._override_ns is not None

    @property
    def ros_time_is_active(self) -> bool:
        return self._simulated

    def _now_ns(self) -> int:
        override = self._override_ns
        return time.time_ns() if override is None else override

    def _set_ros_time_is_active(self, enabled: bool) -> None:
        if enabled == self._simulated:
            return
        change = ClockChange.ROS_TIME_ACTIVATED if enabled else ClockChange.ROS_TIME_DEACTIVATED
        self._move(0 if enabled else None, change)

    def set_ros_time_override(self, stamp: Time) -> None:
        if not isinstance(stamp, Time):
            raise TypeError("Time must be specified as rclpy.time.Time")
        change = ClockChange.ROS_TIME_NO_CHANGE if self._simulated else ClockChange.ROS_TIME_ACTIVATED
        self._move(stamp.nanoseconds, change)

    def _move(self, override_ns: int | None, change: ClockChange) -> None:
        before = self._now_ns()
        after = time.time_ns() if override_ns is None else override_ns
        jump = TimeJump(change, Duration(nanoseconds=after - before))
        wanted = [handle for handle in list(self._jump_handles) if handle.wants(jump)]
        for handle in wanted:
            if handle.pre is not None:
                handle.pre()
        self._override_ns = override_ns
        for handle in wanted:
            if handle.post is not None:
                handle.post(jump)
        self._notify()

    def sleep_until(self, until: Time, context: Context | None = None) -> bool:
        simulated = self._simulated
        done = super().sleep_until(until, context)
        if not done and self._simulated != simulated:
            raise TimeSourceChangedException
        return done
