"""The state machine of reset-free practice, whatever it senses."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from robolearn.envs.device_cell import day_s
from robolearn.errors import SpecError
from robolearn.recipes.finetune.supervisor import (
    DAY_S,
    NS_PER_S,
    End,
    Order,
    Phase,
    Sensed,
    Supervisor,
    SupervisorConfig,
)

EXCEPTIONS = (Phase.STOPPED, Phase.RECOVER, Phase.WAIT, Phase.PAUSE)
PERIOD_NS = NS_PER_S // 5
HOME = Sensed(home=True)

sensed = st.builds(
    Sensed,
    frames=st.lists(st.booleans(), max_size=5).map(tuple),
    home=st.booleans(),
    moved=st.booleans(),
    lost=st.sampled_from(["", "", "", "the puck is out of reach"]),
    recovered=st.booleans(),
    reset_done=st.booleans(),
    temperature_c=st.floats(20.0, 80.0),
    away=st.sampled_from(["", "", "", "for the robot"]),
)
configs = st.builds(
    SupervisorConfig,
    tasks=st.integers(1, 3),
    max_attempt_steps=st.integers(1, 6),
    consecutive=st.integers(1, 6),
    switch_on_timeout=st.booleans(),
    max_home_steps=st.integers(1, 4),
    stuck_attempts=st.integers(1, 4),
    failed_attempts=st.integers(1, 6),
    max_steps=st.integers(0, 40),
    max_recovery_steps=st.integers(1, 3),
    max_recoveries=st.integers(0, 3),
    max_resets=st.integers(0, 5),
)
LOST = Sensed(lost="the puck is out of reach")


def run(config: SupervisorConfig, night: list[Sensed], recovers: bool = False) -> list[Order]:
    supervisor = Supervisor(config, recovers)
    return [supervisor.decide(each, i * PERIOD_NS) for i, each in enumerate(night)]


@given(configs, st.lists(sensed, max_size=80), st.booleans())
@settings(max_examples=150, deadline=None)
def test_attempts_begin_and_end_in_turn_and_never_last_too_long(
    config: SupervisorConfig, night: list[Sensed], recovers: bool
) -> None:
    running, steps, attempts = False, 0, 0
    for order in run(config, night, recovers):
        if order.ended is not None:
            assert running
            assert order.ended.steps == steps <= config.max_attempt_steps
            running, attempts = False, attempts + 1
        if order.dropped:
            assert running
            running = False
        if order.begins:
            assert order.phase is Phase.PRACTISE
            assert not running
            running, steps = True, 0
        assert running == (order.phase is Phase.PRACTISE)
        steps += order.phase is Phase.PRACTISE
    assert attempts <= len(night)


@given(configs, st.lists(sensed, max_size=80), st.booleans())
@settings(max_examples=100, deadline=None)
def test_stopped_is_for_good_and_says_why(config: SupervisorConfig, night: list[Sensed], recovers: bool) -> None:
    orders = run(config, night, recovers)
    stopped = [order.phase is Phase.STOPPED for order in orders]
    assert stopped == sorted(stopped)
    assert all(order.reason for order in orders if order.phase in EXCEPTIONS)


@given(configs, st.lists(sensed, max_size=40), st.lists(sensed, max_size=40))
@settings(max_examples=60, deadline=None)
def test_a_restart_goes_on_where_it_stood(config: SupervisorConfig, before: list[Sensed], after: list[Sensed]) -> None:
    whole = run(config, before + after, recovers=True)
    first, second = Supervisor(config, recovers=True), Supervisor(config, recovers=True)
    for i, each in enumerate(before):
        first.decide(each, i * PERIOD_NS)
    second.load_state_dict(first.state_dict())
    orders = [second.decide(each, (len(before) + i) * PERIOD_NS) for i, each in enumerate(after)]
    assert orders == whole[len(before) :]


def test_success_asks_for_frames_in_a_row() -> None:
    config = SupervisorConfig(consecutive=3, max_attempt_steps=10)
    broken = [Sensed((True, True, False)), Sensed((True, True)), Sensed((True,))]
    orders = run(config, [HOME, *broken])
    assert [order.ended is not None for order in orders] == [False, False, False, True]
    assert orders[-1].ended is not None
    assert orders[-1].ended.end is End.SUCCESS
    assert orders[-1].task == 1


@pytest.mark.parametrize("switch", [True, False])
def test_a_timeout_gives_the_other_task_its_turn_if_wanted(switch: bool) -> None:
    orders = run(SupervisorConfig(max_attempt_steps=2, switch_on_timeout=switch), [HOME, Sensed(), Sensed()])
    assert orders[-1].ended is not None
    assert orders[-1].ended.end is End.TIMEOUT
    assert orders[-1].task == int(switch)


def test_a_person_is_asked_once_for_what_is_lost() -> None:
    supervisor = Supervisor(SupervisorConfig())
    orders = [supervisor.decide(each, i) for i, each in enumerate([HOME, LOST, LOST, Sensed(reset_done=True), HOME])]
    assert [order.phase for order in orders] == [
        Phase.PRACTISE,
        Phase.WAIT,
        Phase.WAIT,
        Phase.HOME,
        Phase.PRACTISE,
    ]
    assert supervisor.resets == 1
    assert orders[1].reason == "the puck is out of reach"


def test_what_is_lost_is_brought_back_and_nobody_is_asked() -> None:
    supervisor = Supervisor(SupervisorConfig(), recovers=True)
    night = [HOME, LOST, Sensed(), Sensed(recovered=True), HOME]
    orders = [supervisor.decide(each, i) for i, each in enumerate(night)]
    phases = [Phase.PRACTISE, Phase.RECOVER, Phase.RECOVER, Phase.HOME, Phase.PRACTISE]
    assert [order.phase for order in orders] == phases
    assert orders[2].reason == "the puck is out of reach"
    assert orders[-1].task == 0
    assert (supervisor.recoveries, supervisor.recovery_steps, supervisor.resets) == (1, 1, 0)


def test_a_person_is_asked_when_it_cannot_be_brought_back() -> None:
    orders = run(SupervisorConfig(max_recovery_steps=2), [HOME, LOST, Sensed(), Sensed(), Sensed()], recovers=True)
    assert [order.phase for order in orders[1:]] == [Phase.RECOVER] * 3 + [Phase.WAIT]
    assert "could not be brought back" in orders[-1].reason


@pytest.mark.parametrize("success", [True, False])
def test_a_person_is_asked_when_bringing_back_is_in_vain(success: bool) -> None:
    config = SupervisorConfig(max_recoveries=2, consecutive=1)
    back = Sensed(recovered=True)
    between = [HOME, Sensed((True,))] if success else []
    orders = run(config, [HOME, LOST, back, HOME, LOST, back, *between, HOME, LOST], recovers=True)
    assert orders[-1].phase is (Phase.RECOVER if success else Phase.WAIT)


def test_a_task_alone_is_put_back_by_a_person_after_every_attempt() -> None:
    tried, away = Sensed(moved=True), Sensed()
    night = [HOME, tried, tried, away, HOME, away, Sensed(reset_done=True), HOME, tried]
    orders = run(SupervisorConfig(tasks=1, max_attempt_steps=2), night, recovers=True)
    phases = "practise practise home home wait wait home practise practise"
    assert " ".join(order.phase.value for order in orders) == phases  # home first, out of the person's way
    assert {order.task for order in orders} == {0}
    assert orders[4].reason == "an attempt is over; put things back to where the task begins"


def test_nothing_moved_in_many_attempts_is_stuck() -> None:
    config = SupervisorConfig(max_attempt_steps=1, stuck_attempts=3)
    orders = run(config, [HOME, Sensed()] * 3)
    assert orders[-1].phase is Phase.WAIT
    assert "nothing was moved" in orders[-1].reason
    moved = run(config, [HOME, Sensed(moved=True)] * 3)
    assert moved[-1].phase is Phase.HOME


def test_many_failures_in_a_row_want_a_person() -> None:
    config = SupervisorConfig(max_attempt_steps=1, failed_attempts=3, consecutive=1)
    tried = Sensed(moved=True)
    orders = run(config, [HOME, tried, HOME, tried, HOME, Sensed((True,)), HOME, tried, HOME, tried, HOME, tried])
    assert [order.phase for order in orders].count(Phase.WAIT) == 1
    assert "3 attempts in a row have failed" in orders[-1].reason


@contextlib.contextmanager
def clock_ahead_of_utc(quarters: int) -> Iterator[None]:
    """This computer's clock stands so many quarters of an hour ahead of UTC."""
    before, minutes = os.environ.get("TZ"), abs(quarters) * 15
    # POSIX counts westwards
    os.environ["TZ"] = f"<here>{'-' if quarters > 0 else ''}{minutes // 60}:{minutes % 60:02d}"
    time.tzset()
    yield
    os.environ.pop("TZ") if before is None else os.environ.update(TZ=before)
    time.tzset()


@given(st.integers(0, DAY_S), st.integers(0, DAY_S), st.integers(0, 2**32), st.integers(-48, 56))
@example(22 * 3600, 6 * 3600, 0, 0)
@example(6 * 3600, 6 * 3600, 6 * 3600, 0)
@example(0, DAY_S, 7 * 3600, 4)
@settings(max_examples=150, deadline=None)
def test_it_is_quiet_from_one_time_of_the_day_to_the_next_other_one_wherever_the_cell_stands(
    quiet_from: int, quiet_to: int, now_s: int, quarters: int
) -> None:
    with clock_ahead_of_utc(quarters):
        day = day_s(now_s)
    here = datetime.fromtimestamp(now_s, timezone(timedelta(minutes=15 * quarters)))
    assert day == (here - here.replace(hour=0, minute=0, second=0)).total_seconds()
    config = SupervisorConfig(quiet_from_s=quiet_from, quiet_to_s=quiet_to)
    midnights = [here.replace(hour=0, minute=0, second=0) - timedelta(days=back) for back in (0, 1)]
    lasts_s = quiet_to - quiet_from + (DAY_S if quiet_to < quiet_from else 0)
    quiet = any(
        start <= here < start + timedelta(seconds=lasts_s)
        for start in (midnight + timedelta(seconds=quiet_from) for midnight in midnights)
    )
    order = Supervisor(config).decide(HOME, 0, day)
    assert order.phase is (Phase.PAUSE if quiet else Phase.PRACTISE)


def test_the_end_of_quiet_hours_is_followed_by_going_home() -> None:
    supervisor = Supervisor(SupervisorConfig(quiet_from_s=22 * 3600, quiet_to_s=6 * 3600))
    phases = [supervisor.decide(HOME, i, hour * 3600).phase for i, hour in enumerate([21, 23, 3, 6, 6])]
    assert phases == [Phase.PRACTISE, Phase.PAUSE, Phase.PAUSE, Phase.HOME, Phase.PRACTISE]


def test_times_that_no_day_has_are_refused() -> None:
    with pytest.raises(SpecError, match="quiet_from_s"):
        SupervisorConfig(quiet_from_s=22, quiet_to_s=90_000)


def test_an_attempt_in_which_the_robot_goes_away_counts_for_nothing_and_is_begun_again() -> None:
    supervisor = Supervisor(SupervisorConfig(max_steps=3, failed_attempts=1))
    away = Sensed((True,) * 5, away="for the robot", lost="the puck is out of reach")
    orders = [supervisor.decide(each, i) for i, each in enumerate([HOME, Sensed(), away, away, HOME, Sensed(), HOME])]
    phases = "practise practise pause pause home home practise"
    assert " ".join(order.phase.value for order in orders) == phases
    assert [order.dropped for order in orders].index(True) == 2
    assert (orders[3].reason, orders[-1].task, orders[-1].begins) == ("for the robot", 0, True)
    assert (supervisor.steps, supervisor.attempts, supervisor.resets) == (0, 0, 0)
    supervisor.decide(LOST, 7)
    assert supervisor.decide(away, 8).reason == "the puck is out of reach; for the robot"
    assert supervisor.decide(Sensed(fault="it waited"), 9).phase is Phase.STOPPED


def test_a_hot_motor_pauses_until_it_is_cool() -> None:
    supervisor = Supervisor(SupervisorConfig())
    heat = [30.0, 70.0, 60.0, 45.0]
    phases = [supervisor.decide(Sensed(home=True, temperature_c=t), i).phase for i, t in enumerate(heat)]
    assert phases == [Phase.PRACTISE, Phase.PAUSE, Phase.PAUSE, Phase.HOME]


@pytest.mark.parametrize(
    ("config", "night", "why"),
    [
        (SupervisorConfig(max_steps=1), [HOME, Sensed()], "1 steps were asked for"),
        (SupervisorConfig(), [HOME, Sensed(fault="camera front is silent")], "camera front is silent"),
        (SupervisorConfig(max_load=1.0), [HOME, Sensed(load=2.0)], "load is 2"),
        (SupervisorConfig(), [Sensed(free_bytes=1)], "MiB of disk are left"),
        (SupervisorConfig(max_resets=0), [HOME, Sensed(lost="gone")], "the last reason: gone"),
        (SupervisorConfig(max_hours=1e-5), [HOME, Sensed()], "hours were asked for"),
    ],
)
def test_it_stops_by_itself_and_says_why(config: SupervisorConfig, night: list[Sensed], why: str) -> None:
    last = run(config, night)[-1]
    assert last.phase is Phase.STOPPED
    assert why in last.reason


@pytest.mark.parametrize("since_s", [-(10**6), 8 * 3600])
def test_the_hours_are_those_in_which_somebody_ran(since_s: int) -> None:
    """Not the day between Ctrl-C and --resume; and a reboot, after which clocks begin anew, is not the first hour."""
    config, now_ns, spent_s = SupervisorConfig(max_hours=1.0), 10**15, 0
    supervisor = Supervisor(config)
    while supervisor.decide(HOME, now_ns).phase is not Phase.STOPPED:
        now_ns, spent_s = now_ns + 30 * NS_PER_S, spent_s + 30
        if spent_s == 1800:
            state, now_ns = supervisor.state_dict(), now_ns + since_s * NS_PER_S
            supervisor = Supervisor(config)
            supervisor.load_state_dict(state)
    assert spent_s == 3600 + 30  # of which the gap itself is not counted
    assert supervisor.decide(HOME, now_ns).reason == "1 hours were asked for, and are over"


def test_an_attempt_that_ends_the_practice_is_one() -> None:
    supervisor = Supervisor(SupervisorConfig(max_steps=2))
    orders = [supervisor.decide(each, i) for i, each in enumerate([HOME, Sensed(), Sensed()])]
    assert (orders[-1].phase, supervisor.attempts) == (Phase.STOPPED, 1)


def test_settings_that_make_no_sense_are_refused() -> None:
    with pytest.raises(SpecError, match="at least 1"):
        SupervisorConfig(consecutive=0)
    with pytest.raises(SpecError, match="resume at 70 C"):
        SupervisorConfig(resume_temperature_c=70.0)
