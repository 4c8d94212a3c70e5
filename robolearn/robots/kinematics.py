"""Where an arm's tool is, and how its joints move it: from an MJCF file, the twin's own for instance.

Nothing is simulated, and MuJoCo is imported only when one is made. Legend: J joints.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robolearn.errors import SpecError
from robolearn.specs import RobotSpec

Floats = NDArray[np.float64]


def damped_joint_step(jacobian: Floats, step: Floats, weight: Floats, damping_m: float) -> Floats:
    """Joint motion (..., N) that moves the tool by `step` (..., 6), for a jacobian (..., 6, N) and weights (6,).

    Damped least squares (Nakamura and Hanafusa 1986): near a singularity the tool lags and the joints do not race.
    """
    weighted = jacobian * weight[:, None]
    square = weighted @ np.swapaxes(weighted, -1, -2) + damping_m**2 * np.eye(6)
    solved = np.linalg.solve(square, (weight * step)[..., None])
    return (np.swapaxes(weighted, -1, -2) @ solved)[..., 0]


class Kinematics:
    """Of a file whose joints are named as the robot's. Positions in the file's own frame.

    Raises SpecError when the file does not fit the robot.
    """

    def __init__(self, model: Path, spec: RobotSpec, tool: str = "tool") -> None:
        import mujoco

        self._mujoco = mujoco
        try:
            self.model: Any = mujoco.MjModel.from_xml_path(str(model.resolve()))  # it would cut `link/..` short
        except ValueError as error:
            words = " ".join(str(error).split())
            raise SpecError(f"arm model {model}: {words}; check `model` in the cell's file") from error
        self.data: Any = mujoco.MjData(self.model)
        joints = [mujoco.mj_name2id(self.model, mujoco.mjtObj.mjOBJ_JOINT, name) for name in spec.joint_names]
        if -1 in joints:
            missing = ", ".join(n for n, i in zip(spec.joint_names, joints, strict=True) if i < 0)
            raise SpecError(f"arm model {model} has no joint {missing}, which {spec.name} has")
        self._tool = mujoco.mj_name2id(self.model, mujoco.mjtObj.mjOBJ_BODY, tool)
        if self._tool < 0:
            raise SpecError(f"arm model {model} has no body {tool!r}; give the tool's body as `tool`")
        self._qpos, self._dof = self.model.jnt_qposadr[joints], self.model.jnt_dofadr[joints]

    def place(self, position: NDArray) -> None:
        """Put every body of `data` where it is at joint positions (J,)."""
        self.data.qpos[self._qpos] = position
        self._mujoco.mj_kinematics(self.model, self.data)

    def tool(self, position: NDArray) -> tuple[Floats, Floats]:
        """Position (3,) [m] and rotation (3, 3) of the tool."""
        self.place(position)
        return self.data.xpos[self._tool].copy(), self.data.xmat[self._tool].reshape(3, 3).copy()

    def joint_step(
        self, position: NDArray, step: Floats, turn_weight_m: float = 0.05, damping_m: float = 0.02
    ) -> Floats:
        """The joint motion (J,) that moves the tool by `step` (6,): along [m], then about [rad] the file's axes.

        turn_weight_m: metres that a radian of the tool's rotation counts as; an arm of less than six joints gives up
        rotation first. damping_m: as in `damped_joint_step`.
        """
        self.place(position)
        self._mujoco.mj_comPos(self.model, self.data)
        jacobian = np.zeros((6, self.model.nv))
        self._mujoco.mj_jacBody(self.model, self.data, jacobian[:3], jacobian[3:], self._tool)
        weight = np.array([1.0] * 3 + [turn_weight_m] * 3)
        return damped_joint_step(jacobian[:, self._dof], step, weight, damping_m)
