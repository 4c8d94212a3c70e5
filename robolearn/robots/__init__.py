"""Robots by name. Drivers import their vendors' packages, and the twin imports MuJoCo, only when one is made."""

from __future__ import annotations

from collections.abc import Callable

from robolearn.robots.fake import FakeRobot
from robolearn.robots.robot import Robot
from robolearn.robots.servo_arm import ServoArm


def _twin_robot(task_id: str = "reach-v1") -> Robot:
    from robolearn.tasks import make_task
    from robolearn.twin.devices import TwinRobot
    from robolearn.twin.twin import Twin

    return TwinRobot(Twin(make_task(task_id), cameras={}))


ROBOTS: dict[str, Callable[..., Robot]] = {"fake": FakeRobot, "servo_arm": ServoArm, "twin": _twin_robot}
