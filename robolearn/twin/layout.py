"""Where a task's things are in the state of its MuJoCo model; one twin and a batch of twins share it.

Legend: J joints, N twins; (...) any leading batch shape.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping

import mujoco
import numpy as np
from numpy.typing import ArrayLike, NDArray

from robolearn.errors import AssetError, SpecError, UnknownNameError
from robolearn.physics import DEFAULT_PHYSICS, Physics
from robolearn.specs import POSE_SPEC, ArraySpec, CameraSpec, InterfaceSpec, image_spec
from robolearn.tasks import Task
from robolearn.tasks.task import InitialState
from robolearn.twin.linkage import Linkage
from robolearn.twin.randomize import Randomization
from robolearn.twin.scene import find, load_model, set_physics
from robolearn.types import Observation, RobotState

IMAGE_SIZE = (96, 96)
NS_PER_S = 1_000_000_000
RESET_PAUSE_NS = NS_PER_S  # simulated time between two episodes, so that their stamps cannot be confused
DIVERGED = "simulation diverged"
PRESSED = "simulation diverged: things stayed inside each other"
LOST = "object lost"
TOOL = "tool"  # body of the tool frame of a robot with one arm
MIN_IMAGE_PX, MAX_IMAGE_PX = 8, 640  # the larger one is the off-screen buffer of the scenes
MAX_SPEED = 1e3  # [rad/s or m/s]: nothing in these scenes moves as fast unless the solver failed
MAX_DEPTH_M, MAX_DEEP_STEPS = 0.005, 3  # deeper in each other for more control steps, things are not what they were
DEPTH = "deepest_contact"  # sensor: distance of the two things that are deepest in each other, 0 without a contact
CLOSEST = 1  # MuJoCo's name for the reduction of a contact sensor to its deepest contact


class Layout:
    """A task's compiled model, its interface, and the addresses of its robot, bodies and cameras.

    cameras: size (H, W) by camera name; the task's own ones by default. physics: of the robot. randomization:
    how twins differ. Raises AssetError for a scene or robot that does not fit the task, SpecError for a picture size
    out of range, and UnknownNameError for a camera that is not in the scene.
    """

    def __init__(
        self,
        task: Task,
        cameras: Mapping[str, tuple[int, int]] | None,
        physics: Physics = DEFAULT_PHYSICS,
        randomization: Randomization | None = None,
    ) -> None:
        cameras = dict.fromkeys(task.cameras, IMAGE_SIZE) if cameras is None else cameras
        for name, size in cameras.items():
            if not all(MIN_IMAGE_PX <= side <= MAX_IMAGE_PX for side in size):
                raise SpecError(
                    f"camera {name} is {size[0]} x {size[1]} pixels, expected {MIN_IMAGE_PX} to {MAX_IMAGE_PX}"
                )
        self.task = task
        self.randomization = randomization

        def edit(scene: mujoco.MjSpec) -> None:
            physics.edit(scene)
            depth = scene.add_sensor(name=DEPTH, type=mujoco.mjtSensor.mjSENS_CONTACT)
            depth.intprm[:3] = (1 << mujoco.mjtConDataField.mjCONDATA_DIST.value, CLOSEST, 1)
            if randomization is not None:
                randomization.edit(scene)

        self.model = load_model(task, edit)
        set_physics(self.model, physics)
        self._base = copy.copy(self.model)
        self.period_ns = round(NS_PER_S / task.control_hz)
        self.camera_specs = {name: CameraSpec(name, *size, task.control_hz) for name, size in cameras.items()}
        self.camera_ids = {name: self._camera_id(name) for name in cameras}
        self.substeps = round(1 / (task.control_hz * self.model.opt.timestep))
        if abs(self.substeps * self.model.opt.timestep * task.control_hz - 1) > 1e-9:
            raise AssetError(
                f"scene {task.scene} steps by {self.model.opt.timestep:g} s, which does not divide the control period "
                f"of {task.id}, {1 / task.control_hz:g} s; change one of them"
            )
        joints = self.model.actuator_trnid[:, 0]
        self.qpos_address, self.qvel_address = self.model.jnt_qposadr[joints], self.model.jnt_dofadr[joints]
        self.linkage = Linkage(self.model)
        self.body_ids = {body: find(self.model, mujoco.mjtObj.mjOBJ_BODY, body) for body in task.bodies}
        self.facts = ("proprio", *(f"pose_{body}" for body in task.bodies))  # what a task may judge from
        self.spec = InterfaceSpec(self._observation_specs(), task.robot_spec.action_spec, task.control_hz)

    def _camera_id(self, name: str) -> int:
        index = find(self.model, mujoco.mjtObj.mjOBJ_CAMERA, name)
        if index < 0:
            known = [self.model.camera(i).name.rpartition("/")[2] for i in range(self.model.ncam)]
            raise UnknownNameError("camera", name, known)
        return index

    def _observation_specs(self) -> dict[str, ArraySpec]:
        images = {f"image_{c.name}": image_spec(c.height, c.width) for c in self.camera_specs.values()}
        poses = {f"pose_{body}": POSE_SPEC for body in self.body_ids}
        return {"proprio": self.task.robot_spec.proprio_spec, **images, **poses}

    def place(
        self,
        state: InitialState,
        qpos: NDArray[np.float64],
        ctrl: NDArray[np.float64],
        mocap_pos: NDArray[np.float64],
        mocap_quat: NDArray[np.float64],
    ) -> None:
        """Write the start of an episode into one simulation's arrays, which hold the model's defaults.

        Raises AssetError for a body of the task that the scene holds fast.
        """
        model = self.model
        self.place_robot(state.joint_position, qpos)
        ctrl[:] = state.joint_position
        for joint, value in state.joints.items():
            qpos[model.joint(joint).qposadr[0]] = value
        for body, pose in state.poses.items():
            index = find(model, mujoco.mjtObj.mjOBJ_BODY, body)
            mocap, joint_id = model.body_mocapid[index], model.body_jntadr[index]
            if mocap >= 0:
                mocap_pos[mocap], mocap_quat[mocap] = pose[:3], pose[3:]
            elif joint_id >= 0 and model.jnt_type[joint_id] == mujoco.mjtJoint.mjJNT_FREE:
                address = model.jnt_qposadr[joint_id]
                qpos[address : address + 7] = pose
            elif joint_id >= 0 and model.body_dofnum[index] == 3 and not model.body_dofnum[model.body_parentid[index]]:
                address = model.jnt_qposadr[joint_id]  # a point of a cloth, on three sliders
                qpos[address : address + 3] = pose[:3] - model.body_pos[index]
            else:
                raise AssetError(
                    f"{self.task.id} places {body}, which is neither free nor mocap in its scene; make it so"
                )

    def place_robot(self, position: ArrayLike, qpos: NDArray[np.float64]) -> None:
        """Write joint positions (J,) into one simulation's `qpos`, and where joints without a servo then are."""
        self.linkage.place(position, qpos)

    def drawn(self, seed: int) -> dict[str, NDArray]:
        """The fields of the model that the twin of this seed has for itself; none without randomization."""
        return {} if self.randomization is None else self.randomization.draw(self._base, seed)

    def hold(self, data: mujoco.MjData) -> None:
        """Let the servos with a latency have had the commands of `data` ever since."""
        for i in np.flatnonzero(self.model.actuator_history[:, 0] > 0):
            samples = self.model.actuator_history[i, 0]
            mujoco.mj_initCtrlHistory(self.model, data, i, None, np.full(samples, data.ctrl[i]))

    def wanted(self, fields: Iterable[str] | None) -> tuple[str, ...]:
        """These observation fields, or all. Raises UnknownNameError for one that is not there."""
        names = tuple(self.spec.observation) if fields is None else tuple(fields)
        for name in names:
            if name not in self.spec.observation:
                raise UnknownNameError("observation field", name, self.spec.observation)
        return names

    def observation(
        self,
        fields: Iterable[str] | None,
        robot_state: Callable[[], RobotState],
        body_poses: Callable[[], Mapping[str, NDArray[np.float32]]],
        render: Callable[[str], NDArray[np.uint8]],
    ) -> Observation:
        """These observation fields of one twin, or all; of it nothing is asked that no field wants."""
        wanted = self.wanted(fields)
        poses = body_poses() if any(name.startswith("pose_") for name in wanted) else {}

        def value(name: str) -> NDArray:
            if name == "proprio":
                return robot_state().proprio()
            kind, _, what = name.partition("_")
            return poses[what] if kind == "pose" else render(what)

        return {name: value(name) for name in wanted}

    @staticmethod
    def diverged(qpos: NDArray[np.float64], qvel: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Whether a state (..., nq), (..., nv) cannot be the physics' any more, (...,)."""
        # all rows at once are looked at faster; a NaN speed compares false
        if np.isfinite(qpos).all() and np.abs(qvel).max(initial=0.0) < MAX_SPEED:
            return np.zeros(qvel.shape[:-1], np.bool_)
        slow = np.abs(qvel).max(axis=-1, initial=0.0) < MAX_SPEED
        return ~(np.isfinite(qpos).all(axis=-1) & slow)
