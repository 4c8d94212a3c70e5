"""A cell in which tasks that undo each other are practised in turn, and which nobody resets in between.

The world goes on from attempt to attempt; the arm moves itself back to where attempts begin, and brings back what has
left the place where it can be worked on (`tasks/retrieve.py`). In a space without bodies nobody knows where things are:
nothing is watched, drawn or brought back. Every tick's command goes through the cell's safety filter. The world can be
frozen and thawed, so that a run that was killed goes on: in the twin in the very state where its last attempt ended, on
a robot where things are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robolearn.envs.practice_cell import GAVE_UP, PracticeCell
from robolearn.envs.tool_space import DECISION_TICKS, ToolSpace
from robolearn.tasks.facts import position
from robolearn.tasks.motion import move
from robolearn.tasks.retrieve import THINGS, on_edge, retrieve, retrieved
from robolearn.tasks.task import Facts, TaskStatus
from robolearn.teleop.teleoperator import TeleopEvent
from robolearn.types import ActionSource, Observation

HOME_WITHIN_M = 0.012
CLEAR_M = 0.10  # height at which the arm crosses the table on its way home
MOVED_M = 0.004  # of a thing within one attempt, that counts as having moved it


@dataclass(frozen=True)
class PracticeConfig:
    """Where practice happens, in metres in the scene's frame."""

    tool_low: tuple[float, float, float] = (0.10, -0.20, 0.0)  # box of the tool's commanded place
    tool_high: tuple[float, float, float] = (0.32, 0.20, 0.14)
    reach_low: tuple[float, float] = (0.13, -0.22)  # where a thing can be worked on
    reach_high: tuple[float, float] = (0.33, 0.22)
    room_m: float = 0.025  # from there inwards, where a thing is brought back already: the tool gets behind it no more
    draw_mark: bool = True  # a mark that things are brought to is drawn anew at every forward attempt, as a lamp would


@dataclass(frozen=True)
class Tick:
    """What one decision led to; the arrays have a row for each of its DECISION_TICKS control ticks."""

    states: NDArray[np.float32]  # (DECISION_TICKS, S)
    reached: NDArray[np.bool_] | None  # whether the goal is reached, by the task's own judgement; None: nobody knows
    success: bool  # it was, for as long as the task asks
    progress: float
    lost: str  # why the thing cannot be worked on any more
    moved: bool  # a thing, since the attempt began; or nobody can tell
    held: bool  # the safety filter refused a command
    action: NDArray[np.float32]  # (A,) what was done, by whoever was in charge
    intervened: bool  # a person was, for a tick at least
    said_done: NDArray[np.bool_]  # whether the person at the controls said so
    proprio: NDArray[np.float32]  # (DECISION_TICKS, P)
    images: tuple[Mapping[str, NDArray[np.uint8]], ...] = ()  # by camera, after each control tick


class PracticeWorld:
    """Practises the tasks of `space` in a cell. cameras: whose pictures every tick brings along."""

    def __init__(
        self, space: ToolSpace, config: PracticeConfig, cell: PracticeCell, cameras: Sequence[str] = ()
    ) -> None:
        self.space, self.config, self.cell = space, config, cell
        self.index = 0
        self.command = np.zeros(5)  # see ToolSpace
        self._cameras = tuple(cameras)
        self._marks = tuple(body for body in space.bodies if body in cell.marks)
        self._things = tuple(body for body in space.bodies if body not in cell.marks)
        self.recovers = any(body in THINGS for body in self._things)
        self._aim(0)

    def reset(self, seed: int) -> bool:
        """Ask for what a person does: everything is where an episode of the first task begins. Whether it is."""
        back = self.cell.put_back(seed)
        if back:
            self._aim(seed)
        return back

    def begin(self, index: int, rng: np.random.Generator) -> None:
        """Begin an attempt at task `index` from wherever things are; `rng` draws the mark, and the arm's next home."""
        self.index = index
        start = self.space.tasks[0].initial_state(rng)
        if index == 0 and self.config.draw_mark:
            for body in self._marks:
                self.cell.place(body, start.poses[body])
        self._home = self.space.command_of(start.joint_position)
        self.cell.begin(self.space.tasks[index])
        self._rest()
        self._start = self._places()

    def observe(self) -> Observation:
        """What a policy sees."""
        pictures = {camera: self.cell.render(camera) for camera in self.space.cameras}
        return self.space.observe(self.facts(), self.command, self.index, pictures)

    def state(self) -> NDArray[np.float32]:
        """(S,) by which it is judged, whatever a policy sees of it."""
        return self.space.state(self.facts(), self.command)

    def facts(self) -> Facts:
        return self.cell.facts()

    def expert(self) -> NDArray[np.float32]:
        """What the task's scripted expert would do now (A,)."""
        return self.space.expert(self.facts(), self.command, self.index)

    def step(self, action: NDArray[np.float32]) -> Tick:
        """Act for one decision. It goes on to its end, success or not, as a robot's does."""
        states, statuses, said_done, proprio, images = [], [], [], [], []
        held, human, given_up = False, False, ""
        before = self.command
        for _ in range(DECISION_TICKS):
            self.command = self.space.moved(self.command, action)
            sent = self.cell.send(self.space.joints(self.command))
            if sent.source is ActionSource.INTERVENTION and sent.action is not None:
                human, self.command = True, self.space.command_of(sent.action)
            held |= bool(sent.held)
            given_up = given_up or ("the operator gave the attempt up" if set(sent.said) & set(GAVE_UP) else "")
            said_done.append(TeleopEvent.SUCCESS in sent.said)
            facts = self.facts()
            states.append(self.space.state(facts, self.command))
            statuses.append(self.cell.status())
            proprio.append(facts["proprio"])
            images.append(self.pictures())
        known = [status for status in statuses if status is not None]
        lost = given_up or self._failed(known) or self.lost()
        done = self.space.action_between(before, self.command, DECISION_TICKS) if human else action
        return Tick(
            np.stack(states),
            np.array([status.reached for status in known]) if known else None,
            any(status.success for status in known),
            known[-1].progress if known else 0.0,
            lost,
            self._moved(),
            held,
            done,
            human,
            np.array(said_done),
            np.stack(proprio),
            tuple(images) if self._cameras else (),
        )

    def go_home(self) -> bool:
        """Move the arm one decision's time towards where attempts begin: up first, then across. Whether it is there."""
        arm = self.space.arm
        for _ in range(DECISION_TICKS):
            facts = self.facts()
            here = arm.where(facts)
            aside = np.hypot(*(here - self._home[:3])[:2])
            target = np.array([*here[:2], CLEAR_M + 0.02]) if aside > 0.02 and here[2] < CLEAR_M else self._home[:3]
            self.cell.send(move(arm, facts, target, float(self._home[3]), float(self._home[4])))
        self._rest()
        return bool(np.linalg.norm(arm.where(self.facts()) - self._home[:3]) < HOME_WITHIN_M)

    def recover(self, rng: np.random.Generator) -> bool:
        """Move the arm one decision's time towards things lying where `rng` has the first task begin. Whether they do.

        Pass a generator in the same state at every decision of one recovery."""
        if self.cell.condition().unseen:  # nobody reaches for what may lie elsewhere by now
            self.hold()
            return False
        arm, to = self.space.arm, self.space.tasks[0].initial_state(rng).poses
        things = [body for body in self._things if body in THINGS]
        for _ in range(DECISION_TICKS):
            facts = self.facts()
            astray = [body for body in things if not retrieved(arm, facts, body, to[body][:2])]
            if astray:
                self.cell.send(retrieve(arm, facts, astray[0], to[astray[0]][:2]))
        self._rest()
        return not astray

    def hold(self) -> None:
        """Stay for one decision's time. A person may move the arm meanwhile."""
        for _ in range(DECISION_TICKS):
            self.cell.send(None)

    def pictures(self) -> dict[str, NDArray[np.uint8]]:
        """Of the world's cameras, now."""
        return {camera: self.cell.render(camera) for camera in self._cameras}

    def render(self, camera: str) -> NDArray[np.uint8]:
        return self.cell.render(camera)

    def freeze(self) -> dict[str, Any]:
        """All that the next attempt depends on, as JSON. Commands go on from where the arm is, as after `thaw`."""
        self._rest()
        return {**self.cell.freeze(), "index": self.index, "home": self._home.tolist()}

    def thaw(self, frozen: Mapping[str, Any]) -> None:
        """Be the world that was frozen."""
        self.index = int(frozen["index"])
        self.cell.begin(self.space.tasks[self.index])
        self.cell.thaw(frozen)
        self._home = np.asarray(frozen["home"], np.float64)
        self._rest()
        self._start = self._places()

    def close(self) -> None:
        self.cell.close()

    def _aim(self, seed: int) -> None:
        """The first task comes next, from where an episode of that seed begins."""
        first, self.index = self.space.tasks[0], 0
        self.cell.begin(first)
        self._home = self.space.command_of(first.initial_state(np.random.default_rng(seed)).joint_position)
        self._rest()
        self._start = self._places()

    def _rest(self) -> None:
        """Commands go on from where the arm is."""
        self.command = self.space.command_of(self.cell.rest().astype(np.float64))

    def _places(self) -> NDArray[np.float64]:
        facts = self.facts()
        return np.array([position(facts, body) for body in self._things]).reshape(-1, 3)

    def _failed(self, statuses: Sequence[TaskStatus]) -> str:
        """Why the task cannot succeed any more, where that can be seen; else empty."""
        last = statuses[-1] if statuses else None
        return last.failed if last is not None and (self.space.bodies or last.diverged) else ""

    def _moved(self) -> bool:
        return not self._things or bool((np.linalg.norm(self._places() - self._start, axis=1) > MOVED_M).any())

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
        return self.cell.condition().unseen
