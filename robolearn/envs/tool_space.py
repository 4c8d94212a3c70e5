"""What a practising policy sees and does: where things are around the tool, and steps of the tool.

A policy that has to learn within an hour of robot time decides a few times a second, sees places relative to the tool
instead of joints, and moves the tool, not the joints. All of it follows from facts (`tasks/arm.py`), so a recorded
episode of any rate above reads as if this space had acted in it. Legend: S state, A action, T tasks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from robolearn.errors import SpecError
from robolearn.policies.instruction import embed, instruction_spec
from robolearn.specs import INSTRUCTION, ArraySpec, InterfaceSpec, image_spec
from robolearn.tasks import Task, make_task
from robolearn.tasks.facts import lean, position, yaw_of
from robolearn.types import Observation

DECISION_TICKS = 4  # control ticks a decision: 5 Hz at 20 Hz, as in BridgeData
STEP_M = 0.008  # of the commanded tool place in one tick, on each axis
TURN_RAD = 0.06  # of the commanded yaw in one tick
MAX_YAW_RAD = 1.0  # that the tool may be turned from straight ahead
NO_GRASP = ("push", "sweep", "reach", "button")  # scenes whose gripper stays as it starts
NO_CARRYING = ("drawer",)  # scenes in which things are grasped, and stay where they are fixed
NO_TOOL = ("bar", "point")  # scenes of two arms, or of postures in which the tool does not point down
TASK = "task"  # field
IMAGE = "image_"  # and the camera's name: field
TOOL = "tool:"  # and a task's id: that task in this space
TOLD = (TASK, INSTRUCTION)  # fields by which a policy is told its task: one of them, and not to be normalised
MARGIN_M = 0.004  # that the fingertips keep from the table
NEAR_M = 0.01  # within which a grasp, or a peg above its socket, is decided


def resized(images: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Pictures (..., h, w, 3) of a size (H, W): averaged where that is smaller, as they are where it is the same."""
    if images.shape[-3:-1] == size:
        return images
    flat = images.reshape(-1, *images.shape[-3:])
    small = [cv2.resize(image, size[::-1], interpolation=cv2.INTER_AREA) for image in flat]
    return np.stack(small).reshape(*images.shape[:-3], *size, 3).astype(np.uint8)


class ToolSpace:
    """The space of tasks that share a scene; their order is that of the field `task`.

    A command (5,) is a place [m], a yaw [rad] and a gripper's opening, held by a tool that points down.

    `state` (S,): place of the tool, in a `placeless` space its height alone; how far its command is ahead, commanded
    yaw, opening of the gripper, and from the tool to the first body, from that to the second and so on. Where things
    are grasped, also how each is turned (cos and sin of four times the yaw, for a square looks the same after a
    quarter). Where they are carried, that is told from the body before, of the first from the tool, and there is also
    how far the gripper's command is ahead, how each body leans (its upright axis along x and y), and again how far it
    is, as the tanh of its share of NEAR_M: millimetres matter there, and a network that sees the whole table hardly
    sees them. `task` (T,): one-hot; or `instruction` (E,): the task's sentence as a vector (`policies/instruction.py`).
    Who sees pictures, `image_<camera>`, sees of the state what tells of the tool alone (`seen`); where things are
    unseen, a state tells no more to anybody.

    An action (A,) in [-1, 1] moves the commanded place by up to STEP_M a tick on each axis, the yaw by up to TURN_RAD.
    Where things are grasped, its last entry moves the gripper; where they are carried it is where the gripper is to go,
    from closed to open: noise does not add up there, and what is held stays held.
    """

    def __init__(
        self,
        task_ids: Sequence[str],
        low: Sequence[float],
        high: Sequence[float],
        encoder: str = "",
        placeless: bool = False,
        cameras: Mapping[str, tuple[int, int]] | None = None,
        unseen: bool = False,
    ) -> None:
        """low, high: box [m] that the commanded place stays in. encoder: of the instructions; empty: the tasks are told
        apart by their number. placeless: where on the table the tool is is not told, so that what is learned in one
        place holds in another; for tasks about things and one another. cameras: size (H, W) by name of the pictures
        that are seen in the place of where things are. unseen: nobody knows where things are, and the space has no
        bodies. Raises SpecError when the tasks share no scene, or are not done with one tool that points down.
        """
        self.tasks: list[Task] = [make_task(name) for name in task_ids]
        first = self.tasks[0]
        for task in self.tasks:
            if (task.scene, task.bodies, task.robot) != (first.scene, first.bodies, first.robot):
                raise SpecError(f"{task.id} has another scene or robot than {first.id}; practise them apart")
        if first.scene in NO_TOOL:
            raise SpecError(f"{first.id} is not done with one tool that points down; take it without {TOOL}")
        self.arm = first.arm
        self.grasps = first.scene not in NO_GRASP
        self.carries = self.grasps and first.scene not in NO_CARRYING
        self.bodies = () if unseen else tuple(body for body in first.bodies if body != self.arm.tool)
        self.low, self.high = np.asarray(low, np.float64), np.asarray(high, np.float64)
        self.low[2] = max(self.low[2], self.arm.gripper.tip_m + MARGIN_M)
        self.gripper_step = self.arm.spec.max_speed[-1] / first.control_hz
        names = ["tool.x", "tool.y", "tool.z", "tool.yaw", *(["gripper"] if self.grasps else [])]
        one = (1.0,) * len(names)
        action = ArraySpec((len(names),), unit="share", names=tuple(names), low=tuple(-v for v in one), high=one)
        # entries of the tool, and of each body
        self._own, self._each = (9, 10) if self.carries else (8, 5) if self.grasps else (8, 3)
        self._placeless = placeless
        self.cameras = dict(cameras or {})
        size = self.own_entries + (0 if self.cameras else self._each * len(self.bodies))
        told = {INSTRUCTION: instruction_spec(encoder)} if encoder else {TASK: ArraySpec((len(self.tasks),))}
        shown = {f"{IMAGE}{name}": image_spec(*shape) for name, shape in self.cameras.items()}
        fields = {"state": ArraySpec((size,)), **told, **shown}
        self.interface = InterfaceSpec(fields, action, first.control_hz / DECISION_TICKS)

    def index(self, task_id: str) -> int:
        return [task.id for task in self.tasks].index(task_id)

    @property
    def own_entries(self) -> int:
        """How many entries of a state tell of the tool alone; they come first."""
        return self._own - 2 * self._placeless

    def command_of(self, joints: NDArray) -> NDArray[np.float64]:
        """The command (5,) of commanded joints (J,)."""
        place, rotation = self.arm.forward(joints)
        return np.array([*place, np.arctan2(rotation[1, 2], rotation[0, 2]), self.arm.opening(joints[-1])])

    def joints(self, command: NDArray[np.float64]) -> NDArray[np.float64]:
        """Joint targets (J,) of a command (5,)."""
        return self.arm.with_gripper(self.arm.inverse(command[:3], float(command[3])), float(command[4]))

    def moved(self, command: NDArray[np.float64], action: NDArray) -> NDArray[np.float64]:
        """The command (5,) one tick of the action (A,) later. What is not a number moves nothing. From where a person
        left it outside of the limits it comes back step by step, and never goes further out; but up from the table."""
        share = np.clip(np.asarray(action, np.float64), -1.0, 1.0)
        steps, moved = np.nan_to_num(share[:4], nan=0.0), command.copy()
        low, high = np.minimum(self.low, command[:3]), np.maximum(self.high, command[:3])
        low[2] = self.low[2]
        moved[:3] = np.clip(command[:3] + steps[:3] * STEP_M, low, high)
        most = max(MAX_YAW_RAD, abs(command[3]))
        moved[3] = np.clip(command[3] + steps[3] * TURN_RAD, -most, most)
        if self.carries and np.isfinite(share[4]):
            jaws = self.arm.gripper
            to_go = jaws.closed + (share[4] + 1) / 2 * (jaws.open - jaws.closed) - command[4]
            moved[4] += np.clip(to_go, -self.gripper_step, self.gripper_step)
        elif self.grasps and np.isfinite(share[4]):
            low, high = sorted(self.arm.opening(limit[-1]) for limit in self.arm.limits)
            moved[4] = np.clip(command[4] + share[4] * self.gripper_step, low, high)
        return moved

    def action_between(
        self, before: NDArray[np.float64], after: NDArray[np.float64], ticks: float
    ) -> NDArray[np.float32]:
        """The action (A,) that takes the command from one place to the other in so many ticks, or as far as it can;
        where things are carried, the gripper to where a whole decision at that speed brings it."""
        change = (after - before) / ticks
        share = change[:4] / ([STEP_M] * 3 + [TURN_RAD])
        if self.carries:
            jaws = self.arm.gripper
            goal = before[4] + change[4] * DECISION_TICKS
            share = np.append(share, 2 * (goal - jaws.closed) / (jaws.open - jaws.closed) - 1)
        elif self.grasps:
            share = np.append(share, change[4] / self.gripper_step)
        return np.clip(share, -1.0, 1.0).astype(np.float32)

    def state(self, facts: Mapping[str, NDArray], command: NDArray[np.float64]) -> NDArray[np.float32]:
        """The field `state` (S,) from facts and the command (5,)."""
        parts: list[NDArray[Any]] = [self.own_state(facts, command)]
        here, yaw = position(facts, self.arm.tool), float(command[3]) if self.carries else 0.0
        for body in self.bodies:
            there = position(facts, body)
            parts.append(there - here)
            if self.grasps:
                turn = facts[f"pose_{body}"][3:]
                angle = 4.0 * (yaw_of(turn) - yaw)
                parts.append(np.array([np.cos(angle), np.sin(angle)]))
                if self.carries:
                    parts += [lean(turn), np.tanh((there - here) / NEAR_M)]
                    yaw = yaw_of(turn)
            here = there
        return np.concatenate(parts).astype(np.float32)

    def own_state(self, facts: Mapping[str, NDArray], command: NDArray[np.float64]) -> NDArray[np.float32]:
        """What of a state tells of the tool alone."""
        tool, opened = position(facts, self.arm.tool), float(self.arm.opened(facts))
        parts = [tool, command[:3] - tool, np.array([command[3], opened])]
        if self.carries:
            parts.append(np.array([command[4] - opened]))
        return np.concatenate(parts).astype(np.float32)[2 * self._placeless :]

    def scene(self, state: NDArray[np.float32], index: int) -> NDArray[np.float32]:
        """What success is judged by (N, ...), of states (N, S) at a task: where things are, not where the arm is; the
        gripper's opening too where things are grasped; and the task. Not of a placeless space."""
        bodies = state[:, self._own :].reshape(len(state), len(self.bodies), self._each)
        things = bodies[..., :5].reshape(len(state), -1).copy()
        things[:, :3] += state[:, :3]
        if self.carries and self.bodies:  # turned from the tool, which the arm turns
            angle = np.arctan2(things[:, 4], things[:, 3]) + 4.0 * state[:, 6]
            things[:, 3], things[:, 4] = np.cos(angle), np.sin(angle)
        opening = state[:, 7:8] if self.grasps else state[:, :0]
        which = np.eye(len(self.tasks), dtype=np.float32)[[index] * len(state)]
        return np.concatenate([things, opening, which], axis=1)

    def told(self, index: int) -> Observation:
        """The field that tells a policy which task it is at."""
        if INSTRUCTION in self.interface.observation:
            vector = embed(self.tasks[index].instruction, self.interface.observation[INSTRUCTION])
            return {INSTRUCTION: vector.copy()}
        return {TASK: np.eye(len(self.tasks), dtype=np.float32)[index]}

    def seen(self, state: NDArray[np.float32]) -> NDArray[np.float32]:
        """What a policy sees of states (..., S)."""
        return state[..., : self.own_entries] if self.cameras else state

    def observe(
        self,
        facts: Mapping[str, NDArray],
        command: NDArray[np.float64],
        index: int,
        pictures: Mapping[str, NDArray[np.uint8]] | None = None,
    ) -> Observation:
        """What a policy sees at a task; pictures: of `cameras`, by name, of any size."""
        images = {f"{IMAGE}{name}": resized((pictures or {})[name], size) for name, size in self.cameras.items()}
        state = self.own_state(facts, command) if self.cameras else self.state(facts, command)
        return {"state": state, **self.told(index), **images}

    def expert(
        self, facts: Mapping[str, NDArray], command: NDArray[np.float64], index: int, pace: float = 2.0
    ) -> NDArray[np.float32]:
        """What the scripted expert of a task would do here (A,). It wants one tick's way; a decision goes `pace` times
        as far: from 2 on it swings about what is near."""
        wanted = self.command_of(self.tasks[index].expert(facts))
        return self.action_between(command, wanted, DECISION_TICKS / pace)
