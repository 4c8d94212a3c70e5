"""The functions behind `robolearn topic|node|param`, against a node in another process."""

from __future__ import annotations

import itertools
import os
import subprocess
import time
from collections.abc import Callable

import pytest

from robolearn.cli.graph import node_list, topic_pub
from robolearn.errors import RobolearnError, TransportError, UnknownNameError
from robolearn.recipes.graph import free_domain_id
from robolearn.ros import introspect, introspect_actions

TALKER = """
    import os, time
    from rclpy.parameter import Parameter
    from rclpy.qos import DurabilityPolicy, QoSProfile
    from sensor_msgs.msg import JointState
    from std_msgs.msg import String
    from std_srvs.srv import SetBool
    def slowly(request, response):
        time.sleep(0.4)
        if request.data:
            os._exit(0)
        response.message = "done"
        return response
    def keep(message):
        heard.append([*message.name, *message.position, message.header.stamp.sec])
        told = Parameter("heard", value=[str(each) for each in heard[-1]])
        node.set_parameters([told, Parameter("times", value=len(heard))])
    rclpy.init()
    node, heard = rclpy.create_node("talker"), []
    node.declare_parameter("gain", 1.5)
    node.declare_parameter("heard", [""])
    node.declare_parameter("times", 0)
    publisher = node.create_publisher(JointState, "joints", 10)
    node.create_timer(0.02, lambda: publisher.publish(JointState(name=["a"], position=[0.5])))
    node.create_service(SetBool, "slow", slowly)
    node.create_subscription(JointState, "heard", keep, 10)
    latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    node.create_subscription(String, "latched", lambda message: None, latched)
    node.create_publisher(JointState, "mixed", 10)
    node.create_publisher(String, "/mixed", 10)
    twice = [rclpy.create_node("twice") for _ in range(2)]
    print("up", flush=True)
    rclpy.spin(node)
"""


@pytest.fixture(scope="module")
def make_talk(lasting_process: Callable[..., subprocess.Popen[str]]) -> Callable[[], None]:
    """Sees to it that one talker runs, for several tests."""
    processes: list[subprocess.Popen[str]] = []

    def make() -> None:
        if not processes or processes[-1].poll() is not None:
            processes.append(lasting_process(TALKER))
            output = processes[-1].stdout
            assert output is not None
            assert output.readline().strip() == "up"

    return make


@pytest.fixture
def talker(make_talk: Callable[[], None]) -> None:
    make_talk()


def test_topics_nodes_and_messages(talker: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert node_list() == 0
    said = capsys.readouterr()
    assert said.out.split() == ["/talker", "/twice", "/twice"]
    assert "several nodes are called /twice" in said.err
    with pytest.raises(RobolearnError, match="/mixed is published with several types, sensor_msgs/msg/JointState and "):
        introspect.rate("/mixed", seconds=0.1)
    (joints,) = [topic for topic in introspect.topics() if topic["name"] == "/joints"]
    assert joints == {
        "name": "/joints",
        "types": ["sensor_msgs/msg/JointState"],
        "publishers": 1,
        "subscriptions": 0,
    }
    (message,) = itertools.islice(introspect.echo("joints", count=1), 1)
    assert message["name"] == ["a"]
    assert message["position"] == [0.5]
    assert message["header"]["stamp"] == {"sec": 0, "nanosec": 0}
    assert introspect.rate("/joints", seconds=0.5)["messages"] > 5
    with pytest.raises(UnknownNameError, match="/joints"):
        introspect.rate("/joint", seconds=0.1)


def test_an_empty_graph_is_told_with_its_domain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROS_DOMAIN_ID", str(free_domain_id()))
    with pytest.raises(RobolearnError, match=rf"no node /twin: no node is on ROS domain {os.environ['ROS_DOMAIN_ID']}"):
        introspect.node_info("twin")


def test_parameters(talker: None) -> None:
    introspect.set_parameter("/talker", "gain", "1.5")  # as it was, if this is a second try
    found = introspect.parameters("talker")
    assert set(found) == {"gain", "heard", "times", "use_sim_time"}
    assert (found["gain"], found["use_sim_time"]) == (1.5, False)
    assert introspect.set_parameter("/talker", "gain", "2.5") == (True, "")
    assert introspect.get_parameter("/talker", "gain") == 2.5
    accepted, reason = introspect.set_parameter("/talker", "gain", "fast")
    assert not accepted
    assert "gain" in reason
    with pytest.raises(UnknownNameError, match="gain"):
        introspect.get_parameter("/talker", "gaim")
    for name in ("/taker", "/talker two"):
        with pytest.raises(UnknownNameError, match="/talker"):
            introspect.parameters(name)
    with pytest.raises(RobolearnError, match="is no value of a parameter"):
        introspect.set_parameter("/talker", "gain", "9" * 20)


def test_details_and_calls(talker: None) -> None:
    found = introspect.topic_info("joints")
    assert found["types"] == ["sensor_msgs/msg/JointState"]
    (publisher,) = found["publishers"]
    assert (publisher["node"], publisher["reliability"]) == ("/talker", "RELIABLE")
    assert found["subscriptions"] == []
    info = introspect.node_info("talker")
    assert info["publishers"]["/joints"] == ["sensor_msgs/msg/JointState"]
    assert "/talker/set_parameters" in info["services"]
    assert introspect.services()["/talker/get_parameters"] == ["rcl_interfaces/srv/GetParameters"]
    value = {"name": "gain", "value": {"type": 3, "double_value": 4}}
    answer = introspect.call_service("talker/set_parameters", {"parameters": [value]})
    assert answer == {"results": [{"successful": True, "reason": ""}]}
    assert introspect.get_parameter("/talker", "gain") == 4.0
    with pytest.raises(UnknownNameError, match="did you mean name"):
        introspect.call_service("/talker/set_parameters", {"parameters": [{"nam": "gain"}]})
    with pytest.raises(UnknownNameError, match="unknown field '1'"):
        introspect.call_service("/talker/get_parameters", {1: 2})  # type: ignore[dict-item]
    with pytest.raises(RobolearnError, match=r"field names is \{'a': 1\}, wanted sequence<string>"):
        introspect.call_service("/talker/get_parameters", {"names": {"a": 1}})
    with pytest.raises(RobolearnError, match="nobody publishes /heard"):
        introspect.rate("heard", seconds=0.1)
    with pytest.raises(RobolearnError, match="names"):
        introspect.call_service("/talker/get_parameters", {"names": 3})
    with pytest.raises(UnknownNameError, match="/talker"):
        introspect.node_info("/taker")


def test_a_message_is_published_to_who_hears_it(
    talker: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = introspect.get_parameter("/talker", "times")
    joints = {"name": ["a", "b"], "position": [1, 2.5]}
    assert list(introspect.publish("heard", joints, rate_hz=50.0, count=3)) == [1, 1, 1]
    *told, second = introspect.get_parameter("/talker", "heard")
    assert (told, introspect.get_parameter("/talker", "times") - before) == (["a", "b", "1.0", "2.5"], 3)
    assert abs(int(second) - time.time()) < 60
    stamp = {"header": {"stamp": {"sec": 7}}}
    assert list(introspect.publish("/heard", stamp, "sensor_msgs/JointState", count=1)) == [1]
    assert introspect.get_parameter("/talker", "heard") == ["7"]
    assert list(introspect.publish("latched", {"data": "x"}, count=1)) == [1]
    assert topic_pub("heard", "{position: [3.0]}", count=1) == 0
    assert capsys.readouterr().err.splitlines() == ["heard is heard by 1 subscription"]
    for topic, kind, problem in (
        ("hear", "", r"nobody has topic /hear; see `robolearn topic list`, or give --type"),
        ("heard", "std_msgs/msg/String", "/heard is of type sensor_msgs/msg/JointState, not std_msgs/msg/String"),
        ("/mixed", "", "/mixed has several types, sensor_msgs/msg/JointState and std_msgs/msg/String; say which"),
        ("heard", "JointState", "'JointState' is no type of messages"),
        ("new", "std_msgs/msg/Sting", "unknown message type 'std_msgs/msg/Sting'"),
    ):
        with pytest.raises(RobolearnError, match=problem):
            list(introspect.publish(topic, {}, kind, count=1))
    with pytest.raises(UnknownNameError, match="did you mean position"):
        list(introspect.publish("heard", {"positon": [1.0]}, count=1))
    with pytest.raises(RobolearnError, match="0 messages at 1 Hz; expected at least 1"):
        topic_pub("heard", count=0)
    monkeypatch.setattr(introspect, "SERVICE_TIMEOUT_S", 0.2)
    with pytest.raises(TransportError, match="nobody hears /joints"):
        list(introspect.publish("joints", {}, count=1))


def test_a_call_is_waited_for_as_long_as_its_node_lives(talker: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(introspect, "ALIVE_CHECK_S", 0.1)
    assert introspect.call_service("/slow", {"data": False}) == {"success": False, "message": "done"}
    with pytest.raises(TransportError, match="the node of /slow is gone and has not answered"):
        introspect.call_service("/slow", {"data": True})


COUNTER = """
    import time
    from example_interfaces.action import Fibonacci
    from rclpy.action import ActionServer, CancelResponse, GoalResponse
    from rclpy.executors import MultiThreadedExecutor
    rclpy.init()
    node = rclpy.create_node("counter")

    def count(handle):
        sequence = [0, 1]
        while len(sequence) < handle.request.order:
            if handle.is_cancel_requested:
                handle.canceled()
                return Fibonacci.Result(sequence=sequence)
            sequence.append(sequence[-1] + sequence[-2])
            handle.publish_feedback(Fibonacci.Feedback(sequence=sequence))
            time.sleep(0.05)
        handle.succeed()
        return Fibonacci.Result(sequence=sequence)

    server = ActionServer(
        node, Fibonacci, "count", count,
        goal_callback=lambda goal: GoalResponse.REJECT if goal.order < 0 else GoalResponse.ACCEPT,
        cancel_callback=lambda goal: CancelResponse.ACCEPT,
    )
    print("up", flush=True)
    rclpy.spin(node, MultiThreadedExecutor())
"""


def test_actions(other_process: Callable[..., subprocess.Popen[str]]) -> None:
    process = other_process(COUNTER)
    assert process.stdout is not None
    assert process.stdout.readline().strip() == "up"
    assert introspect_actions.actions() == {"/count": "example_interfaces/action/Fibonacci"}
    came: list[dict[str, object]] = []
    answer = introspect_actions.send_goal("count", {"order": 5}, came.append)
    assert answer == {"accepted": True, "status": "succeeded", "result": {"sequence": [0, 1, 1, 2, 3]}}
    assert came[-1] == {"sequence": [0, 1, 1, 2, 3]}
    assert introspect_actions.send_goal("/count", {"order": -1}) == {"accepted": False, "status": "", "result": {}}

    presses = [KeyboardInterrupt]

    def interrupt(_: object) -> None:
        if presses:
            raise presses.pop()

    answer = introspect_actions.send_goal("/count", {"order": 10_000}, interrupt)
    assert answer["status"] == "cancelled"
    assert len(answer["result"]["sequence"]) < 100
    with pytest.raises(UnknownNameError, match="did you mean /count"):
        introspect_actions.send_goal("/cont", {})
    with pytest.raises(UnknownNameError, match="order"):
        introspect_actions.send_goal("/count", {"ordr": 1})

    with pytest.raises(TransportError, match="/count is gone"):  # and not a wait for ever
        introspect_actions.send_goal("count", {"order": 10_000}, lambda _: process.kill())
