"""A task of the twin as a Gymnasium environment; every action goes through the safety filter. Legend: J joints."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from robolearn.envs.control import make_control
from robolearn.envs.spaces import box, flatten, observation_space
from robolearn.envs.stochastic import STORI, Disturber, Stochasticity
from robolearn.errors import SpecError
from robolearn.physics import DEFAULT_PHYSICS, Physics
from robolearn.robots.safety import SafetyConfig, SafetyDecision, SafetyFilter
from robolearn.specs import InterfaceSpec
from robolearn.tasks import make_task
from robolearn.tasks.task import TaskStatus
from robolearn.twin.engines import make_twin
from robolearn.twin.randomize import Randomization


class RobotEnv(gymnasium.Env[Any, NDArray]):
    """One twin of `task_id`. The reward is the task's dense reference reward.

    cameras: size (H, W) by name; the task's own ones by default. privileged: observations have the fields `pose_<body>`
    too, as scripted policies need. flat: the observation is one vector (D,) of all fields in the order of `interface`,
    without pictures. show_cameras: whether observations show the pictures, or `render` alone. control: what an action
    means, see `control.CONTROLS`; by default it is joint targets (J,). engine: `mujoco`, or `bullet` for the same task
    in PyBullet. physics: of the robot, its latency among it. randomization: how twins differ from episode to episode.
    stochasticity: what disturbs the policy within one. max_held_steps: refusals in a row by the safety filter that
    truncate the episode.

    An episode is terminated by success or a lost object, truncated after the task's `max_steps`, by refusals or by a
    diverged simulation. Every `info` has success, stage, progress, held (the filter refused the action), reason (why it
    was refused or limited, or why the episode ended early; else empty), stamp_ns (of the observation, since the start
    of the episode), action_sent (J,) and held_steps (refusals so far). `interface` is the spec of observation and
    action. Raises UnknownNameError for a task or camera that does not exist.
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": 20}  # noqa: RUF012, Gymnasium's own form

    def __init__(
        self,
        task_id: str,
        cameras: Mapping[str, tuple[int, int]] | None = None,
        privileged: bool = False,
        flat: bool = False,
        show_cameras: bool = True,
        control: str = "joint_position",
        engine: str = "mujoco",
        physics: Physics = DEFAULT_PHYSICS,
        randomization: Randomization | None = None,
        stochasticity: Stochasticity = STORI["none"],
        safety: SafetyConfig = SafetyConfig(),  # noqa: B008, it is frozen
        max_held_steps: int = 10,
        render_mode: str | None = None,
    ) -> None:
        cameras = {} if flat and cameras is None else cameras
        if render_mode not in (None, *self.metadata["render_modes"]):
            raise SpecError(f"render_mode is {render_mode!r}, expected rgb_array or None")
        if render_mode is not None and cameras is not None and not cameras:
            raise SpecError(f"{task_id} has no cameras to render with; give at least one, or render_mode None")
        self.task = make_task(task_id)
        self.twin = make_twin(engine, self.task, cameras, randomization, physics)
        self.metadata = {**self.metadata, "render_fps": self.task.control_hz}
        self.render_mode = render_mode
        robot, period_s = self.twin.robot_spec, self.twin.period_ns * 1e-9
        self.control = make_control(control, self.task.arms, period_s)
        hidden = (*(() if privileged else ("pose_",)), *(() if show_cameras else ("image_",)))
        fields = {k: v for k, v in self.twin.spec.observation.items() if not k.startswith(hidden)}
        self._seen = tuple(fields)
        if self.control.relative:
            fields["command"] = robot.action_spec
        self.interface = InterfaceSpec(fields, self.control.spec, self.twin.control_hz)
        self._flat = flat
        self.observation_space = observation_space(fields, flat)
        self.action_space: spaces.Box = box(self.control.spec)
        self._filter = SafetyFilter(robot, safety, period_s)
        self._sent = np.zeros(len(robot.joint_names), np.float32)
        self._disturber = Disturber(stochasticity)
        self._max_held_steps = max_held_steps
        self._start_ns = self.twin.stamp_ns
        self._steps = self._held_steps = self._held_in_a_row = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Start the episode of `seed`; without one, of the next seed that this environment draws."""
        super().reset(seed=seed)
        episode_seed = int(self.np_random.integers(2**31)) if seed is None else seed
        self.twin.reset(episode_seed)
        self._disturber.begin(episode_seed)
        self._start_ns = self.twin.stamp_ns
        self._sent = self._filter.reset(self.twin.robot_state())
        self._steps = self._held_steps = self._held_in_a_row = 0
        return self._observe(), self._info(self.twin.status())

    def step(self, action: NDArray[np.float32]) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Filter the action and apply what is left of it for one control period."""
        now_ns = self.twin.stamp_ns
        self._filter.watch(self.twin.robot_state())
        decision = self._filter.filter(self._disturber.act(self._targets(action)), now_ns, now_ns)
        if speed := self._disturber.event():
            self.twin.push(self._disturber.rng, speed)
        self.twin.step(decision.command)
        self._sent = decision.command
        self._steps += 1
        self._held_steps += decision.held
        self._held_in_a_row = self._held_in_a_row + 1 if decision.held else 0
        status = self.twin.status()
        terminated = status.success or (bool(status.failed) and not status.diverged)
        gave_up = self._held_in_a_row >= self._max_held_steps
        truncated = not terminated and (status.diverged or gave_up or self._steps >= self.task.max_steps)
        info = self._info(status, decision)
        return self._observe(), status.reward, terminated, truncated, info

    def render(self) -> NDArray[np.uint8] | None:
        """Picture (H, W, 3) of the first camera, in render_mode `rgb_array`."""
        return self.twin.render(next(iter(self.twin.camera_specs))) if self.render_mode == "rgb_array" else None

    def close(self) -> None:
        self.twin.close()

    def _targets(self, action: NDArray) -> NDArray | None:
        """Joint targets of an action; None, which the filter refuses, for what is no relative action."""
        if not self.control.relative:
            return action
        if (
            not isinstance(action, np.ndarray)
            or action.dtype.kind not in "fiu"
            or action.shape != self.action_space.shape
        ):
            return None
        return self.control.targets(action, self._sent, self.twin)

    def _observe(self) -> Any:
        seen = self._disturber.observe(self.twin.observe(self._seen))
        if self.control.relative:
            seen["command"] = self._sent.copy()
        return flatten(seen) if self._flat else seen

    def _info(self, status: TaskStatus, decision: SafetyDecision | None = None) -> dict[str, Any]:
        return {
            "success": status.success,
            "stage": status.stage,
            "progress": status.progress,
            "held": decision is not None and decision.held,
            "reason": status.failed or (decision.reason if decision is not None else ""),
            "stamp_ns": self.twin.stamp_ns - self._start_ns,
            "action_sent": self._sent.copy(),
            "held_steps": self._held_steps,
        }
