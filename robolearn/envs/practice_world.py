"""A twin in which tasks that undo each other are practised in turn, and which nobody resets in between.

The physics goes on from attempt to attempt; the arm moves itself back to where attempts begin, and brings back what has
left the place where it can be worked on (`tasks/retrieve.py`). Every tick's command goes through the safety filter. The
world can be frozen and thawed, so that a run that was killed goes on in the very state where its last attempt ended.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robolearn.envs.tool_space import DECISION_TICKS, ToolSpace
from robolearn.robots.safety import SafetyConfig, SafetyFilter
from robolearn.tasks.facts import position
from robolearn.tasks.motion import move
from robolearn.tasks.retrieve import THINGS, on_edge, retrieve, retrieved
from robolearn.twin.twin import Twin
from robolearn.types import Observation

HOME_WITHIN_M = 0.012
MAX_HOME_DECISIONS = 10
CLEAR_M = 0.10  # height at which the arm crosses the table on its way home
MOVED_M = 0.004  # of a thing within one attempt, that counts as having moved it


@dataclass(frozen=True)
class PracticeConfig:
    """Where practice happens, in metres in the scene's frame."""

    tool_low: tuple[float, float, float] = (0.10, -0.24, 0.0)  # box of the tool's commanded place
    tool_high: tuple[float, float, float] = (0.34, 0.24, 0.14)
    reach_low: tuple[float, float] = (0.13, -0.22)  # where a thing can be worked on
    reach_high: tuple[float, float] = (0.33, 0.22)
    room_m: float = (
        0.025  # from there inwards, in which a thing is brought back already: the tool gets behind it no more
    )
    draw_mark: bool = True  # a mark that things are brought to is drawn anew at every forward attempt, as a lamp would


@dataclass(frozen=True)
class Tick:
    """What one decision led to; the arrays have a row for each of its DECISION_TICKS control ticks."""

    states: NDArray[np.float32]  # (DECISION_TICKS, S)
    reached: NDArray[np.bool_]  # whether the goal is reached, by the task's own judgement
    success: bool  # it was, for as long as the task asks
    progress: float
    lost: str  # why the thing cannot be worked on any more
    moved: bool  # a thing, since the attempt began
    held: bool  # the safety filter refused a command


class PracticeWorld:
    """Practises the tasks of `space` in the twin of its first one."""

    def __init__(
        self, space: ToolSpace, config: PracticeConfig, cameras: Mapping[str, tuple[int, int]] | None = None
    ) -> None:
        self.space, self.config = space, config
        first = space.tasks[0]
        self.twin = Twin(first, cameras or {})
        self.index = 0
        self.command = np.zeros(5)  # see ToolSpace
        self._filter = SafetyFilter(self.twin.robot_spec, SafetyConfig(), self.twin.period_ns * 1e-9)
        self._facts = ("proprio", *(f"pose_{body}" for body in first.bodies))
        self._things = tuple(body for body in space.bodies if self.twin.moves(body))
        self._marks = tuple(body for body in space.bodies if not self.twin.moves(body))
        self.recovers = any(body in THINGS for body in self._things)
        self.reset(0)

    def reset(self, seed: int) -> None:
        """What a person does who is asked to: everything is where an episode of the first task begins."""
        self.index = 0
        self.twin.begin(self.space.tasks[0])
        self.twin.reset(seed)
        self._home = self.space.command_of(self.twin.robot_state().joint_position)
        self._rest()
        self._start = self._places()

    def begin(self, index: int, rng: np.random.Generator) -> None:
        """Begin an attempt at task `index` from wherever things are; `rng` draws the mark, and the arm's next home."""
        self.index = index
        start = self.space.tasks[0].initial_state(rng)
        if index == 0 and self.config.draw_mark:
            for body in self._marks:
                self.twin.place_mark(body, start.poses[body])
        self._home = self.space.command_of(start.joint_position)
        self.twin.begin(self.space.tasks[index])
        self._rest()
        self._start = self._places()

    def observe(self) -> Observation:
        return self.space.observe(self.facts(), self.command, self.index)

    def facts(self) -> Observation:
        return self.twin.observe(self._facts)

    def expert(self) -> NDArray[np.float32]:
        """What the task's scripted expert would do now (A,)."""
        return self.space.expert(self.facts(), self.command, self.index)

    def step(self, action: NDArray[np.float32]) -> Tick:
        """Act for one decision. It goes on to its end, success or not, as a robot's does."""
        states, reached, success, held = [], [], False, False
        for _ in range(DECISION_TICKS):
            self.command = self.space.moved(self.command, action)
            held |= self._send(self.space.joints(self.command))
            facts = self.facts()
            states.append(self.space.state(facts, self.command))
            reached.append(bool(self.space.tasks[self.index].judge(facts).success))
            status = self.twin.status()
            success |= status.success
        lost = status.failed or self.lost()
        return Tick(np.stack(states), np.array(reached), success, status.progress, lost, self._moved(), held)

    def go_home(self) -> bool:
        """Move the arm one decision's time towards where attempts begin: up first, then across. Whether it is there."""
        arm = self.space.arm
        for _ in range(DECISION_TICKS):
            facts = self.facts()
            here = arm.where(facts)
            aside = np.hypot(*(here - self._home[:3])[:2])
            target = np.array([*here[:2], CLEAR_M + 0.02]) if aside > 0.02 and here[2] < CLEAR_M else self._home[:3]
            self._send(move(arm, facts, target, float(self._home[3]), float(self._home[4])))
        self._rest()
        return bool(np.linalg.norm(arm.where(self.facts()) - self._home[:3]) < HOME_WITHIN_M)

    def recover(self, rng: np.random.Generator) -> bool:
        """Move the arm one decision's time towards things lying where `rng` has the first task begin. Whether they do.

        Pass a generator in the same state at every decision of one recovery."""
        arm, to = self.space.arm, self.space.tasks[0].initial_state(rng).poses
        things = [body for body in self._things if body in THINGS]
        for _ in range(DECISION_TICKS):
            facts = self.facts()
            astray = [body for body in things if not retrieved(arm, facts, body, to[body][:2])]
            if astray:
                self._send(retrieve(arm, facts, astray[0], to[astray[0]][:2]))
        self._rest()
        return not astray

    def render(self, camera: str) -> NDArray[np.uint8]:
        return self.twin.render(camera)

    def freeze(self) -> dict[str, Any]:
        """All that the next attempt depends on, as JSON. Commands go on from where the arm is, as after `thaw`."""
        self._rest()
        return {
            "twin": self.twin.snapshot().tolist(),
            "stamp_ns": self.twin.stamp_ns,
            "index": self.index,
            "home": self._home.tolist(),
        }

    def thaw(self, frozen: Mapping[str, Any]) -> None:
        """Be the world that was frozen."""
        self.index = int(frozen["index"])
        self.twin.begin(self.space.tasks[self.index])
        self.twin.restore(frozen["twin"], int(frozen["stamp_ns"]))
        self._home = np.asarray(frozen["home"], np.float64)
        self._rest()
        self._start = self._places()

    def close(self) -> None:
        self.twin.close()

    def _send(self, joints: NDArray) -> bool:
        now_ns = self.twin.stamp_ns
        decision = self._filter.filter(joints.astype(np.float32), now_ns, now_ns)
        self.twin.step(decision.command)
        return decision.held

    def _rest(self) -> None:
        """Commands go on from where the arm is."""
        self.command = self.space.command_of(self._filter.reset(self.twin.robot_state()).astype(np.float64))

    def _places(self) -> NDArray[np.float64]:
        facts = self.facts()
        return np.array([position(facts, body) for body in self._things]).reshape(-1, 3)

    def _moved(self) -> bool:
        return bool((np.linalg.norm(self._places() - self._start, axis=1) > MOVED_M).any())

    def lost(self) -> str:
        """Why a thing cannot be worked on any more; else empty."""
        facts = self.facts()
        for body in self._things:
            where = position(facts, body)[:2]
            room = self.config.room_m if body in THINGS else 0.0
            low, high = np.add(self.config.reach_low, room), np.subtract(self.config.reach_high, room)
            if (where < low).any() or (where > high).any():
                return f"the {body} is out of reach"
            if on_edge(facts, body):
                return f"the {body} stands on its edge"
        return ""
