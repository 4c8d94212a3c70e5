"""Questions to a running graph, for the command line of machines without `ros2`. Answers are plain data.

Each function opens a context of its own, waits until discovery has settled and closes it. It works on native ROS 2 too.
"""

from __future__ import annotations

import importlib
import time
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

import robolearn.ros
from robolearn.errors import RobolearnError, TransportError, UnknownNameError
from robolearn.ros.cyclone_config import domain_id_from_environment

SETTLE_S = 1.0
SERVICE_TIMEOUT_S = 5.0
ALIVE_CHECK_S = 1.0
assert robolearn.ros


@contextmanager
def observer(settle_s: float = SETTLE_S) -> Iterator[Any]:
    """A hidden node that has seen the graph."""
    import rclpy
    from rclpy.executors import SingleThreadedExecutor

    context = rclpy.Context()
    rclpy.init(args=[], context=context)
    node = rclpy.create_node(
        "_robolearn_cli",
        context=context,
        enable_rosout=False,
        start_parameter_services=False,
        use_global_arguments=False,
    )
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)
    try:
        _settle(node, settle_s)
        yield node
    finally:
        executor.shutdown()
        node.destroy_node()
        rclpy.shutdown(context=context)


def unknown(node: Any, kind: str, name: str, known: Iterable[str]) -> RobolearnError:
    """The error for a name that is not on the graph; where nobody else is there, that says so."""
    if any(not other.startswith("_") for other in node.get_node_names()):
        return UnknownNameError(kind, name, known)
    return RobolearnError(f"no {kind} {name}: {nobody()}")


def nobody() -> str:
    """What to look at when the graph is empty. Raises TransportError."""
    return (
        f"no node is on ROS domain {domain_id_from_environment()}; start one, or set ROS_DOMAIN_ID as those that run "
        "have it"
    )


def _settle(node: Any, settle_s: float) -> None:
    """Wait until the graph has not changed for a quarter of the time, or the time is over."""
    end, seen, since = time.monotonic() + settle_s, None, time.monotonic()
    while time.monotonic() < end:
        now = sorted(node.get_topic_names_and_types())
        if now != seen:
            seen, since = now, time.monotonic()
        elif len(node.get_node_names()) > 1 and time.monotonic() - since > settle_s / 4:
            return
        time.sleep(0.02)


def topics() -> list[dict[str, Any]]:
    """Every topic: `name`, `types`, `publishers`, `subscriptions`."""
    with observer() as node:
        own = {"/parameter_events", "/rosout"}
        return [
            {
                "name": name,
                "types": list(types),
                "publishers": node.count_publishers(name) - (name == "/parameter_events"),
                "subscriptions": node.count_subscribers(name),
            }
            for name, types in node.get_topic_names_and_types()
            if (name not in own or node.count_publishers(name) > 1 or node.count_subscribers(name)) and not hidden(name)
        ]


def hidden(name: str) -> bool:
    """Whether a topic or service is of the works, such as those that an action is made of."""
    return "/_" in name


def nodes() -> list[str]:
    """Fully qualified names of every node, hidden ones left out."""
    with observer() as node:
        found = node.get_node_names_and_namespaces()
        return sorted(f"{ns.rstrip('/')}/{name}" for name, ns in found if not name.startswith("_"))


def topic_info(topic: str) -> dict[str, Any]:
    """Type of a topic, and its `publishers` and `subscriptions` with their node, type hash and QoS.

    Raises UnknownNameError.
    """
    topic = topic if topic.startswith("/") else f"/{topic}"
    with observer() as node:
        known = dict(node.get_topic_names_and_types())
        if topic not in known:
            raise unknown(node, "topic", topic, known)
        ends = {
            "publishers": node.get_publishers_info_by_topic(topic),
            "subscriptions": node.get_subscriptions_info_by_topic(topic),
        }
        return {"types": list(known[topic])} | {
            kind: [
                {
                    "node": f"{info.node_namespace.rstrip('/')}/{info.node_name}",
                    "type": info.topic_type,
                    "type_hash": str(info.topic_type_hash),
                    "reliability": info.qos_profile.reliability.name,
                    "durability": info.qos_profile.durability.name,
                    "depth": info.qos_profile.depth,
                }
                for info in infos
                if not info.node_name.startswith("_robolearn_cli")
            ]
            for kind, infos in ends.items()
        }


def node_info(target: str) -> dict[str, dict[str, list[str]]]:
    """What a node publishes, hears, serves and calls: name to types. Raises UnknownNameError."""
    target = target if target.startswith("/") else f"/{target}"
    namespace, _, name = target.rpartition("/")
    with observer() as node:
        known = [f"{ns.rstrip('/')}/{n}" for n, ns in node.get_node_names_and_namespaces() if not n.startswith("_")]
        if target not in known:
            raise unknown(node, "node", target, known)
        questions = {
            "publishers": node.get_publisher_names_and_types_by_node,
            "subscriptions": node.get_subscriber_names_and_types_by_node,
            "services": node.get_service_names_and_types_by_node,
            "clients": node.get_client_names_and_types_by_node,
        }
        return {kind: {n: list(types) for n, types in ask(name, namespace or "/")} for kind, ask in questions.items()}


def services() -> dict[str, list[str]]:
    """Every service with its types, those of parameters, logging and lifecycle included."""
    with observer() as node:
        return {name: list(types) for name, types in node.get_service_names_and_types() if not hidden(name)}


def call_service(service: str, request: dict[str, Any]) -> dict[str, Any]:
    """Call a service with the fields of its request; its response, for which it waits as long as its node lives. Raises
    RobolearnError."""
    service = service if service.startswith("/") else f"/{service}"
    with observer() as node:
        known = dict(node.get_service_names_and_types())
        if service not in known:
            raise unknown(node, "service", service, known)
        kind = class_of(known[service][0])
        message = kind.Request()
        fill(message, request)
        client = node.create_client(kind, service)
        if not client.wait_for_service(timeout_sec=SERVICE_TIMEOUT_S):
            raise TransportError(f"{service} is not reached within {SERVICE_TIMEOUT_S:g} s")
        try:
            future = client.call_async(message)
        except TypeError as error:  # of native messages, which check some fields only when they are sent
            raise RobolearnError(f"{service}: {error}") from None
        while not future.done():
            node.executor.spin_until_future_complete(future, timeout_sec=ALIVE_CHECK_S)
            if not future.done() and not client.service_is_ready():
                raise TransportError(f"the node of {service} is gone and has not answered; see what it did before")
        return dict(to_dict(future.result()))


def fill(message: Any, values: dict[str, Any]) -> None:
    """Set fields of a message, nested ones too, from plain data. Raises RobolearnError for what does not fit."""
    fields = message.get_fields_and_field_types()
    for name, value in values.items():
        if name not in fields:
            raise UnknownNameError("field", str(name), fields)
        current = getattr(message, name)
        if isinstance(value, dict) and not hasattr(current, "get_fields_and_field_types"):
            raise RobolearnError(f"field {name} is {value!r}, wanted {fields[name]}")
        try:
            if isinstance(value, dict):
                fill(current, value)
            elif isinstance(value, list) and value and isinstance(value[0], dict):
                inner = fields[name].removeprefix("sequence<").split("[")[0].split(",")[0].rstrip(">")
                element = class_of(inner.replace("/", "/msg/"))
                items = [element() for _ in value]
                for item, content in zip(items, value, strict=True):
                    fill(item, content)
                setattr(message, name, items)
            else:
                setattr(message, name, float(value) if isinstance(current, float) and isinstance(value, int) else value)
        except (TypeError, ValueError, AssertionError, AttributeError) as error:
            raise RobolearnError(f"field {name}: {error}") from None


def _subscribe(node: Any, topic: str, deliver: Any) -> Any:
    """Subscribe with the type and the QoS that its publishers have. Raises UnknownNameError; RobolearnError where they
    do not agree on a type."""
    from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy

    topic = topic if topic.startswith("/") else f"/{topic}"
    infos = node.get_publishers_info_by_topic(topic)
    if not infos:
        known = [name for name, _ in node.get_topic_names_and_types()]
        if topic in known:
            raise RobolearnError(f"nobody publishes {topic}; is its node running?")
        raise unknown(node, "topic", topic, known)
    if len(kinds := sorted({info.topic_type for info in infos})) > 1:
        raise RobolearnError(f"{topic} is published with several types, {' and '.join(kinds)}; stop all but one")
    reliable = all(info.qos_profile.reliability == ReliabilityPolicy.RELIABLE for info in infos)
    latched = all(info.qos_profile.durability == DurabilityPolicy.TRANSIENT_LOCAL for info in infos)
    profile = QoSProfile(
        depth=100,
        reliability=ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT,
        durability=DurabilityPolicy.TRANSIENT_LOCAL if latched else DurabilityPolicy.VOLATILE,
    )
    return node.create_subscription(class_of(infos[0].topic_type), topic, deliver, profile)


def class_of(type_name: str) -> Any:
    """The class of `package/msg/Name`. Raises UnknownNameError."""
    package, kind, short = type_name.split("/")
    try:
        return getattr(importlib.import_module(f"{package}.{kind}"), short)
    except (ImportError, AttributeError):
        raise UnknownNameError("message type", type_name, []) from None


def publish(
    topic: str, values: dict[str, Any], type_name: str = "", rate_hz: float = 1.0, count: int | None = None
) -> Iterator[int]:
    """Publish a message with these fields again and again, `count` times or for ever; after each, how many
    subscriptions of the graph heard it. A header without a stamp has the time of sending.

    The type is that of the topic, or `type_name` where nobody has it yet. So many messages wait for somebody to hear
    them. Raises RobolearnError, and TransportError where nobody does.
    """
    topic = topic if topic.startswith("/") else f"/{topic}"
    with observer() as node:
        kind = class_of(_type_of(node, topic, type_name))
        message = kind()
        fill(message, values)
        stamped = "header" in kind.get_fields_and_field_types() and "stamp" not in values.get("header", {})
        publisher = node.create_publisher(kind, topic, _offered(node, topic))
        due = time.monotonic() + (0.0 if count is None else SERVICE_TIMEOUT_S)
        while count is not None and not publisher.get_subscription_count():
            if time.monotonic() > due:
                raise TransportError(f"nobody hears {topic}; see `robolearn topic info {topic}`")
            node.executor.spin_once(timeout_sec=0.02)
        due, sent = time.monotonic(), 0
        while count is None or sent < count:
            if stamped:
                message.header.stamp = node.get_clock().now().to_msg()
            try:
                publisher.publish(message)
            except (TypeError, AssertionError) as error:  # of native messages, which check some fields only then
                raise RobolearnError(f"{topic}: {error}") from None
            sent += 1
            yield publisher.get_subscription_count()
            due += 1.0 / rate_hz
            while sent != count and (left := due - time.monotonic()) > 0:
                node.executor.spin_once(timeout_sec=left)
        publisher.wait_for_all_acked()


def _type_of(node: Any, topic: str, wanted: str) -> str:
    """The type of a topic that somebody has, or the one that is wanted. Raises RobolearnError."""
    known = dict(node.get_topic_names_and_types()).get(topic, [])
    if wanted.count("/") == 1:
        wanted = wanted.replace("/", "/msg/")
    if wanted and (wanted.count("/") != 2 or not all(wanted.split("/"))):
        raise RobolearnError(f"{wanted!r} is no type of messages; wanted is such as std_msgs/msg/String")
    if known and wanted and wanted not in known:
        raise RobolearnError(f"{topic} is of type {' and '.join(known)}, not {wanted}; leave --type out")
    if not known and not wanted:
        raise RobolearnError(f"nobody has topic {topic}; see `robolearn topic list`, or give --type, its type")
    if len(known) > 1 and not wanted:
        raise RobolearnError(f"{topic} has several types, {' and '.join(known)}; say which with --type")
    return wanted or str(known[0])


def _offered(node: Any, topic: str) -> Any:
    """The QoS that all subscriptions of a topic are content with."""
    from rclpy.qos import DurabilityPolicy, QoSProfile

    infos = node.get_subscriptions_info_by_topic(topic)
    latched = any(info.qos_profile.durability == DurabilityPolicy.TRANSIENT_LOCAL for info in infos)
    return QoSProfile(depth=10, durability=DurabilityPolicy.TRANSIENT_LOCAL if latched else DurabilityPolicy.VOLATILE)


def echo(topic: str, count: int | None = None, timeout_s: float | None = None) -> Iterator[dict[str, Any]]:
    """Messages of a topic as dictionaries, as they come. Ends after `count`, or without one within the time."""
    received: deque[Any] = deque()
    with observer() as node:
        _subscribe(node, topic, lambda message: received.append(message))  # rclpy wants a callback with a signature
        given = 0
        last = time.monotonic()
        while count is None or given < count:
            node.executor.spin_once(timeout_sec=0.1)
            while received and (count is None or given < count):
                yield to_dict(received.popleft())
                given, last = given + 1, time.monotonic()
            if timeout_s is not None and time.monotonic() - last > timeout_s:
                return


def rate(topic: str, seconds: float = 3.0) -> dict[str, Any]:
    """Arrivals of a topic over some seconds: `messages`, `rate_hz`, and the gaps `min_s`, `max_s`, `std_s`."""
    arrivals: list[int] = []
    with observer() as node:
        _subscribe(node, topic, lambda _: arrivals.append(time.monotonic_ns()))
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            node.executor.spin_once(timeout_sec=0.05)
    gaps = np.diff(np.asarray(arrivals, np.float64)) / 1e9
    if not len(gaps):
        return {"messages": len(arrivals), "rate_hz": None, "min_s": None, "max_s": None, "std_s": None}
    return {
        "messages": len(arrivals),
        "rate_hz": float(1.0 / gaps.mean()),
        "min_s": float(gaps.min()),
        "max_s": float(gaps.max()),
        "std_s": float(gaps.std()),
    }


def to_dict(message: Any) -> Any:
    """A message as plain dictionaries, lists, numbers and strings."""
    if hasattr(message, "get_fields_and_field_types"):
        return {name: to_dict(getattr(message, name)) for name in message.get_fields_and_field_types()}
    if isinstance(message, bytes):
        return message[0] if len(message) == 1 else list(message)
    if hasattr(message, "tolist"):
        return message.tolist()
    return [to_dict(item) for item in message] if isinstance(message, list | tuple) else message


def _call(node: Any, target: str, service: str, request: Any, kind: Any) -> Any:
    """Call one of a node's parameter services. Raises UnknownNameError or TransportError."""
    target = target if target.startswith("/") else f"/{target}"
    known = [f"{ns.rstrip('/')}/{name}" for name, ns in node.get_node_names_and_namespaces()]
    if target not in known:
        raise unknown(node, "node", target, [name for name in known if "/_" not in name])
    client = node.create_client(kind, f"{target}/{service}")
    if not client.wait_for_service(timeout_sec=SERVICE_TIMEOUT_S):
        raise TransportError(f"node {target} has no parameter services")
    future = client.call_async(request)
    node.executor.spin_until_future_complete(future, timeout_sec=SERVICE_TIMEOUT_S)
    if not future.done():
        raise TransportError(f"node {target} did not answer within {SERVICE_TIMEOUT_S:g} s")
    return future.result()


def parameters(target: str) -> dict[str, Any]:
    """Every parameter of a node with its value. Raises UnknownNameError or TransportError."""
    from rcl_interfaces.srv import GetParameters, ListParameters
    from rclpy.parameter import parameter_value_to_python

    with observer() as node:
        names = list(_call(node, target, "list_parameters", ListParameters.Request(), ListParameters).result.names)
        answer = _call(node, target, "get_parameters", GetParameters.Request(names=names), GetParameters)
        values = (parameter_value_to_python(value) for value in answer.values)
        return dict(sorted(zip(names, values, strict=True)))


def get_parameter(target: str, name: str) -> Any:
    """One value. Raises UnknownNameError if the node or the parameter is not there."""
    known = parameters(target)
    if name not in known:
        raise UnknownNameError(f"parameter of {target}", name, known)
    return known[name]


def set_parameter(target: str, name: str, text: str) -> tuple[bool, str]:
    """Set one from YAML text. Returns whether it was accepted, and the node's reason if not."""
    from rcl_interfaces.msg import Parameter as ParameterMessage
    from rcl_interfaces.srv import SetParameters
    from rclpy.parameter import get_parameter_value

    try:
        value = get_parameter_value(text)
    except (ValueError, AssertionError, RecursionError):  # an integer beyond 64 bits, or nested without end
        raise RobolearnError(
            f"{text[:80]!r} is no value of a parameter: a boolean, number, text or a list of one"
        ) from None
    with observer() as node:
        request = SetParameters.Request(parameters=[ParameterMessage(name=name, value=value)])
        (outcome,) = _call(node, target, "set_parameters", request, SetParameters).results
        return bool(outcome.successful), str(outcome.reason)


def transport_check() -> str:
    """Open a participant on this machine's domain, close it again, and say what was opened. Raises TransportError."""
    with observer(settle_s=0.0) as node:
        client = "native rclpy" if robolearn.ros.is_native() else "embedded client"
        return f"{client}, domain {node.context.get_domain_id()}"
