"""Late chunks: expired steps are skipped, overlapping chunks are blended, by stamps alone."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robolearn.errors import SpecError
from robolearn.serving.chunks import ChunkTimeline, blend, covers, index_at
from robolearn.types import ActionChunk

PERIOD_NS = 20_000_000
TICKS = st.integers(0, 40)


def chunk(tick: int, steps: int, value: float) -> ActionChunk:
    """Made at a tick: actions (value, number of the tick that it is for)."""
    actions = np.float32([[value, tick + k] for k in range(steps)])
    return ActionChunk(actions, tick * PERIOD_NS, tick * PERIOD_NS, PERIOD_NS)


@given(st.integers(1, 12), st.integers(1, 12), st.integers(0, 6), st.lists(st.integers(0, 9), min_size=1, max_size=60))
def test_an_action_is_always_the_one_that_is_due_now(
    steps: int, execute: int, blend_steps: int, delays: list[int]
) -> None:
    """Whatever time the policy takes, from nothing to longer than its chunks."""
    timeline = ChunkTimeline(execute, blend_steps, wait=False)
    coming: list[tuple[int, ActionChunk]] = []
    for tick, delay in enumerate(delays):
        if timeline.tick(tick * PERIOD_NS):
            coming.append((tick + delay, chunk(tick, steps, float(tick))))
        for _, late in [c for c in coming if c[0] == tick]:
            used = timeline.add(late, tick * PERIOD_NS)
            assert used == (tick < late.stamp_ns // PERIOD_NS + steps)
        coming = [c for c in coming if c[0] > tick]
        action = timeline.action(tick * PERIOD_NS)
        if action is not None:
            assert action[1] == pytest.approx(tick)
            assert 0 <= action[0] <= tick
        elif timeline.plan is not None:
            assert not covers(timeline.plan, tick * PERIOD_NS)
        assert len(coming) <= 1  # the policy is asked for one chunk at a time


@given(TICKS, TICKS, st.integers(1, 20), st.integers(1, 20), st.integers(0, 8), st.integers(0, 60))
def test_a_blend_lies_between_both_and_ends_at_the_new(
    old_tick: int, later: int, old_steps: int, new_steps: int, blend_steps: int, from_tick: int
) -> None:
    old, new = chunk(old_tick, old_steps, 0.0), chunk(old_tick + later, new_steps, 1.0)
    values = blend(old, new, from_tick * PERIOD_NS, blend_steps).actions[:, 0]
    first = index_at(new, from_tick * PERIOD_NS)
    assert np.all((values > 0) & (values <= 1))
    assert np.all(values[:first] == 1)  # expired
    assert np.all(values[first + blend_steps :] == 1)
    assert np.all(np.diff(values[first:]) >= -1e-6)
    still_old = covers(old, max(from_tick, old_tick + later) * PERIOD_NS)
    if blend_steps and first < new_steps and still_old:
        assert values[first] == pytest.approx(1 / (blend_steps + 1))


def test_waiting_gives_no_action_until_the_chunk_is_there() -> None:
    timeline = ChunkTimeline(execute_steps=2)
    assert timeline.tick(0)
    assert timeline.action(0) is None
    assert timeline.add(chunk(0, 4, 7.0), 0)
    assert timeline.action(0) is not None
    assert not timeline.tick(PERIOD_NS)
    assert timeline.tick(2 * PERIOD_NS)
    assert timeline.action(2 * PERIOD_NS) is None
    timeline.failed(2 * PERIOD_NS)
    assert timeline.action(2 * PERIOD_NS) is None  # the old chunk does not go on
    assert timeline.tick(3 * PERIOD_NS)


def test_running_ahead_the_old_chunk_goes_on_until_it_ends() -> None:
    timeline = ChunkTimeline(execute_steps=2, blend_steps=1, wait=False)
    assert timeline.tick(0)
    assert timeline.add(chunk(0, 4, 0.0), 0)
    asked = [tick for tick in range(1, 6) if timeline.tick(tick * PERIOD_NS)]
    assert asked == [2]
    assert [timeline.action(tick * PERIOD_NS) is not None for tick in (3, 4)] == [True, False]
    assert timeline.add(chunk(2, 8, 1.0), 5 * PERIOD_NS)
    action = timeline.action(5 * PERIOD_NS)
    assert action is not None
    assert tuple(action) == (1.0, 5.0)


def test_chunks_of_the_past_and_the_future_are_refused() -> None:
    timeline = ChunkTimeline(execute_steps=1, wait=False)
    timeline.tick(10 * PERIOD_NS)
    assert timeline.add(chunk(10, 4, 0.0), 10 * PERIOD_NS)
    assert not timeline.add(chunk(9, 8, 1.0), 10 * PERIOD_NS)
    assert not timeline.add(chunk(20, 8, 1.0), 10 * PERIOD_NS)
    timeline.tick(0)  # another episode
    assert timeline.action(0) is None
    assert not timeline.add(chunk(10, 4, 1.0), 0)


@pytest.mark.parametrize("settings", [(0, 0), (1, -1)])
def test_senseless_settings_are_refused(settings: tuple[int, int]) -> None:
    with pytest.raises(SpecError, match="at least"):
        ChunkTimeline(*settings)
