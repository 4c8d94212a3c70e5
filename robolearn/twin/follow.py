"""A twin that is kept in step with a real robot. Legend: J joints."""

from __future__ import annotations

import math

import mujoco
import numpy as np
from numpy.typing import NDArray

from robolearn.twin.twin import Twin
from robolearn.types import RobotState

MAX_GAP_NS = 500_000_000  # after a longer silence of the robot nothing is predicted


class Follower:
    """Puts the twin's joints where the robot's are, and tells how far off the model would have been."""

    def __init__(self, twin: Twin) -> None:
        self._twin = twin
        self._last_ns: int | None = None

    def follow(self, measured: RobotState, target: NDArray | None = None) -> NDArray[np.float32]:
        """Let the time since the last state pass in the model under `target` (J,), which the robot was sent, then take
        over what was measured.

        Without a target the model is drawn to the measured positions. Returns the residual (J,): measured minus
        predicted position, zeros where nothing was predicted. Raises SpecError for what does not fit the robot.
        """
        twin, model, data = self._twin, self._twin.model, self._twin.data
        position = twin.robot_spec.action_spec.check("measured position", measured.joint_position)
        velocity = twin.robot_spec.action_spec.check("measured velocity", measured.joint_velocity)
        goal = position if target is None else twin.robot_spec.action_spec.check("sent command", target)
        elapsed_ns = 0 if self._last_ns is None else measured.stamp_ns - self._last_ns
        residual = np.zeros_like(position)
        if 0 < elapsed_ns <= MAX_GAP_NS:
            data.ctrl[:] = goal
            own_s, elapsed_s = model.opt.timestep, elapsed_ns * 1e-9
            steps = math.ceil(elapsed_s / own_s)
            model.opt.timestep = elapsed_s / steps  # robots measure at any rate
            mujoco.mj_step(model, data, steps)
            model.opt.timestep = own_s
            residual = position - twin.robot_state().joint_position
        twin.track(position, velocity)
        data.ctrl[:] = goal
        mujoco.mj_kinematics(model, data)
        mujoco.mj_camlight(model, data)
        twin.stamp_ns = self._last_ns = measured.stamp_ns
        return residual
