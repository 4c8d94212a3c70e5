"""The twin as a cell to practise in: its person comes at once, and its whole state can be frozen and thawed."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robolearn.envs.practice_cell import Condition, Hands, Sent
from robolearn.envs.seen_scene import marks_of
from robolearn.robots.safety import SafetyConfig, SafetyFilter
from robolearn.tasks.task import Facts, Task, TaskStatus
from robolearn.twin.twin import Twin
from robolearn.types import ActionSource

DAY_S = 24 * 3600
ROLLING_M = 0.001  # resistance of things on the table; with none, what stands on its edge rolls for ever


class TwinCell:
    """The twin of `task`, and who may take over from the policy: then its ticks take as long as a robot's.

    clock, sleep: of the person's time [ns, s]. unseen: it does not tell where things are, as a cell without tags; its
    judgement is known all the same, for the report.
    """

    def __init__(
        self,
        task: Task,
        cameras: Mapping[str, tuple[int, int]] | None = None,
        hands: Hands | None = None,
        clock: Callable[[], int] = time.monotonic_ns,
        sleep: Callable[[float], None] = time.sleep,
        unseen: bool = False,
    ) -> None:
        self.twin = Twin(task, cameras or {})
        self.marks = () if unseen else marks_of(task)
        for body in filter(self.twin.loose, task.bodies):
            self.twin.resist_rolling(body, ROLLING_M)
        self._filter = SafetyFilter(self.twin.robot_spec, SafetyConfig(), self.twin.period_ns * 1e-9)
        known = (task.arm.tool,) if unseen else task.bodies
        self._fields = ("proprio", *(f"pose_{body}" for body in known))
        self._first, self._hands, self._clock, self._sleep = task, hands, clock, sleep
        self._due_ns = 0
        self.rest()

    @property
    def stamp_ns(self) -> int:
        return self.twin.stamp_ns

    def facts(self) -> Facts:
        return self.twin.observe(self._fields)

    def begin(self, task: Task) -> None:
        self.twin.begin(task)

    def status(self) -> TaskStatus:
        return self.twin.status()

    def rest(self) -> NDArray[np.float32]:
        return self._filter.reset(self.twin.robot_state())

    def send(self, joints: NDArray | None) -> Sent:
        now_ns = self.twin.stamp_ns
        sent = Sent(joints)
        if self._hands is not None:
            verdict, said = self._hands.decide(joints, self.twin.robot_state(), self._clock())
            sent = Sent(verdict.action, verdict.source or ActionSource.POLICY, verdict.reason, said)
            self._due_ns = max(self._due_ns + self.twin.period_ns, self._clock())
            self._sleep(max(self._due_ns - self._clock(), 0) * 1e-9)
        action = None if sent.action is None else sent.action.astype(np.float32)
        decision = self._filter.filter(action, now_ns, now_ns)
        self.twin.step(decision.command)
        return replace(sent, held=(sent.held or decision.reason) if decision.held else "")

    def place(self, body: str, pose: NDArray) -> None:
        self.twin.place_mark(body, pose)

    def put_back(self, seed: int) -> bool:
        self.twin.begin(self._first)
        self.twin.reset(seed)
        return True

    def condition(self) -> Condition:
        return Condition("stopped by the operator" if self._hands is not None and self._hands.stopped else "")

    def day_s(self) -> float:
        """Of simulated time; its first day begins at midnight."""
        return self.twin.stamp_ns * 1e-9 % DAY_S

    def render(self, camera: str) -> NDArray[np.uint8]:
        return self.twin.render(camera)

    def freeze(self) -> dict[str, Any]:
        return {"twin": self.twin.snapshot().tolist(), "stamp_ns": self.twin.stamp_ns}

    def thaw(self, frozen: Mapping[str, Any]) -> None:
        self.twin.restore(frozen["twin"], int(frozen["stamp_ns"]))

    def close(self) -> None:
        if self._hands is not None:
            self._hands.close()
        self.twin.close()
