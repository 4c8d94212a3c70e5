"""Services and their clients over Cyclone DDS: two topics, whose samples say whose call they belong to."""

from __future__ import annotations

import threading
import time
from typing import Protocol

from cyclonedds.core import ReadCondition

from robolearn.ros import wire
from robolearn.ros.cyclone_endpoints import CycloneReader, CycloneWriter
from robolearn.ros.transport import EndpointQos, RequestId

KNOWN_CLIENTS = 1000
REPLY_MATCH_S = 0.1  # how long a reply waits until the reader of a new client has been discovered


class Owner(Protocol):
    """The participant, as far as services need it."""

    def next_identity(self) -> str: ...
    def service_writer(self, wire_name: str, type_name: str, qos: EndpointQos, **identity: str) -> CycloneWriter: ...
    def service_reader(self, wire_name: str, type_name: str, qos: EndpointQos, **identity: str) -> CycloneReader: ...


class CycloneServer:
    """A service: reads requests, writes replies to the client that asked."""

    def __init__(self, owner: Owner, name: str, service: str, qos: EndpointQos) -> None:
        identity = owner.next_identity()
        response, request = f"{service}_Response", f"{service}_Request"
        self._ready_clients: set[int] = set()
        self._writer = owner.service_writer(wire.reply_topic(name), response, qos, serviceid=identity)
        self.writer_gid = self._writer.gid
        self._reader = owner.service_reader(wire.request_topic(name), request, qos, serviceid=identity)
        self.reader_gid = self._reader.gid

    @property
    def conditions(self) -> tuple[ReadCondition]:
        return (self._reader.condition,)

    def take(self) -> list[tuple[bytes, RequestId]]:
        """Every request that has arrived."""
        requests = []
        for data, info in self._reader.take_samples():
            message, client, sequence = wire.split_service_header(data)
            requests.append((message, RequestId(client, sequence, info.publication_handle)))
        return requests

    def reply(self, request: RequestId, data: bytearray) -> None:
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

    def __init__(self, owner: Owner, name: str, service: str, qos: EndpointQos) -> None:
        identity = owner.next_identity()
        response, request = f"{service}_Response", f"{service}_Request"
        self._sequence = 0
        self._lock = threading.Lock()
        self._reader = owner.service_reader(wire.reply_topic(name), response, qos, clientid=identity)
        self.reader_gid = self._reader.gid
        self._writer = owner.service_writer(wire.request_topic(name), request, qos, clientid=identity)
        self.writer_gid = self._writer.gid

    @property
    def conditions(self) -> tuple[ReadCondition]:
        return (self._reader.condition,)

    def take(self) -> list[tuple[bytes, int]]:
        """Every reply to this client that has arrived."""
        replies = []
        for data, _ in self._reader.take_samples():
            message, client, sequence = wire.split_service_header(data)
            if client == self._writer.handle:
                replies.append((message, sequence))
        return replies

    def request(self, data: bytearray) -> int:
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
