"""`rclpy.time`."""

from __future__ import annotations

from typing import Any

from robolearn.ros.messages import message_class

from .clock_type import ClockType
from .duration import S_TO_NS, Duration


class Time:
    """A moment [ns] of one clock. Times of different clocks do not compare."""

    __slots__ = ("_clock_type", "_nanoseconds")

    def __init__(
        self, *, seconds: float = 0, nanoseconds: int = 0, clock_type: ClockType = ClockType.SYSTEM_TIME
    ) -> None:
        if not isinstance(clock_type, ClockType):
            raise TypeError("Clock type must be a ClockType enum")
        if seconds < 0:
            raise ValueError("Seconds value must not be negative")
        if nanoseconds < 0:
            raise ValueError("Nanoseconds value must not be negative")
        self._nanoseconds = int(seconds * S_TO_NS) + int(nanoseconds)
        if self._nanoseconds >= 2**63:
            raise OverflowError("Total nanoseconds value is too large to store in C time point.")
        self._clock_type = clock_type

    @property
    def nanoseconds(self) -> int:
        return self._nanoseconds

    @property
    def clock_type(self) -> ClockType:
        return self._clock_type

    def seconds_nanoseconds(self) -> tuple[int, int]:
        seconds, nanoseconds = divmod(self._nanoseconds, S_TO_NS)
        return seconds, nanoseconds

    def __repr__(self) -> str:
        return f"Time(nanoseconds={self._nanoseconds}, clock_type={self._clock_type.name})"

    def __hash__(self) -> int:
        return hash((self._nanoseconds, self._clock_type))

    def __add__(self, other: Duration) -> Time:
        if not isinstance(other, Duration):
            return NotImplemented
        try:
            return Time(nanoseconds=self._nanoseconds + other.nanoseconds, clock_type=self._clock_type)
        except OverflowError as error:
            raise OverflowError("Addition leads to overflow in C storage.") from error

    __radd__ = __add__

    def __sub__(self, other: Any) -> Any:
        if isinstance(other, Time):
            self._same_clock(other, "subtract")
            return Duration(nanoseconds=self._nanoseconds - other._nanoseconds)
        if isinstance(other, Duration):
            try:
                return Time(nanoseconds=self._nanoseconds - other.nanoseconds, clock_type=self._clock_type)
            except ValueError as error:
                raise ValueError("Subtraction leads to negative time.") from error
        return NotImplemented

    def _same_clock(self, other: Time, what: str) -> None:
        if self._clock_type != other._clock_type:
            raise TypeError(f"Can't {what} times with different clock types")

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Time):
            return NotImplemented
        self._same_clock(other, "compare")
        return self._nanoseconds == other._nanoseconds

    def __lt__(self, other: Time) -> bool:
        self._same_clock(other, "compare")
        return self._nanoseconds < other._nanoseconds

    def __le__(self, other: Time) -> bool:
        self._same_clock(other, "compare")
        return self._nanoseconds <= other._nanoseconds

    def __gt__(self, other: Time) -> bool:
        self._same_clock(other, "compare")
        return self._nanoseconds > other._nanoseconds

    def __ge__(self, other: Time) -> bool:
        self._same_clock(other, "compare")
        return self._nanoseconds >= other._nanoseconds

    def to_msg(self) -> Any:
        seconds, nanoseconds = self.seconds_nanoseconds()
        return message_class("builtin_interfaces/msg/Time")(sec=seconds, nanosec=nanoseconds)

    @classmethod
    def from_msg(cls, msg: Any, clock_type: ClockType = ClockType.ROS_TIME) -> Time:
        if not isinstance(msg, message_class("builtin_interfaces/msg/Time")):
            raise TypeError("Must pass a builtin_interfaces.msg.Time object")
        return cls(seconds=msg.sec, nanoseconds=msg.nanosec, clock_type=clock_type)
