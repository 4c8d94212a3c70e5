"""Kinds of clocks."""

from enum import IntEnum


class ClockType(IntEnum):
    """System time, steady time, or ROS time, which is system time unless it is simulated."""

    UNINITIALIZED = 0
    ROS_TIME = 1
    SYSTEM_TIME = 2
    STEADY_TIME = 3
