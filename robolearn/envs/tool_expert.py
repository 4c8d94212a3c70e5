"""The scripted expert of a task, acting in the space of the tool: demonstrations in the space that they are learned in.

An expert of joints does what no action of `ToolSpace` says: it is faster, and corrects itself at every tick. This one
decides as often as the learner and asks for nothing that the learner could not. Legend: J joints, A action.
"""

from __future__ import annotations

import numpy as np

from robolearn.envs.tool_env import tool_space
from robolearn.envs.tool_space import DECISION_TICKS
from robolearn.errors import SpecError
from robolearn.specs import ArraySpec, InterfaceSpec
from robolearn.types import ActionChunk, ActionSource, Observation

PACE = 1.5  # times one tick's way of the expert in a decision: halves what is left of a short one; at 2 it swings
PUSH = 0.5  # largest share of a full step by which a perturbed decision goes astray


class ToolExpert:
    """Expert of `task_id`; a chunk is one decision, DECISION_TICKS joint targets. perturbation: share of decisions, in
    [0, 1), that push the tool off its path, see `ScriptedPolicy`.

    Raises UnknownNameError for an unknown task and SpecError for a share outside its range.
    """

    def __init__(self, task_id: str, perturbation: float = 0.0) -> None:
        if not 0.0 <= perturbation < 1.0:
            raise SpecError(f"perturbation is {perturbation:g}, expected a share of decisions in [0, 1)")
        self._space = tool_space(task_id)
        task = self._space.tasks[0]
        robot = task.robot_spec
        poses = {f"pose_{body}": ArraySpec(shape=(7,)) for body in task.bodies}
        self.spec = InterfaceSpec({"proprio": robot.proprio_spec, **poses}, robot.action_spec, task.control_hz)
        self._period_ns = round(1e9 / task.control_hz)
        self._perturbation = perturbation
        self.reset()

    def reset(self, seed: int = 0) -> None:
        """Start over; `seed` fixes which decisions are pushed, and where to."""
        self._rng = np.random.default_rng(seed)
        self._command: np.ndarray | None = None  # see ToolSpace

    def act(self, observation: Observation, stamp_ns: int) -> ActionChunk:
        """Joint targets (DECISION_TICKS, J); their source is SCRIPT, or PERTURBATION where they go astray. They go on
        from the last ones, so all of them are to be executed."""
        joints = observation["proprio"][: self.spec.action.shape[0]].astype(np.float64)
        command = self._space.command_of(joints) if self._command is None else self._command
        action, source = self._space.expert(observation, command, 0, PACE), ActionSource.SCRIPT
        if self._rng.random() < self._perturbation:
            action[:4] = np.clip(action[:4] + self._rng.uniform(-PUSH, PUSH, 4), -1.0, 1.0)  # not the gripper
            source = ActionSource.PERTURBATION
        targets = []
        for _ in range(DECISION_TICKS):
            command = self._space.moved(command, action)
            targets.append(self._space.joints(command))
        self._command = command
        return ActionChunk(np.array(targets, np.float32), stamp_ns, stamp_ns, self._period_ns, source)
