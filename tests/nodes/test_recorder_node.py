"""The recorder node in this process: what was recorded goes by a person's word alone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from robolearn_msgs.msg import EpisodeEvent
from robolearn_msgs.srv import AnnotateEpisode, StartEpisode, StopEpisode
from robolearn_nodes import convert, recorder_node
from robolearn_nodes.recorder_node import RecorderNode

import robolearn.ros  # noqa: F401  supplies rclpy and the messages where ROS 2 is not installed

# isort: split
import rclpy
from rclpy.executors import SingleThreadedExecutor

from robolearn.datasets.contract import COMMAND, COMMAND_SENT, JOINT_STATES
from robolearn.datasets.repair import repair
from robolearn.datasets.zarr_store import ZarrStore
from robolearn.recipes.graph import free_domain_id

PERIOD_NS = 50_000_000


@pytest.fixture
def recorder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RecorderNode]:
    """Of the twin's vectors, into `d.zarr`; there is nobody on its graph."""
    monkeypatch.setenv("ROS_DOMAIN_ID", str(free_domain_id()))
    monkeypatch.setattr(recorder_node, "unheard", lambda node, topics: "")
    words = [f"dataset:={tmp_path / 'd.zarr'}", "cameras:=''", "task:=reach-v1", "wait_for_started:=false"]
    words += ["stop_timeout_s:=0.05", "reward_wait_s:=0.05"]
    rclpy.init(args=["--ros-args", *(word for pair in words for word in ("-p", pair))])
    node = RecorderNode()
    yield node
    node.destroy_node()
    rclpy.shutdown()


def begin(node: RecorderNode, name: str, steps: int = 4, joints: int = 6) -> None:
    """Start an episode and let it hear so many ticks, with vectors of so many joints."""
    answer = node._on_start(StartEpisode.Request(episode_id=name, task="reach-v1"), StartEpisode.Response())
    assert answer.success, answer.message
    for tick in range(1, steps + 1):
        values = np.full(2 * joints, tick, np.float32)
        for stream, fields in (
            (JOINT_STATES, {"proprio": values}),
            (COMMAND, {"action": values[:joints], "action_source": 1}),
            (COMMAND_SENT, {"action_sent": values[:joints], "held": False}),
        ):
            node._push(stream, tick * PERIOD_NS, lambda fields=fields: fields)


def end(node: RecorderNode, name: str) -> StopEpisode.Response:
    """Stop it at the last tick that it heard."""
    event = EpisodeEvent(header=convert.header(5 * PERIOD_NS), episode_id=name, judged=True, success=True)
    response = StopEpisode.Response()
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    stopping = executor.create_task(node._on_stop(StopEpisode.Request(event=event), response))
    executor.spin_until_future_complete(stopping, 20)
    executor.remove_node(node)
    return response


def test_an_episode_that_is_not_ended_is_left_to_be_salvaged(recorder: RecorderNode, tmp_path: Path) -> None:
    begin(recorder, "forgotten")
    begin(recorder, "spoiled")
    recorder._spoil_unless(lambda: recorder._writer.append({"proprio": [1.0]}, {}), JOINT_STATES)
    answer = end(recorder, "spoiled")
    assert not answer.success
    assert "the dataset wants float32 (12,)" in answer.message
    assert answer.message.endswith(f"with: robolearn dataset repair {tmp_path / 'd.zarr'}")
    begin(recorder, "kept")
    assert end(recorder, "kept").success
    begin(recorder, "of-another-robot", joints=5)
    begin(recorder, "thrown-away")
    assert recorder._on_discard(AnnotateEpisode.Request(), AnnotateEpisode.Response()).success
    begin(recorder, "empty", steps=0)
    begin(recorder, "stopped")
    recorder.destroy_node()
    left = {one.id: one.length for one in ZarrStore.open(tmp_path / "d.zarr").unfinished}
    assert left == {"forgotten": 4, "spoiled": 4, "stopped": 4}
    assert sorted(repair(tmp_path / "d.zarr").salvaged) == sorted(left)
    assert next((one.id, one.length) for one in ZarrStore.open(tmp_path / "d.zarr").episodes) == ("kept", 4)
