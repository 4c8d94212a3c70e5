"""Many twins of one task, stepped together on a thread pool, each bit for bit what a `Twin` of its seed would be.

Legend: N twins, J joints, H W image.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import mujoco
import numpy as np
from mujoco.batch import Batch, SimulationError
from numpy.typing import ArrayLike, NDArray

from robolearn.errors import SpecError
from robolearn.physics import DEFAULT_PHYSICS, Physics
from robolearn.tasks import Task
from robolearn.twin.layout import (
    DEPTH,
    DIVERGED,
    LOST,
    MAX_DEEP_STEPS,
    MAX_DEPTH_M,
    PRESSED,
    RESET_PAUSE_NS,
    TOOL,
    Layout,
)
from robolearn.twin.pictures import Pictures
from robolearn.twin.randomize import Randomization
from robolearn.types import Observation

SEEN = mujoco.mjtStage.mjSTAGE_VEL.value  # so that poses belong to the state after a step; the next one goes on from it


@dataclass(frozen=True)
class BatchStatus:
    """A TaskStatus for each of N twins, each (N,); `failed` holds str."""

    success: NDArray[np.bool_]
    stage: NDArray[np.int64]
    progress: NDArray[np.float64]
    reward: NDArray[np.float64]
    failed: NDArray[np.object_]
    diverged: NDArray[np.bool_]


class TwinBatch:
    """N simulated cells of one task, with the interface of a `Twin` and a leading axis N; the twins share one model.

    threads: of the pool, 0 for one a CPU. cameras, and what is raised, as with `Twin`. `stamp_ns` (N,) and `diverged`
    (N,) are a row each twin. Not for use from several threads at once.
    """

    def __init__(
        self,
        task: Task,
        num_twins: int,
        cameras: Mapping[str, tuple[int, int]] | None,
        threads: int = 0,
        physics: Physics = DEFAULT_PHYSICS,
        randomization: Randomization | None = None,
    ) -> None:
        if num_twins < 1 or threads < 0:
            raise SpecError(f"{num_twins} twins on {threads} threads; expected at least 1 twin, and threads from 0 on")
        self._layout = Layout(task, cameras, physics, randomization)
        self.task = task
        self.num_twins = num_twins
        self.robot_spec = task.robot_spec
        self.control_hz = task.control_hz
        self.period_ns = self._layout.period_ns
        self.camera_specs = self._layout.camera_specs
        self.spec = self._layout.spec
        self.model = self._layout.model
        self.stamp_ns = np.zeros(num_twins, np.int64)
        self.diverged = np.zeros(num_twins, np.bool_)
        self.batch = Batch(self.model, num_twins, threads, persistent=True)
        names = ("qpos", "qvel", "ctrl", "mocap_pos", "mocap_quat", "xpos", "xquat")
        self._qpos, self._qvel, self._ctrl, self._mocap_pos, self._mocap_quat, self._xpos, self._xquat = (
            self.batch.bind(name) for name in names
        )
        self._shown = copy.copy(self.model)  # the model of the twin that is being drawn
        self._pictures = Pictures(self._layout, self._shown)
        self._depth = self.batch.sensor(DEPTH).data
        self._reached_steps = np.zeros(num_twins, np.int64)
        self._deep_steps = np.zeros(num_twins, np.int64)
        self._drawn = mujoco.MjData(self.model)
        self.reset(range(num_twins))

    # --- time ---

    def reset(self, seeds: Iterable[int], which: Sequence[int] | NDArray[np.int64] | None = None) -> None:
        """Start the episode of a seed in each of the twins `which` (all of them by default), in this order."""
        ids = np.arange(self.num_twins) if which is None else np.asarray(which, np.int64)
        self.stamp_ns[ids] += RESET_PAUSE_NS
        self.diverged[ids] = False
        ordered = np.unique(ids)
        self.batch.reset(ordered, stage=0)
        for i, seed in zip(ids, seeds, strict=True):
            state = self.task.initial_state(np.random.default_rng(seed))
            for name, values in self._layout.drawn(seed).items():
                self.batch.expand(name)[i] = values
            self._layout.place(state, self._qpos[i], self._ctrl[i], self._mocap_pos[i], self._mocap_quat[i])
            if self.model.nhistory:
                mujoco.mj_resetData(self.model, self._drawn)
                self._drawn.ctrl[:] = self._ctrl[i]
                self._layout.hold(self._drawn)
                self.batch.bind("history")[i] = self._drawn.history
        if self._layout.randomization is not None:
            self.batch.set_const(ordered)
        self.batch.forward(ordered)
        self._reached_steps[ids] = self._deep_steps[ids] = 0
        self._judge(ids)

    def command(self, actions: ArrayLike) -> None:
        """Set joint targets (N, J). Raises SpecError for another shape or for anything that is not finite."""
        wanted = np.asarray(actions, dtype=np.float32)
        if wanted.shape != self._ctrl.shape or not np.isfinite(wanted).all():
            raise SpecError(f"actions have shape {wanted.shape}, expected {self._ctrl.shape}, all finite")
        self._ctrl[:] = wanted

    def advance(self, which: NDArray[np.bool_] | None = None) -> None:
        """Let one control period pass under the targets that are set, for all or for the twins of a mask (N,).

        A world that diverges stays as it was before; one in which things stay deep in each other counts as diverged.
        """
        moving = np.ones(self.num_twins, np.bool_) if which is None else which
        self.stamp_ns[moving] += self.period_ns
        qpos, qvel = self._qpos.copy(), self._qvel.copy()
        moving = moving & ~self.diverged
        broken = np.zeros(0, np.int64)
        try:
            self.batch.step(None if moving.all() else np.flatnonzero(moving), self._layout.substeps, SEEN)
        except SimulationError as error:
            broken = error.ids
        lost = self._layout.diverged(self._qpos, self._qvel) & moving
        lost[broken] = True
        if lost.any():
            self._qpos[lost], self._qvel[lost] = qpos[lost], np.where(np.isfinite(qvel[lost]), qvel[lost], 0.0)
            self.diverged |= lost
            self.batch.forward(np.flatnonzero(lost), SEEN)
        deep = self._depth[:, 0] < -MAX_DEPTH_M
        self._deep_steps = np.where(moving & ~lost, np.where(deep, self._deep_steps + 1, 0), self._deep_steps)
        self.diverged |= self._deep_steps > MAX_DEEP_STEPS
        self._judge(np.flatnonzero(moving) if which is not None else slice(None))

    def step(self, actions: ArrayLike) -> None:
        """Command and advance: each action is applied from `stamp_ns` until one period later."""
        self.command(actions)
        self.advance()

    # --- what can be seen ---

    def joint_positions(self) -> NDArray[np.float32]:
        """Joint positions (N, J), now."""
        return self._qpos[:, self._layout.qpos_address].astype(np.float32)

    def tool_jacobian(self) -> NDArray[np.float64]:
        """How the tools' places [m] and rotations [rad] in the scene change with the joints (N, 6, J), now."""
        tool = self._layout.body_ids[TOOL]
        place, turn = self.batch.jac(tool, self._xpos[:, tool])
        return np.concatenate([place, turn], axis=1)[:, :, self._layout.qvel_address]

    def render(
        self, camera: str, out: NDArray[np.uint8] | None = None, which: NDArray[np.int64] | None = None
    ) -> NDArray[np.uint8]:
        """Pictures (N, H, W, 3) uint8 RGB of one camera, into `out` if given; of the twins `which` or of all."""
        ids = range(self.num_twins) if which is None else which
        if out is None:
            spec = self.spec.observation[self._layout.wanted([f"image_{camera}"])[0]]
            out = np.empty((len(ids), *spec.shape), np.uint8)
        for i, picture in zip(ids, out, strict=True):
            if self._layout.randomization is not None:
                self.batch.get_model(i, self._shown)
            self.batch.get_data(i, self._drawn)
            mujoco.mj_kinematics(self._shown, self._drawn)
            mujoco.mj_camlight(self._shown, self._drawn)
            self._pictures.draw(camera, self._drawn, picture)
        return out

    def observe(self, fields: Iterable[str] | None = None, which: NDArray[np.int64] | None = None) -> Observation:
        """Observation (N, ...) of these fields, or of all; of the twins `which` or of all. Pictures are drawn only when
        they are asked for."""
        rows = slice(None) if which is None else which
        return {
            name: self.render(name.removeprefix("image_"), which=which)
            if name.startswith("image_")
            else self._facts[name][rows].copy()
            for name in self._layout.wanted(fields)
        }

    def _fact(self, name: str) -> NDArray[np.float32]:
        if name == "proprio":
            parts = [self._qpos[:, self._layout.qpos_address], self._qvel[:, self._layout.qvel_address]]
        else:
            body = self._layout.body_ids[name.removeprefix("pose_")]
            parts = [self._xpos[:, body], self._xquat[:, body]]
        return np.concatenate(parts, axis=-1, dtype=np.float32, casting="same_kind")

    def _judge(self, passed: NDArray[np.int64] | slice) -> None:
        """Judge all twins; for the rows `passed` a step has gone by, or an episode has begun."""
        self._facts = {name: self._fact(name) for name in self._layout.facts}
        judged = self.task.judge(self._facts)
        self._reached_steps[passed] += 1
        self._reached_steps[~judged.success] = 0
        self._judgement = judged.lasting(self._reached_steps, self.task.dwell_steps)

    def status(self) -> BatchStatus:
        """Success, stage, progress, and why an episode cannot succeed any more, if so."""
        judged, fine = self._judgement, ~self.diverged
        failed = np.full(self.num_twins, "", dtype=object)
        failed[judged.lost] = LOST
        failed[self.diverged] = DIVERGED
        failed[self._deep_steps > MAX_DEEP_STEPS] = PRESSED
        return BatchStatus(
            success=judged.success & fine,
            stage=np.where(fine, judged.stage, 0),
            progress=np.where(fine, judged.progress, 0.0),
            reward=np.where(fine, judged.reward, 0.0),
            failed=failed,
            diverged=self.diverged.copy(),
        )

    def close(self) -> None:
        """Free the OpenGL contexts. May be called twice."""
        self._pictures.close()
