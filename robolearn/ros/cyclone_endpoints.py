"""Readers and writers of Cyclone DDS that take and give CDR bytes."""

from __future__ import annotations

import ctypes
from typing import Any

from cyclonedds.core import InstanceState, ReadCondition, SampleState, ViewState
from cyclonedds.domain import DomainParticipant
from cyclonedds.pub import DataWriter
from cyclonedds.qos import Qos
from cyclonedds.sub import DataReader
from cyclonedds.topic import Topic

from robolearn.errors import TransportError
from robolearn.ros import cyclone_calls
from robolearn.ros.cyclone_events import READER_EVENTS, WRITER_EVENTS, CycloneEvents
from robolearn.ros.cyclone_qos import user_data_of

LARGE_BYTES = 16_384
HANDLE_MASK = 2**64 - 1  # the binding gives instance handles signed, and publication handles unsigned


class CycloneWriter:
    """A DDS writer that takes CDR bytes."""

    def __init__(self, participant: DomainParticipant, topic: Topic[Any], qos: Qos) -> None:
        self._writer = DataWriter(participant, topic, qos)
        self._ref = self._writer._ref
        self.gid: bytes = self._writer.get_guid().bytes
        self.handle: int = self._writer.get_instance_handle() & HANDLE_MASK
        self.events = CycloneEvents(self._writer, WRITER_EVENTS)
        self.conditions = (self._writer,)  # what ends a wait: its events

    def write(self, data: bytearray) -> None:
        """Send one sample. Raises TransportError if the library refuses it."""
        first = ctypes.c_char.from_buffer(data)  # keeps the bytearray from being resized while the library reads it
        sample = cyclone_calls.Sample(ctypes.addressof(first), len(data))
        code = cyclone_calls.dds_write(self._ref, ctypes.byref(sample))
        if code < 0:
            raise TransportError(f"a sample of {len(data)} bytes was not written (DDS code {code})")

    def matched(self) -> int:
        """Number of readers that this writer reaches through DDS."""
        return max(int(cyclone_calls.matched_subscriptions(self._ref, None, 0)), 0)

    def assert_liveliness(self) -> None:
        cyclone_calls.assert_liveliness(self._ref)

    def wait_for_acks(self, timeout_ns: int) -> bool:
        """Whether every matched reader has acknowledged everything within the time."""
        return bool(self._writer._wait_for_acks(self._ref, timeout_ns) == 0)

    def matched_ids(self, key: str) -> dict[str, bytes]:
        """Of every matched reader with this entry in its user data: the entry, and the reader's gid."""
        found = (self._writer.get_matched_subscription_data(h) for h in self._writer.get_matched_subscriptions())
        return {user_data_of(e.qos).get(key, ""): e.key.bytes for e in found if e is not None}

    def close(self) -> None:
        self._writer.__del__()


class CycloneReader:
    """A DDS reader that gives CDR bytes."""

    def __init__(self, participant: DomainParticipant, topic: Topic[Any], qos: Qos) -> None:
        self._reader = DataReader(participant, topic, qos)
        self._ref = self._reader._ref
        self._take = cyclone_calls.take
        self.gid: bytes = self._reader.get_guid().bytes
        self.condition = ReadCondition(self._reader, ViewState.Any | SampleState.NotRead | InstanceState.Any)
        self.events = CycloneEvents(self._reader, READER_EVENTS)
        self.conditions = (self.condition, self._reader)  # what ends a wait: samples, and events

    def take_samples(self) -> list[tuple[bytes, Any]]:
        """Bytes and DDS sample info of everything that has arrived."""
        samples = self._take(self._ref)
        if samples and len(samples[0][0]) > LARGE_BYTES:  # the ones that follow will be, too
            self._take = cyclone_calls.take_large
        return samples

    def take(self) -> list[tuple[bytes, int]]:
        """Bytes and source stamp [ns] of everything that has arrived."""
        return [(data, info.source_timestamp) for data, info in self.take_samples()]

    def matched(self) -> int:
        """Number of writers that reach this reader through DDS."""
        return max(int(cyclone_calls.matched_publications(self._ref, None, 0)), 0)

    def matched_ids(self, key: str) -> dict[str, bytes]:
        """Of every matched writer with this entry in its user data: the entry, and the writer's gid."""
        found = (self._reader.get_matched_publication_data(h) for h in self._reader.get_matched_publications())
        return {user_data_of(e.qos).get(key, ""): e.key.bytes for e in found if e is not None}

    def id_of(self, publication_handle: int, key: str) -> str | None:
        """The entry in the user data of one matched writer."""
        signed = publication_handle - 2**64 if publication_handle >= 2**63 else publication_handle
        endpoint = self._reader.get_matched_publication_data(signed)
        return None if endpoint is None else user_data_of(endpoint.qos).get(key)

    def close(self) -> None:
        self.condition.__del__()
        self._reader.__del__()
