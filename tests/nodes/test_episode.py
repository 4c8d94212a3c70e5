"""What the ENDED event tells of an episode."""

from __future__ import annotations

import pytest
from robolearn_msgs.msg import EpisodeEvent
from robolearn_nodes.episode import REMEMBERED, RunningEpisode

from robolearn.types import EpisodeOutcome

STARTED = EpisodeEvent(episode_id="a", task="t", instruction="do it", seed=7)


def test_latency_is_measured_from_observation_to_its_own_command() -> None:
    running = RunningEpisode(STARTED)
    for tick in range(3):
        running.observed(tick, wall_ns=tick * 10_000_000)
    running.answered(1, wall_ns=12_000_000)
    running.answered(0, wall_ns=4_000_000)
    running.answered(1, wall_ns=99_000_000)  # a second answer does not count
    running.answered(77, wall_ns=99_000_000)  # nor one to nothing
    event = running.ended(5, EpisodeOutcome(True, True, False))
    assert event.loop_p50_ms == pytest.approx(3.0)
    assert event.loop_p99_ms == pytest.approx(3.98)


def test_event_carries_episode_counts_and_the_last_refusal() -> None:
    running = RunningEpisode(STARTED)
    for refusal in ("", "too far", "nan", "", "late"):
        running.stepped(refusal)
    assert running.held_in_a_row == 1
    event = running.ended(2_000_000_000, EpisodeOutcome(False, False, True, "object lost"))
    assert (event.event, event.episode_id, event.task, event.instruction, event.seed) == (
        EpisodeEvent.ENDED,
        "a",
        "t",
        "do it",
        7,
    )
    assert (event.num_steps, event.held_steps, event.truncated, event.header.stamp.sec) == (5, 3, True, 2)
    assert event.reason == "object lost; the robot held in 3 steps: late"


def test_reason_is_empty_when_nothing_went_wrong() -> None:
    event = RunningEpisode(STARTED).ended(0, EpisodeOutcome(True, True, False))
    assert (event.reason, event.loop_p50_ms, event.success) == ("", 0.0, True)


def test_an_episode_that_lasts_a_night_keeps_the_newest_alone() -> None:
    running = RunningEpisode(STARTED)
    for tick in range(3 * REMEMBERED):
        running.observed(tick, wall_ns=tick)
        if tick % 2:  # the others are never answered
            running.answered(tick, wall_ns=tick + (2_000_000 if tick >= REMEMBERED else 9_000_000))
    running.answered(0, wall_ns=99_000_000)  # of what was forgotten
    assert len(running._published_ns) <= REMEMBERED
    assert running.ended(0, EpisodeOutcome(None, False, True)).loop_p99_ms == pytest.approx(2.0)
