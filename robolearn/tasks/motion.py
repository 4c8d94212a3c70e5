"""What scripted experts are made of: a step of the tool towards a place, and a grasp without memory.

An expert maps the facts of one instant to a command, so it recovers by itself from whatever pushed it off its path, and
what it does can be learned from single observations.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from robolearn.tasks.facts import CLOSED, GRIPPER, OPEN
from robolearn.tasks.kinematics import SO101, azimuth, forward, inverse
from robolearn.tasks.task import Facts

TOOL_LEAD_M = 0.014  # how far ahead of the tool its target runs: sets the speed, about 0.2 m/s at 20 Hz
JOINT_LEAD_RAD = 0.15
GRIPPER_LEAD_RAD = 0.2
HOVER_M = 0.06
CLEARANCE_M = 0.008  # between the object and the fixed jaw while the jaws come down around it

_LOW, _HIGH = np.array(SO101.position_low), np.array(SO101.position_high)


def move(
    facts: Facts,
    target: ArrayLike,
    yaw: float | None,
    gripper_rad: float,
    lead_m: float = TOOL_LEAD_M,
) -> NDArray[np.float32]:
    """Joint targets (6,) one step along the straight line from the tool to `target` (3,) [m].

    yaw [rad] as in `kinematics.inverse`, None: leave the wrist's roll as it is.
    """
    q = np.asarray(facts["proprio"], dtype=np.float64)[:6]
    here, _ = forward(q)
    step = np.asarray(target) - here
    step *= min(1.0, lead_m / max(float(np.linalg.norm(step)), 1e-9))
    yaw = azimuth(here + step) + q[4] if yaw is None else yaw
    change = np.append(inverse(here + step, yaw), gripper_rad) - q
    change[:GRIPPER] *= min(1.0, JOINT_LEAD_RAD / max(float(np.abs(change[:GRIPPER]).max()), 1e-9))
    change[GRIPPER] = np.clip(change[GRIPPER], -GRIPPER_LEAD_RAD, GRIPPER_LEAD_RAD)
    return np.clip(q + change, _LOW, _HIGH).astype(np.float32)


def in_tool(facts: Facts, where: ArrayLike) -> NDArray[np.float64]:
    """A position in the tool frame (3,) [m]: along the fingers, across them, towards the moving jaw."""
    here, rotation = forward(np.asarray(facts["proprio"])[:5])
    return rotation.T @ (np.asarray(where, dtype=np.float64) - here)


def holds(facts: Facts, where: ArrayLike) -> bool:
    """Whether the jaws have come to rest on an object of about 3 cm whose centre is at `where`."""
    proprio = np.asarray(facts["proprio"])
    angle, speed = float(proprio[GRIPPER]), float(proprio[6 + GRIPPER])
    return (
        0.05 < angle < 0.45 and abs(speed) < 0.8 and bool((np.abs(in_tool(facts, where)) < (0.02, 0.015, 0.012)).all())
    )


def grasp(facts: Facts, where: ArrayLike, yaw: float) -> NDArray[np.float32]:
    """Joint targets (6,) that bring open jaws down around a block of about 3 cm and close them on it.

    where (3,) [m]: its centre. yaw [rad]: direction in which the jaws open.
    """
    where = np.asarray(where, dtype=np.float64)
    place = where + np.array([-CLEARANCE_M * np.cos(yaw), -CLEARANCE_M * np.sin(yaw), 0.002])
    along, across, gap = in_tool(facts, where)
    opened = float(np.asarray(facts["proprio"])[GRIPPER])
    slack = 1.0 if opened > 0.9 * OPEN else 1.8  # once they have begun to close, go on
    if abs(along) < 0.008 * slack and abs(across) < 0.007 * slack and -0.002 * slack < gap < 0.014 * slack:
        return move(facts, place if slack == 1.0 else forward(facts["proprio"])[0], yaw, CLOSED)
    here, _ = forward(facts["proprio"])
    aside = float(np.hypot(*(here - place)[:2]))
    blocked = opened < 0.8 * OPEN  # half-closed jaws would land on the object
    place[2] += HOVER_M if blocked else float(np.clip(4 * (aside - 0.005), 0.0, HOVER_M))
    return move(facts, place, yaw, OPEN)
