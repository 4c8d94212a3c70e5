"""The twin: one task's world in MuJoCo, stepped one control period at a time. Legend: J joints, H W image."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping

import mujoco
import numpy as np
from numpy.typing import ArrayLike, NDArray

from robolearn.errors import AssetError
from robolearn.physics import DEFAULT_PHYSICS, Physics
from robolearn.tasks import Task
from robolearn.tasks.task import TaskStatus
from robolearn.twin.layout import (
    DEPTH,
    DIVERGED,
    MAX_DEEP_STEPS,
    MAX_DEPTH_M,
    PRESSED,
    RESET_PAUSE_NS,
    TOOL,
    Layout,
)
from robolearn.twin.pictures import Pictures
from robolearn.twin.randomize import Randomization
from robolearn.twin.umpire import Umpire
from robolearn.types import Observation, RobotState

_WHOLE = mujoco.mjtState.mjSTATE_INTEGRATION


class Twin:
    """Simulated cell of one task. Time is simulated; nothing here reads a clock, and a seed fixes everything.

    cameras: size (H, W) by camera name; the task's own ones by default. physics: of the robot. randomization:
    how it differs from episode to episode. Raises AssetError for a scene or robot that does not fit the task, SpecError
    for a picture size out of range, and UnknownNameError for a camera that is not in the scene.
    """

    def __init__(
        self,
        task: Task,
        cameras: Mapping[str, tuple[int, int]] | None = None,
        physics: Physics = DEFAULT_PHYSICS,
        randomization: Randomization | None = None,
    ) -> None:
        self._layout = Layout(task, cameras, physics, randomization)
        self.task = task
        self.robot_spec = task.robot_spec
        self.control_hz = task.control_hz
        self.period_ns = self._layout.period_ns
        self.camera_specs = self._layout.camera_specs
        self.spec = self._layout.spec
        self.stamp_ns = 0
        self.model = self._layout.model
        self.data = mujoco.MjData(self.model)
        self._pictures = Pictures(self._layout, self.model)
        self._umpire = Umpire(task)
        self._depth = self.data.sensor(DEPTH).data
        self.reset(0)

    # --- time ---

    def reset(self, seed: int) -> None:
        """Start the episode of this seed, at rest, at a later stamp than anything before."""
        state = self.task.initial_state(np.random.default_rng(seed))
        self._vary(self._layout.drawn(seed))
        self.stamp_ns += RESET_PAUSE_NS
        mujoco.mj_resetData(self.model, self.data)
        self._diverged, self._deep_steps = "", 0
        self._layout.place(state, self.data.qpos, self.data.ctrl, self.data.mocap_pos, self.data.mocap_quat)
        self._layout.hold(self.data)
        mujoco.mj_forward(self.model, self.data)
        self._umpire.begin(self.observe(self._layout.facts))

    def begin(self, task: Task) -> None:
        """Judge by another task of the same scene from now on; in the world nothing changes."""
        self.task = task
        self._umpire = Umpire(task)
        self._umpire.begin(self.observe(self._layout.facts))

    def snapshot(self) -> NDArray[np.float64]:
        """All that the future of this world depends on, as one vector."""
        state = np.empty(mujoco.mj_stateSize(self.model, _WHOLE))
        mujoco.mj_getState(self.model, self.data, state, _WHOLE)
        return state

    def restore(self, snapshot: ArrayLike, stamp_ns: int) -> None:
        """Be the world of that `snapshot` again, at this stamp."""
        mujoco.mj_setState(self.model, self.data, np.asarray(snapshot, np.float64), _WHOLE)
        self.stamp_ns, self._diverged, self._deep_steps = stamp_ns, "", 0
        mujoco.mj_kinematics(self.model, self.data)
        mujoco.mj_camlight(self.model, self.data)
        self._umpire.begin(self.observe(self._layout.facts))

    def push(self, rng: np.random.Generator, speed_m_s: float) -> None:
        """Knock one free body of the scene in a random direction; without one, a joint, at 1 rad/s for a m/s."""
        free = np.flatnonzero(self.model.jnt_type == mujoco.mjtJoint.mjJNT_FREE)
        if len(free):
            address = self.model.jnt_dofadr[rng.choice(free)]
            direction = rng.normal(size=2)
            self.data.qvel[address : address + 2] += speed_m_s * direction / np.linalg.norm(direction)
        else:
            self.data.qvel[rng.choice(self._layout.qvel_address)] += rng.choice((-1.0, 1.0)) * speed_m_s

    def _vary(self, drawn: Mapping[str, NDArray]) -> None:
        for name, values in drawn.items():
            getattr(self.model, name)[:] = values
        if drawn:
            mujoco.mj_setConst(self.model, self.data)

    def place_robot(self, position: ArrayLike) -> None:
        """Put the joints at `position` (J,), at rest and commanded to stay; nothing else moves, and no time passes."""
        self.track(position, np.zeros_like(self.data.ctrl))
        self.data.ctrl[:] = position
        self._layout.hold(self.data)
        mujoco.mj_forward(self.model, self.data)

    def track(self, position: ArrayLike, velocity: ArrayLike) -> None:
        """Write joint positions and velocities (J,) into the state; no pose follows before the kinematics have run."""
        self._layout.place_robot(position, self.data.qpos)
        self._layout.linkage.move(velocity, self.data.qvel)

    def moves(self, body: str) -> bool:
        """Whether the physics moves a body of the task, rather than its placing alone."""
        return bool(self.model.body_mocapid[self._layout.body_ids[body]] < 0)

    def loose(self, body: str) -> bool:
        """Whether nothing holds a body of the task: it can be carried anywhere, and roll away."""
        return bool(self.model.body_dofnum[self._layout.body_ids[body]] == 6)

    def resist_rolling(self, body: str, resistance_m: float) -> None:
        """Give a body a rolling resistance [m]: the torque that slows it is so much times the force on its contact."""
        for geom in np.flatnonzero(self.model.geom_bodyid == self.model.body(body).id):
            self.model.geom_condim[geom] = 6
            self.model.geom_friction[geom, 2] = resistance_m

    def place_mark(self, body: str, pose: ArrayLike) -> None:
        """Put a body that its placing alone moves, such as a mark, at `pose` (7,). Raises AssetError for another."""
        if self.moves(body):
            raise AssetError(f"{body} of {self.task.id} is moved by the physics; only a mark can be placed")
        mark = self.model.body_mocapid[self._layout.body_ids[body]]
        self.data.mocap_pos[mark], self.data.mocap_quat[mark] = np.split(np.asarray(pose, np.float64), [3])
        mujoco.mj_kinematics(self.model, self.data)

    def command(self, action: ArrayLike) -> None:
        """Set joint targets (J,). Raises SpecError for another shape or for anything that is not finite."""
        self.data.ctrl[:] = self.spec.action.check("action", np.asarray(action, dtype=np.float32))

    def advance(self) -> None:
        """Let one control period pass under the targets that are set. A world that diverges stays as it was before;
        one in which things stay deep in each other counts as diverged."""
        self.stamp_ns += self.period_ns
        if self._diverged:
            return
        qpos, qvel = self.data.qpos.copy(), self.data.qvel.copy()
        try:
            mujoco.mj_step(self.model, self.data, self._layout.substeps)
            if self._layout.diverged(self.data.qpos, self.data.qvel):
                self._diverged = DIVERGED
            else:
                self._arrive()
        except mujoco.FatalError as error:  # a cloth in a knot has more contacts than there is memory for
            logging.getLogger(__name__).warning("MuJoCo: %s", " ".join(str(error).split()))
            self._diverged = DIVERGED
        if self._diverged:
            self.data.qpos, self.data.qvel = qpos, np.where(np.isfinite(qvel), qvel, 0.0)
            self._arrive()
        self._deep_steps = self._deep_steps + 1 if self._depth[0] < -MAX_DEPTH_M else 0
        if self._deep_steps > MAX_DEEP_STEPS and not self._diverged:
            self._diverged = PRESSED
        self._umpire.judge(self.observe(self._layout.facts))

    def _arrive(self) -> None:
        """Let poses and contacts belong to the state after the step."""
        mujoco.mj_fwdPosition(self.model, self.data)
        mujoco.mj_sensorPos(self.model, self.data)

    def step(self, action: ArrayLike) -> None:
        """Command and advance: the action is applied from `stamp_ns` until one period later."""
        self.command(action)
        self.advance()

    # --- what can be seen ---

    def robot_state(self) -> RobotState:
        """Joint positions and velocities, now."""
        return RobotState(
            self.data.qpos[self._layout.qpos_address].astype(np.float32),
            self.data.qvel[self._layout.qvel_address].astype(np.float32),
            self.stamp_ns,
        )

    def body_poses(self) -> dict[str, NDArray[np.float32]]:
        """Pose (7,) of each of the task's bodies: position [m], quaternion wxyz."""
        return {
            body: np.concatenate([self.data.xpos[i], self.data.xquat[i]]).astype(np.float32)
            for body, i in self._layout.body_ids.items()
        }

    def tool_jacobian(self) -> NDArray[np.float64]:
        """How the tool's place [m] and rotation [rad] in the scene change with the joints (6, J), now."""
        jacobian = np.zeros((6, self.model.nv))
        tool = self._layout.body_ids[TOOL]
        mujoco.mj_comPos(self.model, self.data)
        mujoco.mj_jac(self.model, self.data, jacobian[:3], jacobian[3:], self.data.xpos[tool], tool)
        return jacobian[:, self._layout.qvel_address]

    def camera_matrix(self, camera: str) -> NDArray[np.float64]:
        """K (3, 3) of a camera's pictures [pixels], whose pixels have their middle at whole numbers, as OpenCV has it.

        MuJoCo's camera looks along -z with y up: (x, y, z) of it is (x, -y, -z) of the camera that K is for.
        """
        spec = self.camera_specs[camera]
        fovy_rad = np.deg2rad(self.model.cam_fovy[self._layout.camera_ids[camera]])
        focal = 0.5 * spec.height / np.tan(0.5 * fovy_rad)
        return np.array([[focal, 0, 0.5 * (spec.width - 1)], [0, focal, 0.5 * (spec.height - 1)], [0, 0, 1]])

    def render(self, camera: str, out: NDArray[np.uint8] | None = None) -> NDArray[np.uint8]:
        """Picture (H, W, 3) uint8 RGB of one camera, into `out` if that is given."""
        return self._pictures.draw(camera, self.data, out)

    def observe(self, fields: Iterable[str] | None = None) -> Observation:
        """Observation of these fields, or of all. Pictures are drawn only when they are asked for."""
        return self._layout.observation(fields, self.robot_state, self.body_poses, self.render)

    def status(self) -> TaskStatus:
        """Success, stage, progress, and why the episode cannot succeed any more, if so."""
        return self._umpire.status(self._diverged)

    def close(self) -> None:
        """Free the OpenGL contexts. May be called twice."""
        self._pictures.close()
