from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robolearn.errors import ServingError, SpecError
from robolearn.serving.loop import ControlLoop
from robolearn.specs import InterfaceSpec, RobotSpec
from robolearn.types import ActionChunk, ActionSource, Observation

ROBOT = RobotSpec("toy", ("pan", "grip"), (-1.0, 0.0), (1.0, 0.5), (1.0, 1.0))
PERIOD_NS = 50_000_000
SEEN: Observation = {"proprio": np.zeros(4, np.float32)}


class Counting:
    """Answers the c-th call with the actions (c, k)."""

    spec = InterfaceSpec({"proprio": ROBOT.proprio_spec}, ROBOT.action_spec, 20.0)

    def __init__(self, chunk_steps: int = 8) -> None:
        self.chunk_steps = chunk_steps
        self.calls = 0
        self.seeds: list[int] = []

    def reset(self, seed: int = 0) -> None:
        self.seeds.append(seed)

    def act(self, observation: Observation, stamp_ns: int) -> ActionChunk:
        actions = np.float32([[self.calls, k] for k in range(self.chunk_steps)]).reshape(-1, 2)
        self.calls += 1
        return ActionChunk(actions, stamp_ns, stamp_ns, PERIOD_NS, ActionSource.SCRIPT)


class Wrong(Counting):
    """Answers with whatever it was given."""

    def __init__(self, answer: ActionChunk) -> None:
        super().__init__()
        self.answer = answer

    def act(self, observation: Observation, stamp_ns: int) -> ActionChunk:
        return self.answer


def test_one_action_a_tick_and_a_new_chunk_after_execute_steps() -> None:
    loop = ControlLoop(Counting(), execute_steps=3)
    loop.reset(11)
    steps = [loop.step(SEEN if loop.due(t) else None, t) for t in range(0, 7 * PERIOD_NS, PERIOD_NS)]
    assert [tuple(s.action) for s in steps] == [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2), (2, 0)]
    assert [s.chunk is not None for s in steps] == [True, False, False, True, False, False, True]
    assert {s.source for s in steps} == {ActionSource.SCRIPT}
    assert loop.policy.seeds == [11]  # type: ignore[attr-defined]


def test_a_policy_that_cannot_be_reset_is_reset_at_the_next_tick() -> None:
    class Away(Counting):
        def reset(self, seed: int = 0) -> None:
            super().reset(seed)
            if len(self.seeds) == 2:
                raise ServingError("gone")

    loop = ControlLoop(Away())
    loop.reset(1)
    loop.step(SEEN, 0)
    loop.reset(2)  # which is no tick that could be held
    with pytest.raises(ServingError, match="gone"):
        loop.step(SEEN, 0)
    assert loop.step(SEEN, PERIOD_NS).chunk is not None
    assert loop.policy.seeds == [1, 2, 2]  # type: ignore[attr-defined]


@given(
    ticks=st.lists(st.integers(1, 12), max_size=30),
    jitter=st.floats(-0.4, 0.4),
    execute_steps=st.integers(1, 10),
    chunk_steps=st.integers(1, 10),
)
def test_the_action_is_always_the_one_of_its_tick(
    ticks: list[int], jitter: float, execute_steps: int, chunk_steps: int
) -> None:
    loop = ControlLoop(Counting(chunk_steps), execute_steps)
    made = [0]
    for tick in np.cumsum([0, *ticks]).tolist():
        stamp_ns = 10**9 + tick * PERIOD_NS + (round(jitter * PERIOD_NS) if tick % 2 else 0)
        step = loop.step(SEEN, stamp_ns)
        if step.chunk is not None:
            made.append(stamp_ns)
        age = round((stamp_ns - made[-1]) / PERIOD_NS)
        assert tuple(step.action) == (len(made) - 2, age)
        assert age < min(execute_steps, chunk_steps)


def test_reset_and_time_going_back_start_afresh() -> None:
    loop = ControlLoop(Counting(), execute_steps=8)
    loop.step(SEEN, 5 * PERIOD_NS)
    assert not loop.due(6 * PERIOD_NS)
    assert loop.due(0)
    loop.reset()
    assert loop.due(6 * PERIOD_NS)


def test_no_observation_when_one_is_due() -> None:
    with pytest.raises(SpecError, match="no observation"):
        ControlLoop(Counting(), 1).step(None, 0)


def chunk(actions: object, period_ns: int = PERIOD_NS, start_ns: int = 0) -> ActionChunk:
    return ActionChunk(np.asarray(actions, np.float32), 0, start_ns, period_ns)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (chunk([[0, 0], [0, np.nan]]), r"action 1 is not finite in grip"),
        (chunk([[np.inf, 0]]), "not finite in pan"),
        (chunk([[0, 0, 0]]), "shape"),
        (chunk([0, 0]), r"expected \(K, A\)"),
        (chunk(np.zeros((0, 2))), "K at least 1"),
        (chunk([[0, 0]], period_ns=0), "period"),
        (chunk([[0, 0]], start_ns=-10 * PERIOD_NS), "ended before"),
        (replace(chunk([[0, 0]]), source=ActionSource.HUMAN), "source human; only people"),
    ],
)
def test_a_wrong_answer_never_passes_and_is_forgotten(answer: ActionChunk, words: str) -> None:
    loop = ControlLoop(Wrong(answer), 4)
    with pytest.raises(SpecError, match=words):
        loop.step(SEEN, 0)
    assert loop.due(PERIOD_NS)  # it asks again rather than going on with the old chunk


def test_an_error_after_good_chunks_does_not_continue_the_old_one() -> None:
    policy = Counting(4)
    loop = ControlLoop(policy, 2)
    loop.step(SEEN, 0)
    policy.act = Wrong(chunk([[np.nan, 0]])).act  # type: ignore[method-assign]
    with pytest.raises(SpecError):
        loop.step(SEEN, 2 * PERIOD_NS)
    with pytest.raises(SpecError):
        loop.step(SEEN, 3 * PERIOD_NS)


def test_execute_steps_must_be_positive() -> None:
    with pytest.raises(SpecError, match="execute_steps is 0"):
        ControlLoop(Counting(), 0)
