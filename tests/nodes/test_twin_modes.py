"""The twin in real time between episodes, after a restart, under commands from the future, and as a mirror."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cells import Typist, standin_cell
from ears import Ears
from robolearn_msgs.msg import EpisodeEvent
from robolearn_msgs.srv import StartEpisode, StopEpisode
from robolearn_nodes import convert, topics, twin_node
from sensor_msgs.msg import Image, JointState
from std_msgs.msg import Empty
from std_srvs.srv import Trigger
from trajectory_msgs.msg import JointTrajectory

from robolearn.datasets.zarr_store import ZarrStore
from robolearn.tasks import make_task
from robolearn.twin.follow import Follower
from robolearn.twin.twin import Twin
from robolearn.types import RobotState

TASK, SIZE = "reach-v1", 32


class Stander:
    """A controller that stands still, and stamps its commands `ahead_ns` after what it has seen, `every` so often."""

    def __init__(self, graph: Any) -> None:
        self.ahead_ns, self.ahead_every = 0, 0
        self._commands = graph.node.create_publisher(JointTrajectory, topics.COMMAND, topics.STREAM)
        self._count = 0
        graph.node.create_subscription(JointState, topics.JOINT_STATES, self._on_state, topics.STREAM)

    def _on_state(self, message: JointState) -> None:
        self._count += 1
        ahead = self.ahead_ns if self.ahead_every and self._count % self.ahead_every == 0 else 0
        stamp_ns = convert.stamp_ns(message.header.stamp) + ahead
        position = np.array(message.position)
        self._commands.publish(convert.command_message(position, stamp_ns, list(message.name), "script"))


def test_one_command_from_the_future_does_not_end_an_episode(graph: Any) -> None:
    stander, ears = Stander(graph), Ears(graph)
    stander.ahead_ns, stander.ahead_every = 10**9, 10
    graph.start("twin", task=TASK, cameras=" ", realtime_factor=1.0, max_held_steps=6)
    graph.agree(StartEpisode, topics.START_EPISODE, episode_id="a")
    ears.sent.clear()
    graph.spin_until(lambda: len(ears.sent) >= 40)
    assert graph.events[-1].event == EpisodeEvent.STARTED
    stander.ahead_every = 1  # all of them: held, and the reason is the true one
    graph.spin_until(lambda: graph.events[-1].event == EpisodeEvent.ENDED)
    assert "ahead of the clock" in graph.events[-1].reason
    assert graph.events[-1].truncated
    graph.spin_until(lambda: float(ears.figures.get("twin", {}).get("ticks_hz", 0)) > 0)  # how fast time goes


def test_an_empty_message_stops_the_twin_until_it_is_resumed(graph: Any) -> None:
    ears = Ears(graph)
    Stander(graph)
    stop = graph.node.create_publisher(Empty, topics.EMERGENCY_STOP, 10)
    graph.start("twin", task=TASK, cameras=" ", realtime_factor=1.0, max_held_steps=5)
    graph.agree(StartEpisode, topics.START_EPISODE, episode_id="a")
    graph.spin_until(lambda: any(not m.header.frame_id for m in ears.sent))
    stop.publish(Empty())
    graph.spin_until(lambda: graph.events[-1].event == EpisodeEvent.ENDED)
    assert "emergency stop" in graph.events[-1].reason
    refused = graph.call(StartEpisode, topics.START_EPISODE, episode_id="b")
    assert not refused.success
    assert "call /robot/resume first" in refused.message
    assert graph.call(Trigger, topics.RESUME_ROBOT).success
    graph.agree(StartEpisode, topics.START_EPISODE, episode_id="c")


@pytest.mark.slow
def test_idle_twin_is_seen_and_after_its_restart_the_recorder_hears_it(graph: Any, tmp_path: Path) -> None:
    dataset = tmp_path / "demos.zarr"
    stander, ears = Stander(graph), Ears(graph)
    assert stander.ahead_every == 0
    images: list[Image] = []
    graph.node.create_subscription(Image, topics.image_topic("front"), images.append, topics.STREAM)
    # a client that called a killed twin, too, waits for its word when it is destroyed, and nobody commands for a second
    options = {"task": TASK, "image_size": SIZE, "realtime_factor": 1.0, "max_held_steps": 40}
    graph.start("recorder", task=TASK, image_size=SIZE, dataset=dataset)
    for run in ("first", "second"):
        twin = graph.start("twin", run, **options)
        ears.states.clear()
        graph.spin_until(lambda: len(ears.states) > 20)  # nothing has been started
        assert len(images) > 10
        for episode in ("a", "b") if run == "first" else ("c",):
            graph.agree(StartEpisode, topics.START_RECORDING, episode_id=episode)
            ears.states.clear()
            graph.spin_until(lambda: len(ears.states) > 5)  # idle: none of it is kept
            graph.agree(StartEpisode, topics.START_EPISODE, episode_id=episode)
            ears.states.clear()
            graph.spin_until(lambda: len(ears.states) > 10)
            stopped = graph.call(StopEpisode, topics.STOP_EPISODE, event=EpisodeEvent(judged=True, terminated=True))
            assert stopped.success, graph.events[-1].reason
            graph.spin_until(lambda: graph.events[-1].event == EpisodeEvent.ENDED)
            response = graph.call(StopEpisode, topics.STOP_RECORDING, event=graph.events[-1])
            assert response.success, response.message
        twin.send_signal(signal.SIGKILL)
        twin.wait()
    store = ZarrStore.open(dataset)
    assert [info.id for info in store.episodes] == ["a", "b", "c"]
    started = [e for e in graph.events if e.event == EpisodeEvent.STARTED]
    ended = [e for e in graph.events if e.event == EpisodeEvent.ENDED]
    assert convert.stamp_ns(started[2].header.stamp) < convert.stamp_ns(ended[1].header.stamp)  # its clock began anew
    for index, (begin, end, info) in enumerate(zip(started, ended, store.episodes, strict=True)):
        stamps = store.read_stamps(index)["proprio"][:, 0]
        assert stamps[0] == convert.stamp_ns(begin.header.stamp)
        assert stamps[-1] + 50_000_000 == convert.stamp_ns(end.header.stamp)
        assert (info.length, info.success, info.masked.get("proprio", 0)) == (end.num_steps, False, 0)


@pytest.mark.slow
def test_mirror_follows_a_real_arm_beside_it(graph: Any, tmp_path: Path, typist: Typist) -> None:
    with standin_cell(tmp_path) as (cell, _):
        ears = Ears(graph)
        residuals: list[JointState] = []
        views: list[Image] = []
        graph.node.create_subscription(JointState, topics.RESIDUAL, residuals.append, topics.STREAM)
        graph.node.create_subscription(Image, topics.mirror_topic("front"), views.append, topics.VIEW)
        graph.start("robot", cell=cell)
        graph.start("teleop", cell=cell, terminal=typist.terminal)
        graph.start("twin", mode="mirror", task=TASK, image_size=64)
        typist.hold("q")
        graph.spin_until(lambda: len(residuals) > 60 and len(views) > 10)
        typist.hold("")
        assert graph.node.count_publishers(topics.JOINT_STATES) == graph.node.count_publishers(topics.COMMAND_SENT) == 1
        assert graph.node.count_publishers(topics.CLOCK) == 0
        stamps = {convert.stamp_ns(m.header.stamp) for m in ears.states}
        assert {convert.stamp_ns(m.header.stamp) for m in residuals} <= stamps
        off = np.array([m.position for m in residuals])
        assert np.abs(off).max() < 0.2  # both are arms that are told the same
        assert np.abs(off[:, 0]).max() > 1e-4  # but no two arms are alike
        assert (
            np.abs(np.frombuffer(views[0].data, np.uint8).astype(int) - np.frombuffer(views[-1].data, np.uint8)).max()
            > 20
        )
        graph.stop()


def test_follower_predicts_by_what_was_sent_and_takes_over_what_was_measured() -> None:
    twin, other = Twin(make_task(TASK), {}), Twin(make_task(TASK), {})
    follower = Follower(twin)
    target = other.robot_state().joint_position + 0.1
    assert not follower.follow(other.robot_state(), target).any()  # nothing was predicted yet
    for _ in range(5):
        other.step(target)
        residual = follower.follow(other.robot_state(), target)
        np.testing.assert_allclose(residual, 0.0, atol=2e-3)  # the same arm, told the same
        np.testing.assert_allclose(twin.robot_state().joint_position, other.robot_state().joint_position, atol=1e-6)
        assert twin.stamp_ns == other.stamp_ns
    still = RobotState(other.robot_state().joint_position, np.zeros(6, np.float32), other.stamp_ns + other.period_ns)
    assert np.abs(follower.follow(still, target + 0.2)).max() > 0.01  # one that was told to move and did not
    late = RobotState(still.joint_position, still.joint_velocity, still.stamp_ns + 10**10)
    assert not follower.follow(late, target).any()
    twin.close()
    other.close()


@pytest.mark.parametrize("mode", ["watch", "Mirror"])
def test_unknown_mode_is_told(refused: Any, mode: str) -> None:
    assert f"unknown mode {mode!r}" in refused(twin_node.main, mode=mode)
