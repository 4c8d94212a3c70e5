"""Joining streams: against a plain restatement of each rule, for any order of arrival."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from robolearn.errors import UnknownNameError
from robolearn.sync import ExactJoin, NewestJoin, StreamRule, Tick

STREAMS = ("joints", "camera", "command")
in_order = st.lists(st.integers(0, 30), unique=True, max_size=20).map(sorted)


@st.composite
def interleaved(draw: st.DrawFn) -> list[tuple[str, int]]:
    """Every stream in its own order, merged in any order."""
    queues = {stream: draw(in_order) for stream in STREAMS}
    arrivals = []
    while any(queues.values()):
        stream = draw(st.sampled_from([s for s in STREAMS if queues[s]]))
        arrivals.append((stream, queues[stream].pop(0)))
    return arrivals


@given(interleaved())
def test_exact_join_hands_out_every_stamp_once_in_order_with_all_its_samples(arrivals: list[tuple[str, int]]) -> None:
    join = ExactJoin(STREAMS)
    ticks = [tick for stream, stamp in arrivals for tick in join.push(stream, stamp, (stream, stamp))]
    ticks += join.flush()
    assert [tick.stamp_ns for tick in ticks] == sorted({stamp for _, stamp in arrivals})
    for tick in ticks:
        there = {s for s in STREAMS if (s, tick.stamp_ns) in arrivals}
        assert tick.samples == {s: (s, tick.stamp_ns) for s in there}
        assert set(tick.missing) == set(STREAMS) - there
    assert not join.counts.late
    assert join.counts.missing.total() == sum(len(tick.missing) for tick in ticks)


@given(st.lists(st.tuples(st.sampled_from(STREAMS), st.integers(0, 30)), max_size=80), st.integers(1, 5))
def test_exact_join_loses_nothing_uncounted_and_stays_bounded(arrivals: list[tuple[str, int]], depth: int) -> None:
    join = ExactJoin(STREAMS, depth)
    ticks: list[Tick] = []
    for stream, stamp in arrivals:
        ticks += join.push(stream, stamp, stamp)
        assert len(join._waiting) <= depth
    ticks += join.flush()
    stamps = [tick.stamp_ns for tick in ticks]
    assert stamps == sorted(set(stamps))
    handed_out = sum(len(tick.samples) for tick in ticks)
    assert handed_out + join.counts.late.total() + join.counts.dropped.total() == len(arrivals)


def test_exact_join_hands_a_tick_out_as_soon_as_it_is_complete() -> None:
    join = ExactJoin(("a", "b"))
    assert join.push("a", 5, "x") == []
    assert (join.newest_ns("a"), join.newest_ns("b")) == (5, None)
    assert join.push("b", 5, "y") == [Tick(5, {"a": "x", "b": "y"})]
    assert join.newest_ns("b") == 5
    assert join.push("a", 5, "x") == []
    assert join.counts.late == {"a": 1}


def test_exact_join_gives_up_on_a_sample_that_its_stream_skipped() -> None:
    join = ExactJoin(("a", "b"))
    join.push("a", 1, "x")
    assert join.push("b", 2, "y") == [Tick(1, {"a": "x"}, ("b",))]
    assert join.counts.missing == {"b": 1}
    join.reset()
    assert join.flush() == []
    assert not join.counts.missing


@given(
    stamps=st.lists(st.integers(0, 200), max_size=60),
    ticks=st.lists(st.integers(0, 200), min_size=1, max_size=10).map(sorted),
    tolerance=st.integers(0, 30),
    rule=st.sampled_from(["hold", "nearest"]),
)
def test_newest_join_follows_its_rule(stamps: list[int], ticks: list[int], tolerance: int, rule: str) -> None:
    join = NewestJoin({"camera": StreamRule(tolerance, rule)})
    for stamp in stamps:
        join.push("camera", stamp, stamp)
    for tick_ns in ticks:
        tick = join.take(tick_ns)
        near = [s for s in stamps if abs(s - tick_ns) <= tolerance and (rule == "nearest" or s <= tick_ns)]
        best = min(near, key=lambda s: (abs(s - tick_ns), s), default=None)
        assert tick.samples.get("camera") == best
        assert (tick.missing == ("camera",)) == (best is None)


@given(st.lists(st.tuples(st.integers(0, 100), st.booleans()), max_size=100), st.integers(1, 6))
def test_newest_join_stays_bounded(events: list[tuple[int, bool]], depth: int) -> None:
    join = NewestJoin({"camera": StreamRule(10)}, depth)
    tick_ns = 0
    for stamp, take in events:
        if take:
            tick_ns = max(tick_ns, stamp)
            sample = join.take(tick_ns).samples.get("camera", tick_ns)
            assert 0 <= tick_ns - sample <= 10
        else:
            join.push("camera", stamp, stamp)
        assert len(join._stamps["camera"]) == len(join._samples["camera"]) <= depth


def test_newest_join_holds_a_slow_camera_and_counts_its_gaps() -> None:
    join = NewestJoin({"camera": StreamRule(tolerance_ns=10), "joints": StreamRule(0)})
    join.push("camera", 0, "first")
    for tick_ns in (0, 10):
        join.push("joints", tick_ns, tick_ns)
        assert join.take(tick_ns) == Tick(tick_ns, {"camera": "first", "joints": tick_ns})
    join.push("joints", 20, 20)
    assert join.take(20) == Tick(20, {"joints": 20}, ("camera",))
    join.push("camera", 15, "late")
    assert (join.counts.missing, join.counts.late) == ({"camera": 1}, {"camera": 1})


@pytest.mark.parametrize("join", [ExactJoin(("joints",)), NewestJoin({"joints": StreamRule(0)})])
def test_unknown_stream_is_named(join: ExactJoin | NewestJoin) -> None:
    with pytest.raises(UnknownNameError, match="did you mean joints"):
        join.push("joint", 0, None)
