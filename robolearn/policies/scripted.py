"""The scripted expert of a task as a policy, and on request a clumsy one whose corrections are worth learning from.

With perturbation, short bursts push the arm off its path, as in DART (Laskey et al. 2017, "DART: Noise Injection for
Robust Imitation Learning"): the burst's own steps carry the source PERTURBATION and are never imitated, the steps that
correct them are. Legend: J joints.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from robolearn.errors import SpecError
from robolearn.specs import ArraySpec, InterfaceSpec
from robolearn.tasks import make_task
from robolearn.types import ActionChunk, ActionSource, Observation

BURST_STEPS = (3, 8)  # shortest and longest burst
PUSH_RAD, WRIST_PUSH_RAD = 0.08, 0.12  # largest lead of a command over an arm joint, and the last one, during a burst
LOWEST_TOOL_M = 0.03  # a burst that would take the tool below this, or lower than it is, is drawn again
MAX_DRAWS = 8


class ScriptedPolicy:
    """Expert of `task_id`. perturbation: share of steps, in [0, 1), that are spent in bursts.

    Raises UnknownNameError for an unknown task and SpecError for a share outside its range.
    """

    def __init__(self, task_id: str, perturbation: float = 0.0) -> None:
        if not 0.0 <= perturbation < 1.0:
            raise SpecError(f"perturbation is {perturbation:g}, expected a share of steps in [0, 1)")
        self.task = make_task(task_id)
        robot = self.task.robot_spec
        poses = {f"pose_{body}": ArraySpec(shape=(7,)) for body in self.task.bodies}
        self.spec = InterfaceSpec({"proprio": robot.proprio_spec, **poses}, robot.action_spec, self.task.control_hz)
        mean_steps = sum(BURST_STEPS) / 2
        self._burst_chance = perturbation / (mean_steps * (1.0 - perturbation))
        self._period_ns = round(1e9 / self.task.control_hz)
        self._largest_push = np.zeros(len(robot.joint_names))  # the grippers do what the expert wants
        for arm in self.task.arms:
            self._largest_push[arm.first : arm.first + arm.joints] = PUSH_RAD
            self._largest_push[arm.first + arm.joints - 1] = WRIST_PUSH_RAD
        self.reset()

    def reset(self, seed: int = 0) -> None:
        """Start over; `seed` fixes when and how the bursts of the next episode push."""
        self._rng = np.random.default_rng(seed)
        self._steps_left = 0
        self._push = np.zeros_like(self._largest_push)

    def act(self, observation: Observation, stamp_ns: int) -> ActionChunk:
        """One action (1, J); its source is SCRIPT, or PERTURBATION within a burst."""
        action = self.task.expert(observation)
        if self._steps_left == 0 and self._rng.random() < self._burst_chance:
            self._steps_left = int(self._rng.integers(BURST_STEPS[0], BURST_STEPS[1] + 1))
            self._push = self._draw_push(observation["proprio"])
        source = ActionSource.SCRIPT
        if self._steps_left > 0:
            self._steps_left -= 1
            action = self._pushed(observation["proprio"], action)
            source = ActionSource.PERTURBATION
        return ActionChunk(action[None], stamp_ns, stamp_ns, self._period_ns, source)

    def _pushed(self, proprio: NDArray[np.float32], action: NDArray[np.float32]) -> NDArray[np.float32]:
        """The arm goes astray, the gripper does what the expert wants."""
        robot = self.task.robot_spec
        astray = np.where(self._largest_push > 0, proprio[: len(action)] + self._push, action)
        return np.clip(astray, robot.position_low, robot.position_high).astype(np.float32)

    def _draw_push(self, proprio: NDArray[np.float32]) -> NDArray[np.float64]:
        q = np.asarray(proprio[: len(self._largest_push)], dtype=np.float64)
        lowest = self._lowest_tool_m(q)
        for _ in range(MAX_DRAWS):
            push = self._rng.uniform(-1.0, 1.0, len(q)) * self._largest_push
            if self._lowest_tool_m(q + push * self._steps_left) > min(lowest, LOWEST_TOOL_M):
                return push
        return np.zeros_like(self._largest_push)

    def _lowest_tool_m(self, q: NDArray[np.float64]) -> float:
        return min(float(arm.forward(q[arm.first :])[0][2]) for arm in self.task.arms)
