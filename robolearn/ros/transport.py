"""The interface to a middleware: what a ROS context needs from DDS, and no more.

One `Transport` belongs to one context. Everything is bytes here: messages are packed and unpacked above. What arrives
stays with the middleware, within the depth of its QoS, until it is taken; a `Waiter` tells when there is something. No
thread of ours stands between the network and the thread that runs callbacks.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True)
class EndpointQos:
    """Quality of service on the wire. `depth` None keeps all; a time of None is infinite."""

    reliable: bool = True
    depth: int | None = 10
    transient_local: bool = False
    deadline_ns: int | None = None
    lifespan_ns: int | None = None
    manual_liveliness: bool = False
    lease_ns: int | None = None

    def serves(self, reader: EndpointQos) -> bool:
        """Whether a writer with this QoS matches the reader."""
        return not self.lacks(reader)

    def lacks(self, reader: EndpointQos) -> str:
        """The policy for which a writer with this QoS does not match the reader, or ''."""
        if reader.reliable and not self.reliable:
            return "reliability"
        if reader.transient_local and not self.transient_local:
            return "durability"
        if reader.deadline_ns is not None and (self.deadline_ns is None or self.deadline_ns > reader.deadline_ns):
            return "deadline"
        if reader.lease_ns is not None and (self.lease_ns is None or self.lease_ns > reader.lease_ns):
            return "liveliness"
        return "liveliness" if reader.manual_liveliness and not self.manual_liveliness else ""


@dataclass(frozen=True)
class RequestId:
    """Which client asked, and its sequence number."""

    client: int
    sequence: int
    publication_handle: int


@dataclass(frozen=True)
class EndpointInfo:
    """A reader or writer anywhere in the domain, with its names as they stand on the wire."""

    gid: bytes
    participant_gid: bytes
    is_writer: bool
    wire_topic: str
    wire_type: str
    type_hash: str
    qos: EndpointQos


@dataclass(frozen=True)
class NodeInfo:
    """A node anywhere in the domain and its endpoints."""

    name: str
    namespace: str
    enclave: str
    reader_gids: frozenset[bytes]
    writer_gids: frozenset[bytes]


@dataclass(frozen=True)
class Graph:
    """What is known of the domain at one moment."""

    nodes: tuple[NodeInfo, ...]
    endpoints: tuple[EndpointInfo, ...]


INCOMPATIBLE_QOS = "incompatible_qos"
INCOMPATIBLE_TYPE = "incompatible_type"
MATCHED = "matched"
TYPE_POLICY = "type"  # DDS has it among the policies for which ends do not fit


@dataclass(frozen=True)
class EndpointEvent:
    """`kind` is matched, incompatible_qos, incompatible_type, deadline, liveliness or message_lost; `counts` are those
    of its DDS status."""

    kind: str
    counts: Mapping[str, int]
    policy: str = ""  # the last one for which an end did not fit


class EndpointEvents(Protocol):
    """What happens to an endpoint, of other processes."""

    def watch(self, kinds: Iterable[str]) -> None:
        """Have waits end for these kinds of events, too; for ends that do not fit they do from the start."""

    def take(self) -> list[EndpointEvent]:
        """What is watched and has happened since the last call."""


class Writer(Protocol):
    """A publisher's end."""

    gid: bytes

    @property
    def events(self) -> EndpointEvents: ...
    def write(self, data: bytearray) -> None: ...
    def assert_liveliness(self) -> None: ...
    def matched(self) -> int: ...
    def wait_for_acks(self, timeout_ns: int) -> bool: ...
    def close(self) -> None: ...


class Reader(Protocol):
    """A subscription's end."""

    gid: bytes

    @property
    def events(self) -> EndpointEvents: ...
    def take(self) -> list[tuple[bytes, int]]:
        """Everything that has arrived: message bytes and source stamp [ns since the epoch]."""

    def matched(self) -> int: ...
    def close(self) -> None: ...


class Server(Protocol):
    """A service's end."""

    reader_gid: bytes
    writer_gid: bytes

    def take(self) -> list[tuple[bytes, RequestId]]:
        """Every request that has arrived."""

    def reply(self, request: RequestId, data: bytearray) -> None: ...
    def close(self) -> None: ...


class Client(Protocol):
    """A service client's end."""

    reader_gid: bytes
    writer_gid: bytes

    def take(self) -> list[tuple[bytes, int]]:
        """Every reply that has arrived: message bytes and the sequence number of its request."""

    def request(self, data: bytearray) -> int: ...
    def is_ready(self) -> bool: ...
    def close(self) -> None: ...


class Waiter(Protocol):
    """Waits for endpoints to have something. One thread waits, any may wake it."""

    def attach(self, source: Reader | Writer | Server | Client, entity: Any) -> None: ...
    def detach(self, source: Reader | Writer | Server | Client) -> None: ...

    def wait(self, timeout_ns: int) -> list[Any]:
        """The entities whose sources have something to take, as soon as there is one or `wake` was called."""

    def wake(self) -> None: ...
    def close(self) -> None: ...


class Transport(Protocol):
    """A participant of the domain. Raises TransportError where the middleware refuses."""

    gid: bytes

    def create_writer(self, topic: str, type_name: str, qos: EndpointQos) -> Writer: ...
    def create_reader(self, topic: str, type_name: str, qos: EndpointQos) -> Reader: ...
    def create_server(self, name: str, service: str, qos: EndpointQos) -> Server: ...
    def create_client(self, name: str, service: str, qos: EndpointQos) -> Client: ...
    def create_waiter(self) -> Waiter: ...
    def announce(self, nodes: list[NodeInfo]) -> None: ...
    def graph(self) -> Graph: ...
    def close(self) -> None: ...
