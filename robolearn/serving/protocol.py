"""What a policy server and its clients say to each other over TCP: frames of JSON and raw arrays, never a pickle.

A frame is `RLPS`, the length of a JSON header, the length of the arrays (both uint32), then the two themselves; numbers
are in network byte order, arrays little-endian in C order. The header says the `kind`, has the fields of that kind, and
under `arrays` the [name, dtype, shape] of each array in its order. The kinds of version 1:

    client -> server                    server -> client
    hello  version, token               welcome  version, policy, spec          or refused  reason
    reset  seed                         done                                    or failed  reason
    act    stamp_ns; the observation    chunk  stamp_ns, start_ns, period_ns, source; actions   or failed  reason
"""

from __future__ import annotations

import json
import socket
import struct
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robolearn.errors import ServingError

VERSION = 1
SCHEME = "tcp://"
DEFAULT_PORT = 8470
MAGIC = b"RLPS"
PREFIX = struct.Struct(">4sII")
MAX_HEADER_BYTES = 65_536
DTYPES = {name: np.dtype(name).newbyteorder("<") for name in ("bool", "uint8", "int32", "int64", "float32", "float64")}


@dataclass(frozen=True)
class Message:
    """One frame."""

    kind: str
    fields: dict[str, Any] = field(default_factory=dict)
    arrays: dict[str, NDArray] = field(default_factory=dict)

    def get(self, name: str, kind: type) -> Any:
        """A field of the header. Raises ServingError when it is missing or of another type."""
        value = self.fields.get(name)
        if type(value) is not kind:
            raise ServingError(f"{self.kind!r} came with {name} {value!r}, wanted {kind.__name__}")
        return value


def send(connection: socket.socket, message: Message) -> None:
    """Write one frame, within the timeout of the socket. Raises OSError."""
    arrays = [np.ascontiguousarray(a, DTYPES[a.dtype.name]) for a in message.arrays.values()]
    told = [[name, array.dtype.name, array.shape] for name, array in message.arrays.items()]
    header = json.dumps({**message.fields, "kind": message.kind, "arrays": told}).encode()
    connection.sendall(PREFIX.pack(MAGIC, len(header), sum(array.nbytes for array in arrays)) + header)
    for array in arrays:
        if array.size:
            connection.sendall(array.data.cast("B"))


def receive(connection: socket.socket, max_bytes: int, idle_s: float | None, frame_s: float) -> Message:
    """Read one frame, whose arrays may have `max_bytes`.

    Waits `idle_s` for its first byte (None: for ever), and `frame_s` for the rest. Raises ServingError for what is no
    frame, ConnectionError at the end of the stream, TimeoutError.
    """
    connection.settimeout(idle_s)
    first = connection.recv(1)
    deadline = time.monotonic() + frame_s
    prefix = first + bytes(_exactly(connection, PREFIX.size - 1, deadline)) if first else b""
    if not prefix:
        raise ConnectionError("the other side closed the connection")
    magic, header_bytes, array_bytes = PREFIX.unpack(prefix)
    if magic != MAGIC:
        raise ServingError(f"{magic!r} came, wanted a frame of robolearn's policy protocol")
    if header_bytes > MAX_HEADER_BYTES or array_bytes > max_bytes:
        raise ServingError(
            f"a frame of {header_bytes} + {array_bytes} bytes came, wanted at most {MAX_HEADER_BYTES} + {max_bytes}"
        )
    header = _exactly(connection, header_bytes, deadline)
    return parse(header, _exactly(connection, array_bytes, deadline))


def _exactly(connection: socket.socket, count: int, deadline: float) -> bytearray:
    data = bytearray(count)
    view = memoryview(data)
    while view:
        left_s = deadline - time.monotonic()
        if left_s <= 0:
            raise TimeoutError("a frame did not end in time")
        connection.settimeout(left_s)
        came = connection.recv_into(view)
        if not came:
            raise ConnectionError("the other side closed the connection within a frame")
        view = view[came:]
    return data


def parse(header: bytes | bytearray, data: bytes | bytearray) -> Message:
    """A message of its two parts. Raises ServingError."""
    try:
        fields = json.loads(header)
    except (ValueError, RecursionError) as error:
        raise ServingError(f"the header of a frame is no JSON: {error}") from error
    if not isinstance(fields, dict) or not isinstance(fields.get("kind"), str):
        raise ServingError("the header of a frame names no kind")
    kind, told = fields.pop("kind"), fields.pop("arrays", [])
    return Message(kind, fields, dict(_arrays(told, memoryview(data))))


def _arrays(told: Any, data: memoryview) -> list[tuple[str, NDArray]]:
    found, at = [], 0
    try:
        for name, dtype, shape in told:
            if not isinstance(name, str) or not all(type(length) is int and length >= 0 for length in shape):
                raise ValueError(f"array {name!r} of shape {shape!r}")
            size = prod(shape) * DTYPES[dtype].itemsize
            array = np.frombuffer(data[at : at + size], DTYPES[dtype]).reshape(shape)
            found.append((name, array.astype(np.dtype(dtype), copy=False)))
            at += size
    except (KeyError, TypeError, ValueError) as error:
        raise ServingError(f"the arrays of a frame are not as its header says: {error}") from error
    if at != len(data):
        raise ServingError(f"a frame came with {len(data)} bytes of arrays, its header tells of {at}")
    return found


def split_address(address: str) -> tuple[str, int]:
    """Host and port of `tcp://host:port`. Raises ServingError."""
    host, separator, port = address.removeprefix(SCHEME).rstrip("/").rpartition(":")
    if not address.startswith(SCHEME) or not separator or not host or not port.isdecimal() or int(port) > 65_535:
        raise ServingError(f"{address!r} is no address of a policy server, e.g. {SCHEME}127.0.0.1:{DEFAULT_PORT}")
    return host.strip("[]"), int(port)


def observation_bytes(spec: Mapping[str, Any]) -> int:
    """What the arrays of an observation take at most: every field in the widest dtype of its kind."""
    return sum(prod(s.shape) * (1 if s.dtype == "uint8" else 8) for s in spec.values())
