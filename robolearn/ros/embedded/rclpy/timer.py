"""`rclpy.timer`: timers, and rates made of them."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .callback_groups import CallbackGroup
from .clock import Clock
from .context import Context
from .exceptions import InvalidHandle, ROSInterruptException
from .time import Time


@dataclass(frozen=True)
class TimerInfo:
    """When a call was due and when it came."""

    expected_call_time: Time
    actual_call_time: Time


class Timer:
    """Calls back every period. A call that comes late does not shift the ones after it; missed ones are left out."""

    def __init__(
        self,
        callback: Callable[..., Any] | None,
        callback_group: CallbackGroup | None,
        timer_period_ns: int,
        clock: Clock,
        *,
        context: Context | None = None,
        autostart: bool = True,
    ) -> None:
        if timer_period_ns < 0:
            raise ValueError("timer period must be a non-negative number")
        self.callback = callback
        self.callback_group = callback_group
        self._clock = clock
        self._period_ns = int(timer_period_ns)
        self._canceled = not autostart
        self._destroyed = False
        self._wake: Callable[[], None] = lambda: None
        self._last_ns = clock._now_ns()
        self._next_ns = self._last_ns + self._period_ns
        self._gives_info = callback is not None and _takes_argument(callback)
        clock._on_update(self._clock_moved)

    _source = None

    def _clock_moved(self) -> None:
        if self._remaining_ns() <= 0:
            self._wake()

    def _remaining_ns(self) -> int:
        """Until the next call; a period at most where time has jumped back, or simulated time began."""
        now_ns = self._clock._now_ns()
        self._next_ns = min(self._next_ns, now_ns + self._period_ns)
        return self._next_ns - now_ns

    @property
    def clock(self) -> Clock:
        return self._clock

    @property
    def timer_period_ns(self) -> int:
        return self._period_ns

    @timer_period_ns.setter
    def timer_period_ns(self, value: int) -> None:
        self._period_ns = int(value)
        self._next_ns = self._last_ns + self._period_ns
        self._wake()

    def _is_ready(self) -> bool:
        return not self._canceled and not self._destroyed and self._remaining_ns() <= 0

    is_ready = _is_ready

    def _wall_wait_ns(self) -> int | None:
        """Wall time until the next call; None if nothing is due before the clock is set again."""
        if self._canceled or self._destroyed or self._clock._simulated:
            return None
        return max(0, self._remaining_ns())

    def _take(self) -> Callable[[], Any] | None:
        expected_ns, now_ns = self._next_ns, self._clock._now_ns()
        self._last_ns = now_ns
        self._next_ns += self._period_ns
        if self._next_ns <= now_ns:
            behind = (now_ns - self._next_ns) // self._period_ns + 1 if self._period_ns else 0
            self._next_ns = self._next_ns + behind * self._period_ns if self._period_ns else now_ns
        callback = self.callback
        if callback is None or not self._gives_info:
            return callback
        kind = self._clock.clock_type
        info = TimerInfo(Time(nanoseconds=expected_ns, clock_type=kind), Time(nanoseconds=now_ns, clock_type=kind))
        return lambda: callback(info)

    def is_canceled(self) -> bool:
        self._check()
        return self._canceled

    def cancel(self) -> None:
        self._check()
        self._canceled = True

    def reset(self) -> None:
        self._check()
        self._canceled = False
        self._last_ns = self._clock._now_ns()
        self._next_ns = self._last_ns + self._period_ns
        self._wake()

    def time_since_last_call(self) -> int:
        self._check()
        return self._clock._now_ns() - self._last_ns

    def time_until_next_call(self) -> int | None:
        self._check()
        return None if self._canceled else self._next_ns - self._clock._now_ns()

    def _check(self) -> None:
        if self._destroyed:
            raise InvalidHandle("cannot use Destroyable because destruction was requested")

    def destroy(self) -> None:
        self._destroyed = True
        if self._clock_moved in self._clock._listeners:
            self._clock._listeners.remove(self._clock_moved)


def _takes_argument(callback: Callable[..., Any]) -> bool:
    try:
        inspect.signature(callback).bind(object())
    except (TypeError, ValueError):
        return False
    try:
        inspect.signature(callback).bind()
    except TypeError:
        return True
    return False


class Rate:
    """`sleep()` blocks until the next tick. The node must be spun by another thread."""

    def __init__(self, timer: Timer, *, context: Context) -> None:
        self._timer = timer
        self._context = context
        self._condition = threading.Condition()
        self._ticks = 0
        self._destroyed = False
        timer.callback = self._tick
        context.on_shutdown(self._presented_shutdown)

    def _tick(self) -> None:
        with self._condition:
            self._ticks += 1
            self._condition.notify_all()

    def _presented_shutdown(self) -> None:
        with self._condition:
            self._condition.notify_all()

    def sleep(self) -> None:
        with self._condition:
            seen = self._ticks
            while self._ticks == seen:
                if self._destroyed:
                    raise RuntimeError("Rate cannot sleep because it has been destroyed")
                if not self._context.ok():
                    raise ROSInterruptException
                if self._timer.is_canceled():
                    raise RuntimeError("Rate cannot sleep because its timer is canceled")
                self._condition.wait(0.1)

    def destroy(self) -> None:
        self._timer.destroy()
        with self._condition:
            self._destroyed = True
            self._condition.notify_all()
