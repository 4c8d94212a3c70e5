"""The node that tells where tagged things are: what it says of each moment, and a person's recording with it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cells import Typist, standin_cell
from robolearn_msgs.msg import EpisodeEvent
from robolearn_nodes import convert, topics
from robolearn_nodes.tag_node import TagNode
from tag_pictures import calibration, look_at_tag, pose_of, write_video
from test_record import play_episode
from trajectory_msgs.msg import JointTrajectory

import robolearn.ros  # noqa: F401  supplies rclpy and the messages where ROS 2 is not installed

# isort: split
import rclpy

from robolearn.datasets.verify import verify
from robolearn.datasets.zarr_store import ZarrStore
from robolearn.envs.seen_scene import UNSEEN_S
from robolearn.envs.tool_env import tool_space
from robolearn.errors import CellError, DatasetError
from robolearn.recipes.finetune.data import read_recorded
from robolearn.recipes.graph import free_domain_id
from robolearn.tasks import make_task
from robolearn.types import RobotState

PUCK = (0.22, 0.01, 0.025)  # the tag on it
OBJECTS = "objects: {puck: {tag: 7, height_m: 0.025, offset_m: [0, 0, -0.0125]}}\n"


def sections(folder: Path) -> str:
    """Of a cell whose calibrated camera looks at a puck."""
    folder.with_name("calibration").mkdir(exist_ok=True)
    calibration().save(folder.with_name("calibration") / "standin_front.json")
    write_video(folder / "front.mp4", look_at_tag(7, pose_of(PUCK)))
    return f"cameras: {{front: {{driver: video, path: {folder / 'front.mp4'}}}}}\n{OBJECTS}"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "cells").mkdir()
    return tmp_path / "cells"


def test_each_joint_state_is_answered_by_all_that_is_known(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROS_DOMAIN_ID", str(free_domain_id()))
    task, said = make_task("push-v1"), list[Any]()
    with standin_cell(folder, sections(folder)) as (cell, _):
        rclpy.init(args=["--ros-args", "-p", f"cell:={cell}", "-p", "task:=push-v1"])
        node = TagNode()
    node._poses.publish = said.append
    joints = np.array([0.1, -0.5, 0.7, 0.4, 0.0, 0.2], np.float32)

    def poses(at_ns: int) -> dict[str, np.ndarray]:
        node._on_state(convert.joint_state_message(RobotState(joints, 0 * joints, at_ns), task.robot_spec.joint_names))
        stamp_ns, found = convert.ground_truth(said[-1])
        assert stamp_ns == at_ns
        return found

    def look(picture: np.ndarray, at_ns: int) -> None:
        node._on_image("front", convert.image_message(picture, at_ns, "front"))

    try:
        assert set(poses(10**9)) == {task.arm.tool, "goal"}
        assert node._diagnostics.problem == "the puck has not been seen yet"
        look(look_at_tag(7, pose_of(PUCK)), 10**9)
        known = poses(2 * 10**9)
        assert set(known) == set(task.bodies)
        np.testing.assert_allclose(known["puck"][:3] - task.arm.mount, [*PUCK[:2], 0.0125], atol=1e-3)
        np.testing.assert_allclose(known[task.arm.tool][:3], task.arm.forward(joints)[0], atol=1e-6)
        assert node._diagnostics.problem == ""
        node._on_event(EpisodeEvent(event=EpisodeEvent.STARTED, episode_id="a", seed=5))
        drawn = task.initial_state(np.random.default_rng(5)).poses["goal"]
        np.testing.assert_allclose(poses(3 * 10**9)["goal"], drawn, atol=1e-6)
        look(np.zeros((480, 640, 3), np.uint8), 3 * 10**9)  # the gripper is in the way
        assert set(poses(4 * 10**9)) == set(task.bodies)
        assert "puck" not in poses(10**9 + round((UNSEEN_S + 0.1) * 1e9))
        assert node._diagnostics.problem.startswith("the puck has not been seen for 5 s")
        look(np.zeros((24, 32, 3), np.uint8), 9 * 10**9)
        poses(9 * 10**9)
        assert "calibrate it again" in node._diagnostics.problem
    finally:
        node.destroy_node()
        rclpy.shutdown()


def test_a_cell_without_a_tag_for_the_thing_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROS_DOMAIN_ID", str(free_domain_id()))
    with standin_cell(folder, sections(folder)) as (cell, _):
        rclpy.init(args=["--ros-args", "-p", f"cell:={cell}", "-p", "task:=pick_place-v1"])
        try:
            with pytest.raises(CellError, match=r"has no objects\.cube; pick_place-v1 has to see where it is"):
                TagNode()
        finally:
            rclpy.shutdown()


@pytest.mark.slow
@pytest.mark.parametrize("control_hz", [20, 30])
def test_what_a_person_shows_on_a_tagged_cell_can_be_practised_with(
    graph: Any, folder: Path, tmp_path: Path, typist: Typist, control_hz: int
) -> None:
    dataset, sent = tmp_path / "demos.zarr", list[JointTrajectory]()
    graph.node.create_subscription(JointTrajectory, topics.COMMAND_SENT, sent.append, topics.STREAM)
    with standin_cell(folder, sections(folder), 0.3, control_hz) as (cell, _):
        launched = graph.launch(
            "record", dataset=dataset, cell=cell, episodes=1, task="push-v1", tags=True, terminal=typist.terminal
        )
        graph.spin_until(lambda: "it waits for the operator" in graph.log("launch"))
        play_episode(graph, typist, sent, "q", "\r", 30)
        graph.spin_until(lambda: launched.poll() is not None)
        assert launched.returncode == 0, graph.log("launch")
    assert verify(dataset).ok
    store, space = ZarrStore.open(dataset), tool_space("push-v1")
    valid = store.read_valid(0)
    assert all(valid[f"pose_{body}"].mean() > 0.8 for body in make_task("push-v1").bodies)
    if control_hz == 30:
        with pytest.raises(DatasetError, match="has 30 steps a second; practice wants 20"):
            read_recorded([store], space)
        return
    (episode,) = read_recorded([store], space)
    assert episode.success
    states, actions = episode.decisions(space)
    place = states[:, 8:11] + states[:, :3]
    np.testing.assert_allclose(place, np.tile([*PUCK[:2], 0.0125], (len(place), 1)), atol=2e-3)
    assert np.ptp(states[:, 1]) > 0.05  # the base was turned
    assert np.abs(actions).max() > 0.1
