"""The part of `rclpy.node.Node` that asks what the domain holds."""

from __future__ import annotations

import time

from . import graph
from .clock import Clock
from .exceptions import InvalidServiceNameException, InvalidTopicNameException
from .logging import RcutilsLogger
from .node_core import NodeCore
from .topic_endpoint_info import TopicEndpointInfo


class GraphMethods:
    """Names of the node that it is part of, and what there is beside it."""

    _rclpy: NodeCore

    def resolve_topic_name(self, topic: str, *, only_expand: bool = False) -> str:
        """The absolute name after expansion and remapping. Raises InvalidTopicNameException."""
        return self._rclpy.resolve(topic, only_expand, InvalidTopicNameException, "rostopic://")

    def resolve_service_name(self, service: str, *, only_expand: bool = False) -> str:
        """The absolute name after expansion and remapping. Raises InvalidServiceNameException."""
        return self._rclpy.resolve(service, only_expand, InvalidServiceNameException, "rosservice://")

    def get_name(self) -> str:
        return self._rclpy.name

    def get_namespace(self) -> str:
        return self._rclpy.namespace

    def get_fully_qualified_name(self) -> str:
        return f"{self._rclpy.namespace.rstrip('/')}/{self._rclpy.name}"

    def get_logger(self) -> RcutilsLogger:
        return self._rclpy.logger

    def get_clock(self) -> Clock:
        return self._rclpy.clock

    def get_node_names(self) -> list[str]:
        return [node.name for node in self._rclpy.session.graph().nodes]

    def get_fully_qualified_node_names(self) -> list[str]:
        return [f"{node.namespace.rstrip('/')}/{node.name}" for node in self._rclpy.session.graph().nodes]

    def get_node_names_and_namespaces(self) -> list[tuple[str, str]]:
        return [(node.name, node.namespace) for node in self._rclpy.session.graph().nodes]

    def get_node_names_and_namespaces_with_enclaves(self) -> list[tuple[str, str, str]]:
        return [(node.name, node.namespace, node.enclave) for node in self._rclpy.session.graph().nodes]

    def get_topic_names_and_types(self, no_demangle: bool = False) -> graph.NamesAndTypes:
        return graph.topics(self._rclpy.session.graph())

    def get_service_names_and_types(self) -> graph.NamesAndTypes:
        return graph.services(self._rclpy.session.graph())

    def get_publisher_names_and_types_by_node(
        self, node_name: str, node_namespace: str, no_demangle: bool = False
    ) -> graph.NamesAndTypes:
        return self._rclpy.of_node(node_name, node_namespace, graph.node_topics, True)

    def get_subscriber_names_and_types_by_node(
        self, node_name: str, node_namespace: str, no_demangle: bool = False
    ) -> graph.NamesAndTypes:
        return self._rclpy.of_node(node_name, node_namespace, graph.node_topics, False)

    def get_service_names_and_types_by_node(self, node_name: str, node_namespace: str) -> graph.NamesAndTypes:
        return self._rclpy.of_node(node_name, node_namespace, graph.node_services, False)

    def get_client_names_and_types_by_node(self, node_name: str, node_namespace: str) -> graph.NamesAndTypes:
        return self._rclpy.of_node(node_name, node_namespace, graph.node_services, True)

    def count_publishers(self, topic_name: str) -> int:
        name = self.resolve_topic_name(topic_name, only_expand=True)
        return graph.count(self._rclpy.session.graph(), name, writers=True)

    def count_subscribers(self, topic_name: str) -> int:
        name = self.resolve_topic_name(topic_name, only_expand=True)
        return graph.count(self._rclpy.session.graph(), name, writers=False)

    def count_services(self, service_name: str) -> int:
        name = self.resolve_service_name(service_name, only_expand=True)
        return graph.count_services(self._rclpy.session.graph(), name, clients=False)

    def count_clients(self, service_name: str) -> int:
        name = self.resolve_service_name(service_name, only_expand=True)
        return graph.count_services(self._rclpy.session.graph(), name, clients=True)

    def get_publishers_info_by_topic(self, topic_name: str, no_mangle: bool = False) -> list[TopicEndpointInfo]:
        name = topic_name if no_mangle else self.resolve_topic_name(topic_name)
        return graph.endpoint_infos(self._rclpy.session.graph(), name, True, no_mangle)

    def get_subscriptions_info_by_topic(self, topic_name: str, no_mangle: bool = False) -> list[TopicEndpointInfo]:
        name = topic_name if no_mangle else self.resolve_topic_name(topic_name)
        return graph.endpoint_infos(self._rclpy.session.graph(), name, False, no_mangle)

    def wait_for_node(self, fully_qualified_node_name: str, timeout: float) -> bool:
        """Whether the node is there within the time [s]."""
        deadline = time.monotonic() + timeout
        while fully_qualified_node_name not in self.get_fully_qualified_node_names():
            if time.monotonic() >= deadline:
                return False
            time.sleep(0.05)
        return True
