"""Demonstrators of other quality than the expert's, for data as people record it.

A demonstrator follows the expert of a task in a manner of its own:

    expert      as it is
    slow        goes only a part of the way that the expert commands
    hesitating  stops, or takes back what it did last, two or three times
    failing     gives up on the way, goes back where it came from, and stays there until time is up
    play        wanders from one random posture to the next and never mind the task
    mixed       one of the first four, by the seed

Legend: J joints.
"""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from robolearn.errors import UnknownNameError
from robolearn.policies.scripted import ScriptedPolicy
from robolearn.types import ActionChunk, ActionSource, Observation

Manner = Literal["expert", "slow", "hesitating", "failing", "play", "mixed"]
MIXTURE: tuple[Manner, ...] = ("expert", "slow", "hesitating", "failing")
SPEED = (0.3, 0.6)  # share of the commanded way that a slow one goes
PAUSE_STEPS = (8, 20)
TAKEN_BACK_STEPS = (12, 30)
GIVES_UP = (0.05, 0.25)  # when a failing one does, as a share of the task's time; before its last stage anyway
WANDER_STEPS = (15, 40)  # from one posture to the next
WANDER_SHARE = 0.5  # of the joint ranges around the start


class Demonstrator:
    """Acts like `ScriptedPolicy`, whose spec it has, in its manner. Raises UnknownNameError for an unknown one."""

    def __init__(self, task_id: str, manner: Manner = "mixed") -> None:
        if manner not in get_args(Manner):
            raise UnknownNameError("manner", manner, get_args(Manner))
        self._expert = ScriptedPolicy(task_id)
        self._wanted = manner
        self.task, self.spec = self._expert.task, self._expert.spec
        self.reset()

    def reset(self, seed: int = 0) -> None:
        """Start over; `seed` fixes the manner of `mixed` and when things happen."""
        self._rng = np.random.default_rng(seed)
        self.manner: Manner = self._wanted
        if self._wanted == "mixed":
            self.manner = MIXTURE[seed % len(MIXTURE)]
        self._expert.reset(seed)
        self._speed = self._rng.uniform(*SPEED)
        self._gives_up = int(self._rng.uniform(*GIVES_UP) * self.task.max_steps)
        self._next_whim = int(self._rng.integers(*PAUSE_STEPS))
        self._whims_left = int(self._rng.integers(2, 4))
        self._path: list[NDArray[np.float32]] = []  # joints so far, as they may be taken back
        self._plan: list[NDArray[np.float32]] = []  # commands that come before the expert is asked again
        self._steps = 0

    def act(self, observation: Observation, stamp_ns: int) -> ActionChunk:
        """One action (1, J) with the source SCRIPT."""
        chunk = self._expert.act(observation, stamp_ns)
        joints = observation["proprio"][: chunk.actions.shape[1]].copy()
        if int(self.task.judge(observation).stage) == len(self.task.stages) - 1:  # what is nearly done gets done
            self._gives_up = min(self._gives_up, self._steps)
        action = self._action(chunk.actions[0], joints)
        robot = self.task.robot_spec
        action = np.clip(action, robot.position_low, robot.position_high).astype(np.float32)
        self._steps += 1
        return ActionChunk(action[None], stamp_ns, stamp_ns, chunk.period_ns, ActionSource.SCRIPT)

    def _action(self, expert: NDArray[np.float32], joints: NDArray[np.float32]) -> NDArray[np.float32]:
        if self.manner == "play" and not self._plan:
            self._wander(joints)
        if self._plan:
            return self._plan.pop(0)
        self._path.append(joints)
        if self.manner == "slow":
            return joints + np.float32(self._speed) * (expert - joints)
        if self.manner == "failing" and self._steps >= self._gives_up:
            self._plan = [*reversed(self._path)]
            self._plan += [self._path[0]] * (self.task.max_steps + 1)
            return self._plan.pop(0)
        if self.manner == "hesitating" and self._whims_left and self._steps >= self._next_whim:
            self._whim(joints)
            return self._plan.pop(0)
        return expert

    def _whim(self, joints: NDArray[np.float32]) -> None:
        """Stop for a while, or take back the last steps."""
        if self._rng.random() < 0.3:
            self._plan = [joints] * int(self._rng.integers(*PAUSE_STEPS))
        else:
            count = int(self._rng.integers(*TAKEN_BACK_STEPS))
            self._plan = [*reversed(self._path[-count:])]
            del self._path[-count:]
        self._whims_left -= 1
        self._next_whim = self._steps + len(self._plan) + int(self._rng.integers(*PAUSE_STEPS))

    def _wander(self, joints: NDArray[np.float32]) -> None:
        robot = self.task.robot_spec
        low, high = (np.asarray(limit, np.float32) for limit in (robot.position_low, robot.position_high))
        start = self._path[0] if self._path else joints
        self._path = [start]
        reach = WANDER_SHARE * (high - low) / 2
        goal = np.clip(start + self._rng.uniform(-1.0, 1.0, len(start)) * reach, low, high).astype(np.float32)
        share = np.linspace(0.0, 1.0, int(self._rng.integers(*WANDER_STEPS)), dtype=np.float32)
        self._plan = [joints + one * (goal - joints) for one in share]
