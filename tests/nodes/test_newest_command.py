"""Which samples a controller answers, and which command counts."""

from __future__ import annotations

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st
from robolearn_nodes import convert
from robolearn_nodes.commands import LiveJoin, NewestCommand, Pace

from robolearn.sync import NewestJoin, StreamRule

PERIOD = 100


@given(st.integers(1, 1000), st.integers(0, 10**6))
@example(1, 2)
def test_a_faster_stream_is_answered_at_the_control_rate(every: int, start: int) -> None:
    stamps = list(range(start, start + 30 * max(PERIOD, every), every))
    pace = Pace(PERIOD)
    answered = [stamp for stamp in stamps if pace.due(stamp)]
    if every >= PERIOD:
        assert answered == stamps
    else:
        gaps = np.diff(answered)
        assert gaps.min() >= 3 * PERIOD / 4 - every
        assert gaps.max() <= PERIOD + every
        assert abs(gaps.mean() - PERIOD) <= every / 2 + 1 or every > PERIOD / 4


@given(st.lists(st.integers(-24, 24), min_size=10, max_size=60))
def test_a_stream_at_the_control_rate_is_answered_whatever_its_jitter(jitter: list[int]) -> None:
    pace = Pace(PERIOD)
    assert all(pace.due(10_000 + k * PERIOD + (late if k else 0)) for k, late in enumerate(jitter))


def test_another_clock_is_answered_at_once() -> None:
    pace = Pace(PERIOD)
    assert pace.due(10**9)
    assert pace.due(5)  # the twin was started again
    assert not pace.due(10)


def test_live_observation_is_the_state_with_the_newest_pictures_that_are_fresh() -> None:
    join = LiveJoin(["states", "front", "wrist"], "states", PERIOD, max_age_ns=150)
    (tick,) = join.push("states", 1000, "s0")
    assert tick.missing == ("front", "wrist")
    assert join.push("front", 1010, "f0") == join.push("front", 1090, "f1") == join.push("wrist", 1060, "w0") == []
    assert join.push("states", 1050, "too soon") == []
    (tick,) = join.push("states", 1100, "s1")
    assert (tick.stamp_ns, tick.samples, tick.missing) == (1100, {"states": "s1", "front": "f1", "wrist": "w0"}, ())
    join.push("front", 1190, "f2")
    (tick,) = join.push("states", 1300, "s2")
    assert (tick.samples, tick.missing) == ({"states": "s2", "front": "f2"}, ("wrist",))
    assert join.counts.missing == {"front": 1, "wrist": 2}
    (tick,) = join.push("states", 100, "s3")  # the clock went back: those pictures are of another time
    assert tick.missing == ("front", "wrist")


@given(st.lists(st.integers(30, 200), min_size=5, max_size=40), st.integers(0, 60))
def test_a_live_picture_is_the_one_that_is_recorded(gaps: list[int], late: int) -> None:
    """Though joint states come late, and younger pictures before them; where none is held there may be one after it."""
    pictures = np.cumsum(gaps).tolist()
    states = range(PERIOD, pictures[-1], PERIOD)
    came = sorted([(at, "front", at) for at in pictures] + [(at + late, "states", at) for at in states])
    live = LiveJoin(["states", "front"], "states", PERIOD, max_age_ns=150)
    recorded = NewestJoin({"front": StreamRule(150, "hold")})
    for _, stream, stamp in came:
        ticks = live.push(stream, stamp, stamp)
        if stream == "front":
            recorded.push(stream, stamp, stamp)
            continue
        wanted = recorded.take(stamp).samples.get("front")
        shown = ticks[0].samples.get("front")
        assert shown == wanted or (wanted is None and stamp < shown <= stamp + late)


JOINTS = ("a", "b")
commands = st.lists(st.tuples(st.integers(-50, 150), st.booleans()), min_size=1, max_size=20)


@given(commands)
def test_the_newest_command_that_is_not_ahead_of_the_clock_counts(came: list[tuple[int, bool]]) -> None:
    newest, now_ns = NewestCommand(JOINTS), 10_100
    for k, (stamp, sane) in enumerate(came):
        names = JOINTS if sane else ("a", "x")
        newest.put(convert.command_message(np.full(2, float(k)), 10_000 + stamp, names), now_ns)
    usable = [(stamp, k, sane) for k, (stamp, sane) in enumerate(came) if stamp <= 100]
    stamp_ns, action, refusal = newest.get()
    assert newest.count == len(came)
    if not usable:
        assert (stamp_ns, action) == (0, None)
        assert "ahead of the clock" in refusal
        return
    best = max(stamp for stamp, _, _ in usable)
    _, k, sane = [entry for entry in usable if entry[0] == best][-1]
    assert stamp_ns == 10_000 + best
    if sane:
        assert action is not None
        assert action.tolist() == [k, k]
    else:
        assert action is None
        assert "lacks b" in refusal


def test_clearing_forgets() -> None:
    newest = NewestCommand(JOINTS)
    newest.put(convert.command_message(np.zeros(2), 5, JOINTS), 10)
    newest.clear()
    assert newest.get() == (0, None, "")
    assert newest.count == 0


def test_a_clock_that_went_back_takes_commands_again() -> None:
    newest = NewestCommand(JOINTS)
    assert newest.put(convert.command_message(np.zeros(2), 1000, JOINTS), 1000)
    assert newest.put(convert.command_message(np.ones(2), 10, JOINTS), 20)
    assert newest.get()[0] == 10
    assert not newest.put(convert.command_message(np.zeros(2), 5, JOINTS), 20)
