"""The commands that touch a ROS 2 graph, for machines without `ros2`."""

from __future__ import annotations

import os
import select
import signal
import sys
import threading
from collections.abc import Sized
from pathlib import Path
from typing import Annotated, Any

import yaml
from tyro.conf import Positional, arg

from robolearn.cli.output import EXIT_NO, counted, print_json, print_table, say
from robolearn.errors import LaunchError, RobolearnError, SpecError
from robolearn.yaml_text import load_yaml

Topic = Annotated[str, Positional, arg(metavar="TOPIC")]
NodeName = Annotated[str, Positional, arg(metavar="NODE")]


def launch(
    file: Annotated[str, Positional, arg(metavar="FILE")],
    arguments: Annotated[tuple[str, ...], Positional, arg(metavar="NAME:=VALUE ...")] = (),
    show_args: bool = False,
    parent: int | None = None,
) -> int:
    """Run a ROS 2 YAML launch file, with or without ROS 2.

    Example: robolearn launch launch/twin.launch.yaml task:=pick_place-v1 realtime_factor:=1.0

    Args:
        file: path of a launch file, or the name of one that comes with robolearn ("twin").
        arguments: launch arguments as name:=value.
        show_args: list the arguments of the file and end.
        parent: a process id; the nodes are stopped when that process is gone.
    """
    from robolearn.assets import launch_file
    from robolearn.ros import launch as runner

    path = launch_file(file)
    if show_args:
        rows = [
            (a.name, "" if a.default is None else a.default, a.description) for a in runner.describe_arguments(path)
        ]
        print_table(f"arguments of {path.name}", ("name", "default", "description"), rows)
        return 0
    pairs = {}
    for text in arguments:
        name, separator, value = text.partition(":=")
        if not separator or not name:
            raise LaunchError(f"launch argument {text!r} is not of the form name:=value")
        pairs[name] = value
    if parent is not None:
        _interrupt_when_gone(parent)
    commands = str(Path(sys.executable).parent)  # launch files start `robolearn`, too
    os.environ["PATH"] = os.pathsep.join((os.environ.get("PATH", os.defpath), commands))
    return runner.run(runner.load(path, pairs), log=say)


def namespace_of(text: str) -> str:
    """The namespace that `--namespace left` or `/left` names, as /left; empty where none is given. Raises SpecError."""
    from robolearn.ros.names import namespace_fault

    namespace = f"/{text}" if text and not text.startswith("/") else text
    if fault := namespace and namespace_fault(namespace):
        raise SpecError(f"--namespace {text}: {fault}; wanted is such as left")
    return namespace


def _interrupt_when_gone(parent: int) -> None:
    """Interrupt this process, as Ctrl-C does, when the parent ends, however it ends."""
    try:
        process = os.pidfd_open(parent)
    except ProcessLookupError:
        raise LaunchError(f"process {parent} is gone; nothing is launched for it") from None

    def wait() -> None:
        select.select([process], [], [])
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=wait, name="parent", daemon=True).start()


def topic_list(json: bool = False) -> int:
    """List the topics of the graph with their types and endpoints.

    Example: robolearn topic list
    """
    from robolearn.ros.introspect import topics

    found = topics()
    _say_if_empty(found)
    if json:
        print_json({"topics": found})
    else:
        rows = [(t["name"], ", ".join(t["types"]), t["publishers"], t["subscriptions"]) for t in found]
        print_table("topics", ("name", "type", "publishers", "subscriptions"), rows)
    return 0


def topic_echo(topic: Topic, count: int | None = None, timeout_s: float | None = None) -> int:
    """Print the messages of a topic as YAML documents.

    Example: robolearn topic echo /joint_states --count 1

    Args:
        count: how many messages; until Ctrl-C by default.
        timeout_s: end when none comes for so long [s]; exit code 1 when none came at all.
    """
    from robolearn.ros.introspect import echo

    came = 0
    for message in echo(topic, count, timeout_s):
        came += 1
        sys.stdout.write(yaml.safe_dump(message, sort_keys=False, default_flow_style=None) + "---\n")
        sys.stdout.flush()
    return 0 if came else EXIT_NO


def topic_hz(topic: Topic, seconds: float = 3.0, json: bool = False) -> int:
    """Measure the rate at which messages of a topic arrive; exit code 1 when none came.

    Example: robolearn topic hz /joint_states --seconds 5

    Args:
        seconds: how long to listen [s].
    """
    from robolearn.ros.introspect import rate

    answer = rate(topic, seconds)
    if json:
        print_json(answer)
    else:
        rows = [(key, f"{value:.4g}" if isinstance(value, float) else value) for key, value in answer.items()]
        print_table(topic, ("", ""), rows)
    return 0 if answer["messages"] else EXIT_NO


def topic_pub(
    topic: Topic,
    fields: Annotated[str, Positional, arg(metavar="YAML")] = "{}",
    type: str = "",
    rate_hz: float = 1.0,
    count: int | None = None,
) -> int:
    """Publish a message with its fields as YAML, again and again; exit code 1 when nobody heard any.

    Example: robolearn topic pub /instruction "{data: push the puck}" --type std_msgs/msg/String --count 1

    Args:
        fields: of the message; those left out are as the type has them, and a header has the time of sending.
        type: of the message, where nobody has the topic yet.
        rate_hz: messages a second [Hz].
        count: how many messages, which wait for somebody to hear them; until Ctrl-C by default.
    """
    from robolearn.ros.introspect import publish

    if not 0 < rate_hz < float("inf") or (count is not None and count < 1):
        raise RobolearnError(f"{count} messages at {rate_hz:g} Hz; expected at least 1, and a rate above 0")
    told, heard = -1, False
    for subscriptions in publish(topic, _fields(fields), type, rate_hz, count):
        if subscriptions != told:
            say(f"{topic} is heard by {counted(subscriptions, 'subscription')}")
            told = subscriptions
        heard |= subscriptions > 0
    return 0 if heard else EXIT_NO


def topic_info(topic: Topic, json: bool = False) -> int:
    """Tell who publishes and who hears a topic, and with which quality of service.

    Example: robolearn topic info /joint_states
    """
    from robolearn.ros.introspect import topic_info as ask

    found = ask(topic)
    if json:
        print_json(found)
        return 0
    ends = [(kind, end) for kind in ("publishers", "subscriptions") for end in found[kind]]
    rows = [
        (kind.removesuffix("s"), e["node"], e["reliability"].lower(), e["durability"].lower(), e["depth"] or "not told")
        for kind, e in ends
    ]
    print_table(f"{topic} ({', '.join(found['types'])})", ("end", "node", "reliability", "durability", "depth"), rows)
    return 0


def node_info(node: NodeName, json: bool = False) -> int:
    """Tell what a node publishes, hears, serves and calls.

    Example: robolearn node info /policy
    """
    from robolearn.ros.introspect import node_info as ask

    found = ask(node)
    if json:
        print_json(found)
    else:
        rows = [(kind, name, ", ".join(types)) for kind, entries in found.items() for name, types in entries.items()]
        print_table(node, ("", "name", "type"), rows)
    return 0


def service_list(json: bool = False) -> int:
    """List the services of the graph with their types.

    Example: robolearn service list
    """
    from robolearn.ros.introspect import services

    found = services()
    if json:
        print_json({"services": found})
    else:
        print_table("services", ("name", "type"), [(name, ", ".join(types)) for name, types in found.items()])
    return 0


def service_call(
    service: Annotated[str, Positional, arg(metavar="SERVICE")],
    request: Annotated[str, Positional, arg(metavar="YAML")] = "{}",
) -> int:
    """Call a service with the fields of its request as YAML; exit code 1 when it answers `success: false`.

    Example: robolearn service call /policy/load "{path: runs/bc/checkpoints/best, activate: true}"

    Args:
        service: its name, see `robolearn service list`.
        request: fields of the request; those left out are as the type has them.
    """
    from robolearn.ros.introspect import call_service

    response = call_service(service, _fields(request))
    _print_yaml(response)
    return EXIT_NO if response.get("success") is False else 0


def _say_if_empty(found: Sized) -> None:
    from robolearn.ros.introspect import nobody

    if not found:
        say(nobody())


def _fields(text: str) -> dict[str, Any]:
    try:
        fields = load_yaml(text) or {}
    except yaml.YAMLError:
        fields = None
    if not isinstance(fields, dict):
        raise RobolearnError(f"{text[:80]!r} is not of the form {{field: value, ...}}")
    return fields


def _print_yaml(data: dict[str, Any]) -> None:
    sys.stdout.write(yaml.safe_dump(data, sort_keys=False, default_flow_style=None))


def action_list(json: bool = False) -> int:
    """List the actions of the graph with their types.

    Example: robolearn action list
    """
    from robolearn.ros.introspect_actions import actions

    found = actions()
    if json:
        print_json({"actions": found})
    else:
        print_table("actions", ("name", "type"), list(found.items()))
    return 0


def action_send_goal(
    action: Annotated[str, Positional, arg(metavar="ACTION")],
    goal: Annotated[str, Positional, arg(metavar="YAML")] = "{}",
    feedback: bool = False,
    json: bool = False,
) -> int:
    """Send a goal with its fields as YAML and wait for the result; Ctrl-C cancels it.

    Exit code 1 when it is refused, aborted or cancelled, or its result says `success: false`.

    Example: robolearn action send_goal /policy/run "{seed: 3, timeout_s: 20.0}" --feedback

    Args:
        action: its name, see `robolearn action list`.
        goal: fields of the goal; those left out are as the type has them.
        feedback: print it as it comes, on stderr.
    """
    from robolearn.ros.introspect_actions import send_goal

    def tell(came: dict[str, Any]) -> None:
        say(yaml.safe_dump(came, sort_keys=False, default_flow_style=True, width=1000).strip())

    answer = send_goal(action, _fields(goal), tell if feedback else lambda _: None)
    if json:
        print_json(answer)
    else:
        _print_yaml(answer)
    return 0 if answer["status"] == "succeeded" and answer["result"].get("success") is not False else EXIT_NO


def node_list(json: bool = False) -> int:
    """List the nodes of the graph.

    Example: robolearn node list
    """
    from robolearn.ros.introspect import nodes

    found = nodes()
    _say_if_empty(found)
    if shared := sorted({name for name in found if found.count(name) > 1}):
        say(
            f"several nodes are called {', '.join(shared)}: who asks one may be answered by another; rename all but one"
        )
    if json:
        print_json({"nodes": found})
    else:
        sys.stdout.writelines(f"{name}\n" for name in found)
    return 0


def param_list(node: NodeName, json: bool = False) -> int:
    """List the parameters of a node with their values.

    Example: robolearn param list /twin
    """
    from robolearn.ros.introspect import parameters

    found = parameters(node)
    if json:
        print_json({"parameters": found})
    else:
        print_table(f"parameters of {node}", ("name", "value"), list(found.items()))
    return 0


def param_get(node: NodeName, name: Annotated[str, Positional, arg(metavar="NAME")]) -> int:
    """Print the value of a parameter.

    Example: robolearn param get /twin task

    Args:
        name: of the parameter, see `robolearn param list`.
    """
    from robolearn.ros.introspect import get_parameter

    sys.stdout.write(f"{get_parameter(node, name)}\n")
    return 0


def param_set(
    node: NodeName,
    name: Annotated[str, Positional, arg(metavar="NAME")],
    value: Annotated[str, Positional, arg(metavar="VALUE")],
) -> int:
    """Set a parameter; exit code 1 when the node refuses.

    Those of robolearn's own nodes are fixed when they start: give them to `robolearn launch`.

    Example: robolearn param set /camera_driver exposure 200

    Args:
        name: of the parameter, see `robolearn param list`.
        value: the new one, as YAML.
    """
    from robolearn.ros.introspect import set_parameter

    accepted, reason = set_parameter(node, name, value)
    say(f"{name} is {value}" if accepted else f"{node} refuses {name} = {value}: {reason}")
    return 0 if accepted else EXIT_NO
