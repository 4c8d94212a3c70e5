"""Teleoperators by name."""

from __future__ import annotations

from collections.abc import Callable

from robolearn.plugins import Table
from robolearn.teleop.combined import CombinedTeleop
from robolearn.teleop.gamepad import Gamepad
from robolearn.teleop.keyboard import Keyboard
from robolearn.teleop.leader_arm import LeaderArm
from robolearn.teleop.phone import Phone
from robolearn.teleop.scripted import ScriptedTeleop
from robolearn.teleop.spacemouse import SpaceMouse
from robolearn.teleop.teleoperator import Teleoperator
from robolearn.teleop.web import Web

TELEOPERATORS: Table[Callable[..., Teleoperator]] = Table(
    "robolearn.teleoperators",
    "teleoperator",
    {
        "combined": CombinedTeleop,
        "gamepad": Gamepad,
        "keyboard": Keyboard,
        "leader_arm": LeaderArm,
        "phone": Phone,
        "scripted": ScriptedTeleop,
        "spacemouse": SpaceMouse,
        "web": Web,
    },
    owed=("config_type", "connect", "read", "close"),
    devices=True,
)
