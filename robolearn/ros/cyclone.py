"""The transport over Cyclone DDS: raw CDR bytes, wait sets, no listeners and no threads of ours.

`dds_write` is called through ctypes, which releases the interpreter lock while a reliable write blocks; the binding's
own call does not.
"""

from __future__ import annotations

import ctypes
import logging
import threading
import time
from typing import Any

from cyclonedds import _clayer
from cyclonedds.builtin import (
    BuiltinDataReader,
    BuiltinTopicDcpsParticipant,
    BuiltinTopicDcpsPublication,
    BuiltinTopicDcpsSubscription,
)
from cyclonedds.core import GuardCondition, InstanceState, ReadCondition, SampleState, ViewState, WaitSet
from cyclonedds.domain import DomainParticipant
from cyclonedds.internal import DDS, dds_c_t, dds_infinity
from cyclonedds.pub import DataWriter
from cyclonedds.qos import Policy, Qos
from cyclonedds.sub import DataReader
from cyclonedds.topic import Topic

from robolearn.errors import TransportError
from robolearn.ros import messages, wire
from robolearn.ros.cyclone_config import acquire_domain, refusals, release_domain
from robolearn.ros.cyclone_types import idl_struct
from robolearn.ros.transport import (
    EndpointInfo,
    EndpointQos,
    Graph,
    NodeInfo,
    RequestId,
)

logger = logging.getLogger(__name__)

ANY = SampleState.Any | ViewState.Any | InstanceState.Any
GONE = SampleState.Any | ViewState.Any | InstanceState.NotAliveDisposed | InstanceState.NotAliveNoWriters
BUILTIN_TOPICS = (BuiltinTopicDcpsParticipant, BuiltinTopicDcpsPublication, BuiltinTopicDcpsSubscription)
TAKE_AT_ONCE = 64
READ_AT_ONCE = 100_000
KNOWN_CLIENTS = 1000
TRIGGERS_AT_ONCE = 64
GUARD_KEY, DISCOVERY_KEY = 1, 2
SIGNAL_CHECK_NS = 100_000_000  # Python handles signals between calls of the library, not during one
REPLY_MATCH_S = 0.1  # how long a reply waits until the reader of a new client has been discovered
HANDLE_MASK = 2**64 - 1  # the binding gives instance handles signed, and publication handles unsigned

_lib = DDS._dll_handle
_dds_write = _lib["dds_write"]
_dds_write.argtypes, _dds_write.restype = [ctypes.c_int32, ctypes.c_void_p], ctypes.c_int32
_waitset_attach = _lib["dds_waitset_attach"]
_waitset_attach.argtypes = [ctypes.c_int32, ctypes.c_int32, ctypes.c_ssize_t]
_waitset_detach = _lib["dds_waitset_detach"]
_waitset_detach.argtypes = [ctypes.c_int32, ctypes.c_int32]
_waitset_wait = _lib["dds_waitset_wait"]
_waitset_wait.argtypes = [ctypes.c_int32, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int64]
_waitset_wait.restype = ctypes.c_int32


def to_dds_qos(qos: EndpointQos, user_data: bytes, ignore_local: bool = False) -> Qos:
    """As rmw_cyclonedds_cpp sets it; what is infinite there is left at DDS' own infinite default."""
    history = Policy.History.KeepAll if qos.depth is None else Policy.History.KeepLast(max(qos.depth, 1))
    lease = dds_infinity if qos.lease_ns is None else qos.lease_ns
    policies = [
        Policy.Reliability.Reliable(dds_infinity) if qos.reliable else Policy.Reliability.BestEffort,
        history,
        Policy.Durability.TransientLocal if qos.transient_local else Policy.Durability.Volatile,
        Policy.Liveliness.ManualByTopic(lease) if qos.manual_liveliness else Policy.Liveliness.Automatic(lease),
        Policy.WriterDataLifecycle(autodispose=False),
        Policy.IgnoreLocal.Participant if ignore_local else Policy.IgnoreLocal.Nothing,
        Policy.DataRepresentation(use_cdrv0_representation=True),
        Policy.Userdata(user_data),
    ]
    if qos.transient_local:
        policies.append(Policy.DurabilityService(0, history, -1, -1, -1))
    if qos.deadline_ns is not None:
        policies.append(Policy.Deadline(qos.deadline_ns))
    if qos.lifespan_ns is not None:
        policies.append(Policy.Lifespan(qos.lifespan_ns))
    return Qos(*policies)


def from_dds_qos(qos: Qos) -> EndpointQos:
    """What a peer announced."""

    def finite(value: int | None) -> int | None:
        return None if value is None or value >= dds_infinity else value

    history, liveliness = qos[Policy.History], qos[Policy.Liveliness]
    deadline, lifespan = qos[Policy.Deadline], qos[Policy.Lifespan]
    return EndpointQos(
        reliable=isinstance(qos[Policy.Reliability], Policy.Reliability.Reliable),
        depth=getattr(history, "depth", None) if history is not None else 0,
        transient_local=qos[Policy.Durability] not in (None, Policy.Durability.Volatile),
        deadline_ns=finite(deadline.deadline) if deadline else None,
        lifespan_ns=finite(lifespan.lifespan) if lifespan else None,
        manual_liveliness=isinstance(liveliness, Policy.Liveliness.ManualByTopic),
        lease_ns=finite(liveliness.lease_duration) if liveliness else None,
    )


def _user_data(qos: Qos) -> dict[str, str]:
    policy = qos[Policy.Userdata]
    return wire.parse_user_data(policy.data) if policy else {}


class CycloneWriter:
    """A DDS writer that takes CDR bytes."""

    def __init__(self, participant: DomainParticipant, topic: Topic[Any], qos: Qos) -> None:
        self._writer = DataWriter(participant, topic, qos)
        self.gid: bytes = self._writer.get_guid().bytes
        self.handle: int = self._writer.get_instance_handle() & HANDLE_MASK
        self._status = dds_c_t.publication_matched_status()

    def write(self, data: memoryview | bytearray) -> None:
        """Send one sample. Raises TransportError if the library refuses it."""
        owner: Any = data.obj if isinstance(data, memoryview) else data
        first = ctypes.c_char.from_buffer(owner)  # keeps the bytearray from being resized while the library reads it
        sample = dds_c_t.sample_buffer(ctypes.addressof(first), len(owner))
        code = _dds_write(self._writer._ref, ctypes.byref(sample))
        if code < 0:
            raise TransportError(f"a sample of {len(owner)} bytes was not written (DDS code {code})")

    def matched(self) -> int:
        """Number of readers that this writer reaches through DDS."""
        code = self._writer._get_publication_matched_status(self._writer._ref, ctypes.byref(self._status))
        return 0 if code < 0 else int(self._status.current_count)

    def wait_for_acks(self, timeout_ns: int) -> bool:
        """Whether every matched reader has acknowledged everything within the time."""
        return bool(self._writer._wait_for_acks(self._writer._ref, timeout_ns) == 0)

    def matched_ids(self, key: str) -> dict[str, bytes]:
        """Of every matched reader with this entry in its user data: the entry, and the reader's gid."""
        found = (self._writer.get_matched_subscription_data(h) for h in self._writer.get_matched_subscriptions())
        return {_user_data(e.qos).get(key, ""): e.key.bytes for e in found if e is not None}

    def close(self) -> None:
        self._writer.__del__()


class CycloneReader:
    """A DDS reader that gives CDR bytes."""

    def __init__(self, participant: DomainParticipant, topic: Topic[Any], qos: Qos) -> None:
        self._reader = DataReader(participant, topic, qos)
        self.gid: bytes = self._reader.get_guid().bytes
        self._status = dds_c_t.subscription_matched_status()
        self.condition = ReadCondition(self._reader, ViewState.Any | SampleState.NotRead | InstanceState.Any)

    def take_samples(self) -> list[tuple[bytes, Any]]:
        """Bytes and DDS sample info of everything that has arrived."""
        taken: list[tuple[bytes, Any]] = []
        while True:
            samples = _clayer.ddspy_take(self._reader._ref, ANY, TAKE_AT_ONCE)
            if not isinstance(samples, list):  # an error code: the reader was deleted meanwhile
                return taken
            taken.extend((data, info) for data, info in samples if info.valid_data)
            if len(samples) < TAKE_AT_ONCE:
                return taken

    def take(self) -> list[tuple[bytes, int]]:
        """Bytes and source stamp [ns] of everything that has arrived."""
        return [(data, info.source_timestamp) for data, info in self.take_samples()]

    def matched(self) -> int:
        """Number of writers that reach this reader through DDS."""
        code = self._reader._get_subscription_matched_status(self._reader._ref, ctypes.byref(self._status))
        return 0 if code < 0 else int(self._status.current_count)

    def matched_ids(self, key: str) -> dict[str, bytes]:
        """Of every matched writer with this entry in its user data: the entry, and the writer's gid."""
        found = (self._reader.get_matched_publication_data(h) for h in self._reader.get_matched_publications())
        return {_user_data(e.qos).get(key, ""): e.key.bytes for e in found if e is not None}

    def id_of(self, publication_handle: int, key: str) -> str | None:
        """The entry in the user data of one matched writer."""
        signed = publication_handle - 2**64 if publication_handle >= 2**63 else publication_handle
        endpoint = self._reader.get_matched_publication_data(signed)
        return None if endpoint is None else _user_data(endpoint.qos).get(key)

    def close(self) -> None:
        self.condition.__del__()
        self._reader.__del__()


class CycloneServer:
    """A service: reads requests, writes replies to the client that asked."""

    def __init__(self, owner: CycloneTransport, name: str, service: str, qos: EndpointQos) -> None:
        identity = owner.next_identity()
        response, request = f"{service}_Response", f"{service}_Request"
        self._ready_clients: set[int] = set()
        self._writer = owner.service_writer(wire.reply_topic(name), response, qos, serviceid=identity)
        self.writer_gid = self._writer.gid
        self._reader = owner.service_reader(wire.request_topic(name), request, qos, serviceid=identity)
        self.reader_gid = self._reader.gid

    @property
    def condition(self) -> ReadCondition:
        return self._reader.condition

    def take(self) -> list[tuple[bytes, RequestId]]:
        """Every request that has arrived."""
        requests = []
        for data, info in self._reader.take_samples():
            message, client, sequence = wire.split_service_header(data)
            requests.append((message, RequestId(client, sequence, info.publication_handle)))
        return requests

    def reply(self, request: RequestId, data: memoryview) -> None:
        """Answer, once the client's reader has been discovered; a client that is gone gets nothing."""
        if request.client not in self._ready_clients:
            self._wait_for_client(request)
        self._writer.write(wire.add_service_header(data, request.client, request.sequence))

    def _wait_for_client(self, request: RequestId) -> None:
        client_id = self._reader.id_of(request.publication_handle, "clientid")
        deadline = time.monotonic() + REPLY_MATCH_S
        while client_id is not None and client_id not in self._writer.matched_ids("clientid"):
            if time.monotonic() > deadline:
                return
            time.sleep(0.001)
        if len(self._ready_clients) == KNOWN_CLIENTS:  # mostly of clients that are gone; the others are looked for anew
            self._ready_clients.clear()
        self._ready_clients.add(request.client)

    def close(self) -> None:
        self._reader.close()
        self._writer.close()


class CycloneClient:
    """A service client: writes requests, reads the replies that answer them."""

    def __init__(self, owner: CycloneTransport, name: str, service: str, qos: EndpointQos) -> None:
        identity = owner.next_identity()
        response, request = f"{service}_Response", f"{service}_Request"
        self._sequence = 0
        self._lock = threading.Lock()
        self._reader = owner.service_reader(wire.reply_topic(name), response, qos, clientid=identity)
        self.reader_gid = self._reader.gid
        self._writer = owner.service_writer(wire.request_topic(name), request, qos, clientid=identity)
        self.writer_gid = self._writer.gid

    @property
    def condition(self) -> ReadCondition:
        return self._reader.condition

    def take(self) -> list[tuple[bytes, int]]:
        """Every reply to this client that has arrived."""
        replies = []
        for data, _ in self._reader.take_samples():
            message, client, sequence = wire.split_service_header(data)
            if client == self._writer.handle:
                replies.append((message, sequence))
        return replies

    def request(self, data: memoryview) -> int:
        """Send a request. Returns its sequence number."""
        with self._lock:
            self._sequence += 1
            sequence = self._sequence
        self._writer.write(wire.add_service_header(data, self._writer.handle, sequence))
        return sequence

    def is_ready(self) -> bool:
        """Whether a server has both ends matched."""
        if not self._writer.matched() or not self._reader.matched():
            return False
        servers = self._writer.matched_ids("serviceid").keys() & self._reader.matched_ids("serviceid").keys()
        return bool(servers - {""})

    def close(self) -> None:
        self._reader.close()
        self._writer.close()


class CycloneWaiter:
    """A DDS wait set, with a guard condition to wake it and the announcements of other participants in passing."""

    def __init__(self, owner: CycloneTransport) -> None:
        self._owner = owner
        self._waitset = WaitSet(owner.participant)
        self._guard = GuardCondition(owner.participant)
        self._entities: dict[int, Any] = {}
        self._keys: dict[Any, int] = {}
        self._next_key = DISCOVERY_KEY
        self._woken = False
        self._triggered = (ctypes.c_ssize_t * TRIGGERS_AT_ONCE)()
        self._attach(self._guard, GUARD_KEY)
        self._attach(owner.discovery.condition, DISCOVERY_KEY)

    def _attach(self, entity: Any, key: int) -> None:
        if _waitset_attach(self._waitset._ref, entity._ref, key) < 0:
            raise TransportError("the DDS wait set refused an entity")

    def attach(self, source: Any, entity: Any) -> None:
        """Have `wait` name the entity when the source has something."""
        self._next_key += 1
        self._entities[self._next_key] = entity
        self._keys[source] = self._next_key
        self._attach(source.condition, self._next_key)

    def detach(self, source: Any) -> None:
        """Stop watching the source."""
        key = self._keys.pop(source, None)
        if key is not None:
            self._entities.pop(key, None)
            _waitset_detach(self._waitset._ref, source.condition._ref)

    def wait(self, timeout_ns: int) -> list[Any]:
        """Entities with something to take. The wait ends early in the main thread, so that signals are handled."""
        if timeout_ns > SIGNAL_CHECK_NS and threading.current_thread() is threading.main_thread():
            timeout_ns = SIGNAL_CHECK_NS
        count = _waitset_wait(self._waitset._ref, self._triggered, TRIGGERS_AT_ONCE, timeout_ns)
        found = []
        for key in self._triggered[: min(max(count, 0), TRIGGERS_AT_ONCE)]:
            if key == GUARD_KEY:
                self._guard.set(False)  # before the flag: a wake between the two is not lost, its reason is seen now
                self._woken = False
            elif key == DISCOVERY_KEY:
                self._owner.take_announcements()
            elif (entity := self._entities.get(key)) is not None:  # another thread may have detached it
                found.append(entity)
        return found

    def wake(self) -> None:
        """End the wait, or the next one."""
        if not self._woken:
            self._woken = True
            self._guard.set(True)

    def close(self) -> None:
        self._waitset.__del__()
        self._guard.__del__()


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
        return CycloneWaiter(self)

    def announce(self, nodes: list[NodeInfo]) -> None:
        """Tell the domain which nodes and endpoints this participant holds."""
        message = _entities_message(self.gid, nodes)
        self._announced[self.gid] = message
        self._announcer.write(messages.serialize(message))

    def graph(self) -> Graph:
        """Everything that is alive in the domain now, this participant included."""
        self.take_announcements()
        participants: dict[bytes, str] = {}
        with self._graph_lock:
            for participant in self._read(0):
                participants[participant.key.bytes] = _user_data(participant.qos).get("enclave", "")
            for gid in self._announced.keys() - participants.keys():  # it was discovered before it could announce
                del self._announced[gid]
        endpoints = [
            EndpointInfo(
                endpoint.key.bytes,
                endpoint.participant_key.bytes,
                index == 1,
                endpoint.topic_name,
                wire.demangle_type(endpoint.type_name),
                _user_data(endpoint.qos).get("typehash", ""),
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
