"""The Panda class arm: the numbers of `sim_assets/robots/panda/panda.xml` (a test holds them together)."""

from __future__ import annotations

from math import sqrt

from robolearn.specs import RobotSpec
from robolearn.tasks.arm import Arm, Gripper
from robolearn.tasks.chain import Chain, Link

_LOW = (-2.8973, -1.7628, -2.8973, -3.0718, -2.8973, -0.0175, -2.8973)
_HIGH = (2.8973, 1.7628, 2.8973, -0.0698, 2.8973, 3.7525, 2.8973)
PANDA = RobotSpec(
    name="panda",
    joint_names=("joint1", "joint2", "joint3", "joint4", "joint5", "joint6", "joint7", "gripper"),
    position_low=(*_LOW, 0.0),
    position_high=(*_HIGH, 0.04),
    max_speed=(2.175, 2.175, 2.175, 2.175, 2.61, 2.61, 2.61, 0.2),
    unit="rad, gripper m",
)

_H = sqrt(0.5)
_NONE, _BACK, _FORTH = (1.0, 0.0, 0.0, 0.0), (_H, -_H, 0.0, 0.0), (_H, _H, 0.0, 0.0)  # turns about x by 0, -90, 90 deg
_FRAMES = (
    ((0.0, 0.0, 0.333), _NONE),
    ((0.0, 0.0, 0.0), _BACK),
    ((0.0, -0.316, 0.0), _FORTH),
    ((0.0825, 0.0, 0.0), _FORTH),
    ((-0.0825, 0.384, 0.0), _BACK),
    ((0.0, 0.0, 0.0), _FORTH),
    ((0.088, 0.0, 0.0), _FORTH),
)
_FLANGE_M, _TOOL_M = 0.107, 0.1034  # from joint7 to the hand, from the hand to the tool frame
_C, _S = 0.92387953, -0.38268343  # half of the hand's turn about the flange, -45 degrees
_TOOL_TURN = (0.5 * (_C + _S), 0.5 * (_S - _C), -0.5 * (_C + _S), 0.5 * (_S - _C))

PANDA_ARM = Arm(
    name="panda",
    spec=PANDA,
    kinematics=Chain(
        links=tuple(
            Link(position, quaternion, (0.0, 0.0, 1.0), low, high)
            for (position, quaternion), low, high in zip(_FRAMES, _LOW, _HIGH, strict=True)
        ),
        tool_position=(0.0, 0.0, _FLANGE_M + _TOOL_M),
        tool_quaternion=_TOOL_TURN,
        rest=(0.0, 0.1, 0.0, -2.4, 0.0, 2.5, -0.785),
    ),
    gripper=Gripper(
        open=0.03,
        closed=0.0,
        fork=0.015,
        block=(0.010, 0.018),
        hold=0.0151,
        rest_speed=0.02,
        lead=0.0045,
        gap_m=(-0.008, 0.008),
        clearance_m=0.0,
        tip_m=0.009,
    ),
    rest=(0.0, 0.1, 0.0, -2.4, 0.0, 2.5, -0.785),
    joints=7,
    mount=(-0.28, 0.0, 0.0),  # behind the table, on a pedestal
    robot_at=(-0.28, 0.0, 0.0),
)
