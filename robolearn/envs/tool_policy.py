"""A policy of the tool's space as one of the robot: what practice and `tool:<task>` have taught, on a robot or twin.

What the policy sees is made of what is published, joint states and pictures, or poses; what it does becomes joint
targets, a chunk a decision. Legend: J joints.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robolearn.envs.practice_world import PracticeConfig
from robolearn.envs.seen_scene import tool_pose
from robolearn.envs.tool_env import tool_space
from robolearn.envs.tool_space import DECISION_TICKS, IMAGE, TASK, TOOL, ToolSpace
from robolearn.errors import SpecError
from robolearn.policies.instruction import embed
from robolearn.policies.policy import Policy
from robolearn.specs import INSTRUCTION, POSE_SPEC, InterfaceSpec, image_spec
from robolearn.tasks import make_task
from robolearn.types import ActionChunk, Observation

AHEAD_M = 0.05  # that a command may be from where the arm is, or the arm has been moved or held meanwhile


class ToolPolicy:
    """Implements `Policy` for one robot, whose last commands it remembers: they go on from there, as in practice.

    sizes: (H, W) by name of the pictures that are given, where they are others than the policy's.
    """

    def __init__(
        self, policy: Policy, space: ToolSpace, index: int = 0, sizes: Mapping[str, tuple[int, int]] | None = None
    ) -> None:
        """index: of the task in the space. Raises SpecError for a policy of another space."""
        seen = {name: field.shape for name, field in policy.spec.observation.items() if name != INSTRUCTION}
        made = {name: field.shape for name, field in space.interface.observation.items() if name in seen}
        if seen != made or policy.spec.action.shape != space.interface.action.shape:
            raise SpecError(f"the policy sees {seen}, in the space of {space.tasks[index].id} it would be {made}")
        task = space.tasks[index]
        shapes = {**space.cameras, **(sizes or {})}
        images = {f"{IMAGE}{name}": image_spec(*shapes[name]) for name in space.cameras}
        poses = {} if space.cameras else {f"pose_{body}": POSE_SPEC for body in space.bodies}
        fields = {"proprio": space.arm.spec.proprio_spec, **images, **poses}
        self.spec = InterfaceSpec(fields, space.arm.spec.action_spec, task.control_hz)
        self._policy, self._space, self._index = policy, space, index
        self._period_ns = round(1e9 / task.control_hz)
        self.reset()

    def reset(self, seed: int = 0) -> None:
        self._planned: list[NDArray[np.float64]] = []  # commands: before the newest chunk and after each of its actions
        self._planned_ns = 0
        self._policy.reset(seed)

    def act(self, observation: Observation, stamp_ns: int) -> ActionChunk:
        """Joint targets (DECISION_TICKS, J). Raises SpecError for a wrong observation."""
        shown = {name: field.check(name, observation[name]) for name, field in self.spec.observation.items()}
        joints = shown["proprio"][: len(self._space.arm.spec.joint_names)].astype(np.float64)
        task = self._space.tasks[self._index]
        facts = {**shown, f"pose_{self._space.arm.tool}": tool_pose(task, joints)}
        command = self._commanded(joints, stamp_ns)
        pictures = {name: shown[f"{IMAGE}{name}"] for name in self._space.cameras}
        seen = self._space.observe(facts, command, self._index, pictures)
        if INSTRUCTION in self._policy.spec.observation:
            seen[INSTRUCTION] = embed(task.instruction, self._policy.spec.observation[INSTRUCTION])
        action = self._policy.act(seen, stamp_ns).actions[0]
        self._planned, self._planned_ns = [command], stamp_ns
        for _ in range(DECISION_TICKS):
            self._planned.append(self._space.moved(self._planned[-1], action))
        targets = np.array([self._space.joints(each) for each in self._planned[1:]], np.float32)
        return ActionChunk(targets, stamp_ns, stamp_ns, self._period_ns)

    def _commanded(self, joints: NDArray[np.float64], stamp_ns: int) -> NDArray[np.float64]:
        """What was commanded last (5,); where the arm is, if that is not known or far from there."""
        measured = self._space.command_of(joints)
        passed = round((stamp_ns - self._planned_ns) / self._period_ns)
        if not 0 <= passed < len(self._planned):
            return measured
        planned = self._planned[passed]
        return planned if np.linalg.norm(planned[:3] - measured[:3]) < AHEAD_M else measured


def robot_policy(policy: Policy, provenance: Mapping[str, Any], task_id: str = "") -> Policy:
    """The policy of a checkpoint as a robot runs it: as it is, or a ToolPolicy.

    provenance: of the checkpoint. task_id: which of the tasks that were practised it is to do; the target by default.
    Raises SpecError where the checkpoint does not tell which task it is of.
    """
    names = policy.spec.action.names or ()
    if names[:1] != ("tool.x",):
        return policy
    tasks = provenance.get("tasks") or [""]
    cameras = {
        name.removeprefix(IMAGE): (field.shape[0], field.shape[1])
        for name, field in policy.spec.observation.items()
        if name.startswith(IMAGE)
    }
    sizes = {name: (int(h), int(w)) for name, (h, w) in provenance.get("cameras", {}).items()}
    if tasks[0].startswith(TOOL):
        return ToolPolicy(policy, tool_space(tasks[0].removeprefix(TOOL), cameras), 0, sizes)
    if not tasks[0]:
        raise SpecError("the checkpoint moves a tool and does not tell in which task; train it again")
    told = policy.spec.observation.get(TASK)  # one entry for each task that was practised
    ids = (tasks[0], make_task(tasks[0]).backward)[: None if told is None else told.shape[0]]
    limits = PracticeConfig()
    low, high = provenance.get("tool_low", limits.tool_low), provenance.get("tool_high", limits.tool_high)
    space = ToolSpace(ids, low, high, cameras=cameras)
    return ToolPolicy(policy, space, ids.index(task_id) if task_id in ids else 0, sizes)
