"""An episode played again: at its own timing, onto the twin it equals what was recorded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from robolearn_nodes.replay import AT_START_RAD, Replay, recorded

from robolearn import cli
from robolearn.datasets.store import DatasetSpec, EpisodeMeta
from robolearn.datasets.zarr_store import ZarrStore
from robolearn.errors import RobolearnError, SpecError
from robolearn.recipes.collect import CollectConfig, collect_episodes
from robolearn.specs import InterfaceSpec, RobotSpec
from robolearn.types import EpisodeOutcome, RobotState

PERIOD = 50_000_000


def replay(actions: list[float], ramp_rad_s: float = 0.5) -> Replay:
    """An episode of two joints that do the same, each where it was commanded to be, stamped from 7 s on."""
    column = np.float32(actions)[:, None].repeat(2, 1)
    stamps = 7_000_000_000 + PERIOD * np.arange(len(actions))
    return Replay(column, column, stamps, ramp_rad_s, 0.05, PERIOD)


def state(position: float, stamp_ns: int) -> RobotState:
    return RobotState(np.float32([position, position]), np.zeros(2, np.float32), stamp_ns)


@given(st.lists(st.integers(-9_000_000, 9_000_000), min_size=5, max_size=5), st.integers(0, 10**12))
def test_each_tick_gets_the_command_of_its_time(jitter: list[int], start_ns: int) -> None:
    player = replay([0.0, 0.1, 0.2, 0.3, 0.4])
    given_out = [player.answer(state(0.0, start_ns))]
    for k in range(1, 5):
        given_out.append(player.answer(state(0.1 * k + 0.01, start_ns + k * PERIOD + jitter[k])))
    np.testing.assert_allclose([command[0] for command in given_out], [0.0, 0.1, 0.2, 0.3, 0.4], atol=1e-6)
    assert player.answer(state(0.0, start_ns + 5 * PERIOD)) is None
    assert player.done
    assert player.steps == 5
    assert player.figures()["error_max_rad"] == pytest.approx(0.01, abs=1e-5)


def test_robot_elsewhere_is_brought_to_the_start_slowly_and_the_episode_waits() -> None:
    player = replay([0.5, 0.6])
    position, stamps, commands = 0.0, 0, []
    while player.phase != "playing":
        command = player.answer(state(position, stamps))
        assert command is not None
        commands.append(float(command[0]))
        position, stamps = commands[-1], stamps + PERIOD
    assert np.abs(np.diff(commands[:-1])).max() <= 0.5 * PERIOD * 1e-9 + 1e-6
    assert stamps >= 0.5 / 0.5 * 1e9
    assert commands[-1] == pytest.approx(0.5)


def test_robot_that_does_not_come_to_the_start_is_not_played_to() -> None:
    player = replay([0.5, 0.6])
    for k in range(1000):
        if player.answer(state(0.0, k * PERIOD)) is None:
            break
    assert player.done
    assert player.problem == "the start was not reached: joint 0 is 0.500 rad off"
    assert player.steps == 0


def test_a_robot_that_was_stopped_or_silent_is_not_sent_to_where_the_episode_is_by_then() -> None:
    for stopped in (True, False):
        player = replay([0.01 * k for k in range(100)])
        for k in range(5):
            assert player.answer(state(0.01 * k, k * PERIOD)) is not None
            player.sent("")
        late = 40 * PERIOD
        for k in range(5, 40) if stopped else ():
            player.answer(state(0.04, k * PERIOD))
            player.sent("emergency stop")
        assert player.answer(state(0.04, late)) is None
        assert player.problem == (
            "the robot holds: emergency stop" if stopped else "there was no joint state for 1.8 s"
        )


def test_a_clock_that_goes_back_ends_the_replay() -> None:
    player = replay([0.0, 0.1, 0.2])
    assert player.answer(state(0.0, 10 * PERIOD)) is not None
    assert player.answer(state(0.0, 7 * PERIOD)) is None
    assert player.problem == "the clock of the joint states went back by 0.150 s"


def test_what_no_twin_knows_is_replayed_on_its_cell(tmp_path: Path) -> None:
    robot = RobotSpec("arm", ("a", "b"), (-1.0, -1.0), (1.0, 1.0), (1.0, 1.0))
    interface = InterfaceSpec({"proprio": robot.proprio_spec}, robot.action_spec, 20.0)
    store = ZarrStore.create(tmp_path / "d.zarr", DatasetSpec(robot, interface))
    with store.writer() as writer:
        writer.begin(EpisodeMeta(task="wave"))
        writer.append({"proprio": np.zeros(4), "action": np.zeros(2)}, {"proprio": 0})
        writer.commit(EpisodeOutcome(True, True, False))
    with pytest.raises(RobolearnError, match="is of 'wave', no task of the twin; replay it on its cell: --on CELL"):
        cli.run(["replay", str(tmp_path / "d.zarr")])


def test_a_ramp_without_a_speed_is_refused() -> None:
    with pytest.raises(SpecError, match=r"-0\.5 rad/s, expected more than 0"):
        replay([0.5], ramp_rad_s=-0.5)


def test_steps_without_an_action_keep_the_one_before_and_an_empty_episode_is_done() -> None:
    player = replay([0.0, np.nan, 0.2])
    commands = [player.answer(state(0.0, k * PERIOD)) for k in range(3)]
    np.testing.assert_allclose([command[0] for command in commands if command is not None], [0.0, 0.0, 0.2], atol=1e-6)
    assert replay([np.nan]).done
    assert AT_START_RAD < 0.05


def test_a_robot_is_not_brought_to_where_it_was_not_seen(tmp_path: Path) -> None:
    robot = RobotSpec("arm", ("a", "b"), (-1.0, -1.0), (1.0, 1.0), (1.0, 1.0))
    interface = InterfaceSpec({"proprio": robot.proprio_spec}, robot.action_spec, 20.0)
    store = ZarrStore.create(tmp_path / "d.zarr", DatasetSpec(robot, interface))
    with store.writer() as writer:
        writer.begin(EpisodeMeta())
        for step in range(3):
            sent = {"action_sent": np.full(2, 0.5, np.float32)}
            seen = {"proprio": np.full(4, 0.5, np.float32)} if step else {}
            writer.append({**sent, **seen}, {"action_sent": 7 + PERIOD * step})
        writer.commit(EpisodeOutcome(True, True, False))
    player = Replay(*recorded(store, 0), 0.5, 0.05, PERIOD)
    answered = player.answer(state(0.5, 0))
    np.testing.assert_array_equal(answered, [0.5, 0.5])
    assert player.phase == "playing"


def test_episode_replayed_onto_the_twin_through_the_graph_is_the_same(graph: Any, tmp_path: Path) -> None:
    dataset, results = tmp_path / "demos.zarr", tmp_path / "results.jsonl"
    (row,) = collect_episodes(CollectConfig("reach-v1", image_size=32, perturbation=0.0), dataset, 1, seed=3)
    assert row["success"]
    graph.start("twin", task="reach-v1", cameras=" ")
    for name in ("first", "again"):  # of which the first one's end is still told to whoever comes
        node = graph.start("replay", name, dataset=dataset, results=results)
        graph.spin_until(lambda node=node: node.poll() is not None)
        assert node.returncode == 0, graph.log(name)
    outcomes = [json.loads(line) for line in results.read_text().splitlines()]
    assert len(outcomes) == 2
    for outcome in outcomes:
        assert outcome["success"]
        assert outcome["steps"] == row["num_steps"] == ZarrStore.open(dataset).episodes[0].length
        assert outcome["error_max_rad"] < 1e-4
        assert (outcome["held_steps"], outcome["reason"]) == (0, "")
