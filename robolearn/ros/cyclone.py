"""The transport over Cyclone DDS: one participant of the domain, its endpoints, and who else is there.

No listeners and no threads of ours; what the library lacks in its Python binding is in `cyclone_calls`.
"""

from __future__ import annotations

import logging
import threading
from typing import Any

from cyclonedds.builtin import (
    BuiltinDataReader,
    BuiltinTopicDcpsParticipant,
    BuiltinTopicDcpsPublication,
    BuiltinTopicDcpsSubscription,
)
from cyclonedds.core import InstanceState, ReadCondition, SampleState, ViewState
from cyclonedds.domain import DomainParticipant
from cyclonedds.qos import Policy, Qos
from cyclonedds.topic import Topic

from robolearn.errors import TransportError
from robolearn.ros import messages, wire
from robolearn.ros.cyclone_config import acquire_domain, refusals, release_domain
from robolearn.ros.cyclone_endpoints import CycloneReader, CycloneWriter
from robolearn.ros.cyclone_qos import from_dds_qos, to_dds_qos, user_data_of
from robolearn.ros.cyclone_services import CycloneClient, CycloneServer
from robolearn.ros.cyclone_types import idl_struct
from robolearn.ros.cyclone_waiter import CycloneWaiter
from robolearn.ros.transport import EndpointInfo, EndpointQos, Graph, NodeInfo

logger = logging.getLogger(__name__)

GONE = SampleState.Any | ViewState.Any | InstanceState.NotAliveDisposed | InstanceState.NotAliveNoWriters
NEWS = SampleState.NotRead | ViewState.Any | InstanceState.Any
BUILTIN_TOPICS = (BuiltinTopicDcpsParticipant, BuiltinTopicDcpsPublication, BuiltinTopicDcpsSubscription)
READ_AT_ONCE = 100_000
_QOS_LOCK = threading.Lock()  # the library reads the QoS of others into memory that all threads of a process share


class CycloneTransport:
    """One participant of the domain and its endpoints."""

    def __init__(self, domain_id: int, enclave: str) -> None:
        self._domain_id = domain_id
        acquire_domain(domain_id)
        try:
            with refusals(f"ROS domain {domain_id}: no participant can be created"):
                user_data = Policy.Userdata(wire.user_data(enclave=enclave))
                self.participant = DomainParticipant(domain_id, Qos(user_data))
        except TransportError:
            release_domain(domain_id)
            raise
        self.gid: bytes = self.participant.get_guid().bytes
        self._topics: dict[tuple[str, str, bool], Topic[Any]] = {}
        self._counter = 0
        self._lock = threading.Lock()
        self._announced: dict[bytes, Any] = {}
        self._graph_lock = threading.Lock()
        self._builtin = [BuiltinDataReader(self.participant, topic) for topic in BUILTIN_TOPICS]
        self._gone = [ReadCondition(reader, GONE) for reader in self._builtin]
        self._news = [ReadCondition(reader, NEWS) for reader in self._builtin]
        self._announcements = 0  # that were noted, ours too
        self._seen: tuple[int, Graph] | None = None  # the graph as it was after so many announcements
        self._open_discovery()

    def _open_discovery(self) -> None:
        messages.message_class(wire.DISCOVERY_TYPE)
        topic = self._topic(wire.DISCOVERY_TOPIC, wire.DISCOVERY_TYPE)
        user_data = wire.user_data(typehash=messages.type_hash(wire.DISCOVERY_TYPE))
        qos = EndpointQos(depth=1, transient_local=True)
        self._announcer = CycloneWriter(self.participant, topic, to_dds_qos(qos, user_data, ignore_local=True))
        keep_all = EndpointQos(depth=None, transient_local=True)
        self.discovery = CycloneReader(self.participant, topic, to_dds_qos(keep_all, user_data, ignore_local=True))

    def take_announcements(self) -> None:
        """Note which nodes the other participants hold."""
        for data, _ in self.discovery.take():
            try:
                entities: Any = messages.deserialize(data, messages.message_class(wire.DISCOVERY_TYPE))
            except ValueError as error:
                logger.warning("a participant announced its nodes in a form that cannot be read: %s", error)
                continue
            self._announced[bytes(entities.gid.data)[:16]] = entities
            self._announcements += 1

    def next_identity(self) -> str:
        """A new client or service id."""
        with self._lock:
            self._counter += 1
            return wire.identity(self.gid, self._counter)

    def _topic(self, wire_name: str, type_name: str, is_service: bool = False) -> Topic[Any]:
        key = (wire_name, type_name, is_service)
        with self._lock:
            if key not in self._topics:
                with refusals(f"topic {wire_name} of type {type_name} cannot be created"):
                    self._topics[key] = Topic(self.participant, wire_name, idl_struct(type_name, is_service))
            return self._topics[key]

    def create_writer(self, topic: str, type_name: str, qos: EndpointQos) -> CycloneWriter:
        user_data = wire.user_data(typehash=messages.type_hash(type_name))
        dds_qos = to_dds_qos(qos, user_data, ignore_local=True)
        with refusals(f"no publisher for {topic}"):
            return CycloneWriter(self.participant, self._topic(wire.topic_name(topic), type_name), dds_qos)

    def create_reader(self, topic: str, type_name: str, qos: EndpointQos) -> CycloneReader:
        user_data = wire.user_data(typehash=messages.type_hash(type_name))
        dds_qos = to_dds_qos(qos, user_data, ignore_local=True)
        with refusals(f"no subscription for {topic}"):
            return CycloneReader(self.participant, self._topic(wire.topic_name(topic), type_name), dds_qos)

    def service_writer(self, wire_name: str, type_name: str, qos: EndpointQos, **identity: str) -> CycloneWriter:
        user_data = wire.user_data(**identity, typehash=messages.type_hash(type_name))
        with refusals(f"no writer for {wire_name}"):
            return CycloneWriter(self.participant, self._topic(wire_name, type_name, True), to_dds_qos(qos, user_data))

    def service_reader(self, wire_name: str, type_name: str, qos: EndpointQos, **identity: str) -> CycloneReader:
        user_data = wire.user_data(**identity, typehash=messages.type_hash(type_name))
        with refusals(f"no reader for {wire_name}"):
            return CycloneReader(self.participant, self._topic(wire_name, type_name, True), to_dds_qos(qos, user_data))

    def create_server(self, name: str, service: str, qos: EndpointQos) -> CycloneServer:
        return CycloneServer(self, name, service, qos)

    def create_client(self, name: str, service: str, qos: EndpointQos) -> CycloneClient:
        return CycloneClient(self, name, service, qos)

    def create_waiter(self) -> CycloneWaiter:
        return CycloneWaiter(self.participant, self.discovery, self.take_announcements)

    def announce(self, nodes: list[NodeInfo]) -> None:
        """Tell the domain which nodes and endpoints this participant holds."""
        message = _entities_message(self.gid, nodes)
        self._announced[self.gid] = message
        self._announcements += 1
        self._announcer.write(messages.serialize(message))

    def graph(self) -> Graph:
        """Everything that is alive in the domain now, this participant included. To look at it takes long, so that it
        is done when there is news."""
        self.take_announcements()
        with self._graph_lock:
            count = self._announcements
            if self._seen is None or self._seen[0] != count or any(news.triggered for news in self._news):
                self._seen = count, self._look()
            return self._seen[1]

    def _look(self) -> Graph:
        participants: dict[bytes, str] = {}
        for participant in self._read(0):
            participants[participant.key.bytes] = user_data_of(participant.qos).get("enclave", "")
        for gid in self._announced.keys() - participants.keys():  # it was discovered before it could announce
            del self._announced[gid]
        endpoints = [
            EndpointInfo(
                endpoint.key.bytes,
                endpoint.participant_key.bytes,
                index == 1,
                endpoint.topic_name,
                wire.demangle_type(endpoint.type_name),
                user_data_of(endpoint.qos).get("typehash", ""),
                from_dds_qos(endpoint.qos),
            )
            for index in (1, 2)
            for endpoint in self._read(index)
        ]
        nodes = [
            NodeInfo(
                node.node_name,
                node.node_namespace,
                participants[gid],
                frozenset(bytes(entry.data)[:16] for entry in node.reader_gid_seq),
                frozenset(bytes(entry.data)[:16] for entry in node.writer_gid_seq),
            )
            for gid, entities in list(self._announced.items())
            if gid in participants
            for node in entities.node_entities_info_seq
        ]
        return Graph(tuple(nodes), tuple(endpoints))

    def _read(self, index: int) -> list[Any]:
        """What is alive of one kind; what is gone leaves the library's cache."""
        reader = self._builtin[index]
        with _QOS_LOCK:
            while reader.take(READ_AT_ONCE, self._gone[index]):
                pass
            samples = reader.read(READ_AT_ONCE)
        return [s for s in samples if s.sample_info.valid_data and s.sample_info.instance_state == InstanceState.Alive]

    def close(self) -> None:
        """Leave the domain. Endpoints that are still open are closed with it."""
        self.participant.__del__()
        release_domain(self._domain_id)


def _entities_message(participant_gid: bytes, nodes: list[NodeInfo]) -> Any:
    gid_class = messages.message_class("rmw_dds_common/msg/Gid")
    node_class = messages.message_class("rmw_dds_common/msg/NodeEntitiesInfo")
    infos = [
        node_class(
            node_namespace=node.namespace,
            node_name=node.name,
            reader_gid_seq=[gid_class(data=gid) for gid in sorted(node.reader_gids)],
            writer_gid_seq=[gid_class(data=gid) for gid in sorted(node.writer_gids)],
        )
        for node in nodes
    ]
    return messages.message_class(wire.DISCOVERY_TYPE)(
        gid=gid_class(data=participant_gid), node_entities_info_seq=infos
    )
