"""The same task in PyBullet: another engine's opinion on whether a policy works, from the same scene.

The MuJoCo model is compiled and exported as URDF (`urdf.py`), so both engines have the same bodies, masses, shapes and
limits. They differ in what this file maps: a servo is Bullet's velocity motor with MuJoCo's closed-loop rate
kp / (kv + damping) and force limit, without the rotors' inertia; friction of a pair is a product here and a maximum
there, so each gets its root. Bullet is not deterministic across versions, but a seed fixes a run.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import mujoco
import numpy as np
from numpy.typing import ArrayLike, NDArray

from robolearn.errors import HardwareError, UnknownNameError
from robolearn.tasks import Task
from robolearn.tasks.task import TaskStatus
from robolearn.twin.layout import DIVERGED, RESET_PAUSE_NS, TOOL, Layout
from robolearn.twin.umpire import Umpire
from robolearn.twin.urdf import jointed, roots, urdf_of
from robolearn.types import Observation, RobotState

SUBSTEP_S = 1 / 1000
"""Bullet's contacts want shorter steps than MuJoCo's."""

APART_M = 10.0  # too far for contacts
NO_LIMIT = 1e4  # force of a servo that has no limit [N or N m]


class BulletTwin:
    """A `Twin` of one task in PyBullet, with the same interface. Raises what Twin raises, and HardwareError without
    PyBullet."""

    def __init__(self, task: Task, cameras: Mapping[str, tuple[int, int]] | None = None) -> None:
        try:
            with _quiet():
                import pybullet
        except ImportError:
            raise HardwareError("PyBullet is not installed; run: pip install 'robolearn[bullet]'") from None
        self._p = pybullet
        self._layout = layout = Layout(task, cameras)
        self.task = task
        self.robot_spec = task.robot_spec
        self.control_hz = task.control_hz
        self.period_ns = layout.period_ns
        self.camera_specs = layout.camera_specs
        self.spec = layout.spec
        self.stamp_ns = 0
        self.model = layout.model
        self._start = mujoco.MjData(self.model)  # where an episode starts
        self._umpire = Umpire(task)
        self._client = pybullet.connect(pybullet.DIRECT)
        with _quiet():
            self._load()
        self._target = np.zeros(len(self.robot_spec.joint_names))
        self._diverged = ""
        self.reset(0)

    def _load(self) -> None:
        p, model, client = self._p, self.model, self._client
        p.setGravity(*model.opt.gravity, physicsClientId=client)
        substeps = round(self.period_ns * 1e-9 / SUBSTEP_S)
        self._substeps, self._substep_s = substeps, self.period_ns * 1e-9 / substeps
        p.setTimeStep(self._substep_s, physicsClientId=client)
        self._places: dict[int, tuple[int, int]] = {}  # of MuJoCo's body: Bullet's body and link
        self._joints: dict[int, tuple[int, int]] = {}  # of MuJoCo's joint: Bullet's body and joint
        self._roots: dict[int, int] = {}  # of MuJoCo's body that is placed in the world: Bullet's body
        with tempfile.TemporaryDirectory() as folder:
            for root in [0, *roots(model)]:
                file = Path(folder, f"{root}.urdf")
                file.write_text(urdf_of(model, root), encoding="utf-8")
                joint = model.body_jntadr[root]
                free = root > 0 and joint >= 0 and model.jnt_type[joint] == mujoco.mjtJoint.mjJNT_FREE
                body = p.loadURDF(str(file), useFixedBase=not free, physicsClientId=client,
                                  flags=p.URDF_USE_INERTIA_FROM_FILE)  # fmt: skip
                self._places[root] = (body, -1)
                for j in range(p.getNumJoints(body, physicsClientId=client)):
                    info = p.getJointInfo(body, j, physicsClientId=client)
                    kind, _, number = info[1].decode().partition("_")
                    self._places[int(info[12].decode().partition("_")[2])] = (body, j)
                    if kind == "joint":
                        self._joints[int(number)] = (body, j)
                if root and not jointed(model, root):
                    self._roots[root] = body
        self._surfaces()
        servos = model.actuator_trnid[:, 0].tolist()
        self._servos = [self._joints[i] for i in servos]
        moved = [(joint, i, 1.0, 0.0) for i, joint in enumerate(servos)] + self._layout.linkage.coupled
        self._moved = [(i, *self._joints[joint], ratio, offset) for joint, i, ratio, offset in moved]  # by which servo
        damping = model.dof_damping[self._layout.qvel_address]
        self._rate = model.actuator_gainprm[:, 0] / (damping - model.actuator_biasprm[:, 2])  # [1/s]
        force = np.where(model.actuator_forcelimited, model.actuator_forcerange[:, 1], NO_LIMIT)
        self._force = force / np.bincount([i for _, i, *_ in moved])  # of each that it moves

    def _surfaces(self) -> None:
        """Friction, joint damping, and who does not touch whom."""
        p, model, client = self._p, self.model, self._client
        for body, (index, link) in self._places.items():
            first = model.body_geomadr[body]
            geoms = slice(first, first + model.body_geomnum[body]) if first >= 0 else slice(0, 0)
            slide = np.sqrt(model.geom_friction[geoms, 0].max(initial=0.0))
            spin = model.geom_friction[geoms, 1].max(initial=0.0)
            p.changeDynamics(index, link, lateralFriction=slide, spinningFriction=spin, rollingFriction=0.0,
                             linearDamping=0.0, angularDamping=0.0, physicsClientId=client)  # fmt: skip
        for joint, (index, link) in self._joints.items():
            dof = model.jnt_dofadr[joint]
            # Bullet's damping is explicit: on a light link it would shake. The servos' rate contains theirs.
            damping = 0.0 if joint in model.actuator_trnid[:, 0] else float(model.dof_damping[dof])
            p.changeDynamics(index, link, jointDamping=damping, physicsClientId=client)
            # Bullet brakes every joint by default.
            friction = float(model.dof_frictionloss[dof])
            p.setJointMotorControl2(index, link, p.VELOCITY_CONTROL, force=friction, physicsClientId=client)
        for signature in model.exclude_signature:
            one, other = self._places[signature >> 16], self._places[signature & 0xFFFF]
            p.setCollisionFilterPair(one[0], other[0], one[1], other[1], 0, physicsClientId=client)

    # --- time ---

    def reset(self, seed: int) -> None:
        """Start the episode of this seed, at rest, at a later stamp than anything before."""
        p, model, data, client = self._p, self.model, self._start, self._client
        self.stamp_ns += RESET_PAUSE_NS
        self._diverged = ""
        mujoco.mj_resetData(model, data)
        state = self.task.initial_state(np.random.default_rng(seed))
        self._layout.place(state, data.qpos, data.ctrl, data.mocap_pos, data.mocap_quat)
        mujoco.mj_kinematics(model, data)
        for i, body in enumerate(self._roots.values(), 2):  # apart, so that contacts of the last episode are forgotten
            p.resetBasePositionAndOrientation(body, (0, 0, APART_M * i), (0, 0, 0, 1), physicsClientId=client)
        p.performCollisionDetection(physicsClientId=client)
        for joint, (body, j) in self._joints.items():
            p.resetJointState(body, j, data.qpos[model.jnt_qposadr[joint]], 0.0, physicsClientId=client)
        for root, body in self._roots.items():
            inertial = p.getDynamicsInfo(body, -1, physicsClientId=client)
            at = p.multiplyTransforms(data.xpos[root], _xyzw(data.xquat[root]), inertial[3], inertial[4])
            p.resetBasePositionAndOrientation(body, *at, physicsClientId=client)
            p.resetBaseVelocity(body, (0, 0, 0), (0, 0, 0), physicsClientId=client)
        self._target = np.array(data.ctrl)
        self._umpire.begin(self.observe(self._layout.facts))

    def command(self, action: ArrayLike) -> None:
        """Set joint targets (J,). Raises SpecError for another shape or for anything that is not finite."""
        self._target = self.spec.action.check("action", np.asarray(action, dtype=np.float32)).astype(np.float64)

    def advance(self) -> None:
        """Let one control period pass under the targets that are set."""
        self.stamp_ns += self.period_ns
        if self._diverged:
            return
        for i, body, j, ratio, offset in self._moved:
            self._p.setJointMotorControl2(
                body, j, self._p.POSITION_CONTROL, targetPosition=ratio * self._target[i] + offset,
                positionGain=self._rate[i] * self._substep_s, velocityGain=1.0, force=self._force[i],
                physicsClientId=self._client)  # fmt: skip
        for _ in range(self._substeps):
            self._p.stepSimulation(physicsClientId=self._client)
        facts = self.observe(self._layout.facts)
        state = self.robot_state()
        if self._layout.diverged(state.joint_position.astype(np.float64), state.joint_velocity.astype(np.float64)):
            self._diverged = DIVERGED
        self._umpire.judge(facts)

    def step(self, action: ArrayLike) -> None:
        """Command and advance: the action is applied from `stamp_ns` until one period later."""
        self.command(action)
        self.advance()

    def push(self, rng: np.random.Generator, speed_m_s: float) -> None:
        """Knock one free body of the scene in a random direction, if there is one."""
        model = self.model
        free = [b for b in self._roots if model.body_dofnum[b] == 6]
        if free:
            direction = rng.normal(size=2)
            velocity = (*(speed_m_s * direction / np.linalg.norm(direction)), 0.0)
            self._p.resetBaseVelocity(self._roots[rng.choice(free)], velocity, physicsClientId=self._client)

    # --- what can be seen ---

    def tool_jacobian(self) -> NDArray[np.float64]:
        """How the tool's place [m] and rotation [rad] in the scene change with the joints (6, J), now."""
        data, tool = self._start, self._layout.body_ids[TOOL]
        data.qpos[self._layout.qpos_address] = self.robot_state().joint_position
        mujoco.mj_kinematics(self.model, data)
        mujoco.mj_comPos(self.model, data)
        jacobian = np.zeros((6, self.model.nv))
        mujoco.mj_jac(self.model, data, jacobian[:3], jacobian[3:], data.xpos[tool], tool)
        return jacobian[:, self._layout.qvel_address]

    def robot_state(self) -> RobotState:
        """Joint positions and velocities, now."""
        states = [self._p.getJointState(body, j, physicsClientId=self._client) for body, j in self._servos]
        position, velocity = (np.array([s[i] for s in states], np.float32) for i in (0, 1))
        return RobotState(position, velocity, self.stamp_ns)

    def body_poses(self) -> dict[str, NDArray[np.float32]]:
        """Pose (7,) of each of the task's bodies: position [m], quaternion wxyz."""
        return {name: np.concatenate(self._pose(i)).astype(np.float32) for name, i in self._layout.body_ids.items()}

    def _pose(self, body: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        index, link = self._places[body]
        if link >= 0:
            state = self._p.getLinkState(index, link, computeForwardKinematics=True, physicsClientId=self._client)
            position, quat = state[4], state[5]
        else:
            base = self._p.getBasePositionAndOrientation(index, physicsClientId=self._client)
            inertial = self._p.getDynamicsInfo(index, -1, physicsClientId=self._client)
            position, quat = self._p.multiplyTransforms(*base, *self._p.invertTransform(inertial[3], inertial[4]))
        return np.array(position), np.roll(quat, 1)

    def observe(self, fields: Iterable[str] | None = None) -> Observation:
        """Observation of these fields, or of all. Pictures are drawn only when they are asked for."""
        return self._layout.observation(fields, self.robot_state, self.body_poses, self.render)

    def render(self, camera: str, out: NDArray[np.uint8] | None = None) -> NDArray[np.uint8]:
        """Picture (H, W, 3) uint8 RGB of one camera by Bullet's own software renderer, into `out` if that is given."""
        if camera not in self.camera_specs:
            raise UnknownNameError("camera", camera, self.camera_specs)
        p, model, spec, index = self._p, self.model, self.camera_specs[camera], self._layout.camera_ids[camera]
        body = model.cam_bodyid[index]
        position, quat = self._pose(body) if body else (np.zeros(3), np.array([1.0, 0, 0, 0]))
        at = p.multiplyTransforms(position, _xyzw(quat), model.cam_pos[index], _xyzw(model.cam_quat[index]))
        rotation = np.array(p.getMatrixFromQuaternion(at[1])).reshape(3, 3)
        view = p.computeViewMatrix(at[0], at[0] - rotation[:, 2], rotation[:, 1])
        projection = p.computeProjectionMatrixFOV(float(model.cam_fovy[index]), spec.width / spec.height, 0.01, 10.0)
        picture = p.getCameraImage(spec.width, spec.height, view, projection, shadow=0, lightDirection=(-0.3, -0.5, 3),
                                   renderer=p.ER_TINY_RENDERER, physicsClientId=self._client)[2]  # fmt: skip
        rgb = np.asarray(picture, np.uint8).reshape(spec.height, spec.width, 4)[..., :3]
        if out is None:
            return np.ascontiguousarray(rgb)
        out[:] = rgb
        return out

    def status(self) -> TaskStatus:
        """Success, stage, progress, and why the episode cannot succeed any more, if so."""
        return self._umpire.status(self._diverged)

    def close(self) -> None:
        """End Bullet's simulation. May be called twice."""
        if self._client >= 0:
            self._p.disconnect(physicsClientId=self._client)
            self._client = -1


def _xyzw(quat: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.roll(quat, -1)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Bullet's loader writes to the process's stdout, where answers belong."""
    kept, nowhere = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    try:
        yield
    finally:
        ctypes.CDLL(None).fflush(None)  # what C has not written yet
        os.dup2(kept, 1)
        os.close(kept)
        os.close(nowhere)
