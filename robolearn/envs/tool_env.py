"""A task of the twin for a policy that moves the tool: what practice sees and does (`tool_space.py`), in episodes.

An arm's joints hide what is simple about most tasks. Here the policy sees places relative to the tool, moves the tool
and decides a few times a second, as SERL's policies do; or it sees pictures and where the tool is, as on a robot for
which nobody tells where things are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from robolearn.envs.practice_world import PracticeConfig
from robolearn.envs.robot_env import RobotEnv
from robolearn.envs.spaces import box, observation_space
from robolearn.envs.tool_space import DECISION_TICKS, IMAGE, TASK, ToolSpace
from robolearn.errors import SpecError
from robolearn.types import Observation

PLACELESS = ("peg_insert-v1",)  # millimetres between two things decide, wherever on the table they are


def tool_space(task_id: str, cameras: Mapping[str, tuple[int, int]] | None = None, unseen: bool = False) -> ToolSpace:
    """Of one task, in the box that practice keeps to; cameras, unseen: see ToolSpace."""
    limits = PracticeConfig()
    return ToolSpace(
        [task_id], limits.tool_low, limits.tool_high, placeless=task_id in PLACELESS, cameras=cameras, unseen=unseen
    )


class ToolEnv(gymnasium.Env[Any, NDArray]):
    """`RobotEnv` with the observation field `state` and the actions of `ToolSpace`; a step is DECISION_TICKS control
    ticks or what is left of the episode, its reward their sum.

    cameras: size (H, W) by name of those that are seen, in the fields `image_<name>`; `state` then tells of the tool
    alone. The other arguments are those of RobotEnv.
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": 5}  # noqa: RUF012, Gymnasium's own form

    def __init__(
        self,
        task_id: str,
        render_mode: str | None = None,
        cameras: Mapping[str, tuple[int, int]] | None = None,
        **world: Any,
    ) -> None:
        drawn, seen = cameras or (None if render_mode else {}), bool(cameras)
        self._env = RobotEnv(task_id, drawn, privileged=True, show_cameras=seen, render_mode=render_mode, **world)
        self.render_mode = render_mode
        self._space = tool_space(task_id, cameras)
        told = self._space.interface.observation
        fields = {name: field for name, field in told.items() if name != TASK}  # there is one alone
        self._images = tuple(name for name in fields if name.startswith(IMAGE))
        self.interface = replace(self._space.interface, observation=fields)
        self.observation_space = observation_space(fields, flat=False)
        self.action_space: spaces.Box = box(self.interface.action)
        self._command = np.zeros(5)  # see ToolSpace

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        super().reset(seed=seed)
        facts, info = self._env.reset(seed=seed)
        joints = len(self._space.arm.spec.joint_names)
        self._command = self._space.command_of(facts["proprio"][:joints].astype(np.float64))
        return self._observe(facts), info

    def step(self, action: NDArray[np.float32]) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """An action that is not finite moves nothing. Raises SpecError for one of another shape."""
        if np.shape(action) != self.action_space.shape:
            raise SpecError(f"the action has shape {np.shape(action)}, expected {self.action_space.shape}")
        total = 0.0
        for _ in range(DECISION_TICKS):
            self._command = self._space.moved(self._command, action)
            joints = self._space.joints(self._command).astype(np.float32)
            facts, reward, terminated, truncated, info = self._env.step(joints)
            total += reward
            if terminated or truncated:
                break
        return self._observe(facts), total, terminated, truncated, info

    def render(self) -> NDArray[np.uint8] | None:
        return self._env.render()

    def close(self) -> None:
        self._env.close()

    def _observe(self, facts: Observation) -> Observation:
        state = self._space.state(facts, self._command)
        return {"state": self._space.seen(state), **{name: facts[name] for name in self._images}}
