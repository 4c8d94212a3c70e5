"""What is known of a world that is not simulated here: joints that were measured, things that were seen, marks that
were placed; and how the task judges it. Legend: J joints."""

from __future__ import annotations

from collections.abc import Mapping
from math import inf
from typing import Any
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from robolearn.assets import scene_file
from robolearn.cameras.tags import quaternion_of
from robolearn.errors import SpecError
from robolearn.specs import RobotSpec
from robolearn.tasks.task import Facts, Task, TaskStatus
from robolearn.twin.umpire import Umpire
from robolearn.types import RobotState

UNSEEN_S = 5.0  # that a thing may be hidden before a person is asked


class SeenScene:
    """The scene of `task` with the robot of `spec`; `unseen`: nobody knows more of it than where the arm is.

    Raises SpecError when the task is for another robot.
    """

    def __init__(self, task: Task, spec: RobotSpec, unseen: bool = False) -> None:
        if spec.joint_names != task.robot_spec.joint_names:
            raise SpecError(
                f"{spec.name} has the joints {', '.join(spec.joint_names)}; {task.id} is practised with "
                f"{', '.join(task.robot_spec.joint_names)}"
            )
        self.marks = () if unseen else marks_of(task)
        self.things = () if unseen else things_of(task)
        self._task, self._unseen = task, unseen
        self._umpire: Umpire | None = None
        start = task.initial_state(np.random.default_rng(0))
        self._placed = {body: np.asarray(start.poses[body], np.float32) for body in self.marks}
        self._seen: dict[str, tuple[int, NDArray[np.float32]]] = {}
        self.state: RobotState | None = None

    @property
    def missing(self) -> list[str]:
        """Things that were never seen."""
        return [body for body in self.things if body not in self._seen]

    def see(self, body: str, stamp_ns: int, pose: NDArray) -> None:
        """A thing was seen at that pose (7,) in the scene; what is none of the task's things does not matter."""
        if body in self.things:
            self._seen[body] = stamp_ns, np.asarray(pose, np.float32)

    def place(self, body: str, pose: NDArray) -> None:
        """Put a mark at `pose` (7,)."""
        self._placed[body] = np.asarray(pose, np.float32)

    def facts(self) -> Facts:
        """The robot was measured, and every thing was seen."""
        assert self.state is not None
        return {"proprio": self.state.proprio(), **{f"pose_{body}": pose for body, pose in self.poses().items()}}

    def poses(self) -> dict[str, NDArray[np.float32]]:
        """Poses (7,) of what is known by body; the robot was measured."""
        assert self.state is not None
        seen = {body: pose for body, (_, pose) in self._seen.items()}
        return seen | self._placed | {self._task.arm.tool: tool_pose(self._task, self.state.joint_position)}

    def begin(self, task: Task) -> None:
        """Judge by this task from now on."""
        if not self._unseen:
            self._umpire = Umpire(task)
            self._umpire.begin(self.facts())

    def judge(self) -> None:
        """Another tick has passed."""
        if self._umpire is not None:
            self._umpire.judge(self.facts())

    def status(self) -> TaskStatus | None:
        """None where nothing is seen that could be judged."""
        return None if self._umpire is None else self._umpire.status()

    def hidden(self, now_ns: int) -> dict[str, float]:
        """Things that have been hidden for long, or were never seen, and for how many seconds."""
        since_s = {b: (now_ns - self._seen[b][0]) * 1e-9 if b in self._seen else inf for b in self.things}
        return {body: hidden_s for body, hidden_s in since_s.items() if hidden_s > UNSEEN_S}

    def unseen(self, now_ns: int) -> str:
        """Which thing has been hidden for long, in words; else empty."""
        for body, hidden_s in self.hidden(now_ns).items():
            return f"the {body} has not been seen " + (f"for {hidden_s:.0f} s" if hidden_s < inf else "yet")
        return ""

    def freeze(self) -> dict[str, Any]:
        return {"marks": {body: pose.tolist() for body, pose in self._placed.items()}}

    def thaw(self, frozen: Mapping[str, Any]) -> None:
        for body, pose in frozen["marks"].items():
            self.place(body, np.asarray(pose))


def marks_of(task: Task) -> tuple[str, ...]:
    """Bodies of a task that are seen, not felt, as drawn by a lamp: the scene places them (MuJoCo's mocap bodies), and
    nothing collides with them. A plate or a cabinet is none."""
    scene = ElementTree.parse(scene_file(task.scene))
    drawn = {
        body.get("name")
        for body in scene.iter("body")
        if body.get("mocap") == "true"
        and all(geom.get("contype") == geom.get("conaffinity") == "0" for geom in body.iter("geom"))
    }
    return tuple(body for body in task.bodies if body in drawn)


def things_of(task: Task) -> tuple[str, ...]:
    """Bodies of a task that have to be seen."""
    return tuple(body for body in task.bodies if body not in (*marks_of(task), task.arm.tool))


def tool_pose(task: Task, joints: NDArray) -> NDArray[np.float32]:
    """Pose (7,) of the tool in the scene, from the joint positions (J,)."""
    place, rotation = task.arm.forward(joints[task.arm.first :])
    return np.concatenate([place, quaternion_of(rotation)]).astype(np.float32)
