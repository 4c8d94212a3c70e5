"""How samples become steps: any order of arrival, anything missing."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from robolearn_nodes.recording import Recording

from robolearn.datasets.contract import COMMAND, COMMAND_SENT, JOINT_STATES
from robolearn.sync import ExactJoin, GridJoin, StreamRule
from robolearn.types import EpisodeOutcome

PERIOD, FIRST, STEPS = 10, 100, 6
END = FIRST + STEPS * PERIOD
OBSERVED = (JOINT_STATES, "front")
STREAMS = (*OBSERVED, COMMAND, COMMAND_SENT)
OUTCOME = EpisodeOutcome(True, True, False)


class Notebook:
    """A writer that keeps the steps."""

    def __init__(self) -> None:
        self.steps: list[tuple[dict[str, Any], dict[str, int]]] = []
        self.outcome: EpisodeOutcome | None = None
        self.received: list[dict[str, int]] = []

    def begin(self, meta: Any) -> None: ...

    def discard(self) -> None: ...

    def append(self, step: Any, stamps_ns: Any, received_ns: Any = None, valid: Any = None) -> None:
        self.steps.append((step, stamps_ns))
        self.received.append(received_ns)

    def commit(self, outcome: EpisodeOutcome, tags: Any = None) -> Any:
        self.outcome = outcome


def streams(held: frozenset[int] = frozenset()) -> dict[str, list[tuple[int, dict[str, Any]]]]:
    """What one episode publishes, by stream; steps of `held` get no command."""
    ticks = [FIRST + k * PERIOD for k in range(STEPS + 1)]
    return {
        JOINT_STATES: [(t, {"proprio": t}) for t in ticks],
        "front": [(t, {"image_front": t}) for t in ticks],
        COMMAND: [(t, {"action": t, "action_source": 2}) for k, t in enumerate(ticks) if k not in held],
        COMMAND_SENT: [(t, {"action_sent": t, "held": k in held}) for k, t in enumerate(ticks[:-1])],
    }


@st.composite
def arrivals(draw: st.DrawFn, held: frozenset[int] = frozenset()) -> list[tuple[str, int, dict[str, Any]]]:
    queues = streams(held)
    merged = []
    while any(queues.values()):
        stream = draw(st.sampled_from([s for s in queues if queues[s]]))
        merged.append((stream, *queues[stream].pop(0)))
    return merged


@given(st.data(), st.frozensets(st.integers(0, STEPS - 1)))
def test_every_step_is_written_once_in_order_whatever_comes_first(data: st.DataObject, held: frozenset[int]) -> None:
    writer = Notebook()
    recording = Recording(writer, OBSERVED, ExactJoin(STREAMS))
    reached = []
    arrived = data.draw(arrivals(held))
    started_after = data.draw(st.integers(0, len(arrived) - 1))
    for k, (stream, stamp, fields) in enumerate(arrived):
        if k == started_after:
            recording.begin(FIRST)
        recording.push(stream, stamp, fields)
        reached.append(recording.reached(END, PERIOD))
    assert reached[-1]
    assert reached == sorted(reached)  # once reached, it stays
    recording.end(END)
    recording.commit(OUTCOME)
    assert writer.outcome is OUTCOME
    assert [step["proprio"] for step, _ in writer.steps] == list(range(FIRST, END, PERIOD))
    for k, (step, stamps) in enumerate(writer.steps):
        stamp = FIRST + k * PERIOD
        assert set(stamps.values()) == {stamp}
        assert step.get("action", stamp) == step["action_sent"] == step["image_front"] == stamp
        assert ("action" not in step) == step["held"] == (k in held)


@pytest.mark.parametrize("told_at", [0, 1, 2])
def test_what_comes_before_the_start_is_no_step(told_at: int) -> None:
    writer = Notebook()
    recording = Recording(writer, OBSERVED, ExactJoin(STREAMS))
    for k, stamp in enumerate((END - PERIOD, END)):
        if k == told_at:
            recording.begin(END)
        recording.push(COMMAND, stamp, {"action": stamp})
    if told_at == 2:
        recording.begin(END)
    recording.end(END + 1)
    recording.commit(OUTCOME)
    assert [step for step, _ in writer.steps] == [{"action": END}]


@pytest.mark.parametrize("lost", [JOINT_STATES, "front", COMMAND, COMMAND_SENT])
def test_a_lost_sample_leaves_a_gap_in_its_field_alone(lost: str) -> None:
    writer = Notebook()
    recording = Recording(writer, OBSERVED, ExactJoin(STREAMS))
    recording.begin(FIRST)
    for stream, samples in streams().items():
        for k, (stamp, fields) in enumerate(samples):
            if (stream, k) != (lost, 2):
                recording.push(stream, stamp, fields)
    recording.end(END)
    recording.commit(OUTCOME)
    assert len(writer.steps) == STEPS
    gap = {JOINT_STATES: "proprio", "front": "image_front", COMMAND: "action", COMMAND_SENT: "action_sent"}[lost]
    assert [k for k, (step, _) in enumerate(writer.steps) if gap not in step] == [2]


def test_end_is_not_reached_without_the_last_command_of_a_step_that_was_not_held() -> None:
    recording = Recording(Notebook(), OBSERVED, ExactJoin(STREAMS))
    recording.begin(FIRST)
    for stream, samples in streams().items():
        for stamp, fields in samples[: STEPS - 1] if stream == COMMAND else samples:
            recording.push(stream, stamp, fields)
    assert not recording.reached(END, PERIOD)
    recording.push(COMMAND, END - PERIOD, {"action": 1})
    assert recording.reached(END, PERIOD)


# --- the grid rule, for clocks that tick apart ---

TICK, AGE = 100, 90  # [ns]: period of the dataset, greatest age of a picture


def grid(others: tuple[str, ...] = (JOINT_STATES, COMMAND, COMMAND_SENT), tick: int = TICK, age: int = AGE) -> GridJoin:
    rules = {"front": StreamRule(age, "hold")} | dict.fromkeys(others, StreamRule(tick // 2, "nearest"))
    return GridJoin(rules, JOINT_STATES, tick)


@given(st.lists(st.integers(-40, 40), min_size=5, max_size=30), st.integers(0, 60), st.integers(30, 80))
def test_every_tick_of_the_grid_has_the_sample_that_the_rule_names(
    jitter: list[int], phase: int, image_period: int
) -> None:
    writer = Notebook()
    recording = Recording(writer, OBSERVED, grid())
    states = [1000 + TICK * k + (late if k else 0) for k, late in enumerate(jitter)]
    images = list(range(1000 - phase, states[-1] + 1, image_period))
    samples = sorted([(t, JOINT_STATES, "proprio") for t in states] + [(t, "front", "image_front") for t in images])
    recording.begin(1000 - phase)
    for stamp, stream, field in samples:
        recording.push(stream, stamp, {field: stamp}, received_ns=stamp + 7)
    recording.end(states[-1])
    recording.commit(OUTCOME)
    ticks = range(1000, states[-1], TICK)
    assert len(writer.steps) == len(ticks)
    for tick, (step, stamps), received in zip(ticks, writer.steps, writer.received, strict=True):
        near = min(states, key=lambda t: (abs(t - tick), t))
        assert step.get("proprio") == (near if abs(near - tick) <= TICK // 2 else None)
        seen = max((t for t in images if t <= tick), default=None)
        assert step.get("image_front") == (seen if seen is not None and tick - seen <= AGE else None)
        assert stamps == step
        assert received == {name: stamp + 7 for name, stamp in step.items()}


def test_a_camera_that_dies_is_masked_and_holds_up_nobody() -> None:
    writer = Notebook()
    recording = Recording(writer, OBSERVED, grid((JOINT_STATES,)))
    recording.begin(0)
    period = 600_000_000 // 20  # the patience is half a second
    recording = Recording(writer, OBSERVED, grid((JOINT_STATES,), period, period))
    recording.begin(0)
    recording.push("front", 0, {"image_front": 0})
    for k in range(40):
        recording.push(JOINT_STATES, k * period, {"proprio": k})
    assert 15 < len(writer.steps) < 40
    recording.end(40 * period)
    recording.commit(OUTCOME)
    assert [step["proprio"] for step, _ in writer.steps] == list(range(40))
    assert [("image_front" in step) for step, _ in writer.steps] == [True, True] + [False] * 38


def test_late_and_dropped_samples_are_counted() -> None:
    recording = Recording(Notebook(), OBSERVED, grid((JOINT_STATES,)))
    recording.begin(0)
    for stamp in (0, 100, 200, 300, 300):
        recording.push(JOINT_STATES, stamp, {})
        recording.push("front", stamp, {})
    recording.push("front", 90, {})
    assert recording.counts == {"late": {"front": 1}, "dropped": {JOINT_STATES: 1, "front": 1}}


@given(st.integers(0, 12), st.integers(1, 10), st.booleans())
def test_no_step_is_of_after_the_end_however_late_the_recording_is_stopped(late: int, length: int, blind: bool) -> None:
    writer = Notebook()
    period = 60_000_000  # the patience is half a second
    recording = Recording(writer, OBSERVED, grid((JOINT_STATES,), period, 2 * period))
    recording.begin(0)
    for k in range(length + late + 1):
        if k == length:
            recording.end(k * period)
        for stream, field in ((JOINT_STATES, "proprio"), ("front", "image_front")):
            if field == "proprio" or not blind:
                recording.push(stream, k * period, {field: k})
    recording.commit(OUTCOME)
    assert [step["proprio"] for step, _ in writer.steps] == list(range(length))


def test_the_first_step_has_the_picture_that_was_held_when_the_episode_began() -> None:
    writer = Notebook()
    recording = Recording(writer, OBSERVED, grid())
    for stamp in (1000 - 2 * AGE, 1000 - AGE, 995):
        recording.push("front", stamp, {"image_front": stamp})
    recording.push(COMMAND, 995, {"action": 995})
    recording.begin(1000)
    recording.push(JOINT_STATES, 1010, {"proprio": 0})
    recording.commit(OUTCOME)
    assert [step for step, _ in writer.steps] == [{"proprio": 0, "image_front": 995}]


@settings(max_examples=30)
@given(st.integers(1, 10**9), st.sets(st.sampled_from([JOINT_STATES, "front"]), min_size=1), st.booleans())
def test_a_clock_that_leaps_adds_no_steps(leap_s: int, leaping: set[str], at_once: bool) -> None:
    writer = Notebook()
    period = 50_000_000
    recording = Recording(writer, OBSERVED, grid((JOINT_STATES,), period, period))
    recording.begin(0)
    for k in range(20):
        for stream, field in (("front", "image_front"), (JOINT_STATES, "proprio")):
            leapt = stream in leaping and (k >= 10 or (at_once and stream == "front"))
            recording.push(stream, k * period + leapt * (61 + leap_s) * 10**9, {field: k})
    recording.commit(OUTCOME)
    steps = 10 if JOINT_STATES in leaping and leaping != {JOINT_STATES} else 20
    assert len(writer.steps) == steps
    assert [step["proprio"] for step, _ in writer.steps[:10]] == list(range(10))
    assert recording.counts["dropped"].keys() <= leaping
