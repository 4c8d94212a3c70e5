"""How samples become steps: any order of arrival, anything missing."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from robolearn_nodes.recording import Recording
from robolearn_nodes.topics import COMMAND, COMMAND_SENT

from robolearn.types import EpisodeOutcome

PERIOD, FIRST, STEPS = 10, 100, 6
END = FIRST + STEPS * PERIOD
OBSERVED = ("joint_states", "front")
OUTCOME = EpisodeOutcome(True, True, False)


class Notebook:
    """A writer that keeps the steps."""

    def __init__(self) -> None:
        self.steps: list[tuple[dict[str, Any], dict[str, int]]] = []
        self.outcome: EpisodeOutcome | None = None

    def begin(self, meta: Any) -> None: ...

    def discard(self) -> None: ...

    def append(self, step: Any, stamps_ns: Any, received_ns: Any = None, valid: Any = None) -> None:
        self.steps.append((step, stamps_ns))

    def commit(self, outcome: EpisodeOutcome) -> Any:
        self.outcome = outcome


def streams(held: frozenset[int] = frozenset()) -> dict[str, list[tuple[int, dict[str, Any]]]]:
    """What one episode publishes, by stream; steps of `held` get no command."""
    ticks = [FIRST + k * PERIOD for k in range(STEPS + 1)]
    return {
        "joint_states": [(t, {"proprio": t}) for t in ticks],
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
    recording = Recording(writer, OBSERVED, after_ns=FIRST - 1)
    reached = []
    for stream, stamp, fields in data.draw(arrivals(held)):
        recording.push(stream, stamp, fields)
        reached.append(recording.reached(END, PERIOD))
    assert reached[-1]
    assert reached == sorted(reached)  # once reached, it stays
    recording.commit(END, OUTCOME)
    assert writer.outcome is OUTCOME
    assert [step["proprio"] for step, _ in writer.steps] == list(range(FIRST, END, PERIOD))
    for k, (step, stamps) in enumerate(writer.steps):
        stamp = FIRST + k * PERIOD
        assert set(stamps.values()) == {stamp}
        assert step.get("action", stamp) == step["action_sent"] == step["image_front"] == stamp
        assert ("action" not in step) == step["held"] == (k in held)


def test_samples_of_the_episode_before_are_not_steps() -> None:
    writer = Notebook()
    recording = Recording(writer, OBSERVED, after_ns=END)
    recording.push(COMMAND, END, {"action": 1})
    recording.commit(END + 1, OUTCOME)
    assert writer.steps == []


@pytest.mark.parametrize("lost", ["joint_states", "front", COMMAND, COMMAND_SENT])
def test_a_lost_sample_leaves_a_gap_in_its_field_alone(lost: str) -> None:
    writer = Notebook()
    recording = Recording(writer, OBSERVED, after_ns=0)
    for stream, samples in streams().items():
        for k, (stamp, fields) in enumerate(samples):
            if (stream, k) != (lost, 2):
                recording.push(stream, stamp, fields)
    recording.commit(END, OUTCOME)
    assert len(writer.steps) == STEPS
    gap = {"joint_states": "proprio", "front": "image_front", COMMAND: "action", COMMAND_SENT: "action_sent"}[lost]
    assert [k for k, (step, _) in enumerate(writer.steps) if gap not in step] == [2]


def test_end_is_not_reached_without_the_last_command_of_a_step_that_was_not_held() -> None:
    recording = Recording(Notebook(), OBSERVED, after_ns=0)
    for stream, samples in streams().items():
        for stamp, fields in samples[: STEPS - 1] if stream == COMMAND else samples:
            recording.push(stream, stamp, fields)
    assert not recording.reached(END, PERIOD)
    recording.push(COMMAND, END - PERIOD, {"action": 1})
    assert recording.reached(END, PERIOD)
