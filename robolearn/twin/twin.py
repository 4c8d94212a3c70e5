"""The twin: one task's world in MuJoCo, stepped one control period at a time. Legend: J joints, H W image."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import mujoco
import numpy as np
from numpy.typing import ArrayLike, NDArray

from robolearn.errors import AssetError, HardwareError, SpecError, UnknownNameError
from robolearn.specs import ArraySpec, CameraSpec, InterfaceSpec, image_spec
from robolearn.tasks import Task
from robolearn.tasks.task import InitialState, TaskStatus
from robolearn.twin.scene import find, load_model
from robolearn.types import Observation, RobotState

IMAGE_SIZE = (96, 96)
POSE_SPEC = ArraySpec(shape=(7,), unit="m, quaternion wxyz", names=("x", "y", "z", "qw", "qx", "qy", "qz"))
NS_PER_S = 1_000_000_000
RESET_PAUSE_NS = NS_PER_S  # simulated time between two episodes, so that their stamps cannot be confused
DIVERGED = "simulation diverged"
MIN_IMAGE_PX, MAX_IMAGE_PX = 8, 640  # the larger one is the off-screen buffer of the scenes
MAX_SPEED = 1e3  # [rad/s or m/s]: nothing in these scenes moves as fast unless the solver failed


class Twin:
    """Simulated cell of one task. Time is simulated; nothing here reads a clock, and a seed fixes everything.

    cameras: size (H, W) by camera name; the task's own ones by default. Raises AssetError for a scene or robot that
    does not fit the task, and UnknownNameError for a camera that is not in the scene.
    """

    def __init__(self, task: Task, cameras: Mapping[str, tuple[int, int]] | None = None) -> None:
        cameras = dict.fromkeys(task.cameras, IMAGE_SIZE) if cameras is None else cameras
        for name, size in cameras.items():
            if not all(MIN_IMAGE_PX <= side <= MAX_IMAGE_PX for side in size):
                raise SpecError(
                    f"camera {name} is {size[0]} x {size[1]} pixels, expected {MIN_IMAGE_PX} to {MAX_IMAGE_PX}"
                )
        self.task = task
        self.robot_spec = task.robot_spec
        self.control_hz = task.control_hz
        self.period_ns = round(NS_PER_S / task.control_hz)
        self.stamp_ns = 0
        self.model = load_model(task)
        self.data = mujoco.MjData(self.model)
        self.camera_specs = {name: CameraSpec(name, *size, task.control_hz) for name, size in cameras.items()}
        self._camera_ids = {name: self._camera_id(name) for name in cameras}
        self._renderers: dict[tuple[int, int], mujoco.Renderer] = {}
        self._substeps = round(1 / (task.control_hz * self.model.opt.timestep))
        if abs(self._substeps * self.model.opt.timestep * task.control_hz - 1) > 1e-9:
            raise AssetError(
                f"scene {task.scene} steps by {self.model.opt.timestep:g} s, which does not divide the control period "
                f"of {task.id}, {1 / task.control_hz:g} s; change one of them"
            )
        joints = self.model.actuator_trnid[:, 0]
        self._qpos_address, self._qvel_address = self.model.jnt_qposadr[joints], self.model.jnt_dofadr[joints]
        self._body_ids = {body: find(self.model, mujoco.mjtObj.mjOBJ_BODY, body) for body in task.bodies}
        self._diverged = False
        self.spec = InterfaceSpec(self._observation_specs(), self.robot_spec.action_spec, task.control_hz)
        self.reset(0)

    def _camera_id(self, name: str) -> int:
        index = find(self.model, mujoco.mjtObj.mjOBJ_CAMERA, name)
        if index < 0:
            known = [self.model.camera(i).name.rpartition("/")[2] for i in range(self.model.ncam)]
            raise UnknownNameError("camera", name, known)
        return index

    def _observation_specs(self) -> dict[str, ArraySpec]:
        images = {f"image_{c.name}": image_spec(c.height, c.width) for c in self.camera_specs.values()}
        poses = {f"pose_{body}": POSE_SPEC for body in self._body_ids}
        return {"proprio": self.robot_spec.proprio_spec, **images, **poses}

    # --- time ---

    def reset(self, seed: int) -> None:
        """Start the episode of this seed, at rest, at a later stamp than anything before."""
        state = self.task.initial_state(np.random.default_rng(seed))
        self.stamp_ns += RESET_PAUSE_NS
        mujoco.mj_resetData(self.model, self.data)
        self._diverged = False
        self._place(state)
        mujoco.mj_forward(self.model, self.data)
        self._judge(reached_steps=0)

    def command(self, action: ArrayLike) -> None:
        """Set joint targets (J,). Raises SpecError for another shape or for anything that is not finite."""
        self.data.ctrl[:] = self.spec.action.check("action", np.asarray(action, dtype=np.float32))

    def advance(self) -> None:
        """Let one control period pass under the targets that are set. A world that diverges stays as it was before."""
        self.stamp_ns += self.period_ns
        if self._diverged:
            return
        qpos, qvel = self.data.qpos.copy(), self.data.qvel.copy()
        mujoco.mj_step(self.model, self.data, self._substeps)
        speed = np.abs(self.data.qvel).max()
        self._diverged = not (np.isfinite(self.data.qpos).all() and speed < MAX_SPEED)  # a NaN speed compares false
        if self._diverged:
            self.data.qpos, self.data.qvel = qpos, np.where(np.isfinite(qvel), qvel, 0.0)
        mujoco.mj_kinematics(self.model, self.data)  # poses belong to the state after the step
        mujoco.mj_camlight(self.model, self.data)
        self._judge(self._reached_steps)

    def step(self, action: ArrayLike) -> None:
        """Command and advance: the action is applied from `stamp_ns` until one period later."""
        self.command(action)
        self.advance()

    def _place(self, state: InitialState) -> None:
        self.data.qpos[self._qpos_address] = state.joint_position
        self.data.ctrl[:] = state.joint_position
        for joint, value in state.joints.items():
            self.data.joint(joint).qpos = value
        for body, pose in state.poses.items():
            index = self._body_ids[body]
            mocap, joint = self.model.body_mocapid[index], self.model.body_jntadr[index]
            if mocap >= 0:
                self.data.mocap_pos[mocap], self.data.mocap_quat[mocap] = pose[:3], pose[3:]
            elif joint >= 0 and self.model.jnt_type[joint] == mujoco.mjtJoint.mjJNT_FREE:
                address = self.model.jnt_qposadr[joint]
                self.data.qpos[address : address + 7] = pose
            else:
                raise AssetError(
                    f"{self.task.id} places {body}, which is neither free nor mocap in its scene; make it so"
                )

    # --- what can be seen ---

    def robot_state(self) -> RobotState:
        """Joint positions and velocities, now."""
        return RobotState(
            self.data.qpos[self._qpos_address].astype(np.float32),
            self.data.qvel[self._qvel_address].astype(np.float32),
            self.stamp_ns,
        )

    def body_poses(self) -> dict[str, NDArray[np.float32]]:
        """Pose (7,) of each of the task's bodies: position [m], quaternion wxyz."""
        return {
            body: np.concatenate([self.data.xpos[i], self.data.xquat[i]]).astype(np.float32)
            for body, i in self._body_ids.items()
        }

    def render(self, camera: str, out: NDArray[np.uint8] | None = None) -> NDArray[np.uint8]:
        """Picture (H, W, 3) uint8 RGB of one camera, into `out` if that is given."""
        if camera not in self.camera_specs:
            raise UnknownNameError("camera", camera, self.camera_specs)
        spec = self.camera_specs[camera]
        size = (spec.height, spec.width)
        if size not in self._renderers:
            self._renderers[size] = self._renderer(*size)
        renderer = self._renderers[size]
        renderer.update_scene(self.data, self._camera_ids[camera])
        return renderer.render(out=out)

    def observe(self, fields: Iterable[str] | None = None) -> Observation:
        """Observation of these fields, or of all. Pictures are drawn only when they are asked for."""
        wanted = tuple(self.spec.observation) if fields is None else tuple(fields)
        unknown = [name for name in wanted if name not in self.spec.observation]
        if unknown:
            raise UnknownNameError("observation field", unknown[0], self.spec.observation)
        poses = self.body_poses() if any(name.startswith("pose_") for name in wanted) else {}
        return {name: self._observe(name, poses) for name in wanted}

    def _observe(self, name: str, poses: dict[str, NDArray[np.float32]]) -> NDArray:
        if name == "proprio":
            return self.robot_state().proprio()
        kind, _, what = name.partition("_")
        return poses[what] if kind == "pose" else self.render(what)

    def _judge(self, reached_steps: int) -> None:
        """reached_steps: for how many steps the goal had been reached before this one."""
        judged = self.task.judge(self.observe(["proprio", *(f"pose_{body}" for body in self._body_ids)]))
        self._reached_steps = reached_steps + 1 if judged.success else 0
        self._judgement = judged.lasting(np.asarray(self._reached_steps), self.task.dwell_steps)

    def status(self) -> TaskStatus:
        """Success, stage, progress, and why the episode cannot succeed any more, if so."""
        if self._diverged:
            return TaskStatus(success=False, stage=0, progress=0.0, reward=0.0, failed=DIVERGED, diverged=True)
        judged = self._judgement
        return TaskStatus(
            success=bool(judged.success),
            stage=int(judged.stage),
            progress=float(judged.progress),
            reward=float(judged.reward),
            failed="object lost" if judged.lost else "",
        )

    def close(self) -> None:
        """Free the OpenGL contexts. May be called twice."""
        for renderer in self._renderers.values():
            renderer.close()
        self._renderers.clear()

    def _renderer(self, height: int, width: int) -> mujoco.Renderer:
        try:
            renderer = mujoco.Renderer(self.model, height, width)
        except ValueError as error:
            raise SpecError(f"cannot render {height} x {width}: {' '.join(str(error).split())}") from error
        except mujoco.FatalError as error:
            raise HardwareError(
                f"cannot render, no OpenGL ({error}); run `robolearn doctor`, and where mujoco is imported before "
                "robolearn.twin set MUJOCO_GL=egl"
            ) from error
        # Both cost a second pass over the scene, shadows thirty times the picture on software GL.
        renderer.scene.flags[mujoco.mjtRndFlag.mjRND_SHADOW] = 0
        renderer.scene.flags[mujoco.mjtRndFlag.mjRND_REFLECTION] = 0
        return renderer
