"""Robots by name. Drivers import their vendors' packages only when one is made."""

from __future__ import annotations

from collections.abc import Callable

from robolearn.plugins import Table
from robolearn.robots.combined import CombinedRobot
from robolearn.robots.robot import Robot
from robolearn.robots.servo_arm import ServoArm

ROBOTS: Table[Callable[..., Robot]] = Table(
    "robolearn.robots",
    "robot",
    {"combined": CombinedRobot, "servo_arm": ServoArm},
    owed=("config_type", "connect", "read", "write", "close"),
    devices=True,
)
