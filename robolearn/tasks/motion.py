"""What scripted experts are made of: a step of the tool towards a place, and a grasp without memory.

An expert maps the facts of one instant to a command, so it recovers by itself from whatever pushed it off its path, and
what it does can be learned from single observations. Commands are of one arm (N + 1,), its gripper last.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from robolearn.tasks.arm import Arm, Facts

TOOL_LEAD_M = 0.014  # how far ahead of the tool its target runs: sets the speed, about 0.2 m/s at 20 Hz
JOINT_LEAD_RAD = 0.15
HOVER_M = 0.06
BLOCK_HALF_M = 0.015  # half the width of what the constants of a Gripper are for


def move(
    arm: Arm,
    facts: Facts,
    target: ArrayLike,
    yaw: float | None,
    gripper: float,
    lead_m: float = TOOL_LEAD_M,
) -> NDArray[np.float32]:
    """Joint targets (N + 1,) one step along the straight line from the tool to `target` (3,) [m].

    yaw [rad] as in `Kinematics.inverse`, None: leave the wrist as it is. gripper: opening.
    """
    q = arm.positions(facts)
    here, _ = arm.forward(q)
    step = np.asarray(target) - here
    step *= min(1.0, lead_m / max(float(np.linalg.norm(step)), 1e-9))
    yaw = arm.kept_yaw(q, here + step) if yaw is None else yaw
    n = arm.joints
    change = arm.with_gripper(arm.inverse(here + step, yaw, near=q[:n]), gripper) - q
    change[:n] *= min(1.0, JOINT_LEAD_RAD / max(float(np.abs(change[:n]).max()), 1e-9))
    change[n:] = np.clip(change[n:], -arm.gripper.lead, arm.gripper.lead)
    return np.clip(q + change, *arm.limits).astype(np.float32)


def in_tool(arm: Arm, facts: Facts, where: ArrayLike) -> NDArray[np.float64]:
    """A position in the tool frame (3,) [m]: along the fingers, across them, in the direction in which they open."""
    here, rotation = arm.forward(arm.positions(facts))
    return rotation.T @ (np.asarray(where, dtype=np.float64) - here)


def holds(arm: Arm, facts: Facts, where: ArrayLike, half_m: float = BLOCK_HALF_M) -> bool:
    """Whether the jaws have come to rest on an object whose centre is at `where`; half_m: half its width [m]."""
    wider = (half_m - BLOCK_HALF_M) / BLOCK_HALF_M * (arm.gripper.open - arm.gripper.fork)
    low, high = (limit + wider for limit in arm.gripper.block)
    rests = low < float(arm.opened(facts)) < high and abs(float(arm.opening_speed(facts))) < arm.gripper.rest_speed
    return rests and bool((np.abs(in_tool(arm, facts, where)) < (0.02, 0.015, 0.012)).all())


def grasp(arm: Arm, facts: Facts, where: ArrayLike, yaw: float, half_m: float = BLOCK_HALF_M) -> NDArray[np.float32]:
    """Joint targets (N + 1,) that bring open jaws down around an object and close them on it.

    where (3,) [m]: its centre. yaw [rad]: direction in which the jaws open. half_m: half its width there.
    """
    jaws = arm.gripper
    where = np.asarray(where, dtype=np.float64)
    wider = half_m - BLOCK_HALF_M
    clearance = jaws.clearance_m + wider
    place = where + np.array([-clearance * np.cos(yaw), -clearance * np.sin(yaw), 0.002])
    along, across, gap = in_tool(arm, facts, where)
    gap -= wider
    opened, here = float(arm.opened(facts)), arm.where(facts)
    slack = 1.0 if opened > 0.9 * jaws.open else 1.8  # once they have begun to close, go on
    between = jaws.gap_m[0] * slack < gap < jaws.gap_m[1] * slack
    if abs(along) < 0.008 * slack + wider and abs(across) < 0.007 * slack and between:
        return move(arm, facts, place if slack == 1.0 else here, yaw, jaws.closed)
    aside = float(np.hypot(*(here - place)[:2]))
    blocked = opened < 0.8 * jaws.open  # half-closed jaws would land on the object
    place[2] += HOVER_M if blocked else float(np.clip(4 * (aside - 0.005), 0.0, HOVER_M))
    return move(arm, facts, place, yaw, jaws.open)
