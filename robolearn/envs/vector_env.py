"""Many environments of one task as a Gymnasium VectorEnv, stepped at the speed of the physics.

Row i is what a RobotEnv of the same arguments and seed gives, autoreset included. Legend: N environments, J joints.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from gymnasium import spaces
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from robolearn.envs.control import make_control
from robolearn.envs.spaces import box, flatten, observation_space
from robolearn.errors import SpecError
from robolearn.physics import DEFAULT_PHYSICS, Physics
from robolearn.robots.safety import SafetyConfig
from robolearn.robots.safety_batch import BatchDecision, BatchSafetyFilter
from robolearn.specs import InterfaceSpec
from robolearn.tasks import make_task
from robolearn.twin.batch import BatchStatus, TwinBatch
from robolearn.twin.randomize import Randomization

Ids = NDArray[np.int64]
Info = dict[str, Any]


class RobotVectorEnv(VectorEnv[Any, NDArray[np.float32], NDArray]):
    """`num_envs` twins of `task_id`; the arguments, and what happens in an episode, are those of RobotEnv.

    autoreset_mode: Gymnasium's. `NextStep`: the step after the end of an episode ignores its action and returns the
    first observation of the next episode, with reward 0. `SameStep`: an ended row already shows the next episode, and
    `info["final_obs"]` and `info["final_info"]` what it ended with. `Disabled`: the caller resets ended rows with
    `reset(options={"reset_mask": mask})`. threads: of the physics, 0 for one a CPU.

    Every array that is returned is the caller's own. Raises what RobotEnv raises.
    """

    def __init__(
        self,
        task_id: str,
        num_envs: int,
        cameras: Mapping[str, tuple[int, int]] | None = None,
        privileged: bool = False,
        flat: bool = False,
        show_cameras: bool = True,
        control: str = "joint_position",
        physics: Physics = DEFAULT_PHYSICS,
        randomization: Randomization | None = None,
        safety: SafetyConfig = SafetyConfig(),  # noqa: B008, it is frozen
        max_held_steps: int = 10,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        threads: int = 0,
        render_mode: str | None = None,
    ) -> None:
        cameras = {} if flat and cameras is None else cameras
        if render_mode not in (None, "rgb_array"):
            raise SpecError(f"render_mode is {render_mode!r}, expected rgb_array or None")
        if render_mode is not None and cameras is not None and not cameras:
            raise SpecError(f"{task_id} has no cameras to render with; give at least one, or render_mode None")
        self.task = make_task(task_id)
        self.twins = TwinBatch(self.task, num_envs, cameras, threads, physics, randomization)
        self.num_envs = num_envs
        self.render_mode = render_mode
        self.autoreset_mode = AutoresetMode(autoreset_mode)
        self.metadata = {
            "render_modes": ["rgb_array"],
            "render_fps": self.task.control_hz,
            "autoreset_mode": self.autoreset_mode,
        }
        period_s = self.twins.period_ns * 1e-9
        self.control = make_control(control, self.task.arms, period_s)
        hidden = (*(() if privileged else ("pose_",)), *(() if show_cameras else ("image_",)))
        fields = {k: v for k, v in self.twins.spec.observation.items() if not k.startswith(hidden)}
        self._seen = tuple(fields)
        if self.control.relative:
            fields["command"] = self.twins.robot_spec.action_spec
        self.interface = InterfaceSpec(fields, self.control.spec, self.task.control_hz)
        self._flat = flat
        self.single_observation_space = observation_space(fields, flat)
        self.single_action_space: spaces.Box = box(self.control.spec)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._filter = BatchSafetyFilter(self.twins.robot_spec, safety, period_s, num_envs)
        self._max_held_steps = max_held_steps
        self._generators = [seeding.np_random(None)[0] for _ in range(num_envs)]
        self._start_ns = self.twins.stamp_ns.copy()
        self._steps, self._held_steps, self._held_in_a_row = (np.zeros(num_envs, np.int64) for _ in range(3))
        self._ended = np.zeros(num_envs, np.bool_)
        self._everybody = np.ones(num_envs, np.bool_)

    # --- Gymnasium's interface ---

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, Info]:
        """Start an episode in every row, or in those of `options["reset_mask"]` (N,) bool.

        seed: one for each row, or a number s for s, s + 1, ...; without, every row draws its next one.
        """
        mask = self._everybody if options is None else np.asarray(options.get("reset_mask", self._everybody))
        if mask.shape != (self.num_envs,) or mask.dtype != np.bool_ or not mask.any():
            raise SpecError(f"reset_mask is {mask.dtype} {mask.shape}, expected bool ({self.num_envs},) with a True")
        seeds: Sequence[int | None]
        if seed is None:
            seeds = [None] * self.num_envs
        elif isinstance(seed, (int, np.integer)):
            seeds = range(int(seed), int(seed) + self.num_envs)
        else:
            seeds = seed
        if len(seeds) != self.num_envs:
            raise SpecError(f"{len(seeds)} seeds for {self.num_envs} environments; give one each, or a single one")
        self._start(np.flatnonzero(mask), seeds)
        return self._observe(), self._info(self.twins.status(), self._filter.sent)

    def step(
        self, actions: NDArray[np.float32]
    ) -> tuple[Any, NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_], Info]:
        """Filter the actions (N, A) and apply what is left of them for one control period."""
        actions = np.asarray(actions)
        if actions.shape != self.action_space.shape or actions.dtype.kind not in "fiu":
            raise SpecError(f"actions are {actions.dtype} {actions.shape}, expected {self.action_space.shape} float32")
        again = self._ended.copy()
        if again.any() and self.autoreset_mode is AutoresetMode.DISABLED:
            raise SpecError(f"environment {again.argmax()} has ended; reset it before the next step")
        decision = self._filter.filter(self.control.targets(actions, self._filter.sent, self.twins))
        self.twins.command(decision.command)
        self.twins.advance(~again if again.any() else None)
        self._steps += 1
        self._held_steps += decision.held
        self._held_in_a_row = np.where(decision.held, self._held_in_a_row + 1, 0)
        if again.any():  # only in mode NextStep
            self._start(np.flatnonzero(again))
        status = self.twins.status()
        terminated = (status.success | (status.failed != "") & ~status.diverged) & ~again
        over = (self._held_in_a_row >= self._max_held_steps) | (self._steps >= self.task.max_steps)
        truncated = (status.diverged | over) & ~terminated & ~again
        reward = np.where(again, 0.0, status.reward)
        self._ended = terminated | truncated
        observation, info = self._observe(), self._info(status, self._filter.sent, decision, ~again)
        if self.autoreset_mode is AutoresetMode.SAME_STEP and self._ended.any():
            observation, info = self._restart(observation, info)
        return observation, reward, terminated, truncated, info

    def render(self) -> tuple[NDArray[np.uint8], ...] | None:
        """Pictures (H, W, 3) of the first camera, one an environment, in render_mode `rgb_array`."""
        if self.render_mode != "rgb_array":
            return None
        return tuple(self.twins.render(next(iter(self.twins.camera_specs))))

    def pictures(self) -> dict[str, NDArray[np.uint8]]:
        """Pictures (N, H, W, 3) of every camera."""
        return {name: self.twins.render(name) for name in self.twins.camera_specs}

    def close_extras(self, **kwargs: Any) -> None:
        self.twins.close()

    # --- episodes ---

    def _start(self, ids: Ids, seeds: Sequence[int | None] | None = None) -> None:
        """Begin the next episode in these rows; seeds: one for every environment of the whole."""
        chosen = []
        for i in ids:
            seed = None if seeds is None else seeds[i]
            if seed is not None:
                self._generators[i] = seeding.np_random(int(seed))[0]
            chosen.append(int(self._generators[i].integers(2**31)) if seed is None else int(seed))
        self.twins.reset(chosen, ids)
        self._filter.reset(self.twins.joint_positions()[ids], ids)
        self._start_ns[ids] = self.twins.stamp_ns[ids]
        self._steps[ids] = self._held_steps[ids] = self._held_in_a_row[ids] = 0
        self._ended[ids] = False

    def _restart(self, final: Any, final_info: Info) -> tuple[Any, Info]:
        """Mode SameStep: begin the next episode in the rows that ended, and keep what they ended with in the info."""
        ended = self._ended.copy()
        ids = np.flatnonzero(ended)
        self._start(ids)
        fresh = self._observe(ids)
        info = self._info(self.twins.status(), self._filter.sent)
        for name in ("held", "reason"):  # of the rows that go on
            info[name] = np.where(ended, info[name], final_info[name])
        info["final_obs"] = np.full(self.num_envs, None, dtype=object)
        if self._flat:
            observation = final.copy()
            observation[ids] = fresh
            for i in ids:
                info["final_obs"][i] = final[i]
        else:
            observation = {name: rows.copy() for name, rows in final.items()}
            for name, rows in fresh.items():
                observation[name][ids] = rows
            for i in ids:
                info["final_obs"][i] = {name: rows[i] for name, rows in final.items()}
        info["final_info"] = {**final_info, **{f"_{name}": ended for name in final_info if name[0] != "_"}}
        return observation, {**info, "_final_obs": ended, "_final_info": ended}

    # --- what is shown ---

    def _observe(self, ids: Ids | None = None) -> Any:
        """Observations of these rows, or of all."""
        seen = self.twins.observe(self._seen, ids)
        if self.control.relative:
            seen["command"] = self._filter.sent.copy() if ids is None else self._filter.sent[ids]
        return flatten(seen) if self._flat else seen

    def _info(
        self,
        status: BatchStatus,
        sent: NDArray[np.float32],
        decision: BatchDecision | None = None,
        acted: NDArray[np.bool_] | None = None,
    ) -> Info:
        """acted (N,): the rows whose action was applied, where there is a decision."""
        held, reason = np.zeros(self.num_envs, np.bool_), status.failed
        if decision is not None and acted is not None:
            held = decision.held & acted
            reason = np.where(status.failed != "", status.failed, np.where(acted, decision.reason, ""))
        info: Info = {
            "success": status.success,
            "stage": status.stage,
            "progress": status.progress,
            "held": held,
            "reason": reason,
            "stamp_ns": self.twins.stamp_ns - self._start_ns,
            "action_sent": sent.copy(),
            "held_steps": self._held_steps.copy(),
        }
        return {**info, **{f"_{name}": self._everybody.copy() for name in info}}
