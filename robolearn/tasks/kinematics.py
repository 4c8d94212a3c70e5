"""Kinematics of the SO-101 class arm in NumPy: where the tool is, and which joints bring it somewhere.

The numbers are those of `sim_assets/robots/so101/so101.xml` (a test holds them together). The arm is a turntable (pan)
that carries a plane with two links, a wrist and a tool that rolls about its own axis. Legend: q arm joints (5,) [rad];
r, z coordinates in the arm's plane [m]; pitch [rad] of the tool below the horizon.
"""

from __future__ import annotations

from math import acos, asin, atan2, cos, hypot, pi, remainder, sin, sqrt

import numpy as np
from numpy.typing import ArrayLike, NDArray

from robolearn.specs import RobotSpec
from robolearn.tasks.arm import Arm, Gripper

SO101 = RobotSpec(
    name="so101",
    joint_names=("shoulder_pan", "shoulder_lift", "elbow_flex", "wrist_flex", "wrist_roll", "gripper"),
    position_low=(-1.92, -1.745, -1.69, -1.658, -2.744, -0.175),
    position_high=(1.92, 1.745, 1.69, 1.658, 2.841, 1.745),
    max_speed=(3.0, 3.0, 3.0, 3.0, 4.0, 4.0),
)
DOWN = pi / 2  # pitch of a tool that points at the table

_PAN_X = 0.0388  # of the pan axis in the base frame
_SHOULDER_R, _SHOULDER_Z = 0.0304, 0.1166  # of the shoulder_lift axis
_UPPER_ARM = (0.0280, 0.1126)  # shoulder_lift to elbow_flex at zero, (r, z)
_LOWER_ARM = (0.1349, 0.0052)  # elbow_flex to wrist_flex at zero
_TOOL, _TOOL_Z = 0.1471, 0.0071  # wrist_flex to the tool frame: along the roll axis, and off it

_UPPER_ARM_M, _LOWER_ARM_M = hypot(*_UPPER_ARM), hypot(*_LOWER_ARM)
_UPPER_ARM_ANGLE, _LOWER_ARM_ANGLE = atan2(*_UPPER_ARM[::-1]), atan2(*_LOWER_ARM[::-1])
_NEAREST_M, _FARTHEST_M = 0.06, 0.999 * (_UPPER_ARM_M + _LOWER_ARM_M)  # of the wrist from the shoulder
_LIMITS = tuple(zip(SO101.position_low[:5], SO101.position_high[:5], strict=True))

_PITCH_SCAN = tuple(
    float(p) for p in np.arange(0.0, 1.25, 0.06)
)  # how far below the wanted pitch a posture is looked for [rad]


def forward(q: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Tool position (3,) [m] and rotation (3, 3) in the base frame, for joint positions (5,) or longer [rad]."""
    pan, lift, elbow, flex, roll = (float(angle) for angle in np.asarray(q)[:5])
    r, z = _SHOULDER_R, _SHOULDER_Z
    pitch = 0.0
    tool = (_TOOL, _TOOL_Z * cos(roll))
    for turn, (along, up) in ((lift, _UPPER_ARM), (elbow, _LOWER_ARM), (flex, tool)):
        pitch += turn
        r += along * cos(pitch) + up * sin(pitch)
        z += up * cos(pitch) - along * sin(pitch)
    side = _TOOL_Z * sin(roll)
    c, s = cos(pan), -sin(pan)
    position = np.array([_PAN_X + r * c - side * s, r * s + side * c, z])
    about_z = np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])
    about_y = np.array([[cos(pitch), 0.0, sin(pitch)], [0.0, 1.0, 0.0], [-sin(pitch), 0.0, cos(pitch)]])
    about_x = np.array([[1.0, 0.0, 0.0], [0.0, cos(roll), sin(roll)], [0.0, -sin(roll), cos(roll)]])
    return position, about_z @ about_y @ about_x


def inverse(position: ArrayLike, yaw: float, pitch: float = DOWN) -> NDArray[np.float64]:
    """Joint positions (5,) [rad] that bring the tool to `position` (3,) [m], within the joint limits.

    yaw [rad]: direction in which the moving jaw opens, about the vertical, for a tool that points down; see
    `Arm.grasp_yaw`. pitch [rad]: wanted; where the arm cannot hold it, the steepest one that it can. Out of reach gives
    the nearest posture.
    """
    x, y, z = (float(v) for v in np.asarray(position)[:3])
    steep = next((pitch - p for p in _PITCH_SCAN if _posture(x, y, z, yaw, pitch - p)[1]), None)
    if steep is None:
        return np.clip(_posture(x, y, z, yaw, pitch)[0], SO101.position_low[:5], SO101.position_high[:5])
    if steep < pitch:  # the scan is coarse: refine, so that the posture changes smoothly with the place
        low, high = steep, steep + _PITCH_SCAN[1]
        for _ in range(7):
            middle = (low + high) / 2
            low, high = (middle, high) if _posture(x, y, z, yaw, middle)[1] else (low, middle)
        steep = low
    return np.array(_posture(x, y, z, yaw, steep)[0])


def _posture(x: float, y: float, z: float, yaw: float, pitch: float) -> tuple[tuple[float, ...], bool]:
    """Joint positions (5,) with the elbow up, and whether they are within the limits and reach the place. In plain
    numbers: many are tried."""
    away, direction = hypot(x - _PAN_X, y), atan2(y, x - _PAN_X)
    ahead = direction
    for _ in range(3):  # the tool is a few mm off the roll axis, so pan and roll depend on each other a little
        side = _TOOL_Z * sin(yaw - ahead)
        ahead = direction - asin(min(max(side / max(away, 1e-6), -1.0), 1.0))
    roll = remainder(yaw - ahead, 2 * pi)
    up = _TOOL_Z * cos(roll)
    r = sqrt(max(away * away - side * side, 0.0)) - _SHOULDER_R - _TOOL * cos(pitch) - up * sin(pitch)
    z = z - _SHOULDER_Z + _TOOL * sin(pitch) - up * cos(pitch)
    reach = min(max(hypot(r, z), _NEAREST_M), _FARTHEST_M)
    upper = atan2(z, r) + _corner(_UPPER_ARM_M, reach, _LOWER_ARM_M)
    lower = upper - pi + _corner(_UPPER_ARM_M, _LOWER_ARM_M, reach)
    lift = _UPPER_ARM_ANGLE - upper
    elbow = _LOWER_ARM_ANGLE - lower - lift
    q = (-ahead, lift, elbow, pitch - lift - elbow, roll)
    return q, reach == hypot(r, z) and all(low <= angle <= high for angle, (low, high) in zip(q, _LIMITS, strict=True))


def _corner(a: float, b: float, opposite: float) -> float:
    """Angle between the sides a and b of a triangle (cosine rule)."""
    return acos(min(max((a * a + b * b - opposite * opposite) / (2 * a * b), -1.0), 1.0))


def azimuth(position: ArrayLike) -> float:
    """Direction [rad] of a position seen from the pan axis."""
    x, y = (float(v) for v in np.asarray(position)[:2])
    return atan2(y, x - _PAN_X)


class _So101Kinematics:
    """These functions as `arm.Kinematics`."""

    pan_x = _PAN_X

    def forward(self, q: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        return forward(q)

    def inverse(self, position: ArrayLike, yaw: float, near: ArrayLike) -> NDArray[np.float64]:
        return inverse(position, yaw)  # there is one posture with the elbow up

    def kept_yaw(self, q: ArrayLike, position: ArrayLike) -> float:
        return azimuth(position) + float(np.asarray(q)[4])


SO101_ARM = Arm(
    name="so101",
    spec=SO101,
    kinematics=_So101Kinematics(),
    gripper=Gripper(
        open=0.8,
        closed=0.0,
        fork=0.25,
        block=(0.05, 0.45),
        hold=0.241,
        rest_speed=0.8,
        lead=0.2,
        gap_m=(-0.002, 0.014),
        clearance_m=0.008,  # one jaw is fixed: the tool stands nearer to that one
        tip_m=0.0125,
    ),
    rest=(0.0, 0.0, 0.0, 0.0, 0.0),
    joints=5,
)
