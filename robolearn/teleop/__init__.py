"""Teleoperators by name."""

from __future__ import annotations

from collections.abc import Callable

from robolearn.teleop.keyboard import Keyboard
from robolearn.teleop.leader_arm import LeaderArm
from robolearn.teleop.scripted import ScriptedTeleop
from robolearn.teleop.teleoperator import Teleoperator

TELEOPERATORS: dict[str, Callable[..., Teleoperator]] = {
    "keyboard": Keyboard,
    "leader_arm": LeaderArm,
    "scripted": ScriptedTeleop,
}
