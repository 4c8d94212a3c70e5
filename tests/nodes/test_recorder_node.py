"""The recorder node in this process: what was recorded goes by a person's word alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from cells import standin_cell
from robolearn_msgs.msg import EpisodeEvent
from robolearn_msgs.srv import AnnotateEpisode, StartEpisode, StopEpisode
from robolearn_nodes import convert, recorder_node
from robolearn_nodes.interface import RobotInterface
from robolearn_nodes.recorder_node import RecorderNode
from robolearn_nodes.streams import open_store

import robolearn.ros  # noqa: F401  supplies rclpy and the messages where ROS 2 is not installed

# isort: split
import rclpy
from rclpy.executors import SingleThreadedExecutor

from robolearn.cell import load_cell
from robolearn.datasets.contract import COMMAND, COMMAND_SENT, JOINT_STATES
from robolearn.datasets.repair import repair
from robolearn.datasets.zarr_store import ZarrStore
from robolearn.recipes.graph import free_domain_id
from robolearn.specs import depth_spec

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


def test_cameras_without_a_cell_say_by_a_parameter_which_give_depth(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: Callable[..., str]
) -> None:
    robot = ["joint_names:=[a]", "position_low:=[-1.0]", "position_high:=[1.0]", "max_speed:=[1.0]", "control_hz:=20.0"]
    words = [
        f"dataset:={tmp_path / 'd.zarr'}",
        "cameras:=front,wrist",
        "image_size:=16",
        "depth_cameras:=front",
        *robot,
    ]
    monkeypatch.setenv("ROS_DOMAIN_ID", str(free_domain_id()))
    remapped = "camera/front/depth/image_raw:=camera/front/aligned_depth_to_color/image_raw"
    rclpy.init(args=["--ros-args", *(word for pair in words for word in ("-p", pair)), "-r", remapped])
    node = RecorderNode()
    heard = {topic for topic, _ in node.get_subscriber_names_and_types_by_node("recorder", "/")}
    assert "/camera/front/aligned_depth_to_color/image_raw" in heard
    assert "/camera/wrist/depth/image_raw" not in heard
    assert node._store.spec.extra == {"depth_front": depth_spec(16, 16)}
    node.destroy_node()
    rclpy.shutdown()
    line = refused(recorder_node.main, dataset=tmp_path / "e", task="reach-v1", cameras="front", depth_cameras="top")
    assert "top" in line
    assert "front" in line


def test_a_dataset_is_of_cameras_with_its_depth_alone(tmp_path: Path, refused: Callable[..., str]) -> None:
    def store(depth: str) -> tuple[Path, Path]:
        camera = f"cameras:\n  front: {{driver: realsense, serial: '42', height: 8, width: 8, rate_hz: 30{depth}}}\n"
        with standin_cell(tmp_path, camera) as (cell, _):
            dataset = tmp_path / f"d{len(depth)}.zarr"
            open_store(dataset, robot(cell), [], [], (1, 1))
            return cell, dataset

    def robot(cell: Path) -> RobotInterface:
        loaded = load_cell(cell)
        return RobotInterface(loaded.make_robot().spec, loaded.control_hz, cell=loaded)

    _, deep = store(", depth: true")
    assert ZarrStore.open(deep).spec.extra == {"depth_front": depth_spec(8, 8)}
    cell, flat = store("")
    assert ZarrStore.open(flat).spec.extra == {}
    line = refused(recorder_node.main, cell=cell, dataset=deep)
    assert "has depth_front, which no camera gives; record into another one, or say which" in line
    cell, _ = store(", depth: true")
    assert "has no depth_front; record into another one" in refused(recorder_node.main, cell=cell, dataset=flat)


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
