"""The embedded transport: errors in one line, this host only, malformed samples counted, hands off native ROS."""

from __future__ import annotations

import math
import os
import random
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import rclpy
from rclpy.node import Node
from sensor_msgs.msg import JointState
from std_srvs.srv import SetBool

from robolearn.errors import TransportError
from robolearn.ros import cyclone_config, messages
from robolearn.ros.arguments import ArgumentError, parse
from robolearn.ros.transport import EndpointQos, RequestId


@pytest.mark.parametrize("domain", ["233", "-1", "abc", "1.5"])
def test_a_domain_without_ports_is_one_clear_error(domain: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROS_DOMAIN_ID", domain)
    with pytest.raises(TransportError, match="ROS_DOMAIN_ID"):
        rclpy.init(args=[], context=rclpy.Context())


def test_no_participant_left_is_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cyclone_config, "MAX_PARTICIPANTS", 1)
    taken = []
    for port in range(7400 + 250 * 101 + 10, 7400 + 250 * 101 + 14):  # two ports for each participant index
        taken.append(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        taken[-1].bind(("", port))
    with pytest.raises(TransportError, match=r"101 cannot be joined: more than 1 processes .* or loopback is down"):
        rclpy.Context().init([], domain_id=101)
    for one in taken:
        one.close()
    context = rclpy.Context()
    context.init([], domain_id=101)
    context.shutdown()


def test_this_host_is_the_default_range(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ROS_AUTOMATIC_DISCOVERY_RANGE", "ROS_LOCALHOST_ONLY", "CYCLONEDDS_URI", "ROS_STATIC_PEERS"):
        monkeypatch.delenv(name, raising=False)
    only_here = (
        '<Interfaces><NetworkInterface address="127.0.0.1"/></Interfaces>',
        "<AllowMulticast>false</AllowMulticast>",
        '<Peers><Peer address="localhost"/></Peers>',
    )
    assert all(part in cyclone_config.configuration() for part in only_here)
    monkeypatch.setattr(cyclone_config, "has_network", lambda: True)
    monkeypatch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "SUBNET")
    monkeypatch.setenv("ROS_STATIC_PEERS", "robot.local;10.0.0.7")
    monkeypatch.setenv("CYCLONEDDS_URI", "<CycloneDDS/>")
    text = cyclone_config.configuration()
    assert not any(part in text for part in only_here)
    assert '<Peer address="10.0.0.7"/>' in text
    assert text.endswith(",<CycloneDDS/>")
    monkeypatch.setenv("ROS_STATIC_PEERS", "127.0.0.1; no such host")
    with pytest.raises(TransportError, match="ROS_STATIC_PEERS names 'no such host', whose address is not found"):
        rclpy.Context().init([], domain_id=101)  # at which the library would abort the process
    monkeypatch.setenv("ROS_LOCALHOST_ONLY", "1")
    assert all(part in cyclone_config.configuration() for part in only_here)
    monkeypatch.delenv("ROS_LOCALHOST_ONLY")
    monkeypatch.delenv("ROS_STATIC_PEERS")
    monkeypatch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "MOON")
    with pytest.raises(TransportError, match="LOCALHOST, SUBNET"):
        cyclone_config.configuration()


def test_without_a_network_its_range_is_this_host(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "SUBNET")
    for connected in (cyclone_config.has_network(), False):
        assert ('autodetermine="true"' in cyclone_config.configuration()) is connected
        assert ("no network is connected" in caplog.text) is not connected
        monkeypatch.setattr(socket, "if_nameindex", lambda: [(1, "lo")])
    with rclpy.Context() as context:  # the library refuses loopback twice
        assert context.ok()


def test_qos_matching() -> None:
    reliable, best_effort = EndpointQos(), EndpointQos(reliable=False)
    latched = EndpointQos(transient_local=True)
    assert reliable.serves(reliable)
    assert reliable.serves(best_effort)
    assert not best_effort.serves(reliable)
    assert latched.serves(reliable)
    assert not reliable.serves(latched)
    assert EndpointQos(deadline_ns=5).serves(EndpointQos(deadline_ns=10))
    assert not EndpointQos().serves(EndpointQos(deadline_ns=10))


def random_samples(count: int) -> list[bytes]:
    """Random strings, and truncated or altered true messages."""
    generator = random.Random(0)
    true = bytes(messages.serialize(JointState(name=["shoulder", "gripper"], position=[1.0, 2.0])))
    samples = []
    for _ in range(count):
        if generator.random() < 0.5:
            samples.append(generator.randbytes(generator.randrange(64)))
        else:
            altered = bytearray(true[: generator.randrange(len(true))])
            for _ in range(min(3, len(altered))):
                altered[generator.randrange(len(altered))] = generator.randrange(256)
            samples.append(bytes(altered))
    return samples


def test_malformed_samples_are_counted_and_dropped(node: Node, capfd: pytest.CaptureFixture[str]) -> None:
    received: list[Any] = []
    subscription = node.create_subscription(JointState, "fuzzed", received.append, 10)
    service = node.create_service(SetBool, "fuzzed_service", lambda request, response: response)
    samples = random_samples(5000)
    for sample in samples:
        subscription._queue.append((sample, 0, 0))
        work = subscription._take()
        if work is not None:
            work()
        service._queue.append((sample, RequestId(1, 1, 1)))
        service._take()
    assert subscription.malformed_count + len(received) == len(samples)
    assert subscription.malformed_count > 0.9 * len(samples)
    assert service.malformed_count > 0.9 * len(samples)
    errors = capfd.readouterr().err
    assert "dropped 1 malformed message(s) so far" in errors
    assert errors.count("malformed") <= 8


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["-r", "a"], "from:=to"),
        (["-p", "a"], "name:=value"),
        (["-p"], "wants a value"),
        (["--unknown", "x"], "unknown ROS argument"),
        (["--unknown"], "unknown ROS argument"),
        (["--log-level", "robot:=loud"], "log level 'loud' is unknown; known: debug"),
        (["-r", "joint:=9"], "remap rule 'joint:=9' leads to no name"),
        (["-r", "joint:=a/"], "must not end with a forward slash"),
        (["-r", "/**/joint:=a"], "names nothing"),
        (["-r", "joint:={what}"], "unknown substitution"),
        (["-r", "__ns:=/le-ft"], "leads to no name"),
        (["-r", "robot:__node:=a b"], "node name must have letters"),
        (["--params-file", "/nowhere.yaml"], "cannot be read"),
        (["-p", "a:=[1"], "not YAML"),
        (["-p", "a:=" + "[" * 1000], "nested too deeply"),
        (["-p", "a:=[1, 2.0]"], "mixes float and int"),
        (["-p", "a:={b: 1}"], "wanted a boolean, number, text"),
        (["-p", "a:=9223372036854775808"], "64 bits"),
    ],
)
def test_bad_ros_arguments_are_one_line(arguments: list[str], text: str) -> None:
    with pytest.raises(ArgumentError, match=text) as caught:
        parse(["program", "--ros-args", *arguments])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"n: {ros__parameters: [1]}", "wanted name: value"),
        (b"n: {ros__parameters: {a: [1, x]}}", "mixes int and str"),
        (b"\xff\xfe", "UTF-8"),
        (b"n: &n {m: *n}", "the alias .n, and ROS 2 takes none"),
        (b"n: {ros__parameters: {a: !!int x}}", "not YAML"),
        (b"n: {ros__parameters: {a: !!int ''}}", "not YAML"),
        (b"[" * 1000, "nested too deeply"),
    ],
)
def test_a_bad_parameter_file_is_one_line(tmp_path: Path, content: bytes, text: str) -> None:
    (tmp_path / "p.yaml").write_bytes(content)
    with pytest.raises(ArgumentError, match=text) as caught:
        parse(["--ros-args", "--params-file", str(tmp_path / "p.yaml")])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *[
            ("1e-3", 1e-3),
            ("1e3", 1000.0),
            ("1.", 1.0),
            (".5", 0.5),
            ("-.inf", -math.inf),
            ("[1e-3, 2.0]", [1e-3, 2.0]),
        ],
        *[("010", 8), ("0x10", 16), ("+3", 3), ("y", True), ("No", False), ("off", False)],
        *[(t, t) for t in ("1:30", "1_000", "2024-01-01", "12:30:00", "yEs", "0o7", "/a/b")],
        *[("'1e3'", "1e3"), ('"y"', "y"), ("", None)],
    ],
)
def test_parameter_values_are_read_as_ros_reads_them(tmp_path: Path, text: str, value: object) -> None:
    """The rules of rcl_yaml_param_parser, on the command line and in a file; keys are texts."""
    (tmp_path / "p.yaml").write_text(f"n:\n  ros__parameters: {{y: {text}}}\n")
    for given in (["-p", f"y:={text}"], ["--params-file", str(tmp_path / "p.yaml")]):
        found = parse(["--ros-args", *given]).overrides_for("/", "n")
        assert found == {"y": value}
        assert type(found["y"]) is type(value)


@pytest.mark.parametrize(
    ("section", "matched"),
    [
        ("/**", {"/robot", "/left/robot", "/a/left/robot"}),
        ("/*", {"/robot"}),
        ("robot", {"/robot"}),
        ("/robot", {"/robot"}),
        ("/*/robot", {"/left/robot"}),
        ("/**/robot", {"/robot", "/left/robot", "/a/left/robot"}),
        ("/left/*", {"/left/robot"}),
        ("/left/**", {"/left/robot"}),
        ("left/robot", {"/left/robot"}),
        ("left: {robot", {"/left/robot"}),
        ("/**: {left: {robot", {"/left/robot", "/a/left/robot"}),
        ("/*bot", set()),
    ],
)
def test_a_section_of_a_parameter_file_is_for_the_nodes_it_names(
    tmp_path: Path, section: str, matched: set[str]
) -> None:
    (tmp_path / "p.yaml").write_text(f"{section}: {{ros__parameters: {{a: 1}}}}" + "}" * section.count("{"))
    parsed = parse(["--ros-args", "--params-file", str(tmp_path / "p.yaml")])
    names = {("/", "robot"), ("/left", "robot"), ("/a/left", "robot")}
    found = {f"{space.rstrip('/')}/{name}" for space, name in names if parsed.overrides_for(space, name) == {"a": 1}}
    assert found == matched


def test_a_sourced_ros_wins(tmp_path: Path) -> None:
    package = tmp_path / "rclpy"
    package.mkdir()
    (package / "__init__.py").write_text("marker = 'native'\n")
    (tmp_path / "sensor_msgs").mkdir()
    (tmp_path / "sensor_msgs" / "__init__.py").write_text("marker = 'native'\n")
    code = (
        "import robolearn.ros, rclpy, sensor_msgs; print(rclpy.marker, sensor_msgs.marker, robolearn.ros.is_native())"
    )
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["native", "native", "True"]


def test_the_embedded_client_imports_only_errors_of_the_library() -> None:
    code = (
        "import sys, robolearn.ros, rclpy, rclpy.executors, sensor_msgs.msg;"
        "print(sorted(m for m in sys.modules if m.startswith('robolearn.') and not m.startswith('robolearn.ros')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['robolearn.errors']"


SpinUntil = Callable[..., bool]


def test_two_contexts_of_one_process_talk(spin_until: SpinUntil) -> None:
    from rclpy.executors import SingleThreadedExecutor

    one, other = rclpy.Context(), rclpy.Context()
    for context in (one, other):
        rclpy.init(args=[], context=context)
    talker, listener = Node("talker", context=one), Node("listener", context=other)
    received: list[JointState] = []
    publisher = talker.create_publisher(JointState, "between", 10)
    listener.create_subscription(JointState, "between", received.append, 10)
    executor = SingleThreadedExecutor(context=other)
    executor.add_node(listener)
    for _ in range(100):
        if received:
            break
        if publisher.get_subscription_count():
            publisher.publish(JointState(name=["a"]))
        executor.spin_once(timeout_sec=0.1)
    assert received[0].name == ["a"]
    for context in (one, other):
        rclpy.shutdown(context=context)


def test_a_waiter_that_is_closed_beside_its_wait_ends_it_quietly() -> None:
    context = rclpy.Context()
    context.init([], domain_id=101)
    waiter = context.handle.transport.create_waiter()
    found: list[Any] = []
    waiting = threading.Thread(target=lambda: found.append(waiter.wait(30_000_000_000)))
    waiting.start()
    waiter.wake()
    waiting.join()
    waiter.close()
    waiter._set(False)  # what the waiting thread does between waking up and answering, had it been slower
    waiter.wake()
    assert waiter.wait(0) == []
    assert found == [[]]
    context.shutdown()
