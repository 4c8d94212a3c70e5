"""The commands that touch a ROS 2 graph: `launch`, `topic`, `node` and `param`, for machines without `ros2`."""

from __future__ import annotations

import os
import select
import signal
import sys
import threading
from typing import Annotated

import yaml
from tyro.conf import Positional, arg

from robolearn.cli.output import EXIT_NO, print_json, print_table, say
from robolearn.errors import LaunchError

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
    return runner.run(runner.load(path, pairs), log=say)


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
    """
    from robolearn.ros.introspect import rate

    answer = rate(topic, seconds)
    if json:
        print_json(answer)
    else:
        print_table(topic, ("", ""), list(answer.items()))
    return 0 if answer["messages"] else EXIT_NO


def node_list(json: bool = False) -> int:
    """List the nodes of the graph.

    Example: robolearn node list
    """
    from robolearn.ros.introspect import nodes

    found = nodes()
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

    Example: robolearn param set /twin max_held_steps 5
    """
    from robolearn.ros.introspect import set_parameter

    accepted, reason = set_parameter(node, name, value)
    say(f"{name} is {value}" if accepted else f"{node} refuses {name} = {value}: {reason}")
    return 0 if accepted else EXIT_NO
