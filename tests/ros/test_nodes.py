"""Nodes in one process: topics, timers, services, parameters, clocks, names. Written against rclpy's public API."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import rclpy
from rcl_interfaces.msg import FloatingPointRange, ParameterDescriptor, ParameterEvent, SetParametersResult
from rcl_interfaces.srv import GetParameters, ListParameters, SetParameters
from rclpy.clock import ClockType
from rclpy.duration import Duration
from rclpy.exceptions import (
    InvalidParameterTypeException,
    InvalidParameterValueException,
    ParameterAlreadyDeclaredException,
    ParameterNotDeclaredException,
)
from rclpy.executors import ExternalShutdownException, MultiThreadedExecutor, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy, qos_profile_sensor_data
from rclpy.serialization import deserialize_message
from rclpy.time import Time
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import JointState
from std_msgs.msg import Int32, String
from std_srvs.srv import SetBool, Trigger

SpinUntil = Callable[..., bool]


def test_messages_arrive_in_order_and_unchanged(node: Node, spin_until: SpinUntil) -> None:
    received: list[JointState] = []
    publisher = node.create_publisher(JointState, "joints", 10)
    node.create_subscription(JointState, "joints", received.append, 10)
    message = JointState(name=["a"], position=[0.0])
    for index in range(5):
        message.position[0] = float(index)
        publisher.publish(message)
        message.header.frame_id = "changed after publish"
        message.header.frame_id = ""
    assert spin_until(lambda: len(received) == 5, node)
    assert [list(m.position) for m in received] == [[float(i)] for i in range(5)]


def test_keep_last_drops_the_oldest(node: Node, spin_until: SpinUntil) -> None:
    received: list[int] = []
    publisher = node.create_publisher(Int32, "numbers", 100)
    node.create_subscription(Int32, "numbers", lambda m: received.append(m.data), 3)
    for index in range(10):
        publisher.publish(Int32(data=index))
    assert spin_until(lambda: received and received[-1] == 9, node)
    assert received == [7, 8, 9]


def test_incompatible_qos_delivers_nothing(node: Node, spin_until: SpinUntil) -> None:
    received: list[String] = []
    publisher = node.create_publisher(String, "weak", qos_profile_sensor_data)
    node.create_subscription(String, "weak", received.append, 10)
    publisher.publish(String(data="x"))
    assert not spin_until(lambda: received, node, timeout_s=0.3)


def test_a_late_joiner_gets_the_last_of_a_latched_topic(node: Node, spin_until: SpinUntil) -> None:
    latched = QoSProfile(depth=2, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    publisher = node.create_publisher(String, "state", latched)
    for text in "abc":
        publisher.publish(String(data=text))
    received: list[str] = []
    node.create_subscription(String, "state", lambda m: received.append(m.data), latched)
    assert spin_until(lambda: len(received) >= 2, node)
    assert received == ["b", "c"]


def test_subscription_callback_with_info(node: Node, spin_until: SpinUntil) -> None:
    infos: list[Any] = []
    publisher = node.create_publisher(String, "info", 10)
    node.create_subscription(String, "info", lambda message, info: infos.append(info), 10)
    publisher.publish(String())
    assert spin_until(lambda: infos, node)
    assert abs(infos[0]["source_timestamp"] - time.time_ns()) < 60e9


def test_raw_subscription_gives_bytes(node: Node, spin_until: SpinUntil) -> None:
    received: list[bytes] = []
    publisher = node.create_publisher(String, "raw", 10)
    node.create_subscription(String, "raw", received.append, 10, raw=True)
    publisher.publish(String(data="hi"))
    assert spin_until(lambda: received, node)
    assert received[0].startswith(b"\x00\x01\x00\x00\x03\x00\x00\x00hi\x00")
    assert deserialize_message(received[0], String) == String(data="hi")


def test_publish_of_another_type_is_refused(node: Node) -> None:
    publisher = node.create_publisher(String, "typed", 10)
    with pytest.raises(TypeError):
        publisher.publish(Int32())
    with pytest.raises(Exception, match=r"(?i)type"):
        node.create_publisher(3, "typed", 10)


def test_destroyed_subscriptions_stay_silent(node: Node, spin_until: SpinUntil) -> None:
    received: list[String] = []
    publisher = node.create_publisher(String, "gone", 10)
    subscription = node.create_subscription(String, "gone", received.append, 10)
    assert publisher.get_subscription_count() == 1
    assert node.destroy_subscription(subscription)
    publisher.publish(String())
    assert not spin_until(lambda: received, node, timeout_s=0.2)
    assert publisher.get_subscription_count() == 0


def test_timers_keep_their_period_and_can_be_cancelled(node: Node, spin_until: SpinUntil) -> None:
    calls: list[int] = []
    timer = node.create_timer(0.01, lambda: calls.append(1))
    assert spin_until(lambda: len(calls) >= 5, node)
    timer.cancel()
    count = len(calls)
    assert timer.is_canceled()
    assert not spin_until(lambda: len(calls) > count, node, timeout_s=0.1)
    timer.reset()
    assert spin_until(lambda: len(calls) > count, node)


def test_service_call_async_and_coroutine(node: Node, spin_until: SpinUntil) -> None:
    def answer(request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        response.success = request.data
        response.message = "seen"
        return response

    node.create_service(SetBool, "set", answer)
    client = node.create_client(SetBool, "set")
    assert client.wait_for_service(timeout_sec=5.0)
    futures = [client.call_async(SetBool.Request(data=value)) for value in (True, False, True)]
    assert spin_until(lambda: all(f.done() for f in futures), node)
    assert [f.result().success for f in futures] == [True, False, True]

    async def ask() -> bool:
        return bool((await client.call_async(SetBool.Request(data=True))).success)

    executor = SingleThreadedExecutor()
    executor.add_node(node)
    task = executor.create_task(ask)
    executor.spin_until_future_complete(task, timeout_sec=5.0)
    executor.shutdown()
    assert task.result() is True


def test_synchronous_call_from_another_thread(node: Node) -> None:
    node.create_service(Trigger, "go", lambda request, response: Trigger.Response(success=True))
    client = node.create_client(Trigger, "go")
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    thread = threading.Thread(target=executor.spin, daemon=True)
    thread.start()
    assert client.wait_for_service(timeout_sec=5.0)
    assert client.call(Trigger.Request()).success
    executor.shutdown()
    thread.join(timeout=5)
    assert not thread.is_alive()


def test_a_service_that_is_not_there(node: Node) -> None:
    client = node.create_client(Trigger, "nobody")
    assert not client.service_is_ready()
    assert not client.wait_for_service(timeout_sec=0.05)


def test_exceptions_of_callbacks_leave_spin(node: Node) -> None:
    def fail() -> None:
        raise ZeroDivisionError("in the callback")

    node.create_timer(0.01, fail)
    with pytest.raises(ZeroDivisionError):
        rclpy.spin(node)


def test_guard_condition_from_another_thread(node: Node, spin_until: SpinUntil) -> None:
    seen: list[int] = []
    guard = node.create_guard_condition(lambda: seen.append(1))
    threading.Timer(0.05, guard.trigger).start()
    assert spin_until(lambda: seen, node)
    assert seen == [1]


def test_multi_threaded_executor_runs_groups_in_parallel(node: Node) -> None:
    from rclpy.callback_groups import MutuallyExclusiveCallbackGroup

    both = threading.Barrier(2, timeout=5)
    done: list[int] = []

    def meet() -> None:
        both.wait()
        done.append(1)

    for _ in range(2):
        node.create_guard_condition(meet, callback_group=MutuallyExclusiveCallbackGroup()).trigger()
    executor = MultiThreadedExecutor(num_threads=2)
    executor.add_node(node)
    end = time.monotonic() + 5
    while len(done) < 2 and time.monotonic() < end:
        executor.spin_once(timeout_sec=0.1)
    executor.shutdown()
    assert len(done) >= 2


def test_one_group_is_never_entered_twice(node: Node) -> None:
    inside, most = 0, 0
    calls = 0

    def work() -> None:
        nonlocal inside, most, calls
        inside += 1
        most = max(most, inside)
        time.sleep(0.005)
        inside -= 1
        calls += 1

    for _ in range(3):
        node.create_timer(0.002, work)
    executor = MultiThreadedExecutor(num_threads=3)
    executor.add_node(node)
    end = time.monotonic() + 5
    while calls < 10 and time.monotonic() < end:
        executor.spin_once(timeout_sec=0.1)
    executor.shutdown()
    assert calls >= 10
    assert most == 1


# -- parameters ------------------------------------------------------------------------------------------------------


def test_declare_get_and_set(node: Node) -> None:
    assert node.declare_parameter("rate", 50.0).value == 50.0
    assert node.get_parameter("rate").type_ is Parameter.Type.DOUBLE
    with pytest.raises(ParameterAlreadyDeclaredException):
        node.declare_parameter("rate", 1.0)
    with pytest.raises(ParameterNotDeclaredException):
        node.get_parameter("unknown")
    assert node.set_parameters([Parameter("rate", value=20.0)])[0].successful
    assert node.get_parameter("rate").value == 20.0
    wrong = node.set_parameters([Parameter("rate", value="fast")])[0]
    assert wrong.reason
    assert node.get_parameter_or("other", Parameter("other", value=3)).value == 3
    node.declare_parameter("names", ["a", "b"])
    assert node.get_parameter("names").value == ["a", "b"]
    assert node.has_parameter("names")
    node.undeclare_parameter("names")
    assert not node.has_parameter("names")


def test_set_callbacks_can_refuse(node: Node) -> None:
    accepted: list[float] = []

    def check(parameters: list[Parameter]) -> SetParametersResult:
        good = all(p.value > 0 for p in parameters if p.name == "gain")
        return SetParametersResult(successful=good, reason="" if good else "gain must be positive")

    node.declare_parameter("gain", 1.0)
    node.add_on_set_parameters_callback(check)
    node.add_post_set_parameters_callback(lambda parameters: accepted.extend(p.value for p in parameters))
    outcome = node.set_parameters([Parameter("gain", value=-1.0)])[0]
    assert (outcome.successful, outcome.reason) == (False, "gain must be positive")
    assert node.set_parameters_atomically([Parameter("gain", value=2.0)]).successful
    assert accepted == [2.0]


def test_descriptors_limit_values(node: Node) -> None:
    limits = ParameterDescriptor(floating_point_range=[FloatingPointRange(from_value=0.0, to_value=1.0)])
    node.declare_parameter("blend", 0.5, limits)
    assert not node.set_parameters([Parameter("blend", value=2.0)])[0].successful
    node.declare_parameter("fixed", 1, ParameterDescriptor(read_only=True))
    assert not node.set_parameters([Parameter("fixed", value=2)])[0].successful
    with pytest.raises(InvalidParameterValueException):
        node.declare_parameter(
            "wide", 3.0, ParameterDescriptor(floating_point_range=[FloatingPointRange(from_value=0.0, to_value=1.0)])
        )


def test_command_line_overrides_and_remaps(context: None, tmp_path: Path) -> None:
    file = tmp_path / "params.yaml"
    file.write_text("/**:\n  ros__parameters:\n    depth: 4\n    nested:\n      flag: true\n")
    arguments = ["--ros-args", "-r", "__node:=renamed", "-r", "__ns:=/cell", "-r", "chatter:=/heard"]
    arguments += ["-p", "gain:=2.5", "--params-file", str(file)]
    node = Node("original", cli_args=arguments)
    assert node.get_fully_qualified_name() == "/cell/renamed"
    assert node.declare_parameter("gain", 1.0).value == 2.5
    assert node.declare_parameter("depth", 1).value == 4
    assert node.declare_parameter("nested.flag", False).value is True
    assert node.resolve_topic_name("chatter") == "/heard"
    assert node.resolve_topic_name("~/own") == "/cell/renamed/own"
    with pytest.raises(InvalidParameterTypeException):
        Node("typed", cli_args=["--ros-args", "-p", "count:=abc"]).declare_parameter("count", 3)
    node.destroy_node()


def test_parameter_services_and_events(node: Node, spin_until: SpinUntil) -> None:
    node.declare_parameter("speed", 1.5)
    events: list[ParameterEvent] = []
    node.create_subscription(ParameterEvent, "/parameter_events", events.append, 10)
    requests = {
        "set_parameters": (SetParameters, SetParameters.Request()),
        "get_parameters": (GetParameters, GetParameters.Request(names=["speed"])),
        "list_parameters": (ListParameters, ListParameters.Request()),
    }
    requests["set_parameters"][1].parameters = [Parameter("speed", value=2.5).to_parameter_msg()]
    answers = {}
    for name, (kind, request) in requests.items():
        client = node.create_client(kind, f"/tested/{name}")
        assert client.wait_for_service(timeout_sec=5.0)
        future = client.call_async(request)
        assert spin_until(future.done, node)
        answers[name] = future.result()
    assert answers["set_parameters"].results[0].successful
    assert answers["get_parameters"].values[0].double_value == 2.5
    assert "speed" in answers["list_parameters"].result.names
    assert spin_until(lambda: any(e.changed_parameters for e in events), node)
    assert [p.name for e in events for p in e.changed_parameters] == ["speed"]


# -- time ------------------------------------------------------------------------------------------------------------


def test_times_and_durations() -> None:
    time_1 = Time(seconds=1, nanoseconds=500, clock_type=ClockType.ROS_TIME)
    assert time_1.seconds_nanoseconds() == (1, 500)
    assert (time_1 + Duration(seconds=2)).nanoseconds == 3_000_000_500
    assert (time_1 - Duration(nanoseconds=500)).nanoseconds == 1_000_000_000
    assert (time_1 - Time(seconds=1, clock_type=ClockType.ROS_TIME)).nanoseconds == 500
    assert Time.from_msg(time_1.to_msg()) == time_1
    with pytest.raises(TypeError):
        _ = time_1 < Time(seconds=2, clock_type=ClockType.SYSTEM_TIME)


def test_simulated_time_drives_clock_and_timers(context: None, spin_until: SpinUntil) -> None:
    node = Node("simulated", parameter_overrides=[Parameter("use_sim_time", value=True)])
    source = Node("source")
    publisher = source.create_publisher(Clock, "/clock", 10)
    calls: list[int] = []
    node.create_timer(1.0, lambda: calls.append(node.get_clock().now().nanoseconds))

    def tick(seconds: int) -> None:
        publisher.publish(Clock(clock=Time(seconds=seconds).to_msg()))
        assert spin_until(lambda: node.get_clock().now().nanoseconds == seconds * 10**9, node, source)

    assert node.get_clock().now().nanoseconds == 0
    for second in (10, 11, 12):
        tick(second)
        spin_until(lambda: False, node, timeout_s=0.06)
    assert calls == [10 * 10**9, 11 * 10**9, 12 * 10**9]
    node.destroy_node()
    source.destroy_node()


def test_rate_sleeps(node: Node) -> None:
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    thread = threading.Thread(target=executor.spin, daemon=True)
    thread.start()
    rate = node.create_rate(50.0)
    start = time.monotonic()
    for _ in range(3):
        rate.sleep()
    assert time.monotonic() - start >= 0.03
    node.destroy_rate(rate)
    executor.shutdown()
    thread.join(timeout=5)


# -- names, contexts, graph ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["", "1abc", "a-b", "a b", "a/b"])
def test_invalid_node_names(context: None, name: str) -> None:
    with pytest.raises(Exception, match=r"(?i)node name"):
        Node(name)


@pytest.mark.parametrize("topic", ["", "1abc", "a//b", "a b", "a/"])
def test_invalid_topic_names(node: Node, topic: str) -> None:
    with pytest.raises(Exception, match=r"(?i)topic name"):
        node.create_publisher(String, topic, 10)


def test_graph_of_one_process(node: Node) -> None:
    publisher = node.create_publisher(JointState, "joint_states", 10)
    node.create_subscription(JointState, "joint_states", lambda m: None, qos_profile_sensor_data)
    node.create_service(Trigger, "~/go", lambda request, response: response)
    assert "tested" in node.get_node_names()
    assert ("tested", "/") in node.get_node_names_and_namespaces()
    assert ("/joint_states", ["sensor_msgs/msg/JointState"]) in node.get_topic_names_and_types()
    assert ("/tested/go", ["std_srvs/srv/Trigger"]) in node.get_service_names_and_types()
    assert node.count_publishers("joint_states") == node.count_subscribers("/joint_states") == 1
    (info,) = node.get_publishers_info_by_topic("joint_states")
    assert (info.node_name, info.node_namespace, info.topic_type) == ("tested", "/", "sensor_msgs/msg/JointState")
    assert info.qos_profile.reliability == ReliabilityPolicy.RELIABLE
    (info,) = node.get_subscriptions_info_by_topic("joint_states")
    assert info.qos_profile.reliability == ReliabilityPolicy.BEST_EFFORT
    node.destroy_publisher(publisher)
    assert node.count_publishers("joint_states") == 0


def test_nothing_works_before_init_or_after_shutdown() -> None:
    context = rclpy.Context()
    with pytest.raises(Exception, match=r"(?i)init"):
        Node("early", context=context)
    rclpy.init(args=[], context=context)
    with pytest.raises(RuntimeError):
        rclpy.init(args=[], context=context)
    node = Node("late", context=context)
    publisher = node.create_publisher(String, "x", 10)
    rclpy.shutdown(context=context)
    assert not rclpy.ok(context=context)
    with pytest.raises(RuntimeError):
        publisher.publish(String())
    with pytest.raises(RuntimeError):
        rclpy.shutdown(context=context)


def test_shutdown_from_another_thread_ends_spin(context: None) -> None:
    node = Node("spun")
    threading.Timer(0.1, rclpy.shutdown).start()
    with contextlib.suppress(ExternalShutdownException):  # or it returns: whichever it notices first
        rclpy.spin(node)
    assert not rclpy.ok()


def test_logger_levels_and_filters(node: Node, capfd: pytest.CaptureFixture[str]) -> None:
    logger = node.get_logger()
    logger.debug("hidden")
    logger.info("shown")
    for _ in range(3):
        logger.warning("only once", once=True)
    for _ in range(3):
        logger.error("throttled", throttle_duration_sec=60.0)
    errors = capfd.readouterr().err
    assert "hidden" not in errors
    assert "[INFO]" in errors
    assert "[tested]: shown" in errors
    assert errors.count("only once") == errors.count("throttled") == 1


def test_wait_for_message(node: Node) -> None:
    from rclpy.wait_for_message import wait_for_message

    publisher = node.create_publisher(String, "awaited", 10)
    assert wait_for_message(String, node, "awaited", time_to_wait=0.05) == (False, None)
    timer = threading.Timer(0.1, lambda: publisher.publish(String(data="here")))
    timer.start()
    found, message = wait_for_message(String, node, "awaited", time_to_wait=5.0)
    timer.join()
    assert found
    assert message.data == "here"


def test_entities_come_and_go_while_the_node_is_spun(node: Node) -> None:
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    thread = threading.Thread(target=executor.spin, daemon=True)
    thread.start()
    received: list[String] = []
    for index in range(5):
        publisher = node.create_publisher(String, f"topic_{index}", 10)
        subscription = node.create_subscription(String, f"topic_{index}", received.append, 10)
        publisher.publish(String())
        end = time.monotonic() + 5
        while len(received) <= index and time.monotonic() < end:
            time.sleep(0.002)
        node.destroy_subscription(subscription)
        node.destroy_publisher(publisher)
    executor.shutdown()
    thread.join(timeout=5)
    assert not thread.is_alive()
    assert len(received) == 5


def test_a_busy_group_does_not_make_the_executor_spin_idly(node: Node) -> None:
    release = threading.Event()
    polls = 0
    executor = MultiThreadedExecutor(num_threads=2)

    def block() -> None:
        release.wait(timeout=5)

    node.create_guard_condition(block).trigger()
    node.create_timer(0.001, lambda: None)
    executor.add_node(node)
    end = time.monotonic() + 0.3
    while time.monotonic() < end:
        executor.spin_once(timeout_sec=0.05)
        polls += 1
    release.set()
    executor.shutdown()
    assert polls < 200
