"""What every node does alike: read parameters, say how it fares, begin and end."""

from __future__ import annotations

import re
import signal
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rcl_interfaces.msg import ParameterDescriptor
from rclpy._rclpy_pybind11 import RCLError
from rclpy.exceptions import NameValidationException, ParameterException
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node

from robolearn.errors import (
    BAD_INPUT_EXIT_CODE,
    AssetError,
    CellError,
    CheckpointError,
    PluginError,
    RobolearnError,
    SpecError,
    TransportError,
    UnknownNameError,
)
from robolearn_nodes import convert, topics

T = TypeVar("T", str, int, float, bool)
E = TypeVar("E", str, float)
BAD_INPUT = (AssetError, CellError, CheckpointError, PluginError, SpecError, UnknownNameError)
"""What another try cannot mend when a node is made; of what comes later, that holds for a policy that does not fit."""
DIAGNOSTICS_PERIOD_S = 1.0
FORGOTTEN_S = 5.0  # a problem that comes again after others, which lasted so long, is logged again
PASSING_S = 5.0  # what is usual while nodes start is logged when it has lasted so long
NUMBERS = re.compile(r"\d+(\.\d+)?")
SAME_CLOCK_MS = 60_000.0  # a sample that is older is stamped by another clock, as the twin's
COMPRESSED = "/compressed"  # behind the name of a topic of pictures, as image_transport has it
ALONE_CHECK_S = 1.0  # discovery on one host takes about a tenth of it
ALONE_CHECKS = 3  # a node that died without a word is in the graph for 2.5 s more


def parameter(node: Node, name: str, default: T, description: str) -> T:
    """Declare and read a parameter. `1` is taken for the float 1.0 and `12` for the text "12", as launch files write.

    Raises SpecError for a value of another kind.
    """
    descriptor = ParameterDescriptor(description=description, dynamic_typing=True, read_only=True)
    value = node.declare_parameter(name, default, descriptor).value
    kind, came = type(default), type(value)
    if not (came is kind or (kind is float and came is int) or (kind is str and came in (int, float))):
        raise SpecError(f"{node.get_name()} parameter {name} is {value!r}, expected {kind.__name__}: {description}")
    return kind(value)


def list_parameter(node: Node, name: str, kind: type[E], description: str) -> tuple[E, ...]:
    """Declare and read a list of texts or numbers; empty when it is not given. Raises SpecError."""
    descriptor = ParameterDescriptor(description=description, dynamic_typing=True, read_only=True)
    value = node.declare_parameter(name, "", descriptor).value
    if isinstance(value, str) and not value:
        return ()
    items = [] if isinstance(value, str) or not hasattr(value, "__iter__") else list(value)
    if not items or not all(isinstance(item, (int, float) if kind is float else kind) for item in items):
        raise SpecError(f"{node.get_name()} parameter {name} is {value!r}, expected a list: {description}")
    return tuple(kind(item) for item in items)


def heard_topic(node: Node, topic: str) -> str:
    """Where that of a topic comes from: of pictures that are published compressed alone, from there."""
    name = node.resolve_topic_name(topic)
    compressed = node.resolve_topic_name(name + COMPRESSED)
    return compressed if not node.count_publishers(name) and node.count_publishers(compressed) else name


def unheard(node: Node, topics_to_hear: Iterable[str]) -> str:
    """Which of these topics nobody publishes yet, in words, or nothing. What starts too early misses its first tick."""
    heard = [heard_topic(node, topic) for topic in topics_to_hear]
    silent = [name for name in heard if not node.count_publishers(name)]
    return f"nobody publishes {', '.join(silent)} yet; is its node running?" if silent else ""


def crowded(node: Node, topics_to_hear: Iterable[str]) -> str:
    """Which of these topics several nodes publish, in words, or nothing: their messages would come mixed."""
    for name in [heard_topic(node, topic) for topic in topics_to_hear]:
        if (count := node.count_publishers(name)) > 1:
            return f"{count} nodes publish {name}; stop all but one, or give each robot and its cameras a namespace"
    return ""


def rival(node: Node) -> str:
    """Whether another robot or twin answers to the same commands, in words: two must never do."""
    if node.count_publishers(node.resolve_topic_name(topics.COMMAND_SENT)) < 2:
        return ""
    return (
        f"another robot or twin answers to {node.resolve_topic_name(topics.COMMAND)} on ROS domain "
        f"{node.context.get_domain_id()}; stop it, give each a namespace, or set ROS_DOMAIN_ID to another number"
    )


class Alone:
    """Ends a robot or twin that finds another one where it starts. One that has died stays in the graph for a while:
    until that is over nothing is to be moved, by which who is started again in its place is not mistaken for a second.
    """

    def __init__(self, node: Node) -> None:
        self._node, self._settled, self._left = node, False, ALONE_CHECKS
        self._timer = node.create_timer(ALONE_CHECK_S, self._look)

    def problem(self) -> str:
        """Why nothing may be moved yet, in words."""
        return "" if self._settled else rival(self._node)

    def _look(self) -> None:
        problem = rival(self._node)
        self._left -= 1
        if problem and not self._left:
            raise TransportError(problem)
        if not problem:
            self._settled = True
            self._node.destroy_timer(self._timer)


def warn_of_crowd(node: Node) -> None:
    """Where several nodes may command the robot or twin: if they did, they would pull it about between them."""
    topic = node.resolve_topic_name(topics.COMMAND)
    if (count := node.count_publishers(topic)) > 1:
        node.get_logger().warning(f"{count} nodes publish {topic}; only one of them must command at a time")


def graph_name(name: str, namespace: str) -> str:
    """A node as the diagnostics and the operator's page name it: with its namespace, where it has one."""
    return f"{namespace}/{name}".strip("/")


class Meter:
    """How a stream fares: its rate, and how old its newest sample was when it came. Times in nanoseconds."""

    def __init__(self, over: int = 50) -> None:
        self._samples: deque[tuple[int, int]] = deque(maxlen=over)

    def note(self, now_ns: int, stamp_ns: int) -> None:
        """A sample with that stamp came now."""
        self._samples.append((now_ns, stamp_ns))

    def figures(self, stream: str) -> dict[str, str]:
        if len(self._samples) < 2:
            return {f"{stream}_hz": "0"}
        first_ns, last_ns = self._samples[0][0], self._samples[-1][0]
        rate = (len(self._samples) - 1) * 1e9 / max(last_ns - first_ns, 1)
        age_ms = max((now_ns - stamp_ns) * 1e-6 for now_ns, stamp_ns in self._samples)
        known = {f"{stream}_worst_age_ms": f"{age_ms:.1f}"} if abs(age_ms) < SAME_CLOCK_MS else {}
        return {f"{stream}_hz": f"{rate:.1f}", **known}


class Diagnostics:
    """Publishes once a second how a node fares: numbers, and the `problem` that makes it hold, if there is one."""

    def __init__(self, node: Node, values: Callable[[], dict[str, Any]]) -> None:
        self.problem = ""
        self._kind = ""  # the problem without its numbers, which change every tick
        self._logged: dict[str, float] = {}  # kinds since all was well, and when each came last
        self._since_s: dict[str, float] = {}  # when each of these came first
        self._node, self._values = node, values
        self._name = graph_name(node.get_name(), node.get_namespace())
        self._publisher = node.create_publisher(DiagnosticArray, topics.DIAGNOSTICS, 10)
        node.create_timer(DIAGNOSTICS_PERIOD_S, self.publish)

    def report(self, problem: str, passing: bool = False) -> None:
        """Say at once what is wrong; an empty text means that all is well again.

        Each problem is published at once and logged once until then, whatever its numbers are, and so is its end; once
        more if it comes again after others. A `passing` one, which is usual while nodes start, is logged if it lasts.
        """
        kind, now_s = NUMBERS.sub("", problem), time.monotonic()
        changed = kind != self._kind
        if not problem:
            if self._logged:
                self._node.get_logger().info("all is well again")
            self._logged.clear()
            self._since_s.clear()
        elif kind not in self._logged or (changed and now_s - self._logged[kind] > FORGOTTEN_S):
            if now_s - self._since_s.setdefault(kind, now_s) >= PASSING_S * passing:
                self._logged[kind] = now_s
                self._node.get_logger().warning(problem)
        else:
            self._logged[kind] = now_s
        self.problem, self._kind = problem, kind
        if changed:
            self.publish()

    def publish(self) -> None:
        stamp = self._node.get_clock().now().to_msg()
        self._publisher.publish(convert.diagnostic_message(self._name, self.problem, self._values(), stamp))


def run(make_node: Callable[[], Node], work: Callable[[Any], None] = rclpy.spin) -> int:
    """`live`, for a process of its own. Returns the exit code: 0 for a clean end; what was raised on purpose is one
    line on stderr (2, and 78 for what another try cannot mend)."""
    made = False

    def make() -> Node:
        nonlocal made
        node = make_node()
        made = True
        return node

    try:
        live(make, work)
    except RobolearnError as error:
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        bad_input = isinstance(error, CheckpointError if made else BAD_INPUT)
        return BAD_INPUT_EXIT_CODE if bad_input else error.exit_code
    # what rclpy declares by itself, such as use_sim_time, and names of topics that parameters give
    except (ParameterException, NameValidationException) as error:
        sys.stderr.write(f"{error}\n")
        return BAD_INPUT_EXIT_CODE
    except OSError as error:  # as of a disk that is full, or a path that is too long
        if made:
            raise
        sys.stderr.write(f"{error.filename or 'the node'}: {error.strerror or error}\n")
        return RobolearnError.exit_code
    return 0


def live(make_node: Callable[[], Node], work: Callable[[Any], None]) -> None:
    """Make the node and let it work until it is done or asked to stop.

    Ctrl-C and SIGTERM are a clean end. A second Ctrl-C does not cut the end short: systemd tells a node and its
    launcher, who tells the node again.
    """
    node = None
    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:  # as while this node's modules were read
        signal.signal(signal.SIGINT, signal.default_int_handler)
    ctrl_c = signal.getsignal(signal.SIGINT)
    try:
        rclpy.init(args=sys.argv)
        node = make_node()
        work(node)
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    except RCLError:  # what a callback or the executor was at when the signal took its context away
        if rclpy.ok():
            raise
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        if node is not None:
            node.destroy_node()
        rclpy.try_shutdown()
        signal.signal(signal.SIGINT, ctrl_c)
