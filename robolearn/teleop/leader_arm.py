"""A second arm of the same kind, led by hand: the follower copies its joints. Legend: J joints.

The person is in charge once the leader stands near the follower (`max_start_gap_rad`); what is left between them then
fades at ALIGN_RAD_S, so that the follower never jumps to it. A follower that has not followed for CATCH_UP_S holds for
a reason of its own, and the leader has to come near again. With `idle_s`, a leader that lies still for so long gives
the robot back, and takes it again when it is moved.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from robolearn.errors import HardwareError, SpecError
from robolearn.robots.robot import Robot
from robolearn.robots.servo_arm import ServoArm, ServoArmConfig
from robolearn.specs import RobotSpec
from robolearn.teleop.teleoperator import TeleopCommand
from robolearn.types import RobotState

ALIGN_RAD_S = 0.5  # at which the follower comes to the leader that has taken over
RETRY_S = 1.0  # before a leader that does not measure is connected again, and between two attempts
CATCH_UP_S = 1.0  # that the follower may be farther from the leader than the leader may take over


@dataclass(frozen=True)
class LeaderArmConfig:
    """The leader, and when it is in charge."""

    arm: ServoArmConfig  # its torque is left off
    scaled_joints: tuple[str, ...] = ("gripper",)  # copied as a share of the range: the leader's handle is no gripper
    max_start_gap_rad: float = 0.4
    idle_s: float | None = None  # None: in charge as long as it is connected
    moved_rad: float = 0.03  # less is lying still


class LeaderArm:
    """make_arm: what the leader's driver is made by."""

    config_type = LeaderArmConfig

    def __init__(
        self, config: LeaderArmConfig, spec: RobotSpec, make_arm: Callable[[ServoArmConfig], Robot] = ServoArm
    ) -> None:
        """Raises SpecError when the leader lacks a joint of the follower."""
        self.config, self._spec = config, spec
        self._arm = make_arm(replace(config.arm, torque=False))
        theirs, ours = self._arm.spec.joint_names, spec.joint_names
        missing = [joint for joint in ours if joint not in theirs]
        if missing:
            raise SpecError(
                f"the leader has no {', '.join(missing)}, which {spec.name} has; it has {', '.join(theirs)}"
            )
        self._order = [theirs.index(joint) for joint in ours]
        scaled = np.array([joint in config.scaled_joints for joint in ours])
        low, high = (
            np.array(ends)[self._order] for ends in (self._arm.spec.position_low, self._arm.spec.position_high)
        )
        share = (np.array(spec.position_high) - np.array(spec.position_low)) / (high - low)
        self._scaled = scaled
        self._factor = np.where(scaled, share, 1.0)
        self._offset = np.where(scaled, np.array(spec.position_low) - low * share, 0.0)
        self._engaged = False
        self._gap = np.zeros(len(ours))  # of the follower from the leader, as far as it has not faded yet
        self._read_ns = self._followed_ns = 0
        self._failing_ns: int | None = None  # since when it has not measured
        self._trouble = ""  # why it does not measure
        self._closing = threading.Event()
        self._reconnecting: threading.Thread | None = None
        self._rest: NDArray[np.float64] | None = None  # where it was when it last moved
        self._moved_ns: int | None = None  # None: not since it was connected

    def connect(self) -> None:
        self._require_settled()
        self._closing.clear()
        self._arm.connect()
        self._engaged, self._rest, self._moved_ns = False, None, None

    def read(self, state: RobotState, now_ns: int) -> TeleopCommand:
        measured = self._measured(now_ns)
        target = measured.joint_position[self._order].astype(np.float64) * self._factor + self._offset
        target = np.clip(target, self._spec.position_low, self._spec.position_high)
        if self._rest is None:
            self._rest = target
        elif np.abs(target - self._rest).max() > self.config.moved_rad:
            self._rest, self._moved_ns = target, now_ns
        idle_s = self.config.idle_s
        if idle_s is not None and (self._moved_ns is None or not 0 <= now_ns - self._moved_ns <= idle_s * 1e9):
            self._engaged = False
            return TeleopCommand()
        since_s, self._read_ns = (now_ns - self._read_ns) * 1e-9, now_ns
        if not 0 <= since_s <= CATCH_UP_S:  # asleep meanwhile, or another clock: nobody knows what happened
            self._engaged = False
        self._gap = np.sign(self._gap) * np.maximum(np.abs(self._gap) - ALIGN_RAD_S * since_s, 0.0)
        gap = state.joint_position - target
        far = np.abs(gap) > self.config.max_start_gap_rad
        if not self._engaged or not far[~self._scaled].any():  # a gripper that squeezes does not follow
            self._followed_ns = now_ns
        if not self._engaged or now_ns - self._followed_ns > CATCH_UP_S * 1e9:
            self._engaged, self._gap = not far.any(), gap
        if not self._engaged:
            worst = int(np.argmax(np.abs(gap)))
            return TeleopCommand(
                reason=f"{self._spec.joint_names[worst]} of the leader is {abs(gap[worst]):.2f} rad from the robot's; "
                f"bring it within {self.config.max_start_gap_rad:g} rad to take over"
            )
        action = np.clip(target + self._gap, self._spec.position_low, self._spec.position_high)
        return TeleopCommand(action.astype(np.float32))

    def _measured(self, now_ns: int) -> RobotState:
        """What the leader measures; a thread connects one again that has not for RETRY_S, and it takes over anew."""
        self._require_settled()
        try:
            measured = self._arm.read()
        except HardwareError as error:
            self._engaged = False  # it may be elsewhere when it answers again
            if self._failing_ns is None or now_ns < self._failing_ns:
                self._failing_ns = now_ns
            if now_ns - self._failing_ns >= RETRY_S * 1e9:
                self._failing_ns, self._trouble = None, str(error)
                self._reconnecting = threading.Thread(target=self._reconnect, name="leader", daemon=True)
                self._reconnecting.start()
            raise
        self._failing_ns = None
        return measured

    def _require_settled(self) -> None:
        """Raise HardwareError while the leader is connected again, which takes seconds where motors are silent."""
        if self._reconnecting is not None and self._reconnecting.is_alive():
            raise HardwareError(self._trouble)

    def _reconnect(self) -> None:
        while not self._closing.is_set():
            try:
                self._arm.connect()
                return
            except HardwareError as error:
                self._trouble = str(error)
            self._closing.wait(RETRY_S)

    def close(self) -> None:
        self._closing.set()
        self._arm.close()  # of a port that is gone nobody waits for answers
        if self._reconnecting is not None:
            self._reconnecting.join()
            self._reconnecting = None
            self._arm.close()  # it may have been opened just then
