"""A real cell to practise in, on this computer: its robot, its cameras, and where things are by their tags, if any.

Each tick: what came is asked of the safety filter and written, the tick passes, the robot is read. The arm holds while
a camera that is looked at is silent. What fails for long is kept as the cell's fault. Legend: J joints.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from robolearn.cameras.camera import Camera
from robolearn.envs.practice_cell import Condition, Hands, Sent
from robolearn.envs.seen_scene import SeenScene
from robolearn.errors import HardwareError, SpecError
from robolearn.robots.robot import Robot
from robolearn.robots.safety import SafetyFilter
from robolearn.tasks.task import Facts, Task, TaskStatus
from robolearn.teleop.teleoperator import TeleopEvent
from robolearn.types import ActionSource

FIRST_LOOK_S = 5.0  # for all things to be seen at the start
FAILING_S = 1.0  # that a device may fail on end before the cell counts as broken; the arm holds meanwhile
LOOK, CAMERA = "look", "camera "  # what fails: to see where things are; to see through the camera of that name
Clock = Callable[[], int]


class Tracker(Protocol):
    """Says where things are."""

    def look(self) -> Mapping[str, tuple[int, NDArray[np.float32]]]:
        """By body: the stamp of the newest picture that shows it, and its pose (7,) in the arm's base frame. Raises
        HardwareError when a camera is silent."""
        ...


def day_s(now_s: float | None = None) -> float:
    """Seconds since midnight where this computer's clock says it is, at the Unix time `now_s`; now, by default."""
    now = time.localtime(now_s)
    return now.tm_hour * 3600.0 + now.tm_min * 60.0 + now.tm_sec


class DeviceCell:
    """Opens what it is given, and closes it. `tracker` None: nobody knows where things are. `bell`: whether somebody
    has said, elsewhere, that things are put back.

    Raises SpecError when the robot is none that the task is for, and HardwareError when a device does not open or a
    thing is not seen.
    """

    def __init__(
        self,
        task: Task,
        robot: Robot,
        safety: SafetyFilter,
        tracker: Tracker | None,
        cameras: Mapping[str, Camera],
        hands: Callable[[Robot], Hands] | None = None,
        bell: Callable[[], bool] = lambda: False,
        clock: Clock = time.monotonic_ns,
        sleep: Callable[[float], None] = time.sleep,
        day: Callable[[], float] = day_s,
    ) -> None:
        self._scene = SeenScene(task, robot.spec, unseen=tracker is None)
        self.marks = self._scene.marks
        self._robot, self._filter, self._tracker, self._cameras = robot, safety, tracker, cameras
        self._bell, self._clock, self._sleep, self.day_s = bell, clock, sleep, day
        self._mount = np.append(task.arm.mount, np.zeros(4))
        self._period_ns = round(1e9 / task.control_hz)
        self._hands: Hands | None = None
        self._fault, self._due_ns = "", 0
        self._failing: dict[str, tuple[int, str]] = {}  # since when [ns], and what it said, by what fails
        self._pictures: dict[str, NDArray[np.uint8]] = {}  # newest of each camera
        try:
            robot.connect()
            for camera in cameras.values():
                camera.connect()
            self._scene.state = self._state = robot.read()
            self._hands = hands(robot) if hands else None
            self._filter.reset(self._state)
            if tracker is not None:
                self._first_look(tracker)
            self._scene.begin(task)
        except BaseException:  # Ctrl-C while things are looked for, too
            self.close()
            raise

    @property
    def stamp_ns(self) -> int:
        return self._state.stamp_ns

    def facts(self) -> Facts:
        if self._clock() - self._state.stamp_ns > self._period_ns:  # something took long: look again
            self._look()
        return self._scene.facts()

    def begin(self, task: Task) -> None:
        self._scene.begin(task)

    def status(self) -> TaskStatus | None:
        return self._scene.status()

    def rest(self) -> NDArray[np.float32]:
        """The filter goes on from what it sent: to begin anew in the middle of a motion would be a jerk, and slow."""
        self._look()
        self._due_ns = self._clock()
        return self._state.joint_position

    def send(self, joints: NDArray | None) -> Sent:
        sent = Sent(joints)
        if self._hands is not None:
            verdict, said = self._hands.decide(joints, self._state, self._clock())
            sent = Sent(verdict.action, verdict.source or ActionSource.POLICY, verdict.reason, said)
        blind = self._blind
        action = None if sent.action is None or self._fault or blind else sent.action.astype(np.float32)
        decision = self._filter.filter(action, self._state.stamp_ns, self._clock())
        if "read" not in self._failing:  # nobody is sent anywhere while nobody knows where it is
            self._attempt("write", lambda: self._robot.write(decision.command))
        self._due_ns = max(self._due_ns + self._period_ns, self._clock())
        self._sleep(max(self._due_ns - self._clock(), 0) * 1e-9)
        self._look()
        self._scene.judge()
        why = sent.held or self._fault or next(iter(blind.values()), decision.reason)
        return replace(sent, held=why if decision.held else "")

    def place(self, body: str, pose: NDArray) -> None:
        self._scene.place(body, pose)

    def put_back(self, seed: int) -> bool:
        return TeleopEvent.SUCCESS in self.send(None).said or self._bell()

    def condition(self) -> Condition:
        stopped = "stopped by the operator" if self._hands is not None and self._hands.stopped else ""
        health = getattr(self._robot, "health", None)
        return Condition(
            fault=self._fault or self._filter.stopped or stopped,
            unseen=self._scene.unseen(self._clock()),
            temperature_c=0.0 if health is None else float(np.max(health.temperature_c)),
            load=0.0 if health is None else float(np.max(np.abs(health.load))),
        )

    def render(self, camera: str) -> NDArray[np.uint8]:
        """The newest of that camera, or of the first one where there is none of that name; black before there is
        any."""
        name = camera if camera in self._cameras else next(iter(self._cameras))
        self._see(name)
        shown = self._cameras[name].spec
        return self._pictures.get(name, np.zeros((shown.height, shown.width, 3), np.uint8))

    def freeze(self) -> dict[str, Any]:
        return self._scene.freeze()

    def thaw(self, frozen: Mapping[str, Any]) -> None:
        self._scene.thaw(frozen)

    def close(self) -> None:
        """The arm holds."""
        for device in (self._hands, self._robot, *self._cameras.values()):
            if device is not None:
                device.close()

    # --- what is seen ---

    def _look(self) -> None:
        self._attempt("read", self._measure)
        if self._tracker is not None:
            self._attempt(LOOK, partial(self._follow, self._tracker))
        for what in self._blind.keys() - {LOOK}:
            self._see(what.removeprefix(CAMERA))

    @property
    def _blind(self) -> dict[str, str]:
        """Who sees nothing now, those who say where things are or a camera that is looked at; and what they said."""
        return {what: said for what, (_, said) in self._failing.items() if what == LOOK or what.startswith(CAMERA)}

    def _see(self, name: str) -> None:
        read = self._cameras[name].read
        self._attempt(CAMERA + name, lambda: self._pictures.update({name: read().image}))

    def _measure(self) -> None:
        failed = self._failing.keys() & {"read", "write"}
        self._scene.state = self._state = self._robot.read()
        self._filter.watch(self._state, getattr(self._robot, "health", None))
        if failed:  # it may not have gone where it was told: from where it is now, or nowhere
            try:
                self._filter.start_anew(self._state)
            except SpecError as error:
                raise HardwareError(str(error)) from error

    def _follow(self, tracker: Tracker) -> None:
        for body, (stamp_ns, pose) in tracker.look().items():
            self._scene.see(body, stamp_ns, pose + self._mount)

    def _attempt(self, what: str, step: Callable[[], object]) -> None:
        """A single failure is passed over: the filter refuses to act on old measurements."""
        try:
            step()
            self._failing.pop(what, None)
        except HardwareError as error:
            since_ns = self._failing.get(what, (self._clock(), ""))[0]
            self._failing[what] = since_ns, str(error)
            if self._clock() - since_ns > FAILING_S * 1e9:
                self._fault = self._fault or str(error)

    def _first_look(self, tracker: Tracker) -> None:
        end_ns = self._clock() + round(FIRST_LOOK_S * 1e9)
        while missing := self._scene.missing:
            self._follow(tracker)
            if self._clock() > end_ns:
                raise HardwareError(
                    f"{', '.join(missing)} is not seen; put its tag where the camera sees it, and see `objects` of the "
                    "cell's file"
                )
            self._sleep(self._period_ns * 1e-9)
