"""Parameters: declared, set, limited, overridden, and asked for by service. Written against rclpy's public API."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from rcl_interfaces.msg import FloatingPointRange, ParameterDescriptor, ParameterEvent, SetParametersResult
from rcl_interfaces.srv import GetParameters, ListParameters, SetParameters
from rclpy.exceptions import (
    InvalidParameterTypeException,
    InvalidParameterValueException,
    ParameterAlreadyDeclaredException,
    ParameterNotDeclaredException,
)
from rclpy.node import Node
from rclpy.parameter import Parameter

SpinUntil = Callable[..., bool]


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
    arguments += ["-r", "rosservice://go:=stop", "-r", "renamed:rostopic://sent:=/out", "--disable-rosout-logs"]
    arguments += ["-p", "gain:=2.5", "--params-file", str(file)]
    node = Node("original", cli_args=arguments)
    assert node.get_fully_qualified_name() == "/cell/renamed"
    assert node.declare_parameter("gain", 1.0).value == 2.5
    assert node.declare_parameter("depth", 1).value == 4
    assert node.declare_parameter("nested.flag", False).value is True
    assert node.resolve_topic_name("chatter") == "/heard"
    assert (node.resolve_topic_name("go"), node.resolve_service_name("go")) == ("/cell/go", "/cell/stop")
    assert (node.resolve_topic_name("sent"), node.resolve_service_name("sent")) == ("/out", "/cell/sent")
    assert not node.count_publishers("/rosout")
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
