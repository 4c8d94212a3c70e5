"""The node of the operator's page in this process: what comes that is no number, and where the token is told."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from math import inf, nan
from pathlib import Path

import numpy as np
import pytest
from robolearn_msgs.msg import Reward, StageProgress
from robolearn_nodes import convert, web_node
from robolearn_nodes.live_graph import LiveGraph
from robolearn_nodes.web_node import WebNode
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

import robolearn.ros  # noqa: F401  supplies rclpy and the messages where ROS 2 is not installed

# isort: split
import rclpy

from robolearn.cli import main
from robolearn.listening import new_token
from robolearn.recipes.graph import free_domain_id
from robolearn.types import RobotState
from robolearn.web.settings import WebSettings


@pytest.fixture
def node(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[WebNode]:
    monkeypatch.setenv("ROS_DOMAIN_ID", str(free_domain_id()))
    rclpy.init()
    made = WebNode(WebSettings("0.0.0.0", 0, new_token(), (tmp_path,), tmp_path))
    yield made
    made.destroy_node()
    rclpy.shutdown()


def test_what_is_no_number_leaves_a_page_that_can_be_read(node: WebNode) -> None:
    graph = node._graph
    graph._on_sent(JointTrajectory(points=[JointTrajectoryPoint(positions=[inf, 0.25])]))
    graph._on_reward(Reward(model="whole", value=0.5, confidence=1.0))
    for broken in (nan, inf):
        graph._on_reward(Reward(model="broken", value=broken, confidence=1.0))
        graph._on_progress(StageProgress(stages=["reach"], progress=broken))
    state = RobotState(np.array([nan, 0.5], np.float32), np.zeros(2, np.float32), 10**9)
    graph._on_state(convert.joint_state_message(state, ("pan", "lift")))
    assert graph.rows(-1) == (0, [[1.0, None, 0.5, None, 0.25, 0.5]])
    facts = json.loads(json.dumps(graph.state(), allow_nan=False))
    assert list(facts["reward"]) == ["whole"]
    assert facts["progress"] is None


def test_depth_is_a_camera_beside_its_pictures(node: WebNode) -> None:
    pictures = node._graph._pictures
    kind = "sensor_msgs/msg/Image"
    topics = ["/camera/front/image_raw", "/camera/front/depth/image_raw", "/twin/camera/front/image_raw"]
    other = "/camera/front/depth/image_raw/compressed"
    types = {topic: [kind] for topic in topics} | {other: ["sensor_msgs/msg/CompressedImage"]}
    pictures.find(types, {topic: (["camera"], []) for topic in types})
    assert pictures.cameras == ["front", "front/depth", "twin/front"]
    depth = np.array([[0, 200, 500], [1000, 4000, 65_535]], np.uint16)
    pictures._on("front/depth")(convert.image_message(depth, 7, "front"))
    pictures._on("front")(convert.image_message(np.zeros((2, 3, 3), np.uint8), 7, "front"))
    stamp_ns, seen = pictures.picture("front/depth")
    assert (stamp_ns, seen.shape, seen.dtype) == (7, (2, 3, 3), np.uint8)
    assert list(seen[..., 0].ravel()[:2]) == [0, 255]
    assert (np.diff(seen[..., 1].ravel()[1:].astype(int)) < 0).all()
    pictures._on("front/depth")(convert.image_message(np.zeros((2, 3, 3), np.uint8), 8, "front"))
    assert pictures.picture("front/depth") is None  # colours, which are no depth


def test_nobody_commands_a_robot_that_was_told_nothing_of_late(node: WebNode) -> None:
    graph = node._graph
    command = JointTrajectory(points=[JointTrajectoryPoint(positions=[0.25])])
    command.header.frame_id = "policy"
    graph._on_command(command)
    assert graph.state()["loop"]["commander"] == ""
    graph._on_sent(command)
    assert graph.state()["loop"]["commander"] == "policy"


def test_the_supervisor_of_this_robot_is_told_in_any_namespace(node: WebNode) -> None:
    left = LiveGraph(rclpy.create_node("web", namespace="left"))
    try:
        stamp = left._node.get_clock().now().to_msg()
        for name in ("supervisor", "left/supervisor"):
            figures = {"waits_for_operator": name.startswith("left"), "instruction": "push it"}
            left._on_diagnostics(convert.diagnostic_message(name, "", figures, stamp))
        assert left.state()["supervisor"] is None  # nobody of that name is there any more
        left._discovery.nodes = ["left/supervisor", "supervisor"]
        assert left.state()["supervisor"] == {"waits_for_operator": "True", "instruction": "push it"}
    finally:
        left.close()
        left._node.destroy_node()


def test_the_token_is_told_to_who_starts_it_and_not_logged(
    node: WebNode, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(web_node.rclpy, "spin", lambda node: None)
    node.work()
    lines = [line for line in capfd.readouterr().err.splitlines() if node._settings.url(1).rpartition("=")[2] in line]
    assert len(lines) == 1
    assert lines[0].startswith("the page is at http://0.0.0.0:")  # a log's line begins with its level and time
    assert lines[0].endswith("   (Ctrl-C ends it)")


def test_a_port_that_is_taken_is_told_as_every_command_tells(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ROS_DOMAIN_ID", str(free_domain_id()))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(SystemExit) as ended:
            main(["web", "--port", str(port), "--data", str(tmp_path), "--runs", str(tmp_path)])
    assert ended.value.code == 2
    assert f"robolearn: web: cannot listen on 127.0.0.1 port {port}: " in capfd.readouterr().err
    assert not rclpy.ok()
