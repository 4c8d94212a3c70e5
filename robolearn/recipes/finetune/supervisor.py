"""Who acts next, for how long, and when a person is asked: the state machine of a night of practice.

Pure: it knows no robot, no policy and no clock; time, and what was sensed, are arguments.

    HOME      the arm goes back to where attempts begin
    PRACTISE  the policy of the current task acts
    RECOVER   a scripted motion brings things back to where attempts begin
    WAIT      a person was asked to put things right
    PAUSE     quiet hours, a motor that has to cool, or a robot that is away
    STOPPED   for good, and `reason` says why

An attempt ends when the reward model has called `consecutive` frames in a row done, when its time is up, when a thing
is lost, or when something is wrong with the robot. After it the other task's turn comes; where one task is practised
alone, a person puts things back, and the arm goes home before it asks. That time-outs switch as well
matters: a false "done" also switches, and without time-outs nothing undoes what it leaves behind. Where there is a
motion that brings things back, a person is asked only when that has failed, or was needed again and again in vain.
An attempt in which the robot goes away is none, for the policy is not to blame: it is begun again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from typing import Any

from robolearn.errors import SpecError

NS_PER_S = 1_000_000_000
GAP_NS = 60 * NS_PER_S  # between two decisions, at the most: else nobody ran meanwhile, or somebody has set the clock
DAY_S = 24 * 3600

COUNTS = (
    *("tasks", "max_attempt_steps", "consecutive", "max_home_steps", "stuck_attempts", "failed_attempts"),
    "max_recovery_steps",
)
LIMITS = ("max_steps", "max_hours", "max_resets", "max_recoveries", "min_free_bytes")
"""Settings of SupervisorConfig that are at least 1, and at least 0."""


class Phase(StrEnum):
    HOME = "home"
    PRACTISE = "practise"
    RECOVER = "recover"
    WAIT = "wait"
    PAUSE = "pause"
    STOPPED = "stopped"


class End(StrEnum):
    """Why an attempt ended."""

    SUCCESS = "success"
    TIMEOUT = "timeout"
    LOST = "lost"
    FAULT = "fault"


@dataclass(frozen=True)
class SupervisorConfig:
    """When things happen."""

    tasks: int = 2  # that take turns; 1: the task alone, and a person puts things back after every attempt
    max_attempt_steps: int = 35  # decisions
    consecutive: int = 5  # frames in a row that make a success
    switch_on_timeout: bool = True
    max_home_steps: int = 12  # decisions, then the arm counts as stuck
    stuck_attempts: int = 8  # in a row in which nothing was moved, before things are brought back
    failed_attempts: int = 12  # in a row, before things are brought back
    max_recovery_steps: int = 75  # decisions, then bringing things back counts as failed
    max_recoveries: int = 10  # in a row, no success between them, before a person is asked; 0: always a person
    max_steps: int = 0  # decisions of practice in all; 0: no limit
    max_hours: float = 0.0  # since the start, pauses included, but not when nobody ran; 0: no limit
    max_resets: int = 1000  # by a person, before the night is given up
    quiet_from_s: float = 0.0  # of the day; equal to quiet_to_s: never quiet; 0 to 86400: always
    quiet_to_s: float = 0.0
    max_temperature_c: float = 65.0
    resume_temperature_c: float = 50.0
    max_load: float = 0.0  # of any motor, in the robot's unit; 0: not watched
    min_free_bytes: int = 200 << 20

    def __post_init__(self) -> None:
        for least, names in ((1, COUNTS), (0, LIMITS)):
            for name in names:
                if getattr(self, name) < least:
                    raise SpecError(f"supervisor: {name} is {getattr(self, name):g}; expected at least {least}")
        if not all(0.0 <= time_s <= DAY_S for time_s in (self.quiet_from_s, self.quiet_to_s)):
            raise SpecError(
                f"supervisor: quiet_from_s is {self.quiet_from_s:g}, quiet_to_s {self.quiet_to_s:g}; wanted are "
                f"seconds of the day, 0 to {DAY_S}"
            )
        if self.resume_temperature_c > self.max_temperature_c:
            raise SpecError(
                f"supervisor: it would resume at {self.resume_temperature_c:g} C, above the limit of "
                f"{self.max_temperature_c:g} C"
            )


@dataclass(frozen=True)
class Sensed:
    """What there is to know at a decision."""

    frames: tuple[bool, ...] = ()  # verdicts of the reward model that came in since the last decision, oldest first
    home: bool = False  # the arm is where attempts begin
    moved: bool = False  # a thing, in this attempt
    lost: str = ""  # why a thing cannot be worked on any more
    fault: str = ""  # what is wrong with the robot or its cameras
    away: str = ""  # why the robot is not there now, but may come back
    recovered: bool = False  # things are back where attempts begin
    reset_done: bool = False  # the person says that things are put right
    temperature_c: float = 0.0  # of the hottest motor
    load: float = 0.0  # the largest of any motor
    free_bytes: int = 1 << 62  # of the disk


@dataclass(frozen=True)
class Attempt:
    """One that ended."""

    task: int
    steps: int
    end: End
    reason: str = ""


@dataclass(frozen=True)
class Order:
    """What to do until the next decision. `ended`: the attempt that is over by now; `dropped`: it counts for nothing.
    `begins`: a new one begins."""

    phase: Phase
    task: int
    ended: Attempt | None = None
    dropped: bool = False
    begins: bool = False
    reason: str = ""


@dataclass(frozen=True)
class _State:
    phase: Phase = Phase.HOME
    task: int = 0
    attempt_steps: int = 0
    home_steps: int = 0
    recovery_steps: int = 0  # in this phase
    streak: int = 0  # frames in a row that were called done
    idle_attempts: int = 0  # in a row in which nothing was moved
    failures: int = 0  # attempts in a row
    moved: bool = False
    put_back: bool = False  # a person is to put things back before the next attempt
    steps: int = 0
    attempts: int = 0
    recoveries_in_a_row: int = 0  # with no success between them
    recoveries: int = 0
    all_recovery_steps: int = 0
    resets: int = 0  # asked of a person
    started_ns: int = -1  # before what is not counted was left out
    decided_ns: int = -1  # the last time
    reason: str = ""


@dataclass
class Supervisor:
    """Call `decide` once a decision, and do what it says. `recovers`: there is a motion that brings things back."""

    config: SupervisorConfig
    recovers: bool = False
    _state: _State = field(default_factory=_State)

    @property
    def phase(self) -> Phase:
        return self._state.phase

    @property
    def steps(self) -> int:
        """Decisions of practice so far."""
        return self._state.steps

    @property
    def attempts(self) -> int:
        return self._state.attempts

    @property
    def resets(self) -> int:
        """How often a person was asked."""
        return self._state.resets

    @property
    def recoveries(self) -> int:
        """How often things were to be brought back by the robot itself."""
        return self._state.recoveries

    @property
    def recovery_steps(self) -> int:
        """Decisions that this took."""
        return self._state.all_recovery_steps

    def decide(self, sensed: Sensed, now_ns: int, day_s: float = 0.0) -> Order:
        """What to do from `now_ns` on; `day_s`: seconds since midnight."""
        state = self._state
        if not (sensed.away and state.phase is Phase.PRACTISE):
            return self._next(sensed, now_ns, day_s)
        self._state = replace(state, phase=Phase.PAUSE, steps=state.steps - state.attempt_steps, attempt_steps=0)
        return replace(self._next(sensed, now_ns, day_s), dropped=True)

    def _next(self, sensed: Sensed, now_ns: int, day_s: float) -> Order:
        self._state = replace(self._state, started_ns=self._started(now_ns), decided_ns=now_ns)
        stop = self._must_stop(sensed, now_ns)
        if stop or self._state.phase is Phase.STOPPED:
            return self._stop(stop or self._state.reason)
        pause = self._must_pause(sensed, day_s)
        act = {
            Phase.HOME: self._home,
            Phase.PRACTISE: self._practise,
            Phase.RECOVER: self._recover,
            Phase.WAIT: self._wait,
            Phase.PAUSE: self._paused,
        }[self._state.phase]
        return act(sensed, pause)

    def go_on(self) -> Order:
        """A person starts again what had stopped."""
        return self._go(Phase.HOME, home_steps=0, attempt_steps=0, streak=0, reason="")

    def state_dict(self) -> dict[str, Any]:
        """JSON."""
        return asdict(self._state)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._state = _State(**{**state, "phase": Phase(state["phase"])})

    # --- phases ---

    def _home(self, sensed: Sensed, pause: str) -> Order:
        if pause:
            return self._go(Phase.PAUSE, reason=pause)
        if sensed.lost:
            return self._mend(sensed.lost)
        if not sensed.home:
            steps = self._state.home_steps + 1
            if steps > self.config.max_home_steps:
                return self._ask("the arm does not come home")
            return self._go(Phase.HOME, home_steps=steps)
        if self._state.put_back:
            return self._ask("an attempt is over; put things back to where the task begins")
        order = self._go(Phase.PRACTISE, attempt_steps=0, home_steps=0, streak=0, moved=False)
        return replace(order, begins=True)

    def _practise(self, sensed: Sensed, pause: str) -> Order:
        state, config = self._state, self.config
        streak = state.streak
        for done in sensed.frames:
            streak = streak + 1 if done else 0
            if streak >= config.consecutive:
                break
        self._state = state = replace(
            state,
            streak=streak,
            attempt_steps=state.attempt_steps + 1,
            steps=state.steps + 1,
            moved=state.moved or sensed.moved,
        )
        if streak >= config.consecutive:
            return self._finish(End.SUCCESS, "", pause, switch=True)
        if sensed.lost:
            return self._finish(End.LOST, sensed.lost, pause, switch=True)
        if pause:
            return self._finish(End.FAULT, pause, pause, switch=False)
        if state.attempt_steps >= config.max_attempt_steps:
            return self._finish(End.TIMEOUT, "", pause, switch=config.switch_on_timeout)
        if config.max_steps and state.steps >= config.max_steps:
            return self._finish(End.TIMEOUT, "", pause, switch=False)
        return Order(Phase.PRACTISE, state.task)

    def _recover(self, sensed: Sensed, pause: str) -> Order:
        if pause:
            return self._go(Phase.PAUSE, reason=pause)
        if sensed.recovered:
            return self._go(Phase.HOME, task=0, home_steps=0, reason="")
        state = self._state
        if state.recovery_steps >= self.config.max_recovery_steps:
            return self._ask(f"{state.reason}; it could not be brought back")
        spent = {"recovery_steps": state.recovery_steps + 1, "all_recovery_steps": state.all_recovery_steps + 1}
        return self._go(Phase.RECOVER, **spent)

    def _wait(self, sensed: Sensed, pause: str) -> Order:
        if not sensed.reset_done:
            reason = f"{self._state.reason}; {sensed.away}" if sensed.away else self._state.reason
            return Order(Phase.WAIT, self._state.task, reason=reason)
        return self._go(Phase.HOME, task=0, home_steps=0, idle_attempts=0, reason="")

    def _paused(self, sensed: Sensed, pause: str) -> Order:
        if pause or sensed.temperature_c > self.config.resume_temperature_c:
            return self._go(Phase.PAUSE, reason=pause or self._heat(sensed))
        return self._go(Phase.HOME, home_steps=0, reason="")

    # --- transitions ---

    def _finish(self, end: End, reason: str, pause: str, switch: bool) -> Order:
        """The attempt is over; home first, unless something is to be waited for."""
        state, config = self._state, self.config
        attempt = Attempt(state.task, state.attempt_steps, end, reason)
        idle = 0 if state.moved else state.idle_attempts + 1
        failures = 0 if end is End.SUCCESS else state.failures + 1
        task = (state.task + 1) % config.tasks if switch else state.task
        self._state = replace(
            state,
            task=task,
            attempts=state.attempts + 1,
            attempt_steps=0,
            idle_attempts=idle,
            failures=failures,
            recoveries_in_a_row=0 if end is End.SUCCESS else state.recoveries_in_a_row,
            streak=0,
        )
        if config.max_steps and state.steps >= config.max_steps:
            order = self._stop(f"{state.steps} steps were asked for, and are done")
        elif end is End.LOST:
            order = self._mend(reason)
        elif idle >= config.stuck_attempts:
            order = self._mend(f"nothing was moved in {idle} attempts")
        elif failures >= config.failed_attempts:
            order = self._mend(f"{failures} attempts in a row have failed")
        else:
            alone = config.tasks == 1
            order = self._go(Phase.PAUSE if pause else Phase.HOME, home_steps=0, reason=pause, put_back=alone)
        return replace(order, ended=attempt)

    def _mend(self, reason: str) -> Order:
        """Bring things back, or ask a person to."""
        state = self._state
        if not self.recovers or state.recoveries_in_a_row >= self.config.max_recoveries:
            return self._ask(reason)
        return self._go(
            Phase.RECOVER,
            recovery_steps=0,
            recoveries_in_a_row=state.recoveries_in_a_row + 1,
            recoveries=state.recoveries + 1,
            idle_attempts=0,
            failures=0,
            reason=reason,
        )

    def _ask(self, reason: str) -> Order:
        if self._state.resets >= self.config.max_resets:
            return self._stop(f"a person was needed {self._state.resets} times already; the last reason: {reason}")
        counts = {"resets": self._state.resets + 1, "recoveries_in_a_row": 0, "idle_attempts": 0, "failures": 0}
        return self._go(Phase.WAIT, **counts, put_back=False, reason=reason)

    def _stop(self, reason: str) -> Order:
        """For good. A running attempt is over."""
        state = self._state
        ended = None
        if state.phase is Phase.PRACTISE and state.attempt_steps:
            ended = Attempt(state.task, state.attempt_steps, End.FAULT, reason)
            self._state = replace(state, attempts=state.attempts + 1)
        return replace(self._go(Phase.STOPPED, reason=reason, attempt_steps=0), ended=ended)

    def _go(self, phase: Phase, **changes: Any) -> Order:
        self._state = replace(self._state, phase=phase, **changes)
        return Order(phase, self._state.task, reason=self._state.reason if phase is not Phase.PRACTISE else "")

    # --- limits ---

    def _started(self, now_ns: int) -> int:
        """Where the time begins that has been spent by now."""
        state = self._state
        if state.decided_ns < 0:
            return now_ns
        since_ns = now_ns - state.decided_ns
        return state.started_ns if 0 <= since_ns <= GAP_NS else state.started_ns + since_ns

    def _must_stop(self, sensed: Sensed, now_ns: int) -> str:
        config, state = self.config, self._state
        if sensed.fault:
            return sensed.fault
        if config.max_load and sensed.load > config.max_load:
            return f"a motor's load is {sensed.load:g}, above {config.max_load:g}"
        if sensed.free_bytes < config.min_free_bytes:
            return f"{sensed.free_bytes >> 20} MiB of disk are left, fewer than {config.min_free_bytes >> 20}"
        if config.max_steps and state.steps >= config.max_steps:
            return f"{state.steps} steps were asked for, and are done"
        if config.max_hours and now_ns - state.started_ns >= config.max_hours * 3600 * NS_PER_S:
            return f"{config.max_hours:g} hours were asked for, and are over"
        return ""

    def _must_pause(self, sensed: Sensed, day_s: float) -> str:
        config = self.config
        if sensed.away:
            return sensed.away
        lasts_s = config.quiet_to_s - config.quiet_from_s
        if (day_s - config.quiet_from_s) % DAY_S < lasts_s + (DAY_S if lasts_s < 0 else 0):
            return "quiet hours"
        if sensed.temperature_c > config.max_temperature_c:
            return self._heat(sensed)
        return ""

    def _heat(self, sensed: Sensed) -> str:
        return f"a motor has {sensed.temperature_c:g} C; it cools to {self.config.resume_temperature_c:g} C"
