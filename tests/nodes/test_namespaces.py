"""Several robots on one graph: everything of a node follows its namespace."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from robolearn_msgs.msg import EpisodeEvent
from robolearn_msgs.srv import StartEpisode
from robolearn_nodes import policy_node, topics
from robolearn_nodes.live_pictures import LivePictures
from robolearn_nodes.node import rival, unheard, warn_of_crowd
from robolearn_nodes.recorder_node import RecorderNode
from robolearn_nodes.robot_node import RobotNode
from robolearn_nodes.supervisor_node import SupervisorNode
from robolearn_nodes.teleop_node import TeleopNode
from robolearn_nodes.twin_node import TwinNode
from robolearn_nodes.web_node import WebNode

import robolearn.ros  # noqa: F401  supplies rclpy and the messages where ROS 2 is not installed

# isort: split
import rclpy
from rclpy.parameter import Parameter
from trajectory_msgs.msg import JointTrajectory

from robolearn.recipes.graph import free_domain_id

EVERYBODYS = {"/rosout", "/parameter_events", "/diagnostics"}
PARAMETERS = {
    "task": "push-v1",
    "cameras": "",
    "autostart": "false",
    "record": "true",
    "teleop": "web",
    "with_policy": "true",
}


@pytest.fixture
def left(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[list[Any]]:
    """Nodes in the namespace `left`, as namespaced.launch.yaml has it; they are destroyed after the test."""
    monkeypatch.setenv("ROS_DOMAIN_ID", str(free_domain_id()))
    given = PARAMETERS | {"dataset": str(tmp_path / "d.zarr")}
    words = [word for key, value in given.items() for word in ("-p", f"{key}:={value}")]
    rclpy.init(args=["--ros-args", "-r", "__ns:=/left", "-r", "/clock:=clock", *words])
    nodes: list[Any] = []
    yield nodes
    for node in reversed(nodes):
        node.destroy_node()
    rclpy.shutdown()


def test_everything_of_every_node_is_below_its_namespace(left: list[Any]) -> None:
    for make in (TwinNode, RobotNode, policy_node.make, SupervisorNode, RecorderNode, TeleopNode, WebNode):
        left.append(make())
    left[2].trigger_configure()  # the policy's topics, services and action
    recorder = left[4]
    assert recorder._on_start(StartEpisode.Request(), StartEpisode.Response()).success  # it hears all that it records
    assert isinstance(recorder, RecorderNode)
    looker = rclpy.create_node("looker", namespace="/elsewhere", use_global_arguments=False)
    left.append(looker)
    names = {name for name, _ in [*looker.get_topic_names_and_types(), *looker.get_service_names_and_types()]}
    names = {name for name in names if not name.startswith("/elsewhere/")}
    assert {name for name in names if not name.startswith("/left/")} == EVERYBODYS
    ours = [value for name, value in vars(topics).items() if name.isupper() and isinstance(value, str)]
    lacks = {name for name in ours if f"/left/{name}" not in names and not name.startswith("/")}
    assert lacks == {
        topics.REPLAY_ERROR,
        topics.RESIDUAL,
        topics.RUN_POLICY,
    }  # not here, and an action has no such name
    assert {"/left/clock", "/left/policy/run/_action/send_goal", "/left/robot/get_parameters"} <= names
    assert left[1]._diagnostics._name == "left/robot"


def test_a_robot_of_another_namespace_is_no_rival_and_its_cameras_are_not_shown(
    left: list[Any], capfd: pytest.CaptureFixture[str]
) -> None:
    node = rclpy.create_node("robot", parameter_overrides=[Parameter("use_sim_time", value=True)])
    left.append(node)
    assert "/left/clock" in [subscription.topic_name for subscription in node.subscriptions]
    node.create_publisher(JointTrajectory, topics.COMMAND_SENT, topics.STREAM)
    other = rclpy.create_node("robot", namespace="/right", use_global_arguments=False)
    left.append(other)
    other.create_publisher(JointTrajectory, topics.COMMAND_SENT, topics.STREAM)
    other.create_publisher(EpisodeEvent, topics.EPISODE, topics.LATCHED)
    assert rival(node) == ""
    for publisher in (node, other, node):
        publisher.create_publisher(JointTrajectory, topics.COMMAND, topics.STREAM)
        warn_of_crowd(other)
        assert capfd.readouterr().err == ""
    warn_of_crowd(node)
    assert "2 nodes publish /left/joint_command; only one" in capfd.readouterr().err
    assert unheard(node, [topics.EPISODE]) == "nobody publishes /left/episode yet; is its node running?"
    other.create_publisher(JointTrajectory, "/left/joint_command_sent", topics.STREAM)
    assert rival(node).startswith("another robot or twin answers to /left/joint_command on ROS domain")
    pictures = LivePictures(node)
    ends = {f"/{place}camera/front/image_raw": (["a"], []) for place in ("", "left/", "right/", "left/twin/")}
    pictures.find({topic: ["sensor_msgs/msg/Image"] for topic in ends}, ends)
    assert pictures.cameras == ["front", "twin/front"]
    assert pictures._topics["front"][0] == "/left/camera/front/image_raw"
