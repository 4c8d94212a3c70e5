"""A cell to practise in: what reset-free practice asks of the twin, of a robot on this computer, or of one on a graph.

One arm behind its safety filter, seen as facts (`tasks/arm.py`), moved one control tick at a time. `twin_cell.py`,
`device_cell.py` and the node `practice` are the three of them. Legend: J joints.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from robolearn.errors import HardwareError
from robolearn.tasks.task import Facts, Task, TaskStatus
from robolearn.teleop.intervention import Intervention, InterventionConfig, Verdict
from robolearn.teleop.teleoperator import Teleoperator, TeleopEvent
from robolearn.types import ActionSource, RobotState


@dataclass(frozen=True)
class Sent:
    """One control tick: the joint targets (J,) that whoever was in charge asked for, and what became of it."""

    action: NDArray | None  # None: nobody asked for anything
    source: ActionSource = ActionSource.POLICY
    held: str = ""  # why the safety filter let nothing through
    said: tuple[TeleopEvent, ...] = ()  # by the person at the controls


@dataclass(frozen=True)
class Condition:
    """How the cell fares. `fault`: what is wrong with it; `away`: why the robot is not there now, but may come back;
    `unseen`: why a thing cannot be worked on for now."""

    fault: str = ""
    away: str = ""
    unseen: str = ""
    temperature_c: float = 0.0  # of the hottest motor
    load: float = 0.0  # the largest of any motor, in the robot's unit


class PracticeCell(Protocol):
    """Holds whenever it is not told to move. What goes wrong with its devices is in `condition`, never raised."""

    marks: tuple[str, ...]  # bodies of the task that are only placed, as a lamp would

    @property
    def stamp_ns(self) -> int:
        """Of the newest facts; it never goes back."""
        ...

    def facts(self) -> Facts:
        """`proprio`, the tool's pose and, where things are seen, that of each of the task's bodies, now."""
        ...

    def begin(self, task: Task) -> None:
        """Judge by this task from now on; nothing moves."""
        ...

    def status(self) -> TaskStatus | None:
        """The task's own judgement of the newest instant; None where nobody knows."""
        ...

    def rest(self) -> NDArray[np.float32]:
        """Commands go on from where the arm is: that is (J,)."""
        ...

    def send(self, joints: NDArray | None) -> Sent:
        """Ask for joint targets (J,) for one tick, None for holding, and let it pass. A person comes first."""
        ...

    def place(self, body: str, pose: NDArray) -> None:
        """Put a mark at `pose` (7,)."""
        ...

    def put_back(self, seed: int) -> bool:
        """Whether a person has put everything where an episode begins; until then, each call holds for a tick."""
        ...

    def condition(self) -> Condition: ...

    def day_s(self) -> float:
        """Seconds since midnight, where the cell stands."""
        ...

    def render(self, camera: str) -> NDArray[np.uint8]:
        """A picture (H, W, 3)."""
        ...

    def freeze(self) -> dict[str, Any]:
        """What can be restored of it, as JSON."""
        ...

    def thaw(self, frozen: Mapping[str, Any]) -> None:
        """Be what was frozen, as far as that is in its power."""
        ...

    def close(self) -> None: ...


class Hands:
    """A person at a teleoperator beside a policy: theirs is every tick at which they act.

    When they let go, the policy's targets are come to at the joints' full speed: the filter refuses larger steps.
    """

    def __init__(self, device: Teleoperator, max_step: NDArray, config: InterventionConfig) -> None:
        """max_step (J,): of a target between two ticks. Opens the device."""
        self._device, self._max_step = device, max_step
        self._who = Intervention(config, with_policy=True)
        self._from: NDArray | None = None  # the person's last target, on the way back to the policy's
        device.connect()

    def decide(self, policy: NDArray | None, state: RobotState, now_ns: int) -> tuple[Verdict, tuple[TeleopEvent, ...]]:
        """Who acts, given what the policy wants (J,) or None, and what the person says of the attempt."""
        try:
            said = self._device.read(state, now_ns)
        except HardwareError as error:
            return Verdict(None, None, f"the controls are silent: {error}"), ()
        if self._from is not None and said.action is None and policy is not None:
            near = self._from + np.clip(policy - self._from, -self._max_step, self._max_step)
            self._from = None if np.allclose(near, policy, atol=1e-6) else near
            policy = near
        verdict = self._who.decide(None if policy is None else policy.astype(np.float32), said, now_ns)
        if verdict.source is ActionSource.INTERVENTION and verdict.action is not None:
            self._from = verdict.action.astype(np.float64)
        return verdict, said.events

    @property
    def stopped(self) -> bool:
        """Whether the person has pressed the emergency stop."""
        return self._who.stopped

    def close(self) -> None:
        self._device.close()


GAVE_UP = (TeleopEvent.FAILURE, TeleopEvent.DISCARD)
"""What a person says of an attempt that is not to go on; they put things right and say success."""
