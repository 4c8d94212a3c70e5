"""A robot that ros2_control drives, used by its topics: a fake controller manager stands in for it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ears import Ears
from robolearn_msgs.msg import EpisodeEvent
from robolearn_msgs.srv import StartEpisode
from robolearn_nodes import convert, robot_node, topics
from sensor_msgs.msg import JointState
from std_msgs.msg import Empty, Float64MultiArray
from std_srvs.srv import Trigger
from trajectory_msgs.msg import JointTrajectory

import robolearn.ros  # noqa: F401  supplies rclpy and the messages where ROS 2 is not installed

# isort: split
import rclpy
from robolearn_nodes.node import ALONE_CHECKS

from robolearn.errors import TransportError
from robolearn.recipes.graph import free_domain_id
from robolearn.types import RobotState

JOINTS = ("joint_b", "joint_a")
RATE_HZ = 100


class FakeControl:
    """Publishes the states of three joints, of which two are ours, and follows the commands of its controller."""

    def __init__(self, graph: Any, controller: str) -> None:
        self.node = graph.node
        self.position = np.zeros(2)
        self.commands: list[Any] = []
        self.silent = False
        kind = Float64MultiArray if controller == "forward" else JointTrajectory
        self.node.create_subscription(kind, "/arm_controller/commands", self._on_command, 10)
        self._states = self.node.create_publisher(JointState, topics.JOINT_STATES, topics.STREAM)
        self.node.create_timer(1 / RATE_HZ, self._publish)

    def _on_command(self, message: Any) -> None:
        self.commands.append(message)
        point = message.data if isinstance(message, Float64MultiArray) else message.points[0].positions
        self.position = np.array(point)

    def _publish(self) -> None:
        if self.silent:
            return
        now_ns = self.node.get_clock().now().nanoseconds
        message = JointState(
            header=convert.header(now_ns),
            name=["joint_a", "wheel", "joint_b"],
            position=[self.position[1], 9.0, self.position[0]],
            velocity=[0.0] * 3,
        )
        self._states.publish(message)


@pytest.mark.parametrize("controller", ["forward", pytest.param("trajectory", marks=pytest.mark.slow)])
def test_the_arm_follows_through_its_own_controller_and_is_held(graph: Any, controller: str) -> None:
    fake, ears = FakeControl(graph, controller), Ears(graph)
    graph.start(
        "robot", controller=controller, command_topic="/arm_controller/commands", control_hz=20.0,
        joint_names=list(JOINTS), position_low="[-1.0, -1.0]", position_high="[1.0, 1.0]", max_speed="[1.0, 1.0]",
    )  # fmt: skip
    commands = graph.node.create_publisher(JointTrajectory, topics.COMMAND, topics.STREAM)
    graph.spin_until(lambda: "takes commands" in graph.log("robot") and commands.get_subscription_count())
    graph.agree(StartEpisode, topics.START_EPISODE, episode_id="bridged")
    assert len(graph.node.get_publishers_info_by_topic(topics.JOINT_STATES)) == 1  # the robot node adds none

    def command(target: list[float]) -> None:
        stamp_ns = convert.stamp_ns(ears.states[-1].header.stamp)
        commands.publish(convert.command_message(np.array(target), stamp_ns, JOINTS, "human"))

    def follow() -> bool:
        command([0.2, -0.1])
        return bool(np.abs(fake.position - [0.2, -0.1]).max() < 1e-3)

    graph.spin_until(follow)
    if controller == "trajectory":
        message = fake.commands[-1]
        assert list(message.joint_names) == list(JOINTS)
        assert (message.header.stamp.sec, message.header.stamp.nanosec) == (0, 0)  # from now on
        assert message.points[0].time_from_start.nanosec == 50_000_000
    assert np.abs(np.diff([fake.position])).max() <= 1.0
    count = len(fake.commands)  # a jump that no controller should see

    def refused() -> bool:
        command([0.9, 0.9])
        return "a jump of" in ears.sent[-1].header.frame_id

    graph.spin_until(refused)
    assert all(
        np.abs((m.data if controller == "forward" else m.points[0].positions) - np.array([0.2, -0.1])).max() < 1e-3
        for m in fake.commands[count:]
    )
    fake.silent = True  # its joint states stop: held, and told
    graph.spin_until(lambda: any("joint states" in problem for problem in ears.problems.get("robot", [])[-1:]))
    resumed = graph.call(Trigger, topics.RESUME_ROBOT)
    assert not resumed.success  # nobody knows where it is
    assert "joint states" in resumed.message
    moved, count = fake.position + 0.3, len(fake.commands)  # somebody has pushed it meanwhile
    fake.position, fake.silent = moved, False
    graph.spin_until(lambda: len(fake.commands) > count)
    first = fake.commands[count]
    np.testing.assert_allclose(first.data if controller == "forward" else first.points[0].positions, moved, atol=0.06)
    graph.spin_until(follow)
    assert graph.events[-1].event == EpisodeEvent.STARTED


LIMITS = {
    "control_hz": 20,
    "joint_names": "[a]",
    "position_low": "[-1.0]",
    "position_high": "[1.0]",
    "max_speed": "[1.0]",
}


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ({}, "the robot node has no robot; set cell, or controller with joint_names and limits"),
        ({"controller": "velocity", "command_topic": "/c", **LIMITS}, "unknown controller 'velocity'"),
        ({"controller": "forward", **LIMITS}, "has no command_topic"),
        ({"controller": "forward", "command_topic": "a b", **LIMITS}, "Invalid topic name"),
        ({"controller": "forward", "joint_names": "[a, b]"}, "2 joint_names, 0 position_low"),
        ({"cell": "/no/such.yaml"}, "cannot read /no/such.yaml"),
        ({"cell": "/no/such.yaml", **LIMITS}, "both cell and joint_names"),
        ({"joint_names": 3.0}, "parameter joint_names is 3.0, expected a list"),
    ],
)
def test_a_robot_that_cannot_be_is_one_line(refused: Any, parameters: dict[str, Any], expected: str) -> None:
    assert expected in refused(robot_node.main, **parameters)


@pytest.mark.slow
def test_silent_robot_is_one_line(graph: Any) -> None:
    child = graph.start("robot", controller="forward", command_topic="/c", **LIMITS)
    assert child.wait(60) == 2
    assert "HardwareError: nobody publishes /joint_states yet" in graph.log("robot")


def test_robot_state_is_what_the_message_says() -> None:
    message = JointState(name=["joint_a", "wheel", "joint_b"], position=[1.0, 2.0, 3.0], velocity=[4.0, 5.0, 6.0])
    state = convert.robot_state(message, JOINTS)
    assert isinstance(state, RobotState)
    assert state.joint_position.tolist() == [3.0, 1.0]


def test_a_stop_outlives_the_node_of_a_robot_that_no_file_tells_of(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("ROS_DOMAIN_ID", str(domain := free_domain_id()))
    monkeypatch.setenv("ROS_HOME", str(tmp_path / "home"))  # not made yet
    words = [w for k, v in LIMITS.items() for w in ("-p", f"{k}:={v}")] + ["-p", "controller:=forward"]
    for topic, remap, kept in (("arm/commands", "x:=y", "arm/commands"), ("c", "c:=/other/c", "other/c")):
        file = tmp_path / "home" / "robolearn" / f"domain_{domain}" / f"{kept}.stopped"
        for before in ("", f", before this node began; /{topics.RESUME_ROBOT} lets the robot move again"):
            rclpy.init(args=["--ros-args", *words, "-p", f"command_topic:={topic}", "-r", remap])
            node = robot_node.RobotNode()
            try:
                node._stopping._on_message(Empty())
                assert node._safety.stopped == f"emergency stop{before}"
                assert file.read_text() == "emergency stop\n"
                node._measured = RobotState(np.zeros(1, np.float32), np.zeros(1, np.float32), 0)
                if before:
                    assert node._stopping._on_resume(Trigger.Request(), Trigger.Response()).success
                    assert not file.exists()
            finally:
                node.destroy_node()
                rclpy.shutdown()


@pytest.mark.parametrize("who", ["human", "policy"])  # one that is followed, and one that is refused
def test_the_first_command_finds_an_arm_where_others_have_moved_it(monkeypatch: pytest.MonkeyPatch, who: str) -> None:
    """By its pendant, for the robot of ros2_control is not ours alone."""
    monkeypatch.setenv("ROS_DOMAIN_ID", str(free_domain_id()))
    words = {"controller": "forward", "command_topic": "/c", **LIMITS}
    rclpy.init(args=["--ros-args", *(word for k, v in words.items() for word in ("-p", f"{k}:={v}"))])
    node = robot_node.RobotNode()
    written: list[float] = []

    def stands(at: float) -> None:
        state = RobotState(np.full(1, at, np.float32), np.zeros(1, np.float32), node._now_ns())
        node._robot._on_state(convert.joint_state_message(state, ["a"]))  # type: ignore[union-attr]

    try:
        node.trigger_configure()
        stands(0.0)
        node.trigger_activate()
        monkeypatch.setattr(node._robot, "write", lambda action: written.extend(action.tolist()))
        for at in (0.0, 0.4):
            stands(at)
            node._on_tick()
        assert not written
        node._on_command(convert.command_message(np.full(1, 0.42), node._now_ns(), ["a"], who))
        np.testing.assert_allclose(written, [0.4], atol=0.021)
    finally:
        node.destroy_node()
        rclpy.shutdown()


@pytest.mark.parametrize("stays", [True, False])
def test_another_robot_on_the_domain_is_noticed_before_the_first_command_moves_anything(
    monkeypatch: pytest.MonkeyPatch, stays: bool
) -> None:
    monkeypatch.setenv("ROS_DOMAIN_ID", str(free_domain_id()))
    words = {"controller": "forward", "command_topic": "/c", **LIMITS}
    rclpy.init(args=["--ros-args", *(word for k, v in words.items() for word in ("-p", f"{k}:={v}"))])
    node, other = robot_node.RobotNode(), rclpy.create_node("other")
    try:
        theirs = other.create_publisher(JointTrajectory, topics.COMMAND_SENT, topics.STREAM)
        end_s = time.monotonic() + 10.0
        while node.count_publishers(topics.COMMAND_SENT) < 2 and time.monotonic() < end_s:
            rclpy.spin_once(other, timeout_sec=0.01)
        sent: list[Any] = []
        node._sent.publish, node._active = sent.append, True
        node._on_command(convert.command_message(np.zeros(1), 1, ["a"], "human"))
        assert not sent
        assert node._diagnostics.problem.startswith("the robot holds: another robot or twin answers")
        for _ in range(ALONE_CHECKS - 1):
            node._alone._look()  # it may be one that died
        if stays:
            with pytest.raises(TransportError, match="another robot or twin answers"):
                node._alone._look()
        else:
            other.destroy_publisher(theirs)
            node._alone._look()
            assert node._alone.problem() == ""
    finally:
        other.destroy_node()
        node.destroy_node()
        rclpy.shutdown()
