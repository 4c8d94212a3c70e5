"""What the domain holds, in the terms of ROS."""

from __future__ import annotations

from collections.abc import Callable

from robolearn.ros import wire
from robolearn.ros.transport import EndpointInfo, Graph, NodeInfo

from .qos import from_endpoint
from .topic_endpoint_info import TopicEndpointInfo, TopicEndpointTypeEnum

NamesAndTypes = list[tuple[str, list[str]]]
_ANONYMOUS = NodeInfo("_NODE_NAME_UNKNOWN_", "_NODE_NAMESPACE_UNKNOWN_", "", frozenset(), frozenset())


def _collect(endpoints: list[EndpointInfo], name_of: Callable[[str], str | None]) -> NamesAndTypes:
    found: dict[str, set[str]] = {}
    for endpoint in endpoints:
        name = name_of(endpoint.wire_topic)
        if name is not None:
            found.setdefault(name, set()).add(_service_type(endpoint.wire_type))
    return sorted((name, sorted(types)) for name, types in found.items())


def _service_type(wire_type: str) -> str:
    """`pkg/srv/Add_Request` to `pkg/srv/Add`; a message type stays."""
    if "/msg/" in wire_type:
        return wire_type
    return wire_type.removesuffix("_Request").removesuffix("_Response")


def topics(graph: Graph) -> NamesAndTypes:
    return _collect(list(graph.endpoints), wire.demangle_topic)


def services(graph: Graph) -> NamesAndTypes:
    return _collect(list(graph.endpoints), wire.demangle_service)


def count(graph: Graph, topic: str, writers: bool) -> int:
    name = wire.topic_name(topic)
    return sum(e.wire_topic == name and e.is_writer == writers for e in graph.endpoints)


def count_services(graph: Graph, name: str, clients: bool) -> int:
    """Servers or clients of a service: the writers of its requests are clients, the readers servers."""
    topic = wire.request_topic(name)
    return sum(e.wire_topic == topic and e.is_writer == clients for e in graph.endpoints)


def find_node(graph: Graph, name: str, namespace: str) -> NodeInfo | None:
    return next((node for node in graph.nodes if (node.name, node.namespace) == (name, namespace)), None)


def of_node(graph: Graph, node: NodeInfo, writers: bool) -> list[EndpointInfo]:
    """The node's publishers or subscriptions, of topics and of services."""
    gids = node.writer_gids if writers else node.reader_gids
    return [e for e in graph.endpoints if e.gid in gids and e.is_writer == writers]


def node_topics(graph: Graph, node: NodeInfo, writers: bool) -> NamesAndTypes:
    return _collect(of_node(graph, node, writers), wire.demangle_topic)


def node_services(graph: Graph, node: NodeInfo, clients: bool) -> NamesAndTypes:
    """What the node serves (it reads requests) or calls (it writes them)."""
    requests = [e for e in of_node(graph, node, clients) if e.wire_topic.startswith("rq/")]
    return _collect(requests, wire.demangle_service)


def endpoint_infos(graph: Graph, topic: str, writers: bool, no_mangle: bool = False) -> list[TopicEndpointInfo]:
    """Who publishes or subscribes a topic, and how."""
    wanted = topic if no_mangle else wire.topic_name(topic)
    owner = {gid: node for node in graph.nodes for gid in (node.writer_gids if writers else node.reader_gids)}
    kind = TopicEndpointTypeEnum.PUBLISHER if writers else TopicEndpointTypeEnum.SUBSCRIPTION
    infos = []
    for endpoint in graph.endpoints:
        if endpoint.wire_topic == wanted and endpoint.is_writer == writers:
            node = owner.get(endpoint.gid, _ANONYMOUS)
            profile = from_endpoint(endpoint.qos)
            infos.append(
                TopicEndpointInfo(
                    node.name, node.namespace, endpoint.wire_type, endpoint.type_hash, kind, list(endpoint.gid), profile
                )
            )
    return infos
