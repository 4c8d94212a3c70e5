"""Joints of a robot that have no servo: those that follow another one, as a gripper's second finger, and those that the
closed loops of a linkage hold, as in a gripper of four-bars.

Legend: J joints with a servo.
"""

from __future__ import annotations

import mujoco
import numpy as np
from numpy.typing import ArrayLike, NDArray

STEPS, LARGEST, CLOSED = 20, 0.2, 1e-7  # to closed loops: how many, how large [rad or m], and how small the last one
LOOPS = (mujoco.mjtEq.mjEQ_CONNECT, mujoco.mjtEq.mjEQ_WELD)


class Linkage:
    """Of the robots in a compiled model: of all bodies that hang together with a servo's joint.

    coupled: of each joint that follows one with a servo its id, the servo's index, and ratio and offset of its position
    to that of the servo's joint.
    """

    def __init__(self, model: mujoco.MjModel) -> None:
        self._model, self._data = model, mujoco.MjData(model)
        servos = model.actuator_trnid[:, 0]
        self._addresses, self._dofs = model.jnt_qposadr[servos], model.jnt_dofadr[servos]
        self.coupled = _coupled(model)
        roots = model.body_rootid[model.jnt_bodyid]
        held = np.isin(np.arange(model.njnt), [*servos, *(joint for joint, *_ in self.coupled)])
        looped = np.isin(roots, model.body_rootid[_looped(model)]) & np.isin(roots, roots[servos])
        looped &= np.isin(model.jnt_type, (mujoco.mjtJoint.mjJNT_SLIDE, mujoco.mjtJoint.mjJNT_HINGE))
        self._loose = np.flatnonzero(looped & ~held)
        if len(self._loose):
            self._data.qpos[:] = model.qpos0
            self._driving = self._ties()[0][:, self._dofs].any(axis=0)  # servos that move a loop

    def place(self, position: ArrayLike, qpos: NDArray[np.float64]) -> None:
        """Write joint positions (J,) into a `qpos` of the model, and where the other joints of the robots then are."""
        self._follow(np.asarray(position, np.float64), qpos)
        if len(self._loose):
            self._close_loops(np.asarray(position, np.float64), qpos)

    def move(self, velocity: ArrayLike, qvel: NDArray[np.float64]) -> None:
        """Write joint velocities (J,) into a `qvel` of the model, and those of the joints that follow."""
        rates = np.asarray(velocity, np.float64)
        qvel[self._dofs] = rates
        for joint, servo, ratio, _ in self.coupled:
            qvel[self._model.jnt_dofadr[joint]] = ratio * rates[servo]

    def _follow(self, position: NDArray[np.float64], qpos: NDArray[np.float64]) -> None:
        qpos[self._addresses] = position
        for joint, servo, ratio, offset in self.coupled:
            qpos[self._model.jnt_qposadr[joint]] = ratio * position[servo] + offset

    def _close_loops(self, position: NDArray[np.float64], qpos: NDArray[np.float64]) -> None:
        """Least squares over the gaps of the loops, on the way from the zero of the file, where they are closed: a
        four-bar has a second way to close."""
        model, data = self._model, self._data
        addresses, dofs = model.jnt_qposadr[self._loose], model.jnt_dofadr[self._loose]
        data.qpos[:] = qpos
        data.qpos[addresses] = model.qpos0[addresses]
        way = np.where(self._driving, position - model.qpos0[self._addresses], 0.0)
        count = 1 + int(np.abs(way).max() / LARGEST)
        for left in np.arange(count)[::-1] / count:
            self._follow(position - left * way, data.qpos)
            for _ in range(STEPS):
                jacobian, gaps = self._ties()
                step = np.linalg.lstsq(jacobian[:, dofs], -gaps)[0]
                step *= min(1.0, LARGEST / max(float(np.abs(step).max()), 1e-9))
                data.qpos[addresses] += step
                if np.abs(step).max() < CLOSED:
                    break
        qpos[addresses] = data.qpos[addresses]

    def _ties(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Gaps (E,) of the equalities, and how they change with the degrees of freedom (E, nv)."""
        model, data = self._model, self._data
        mujoco.mj_fwdPosition(model, data)
        jacobian = np.zeros((data.nefc, model.nv))
        if mujoco.mj_isSparse(model):
            mujoco.mju_sparse2dense(jacobian, data.efc_J, data.efc_J_rownnz, data.efc_J_rowadr, data.efc_J_colind)
        else:
            jacobian[:] = data.efc_J.reshape(jacobian.shape)
        ties = data.efc_type == mujoco.mjtConstraint.mjCNSTR_EQUALITY
        return jacobian[ties], data.efc_pos[ties]


def _coupled(model: mujoco.MjModel) -> list[tuple[int, int, float, float]]:
    """See Linkage; equalities tie in either direction, and over others."""
    ties = []
    for i in np.flatnonzero((model.eq_type == mujoco.mjtEq.mjEQ_JOINT) & (model.eq_obj2id >= 0) & model.eq_active0):
        one, other = int(model.eq_obj1id[i]), int(model.eq_obj2id[i])
        ratio, start = float(model.eq_data[i, 1]), model.qpos0[model.jnt_qposadr[[one, other]]]
        offset = float(start[0] + model.eq_data[i, 0] - ratio * start[1])
        ties.append((one, other, ratio, offset))
        if ratio:
            ties.append((other, one, 1 / ratio, -offset / ratio))
    servos = {int(joint): (i, 1.0, 0.0) for i, joint in enumerate(model.actuator_trnid[:, 0])}
    known = dict(servos)
    for _ in ties:  # the longest way from a servo
        for one, other, ratio, offset in ties:
            if other in known and one not in known:
                servo, to_servo, shift = known[other]
                known[one] = (servo, ratio * to_servo, ratio * shift + offset)
    return [(joint, *tie) for joint, tie in known.items() if joint not in servos]


def _looped(model: mujoco.MjModel) -> list[int]:
    """Bodies that an equality holds to another one."""
    bodies: list[int] = []
    for i in np.flatnonzero(np.isin(model.eq_type, LOOPS) & model.eq_active0):
        ends = [int(model.eq_obj1id[i]), int(model.eq_obj2id[i])]
        sites = model.eq_objtype[i] == mujoco.mjtObj.mjOBJ_SITE
        bodies += [int(model.site_bodyid[end]) for end in ends] if sites else ends
    return bodies
