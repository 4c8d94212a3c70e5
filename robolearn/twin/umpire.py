"""Follows one episode of a task: success has to last, whatever engine moves the world."""

from __future__ import annotations

import numpy as np

from robolearn.tasks import Task
from robolearn.tasks.task import Facts, TaskStatus
from robolearn.twin.layout import LOST


class Umpire:
    """Judges the facts of every step of an episode of `task`."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self._reached_steps = 0  # for how many steps the goal has been reached

    def begin(self, facts: Facts) -> None:
        """The facts of the first instant."""
        self._reached_steps = 0
        self.judge(facts)

    def judge(self, facts: Facts) -> None:
        """The facts of the next step."""
        judged = self._task.judge(facts)
        self._reached_steps = self._reached_steps + 1 if judged.success else 0
        self._judgement = judged.lasting(np.asarray(self._reached_steps), self._task.dwell_steps)

    def status(self, diverged: str = "") -> TaskStatus:
        """Success, stage, progress, and why the episode cannot succeed any more, if so; `diverged`: how the physics
        failed."""
        if diverged:
            return TaskStatus(success=False, stage=0, progress=0.0, reward=0.0, failed=diverged, diverged=True)
        judged = self._judgement
        return TaskStatus(
            success=bool(judged.success),
            stage=int(judged.stage),
            progress=float(judged.progress),
            reward=float(judged.reward),
            failed=LOST if judged.lost else "",
            reached=self._reached_steps > 0,
        )
