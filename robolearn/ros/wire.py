"""Names, identities and headers on the DDS wire, as rmw_cyclonedds_cpp writes them (ROS 2 Iron and later)."""

from __future__ import annotations

import struct

DISCOVERY_TOPIC = "ros_discovery_info"
DISCOVERY_TYPE = "rmw_dds_common/msg/ParticipantEntitiesInfo"
SERVICE_HEADER = struct.Struct("<Qq")  # the client's writer handle and the sequence number, after the CDR header
CDR_HEADER_BYTES = 4

_TOPIC_PREFIX, _REQUEST_PREFIX, _REPLY_PREFIX = "rt", "rq", "rr"


def topic_name(name: str) -> str:
    """`/chatter` to `rt/chatter`."""
    return _TOPIC_PREFIX + name


def request_topic(service: str) -> str:
    """`/add` to `rq/addRequest`."""
    return f"{_REQUEST_PREFIX}{service}Request"


def reply_topic(service: str) -> str:
    """`/add` to `rr/addReply`."""
    return f"{_REPLY_PREFIX}{service}Reply"


def demangle_topic(wire_name: str) -> str | None:
    """`rt/chatter` to `/chatter`; None for what is no ROS topic."""
    return wire_name[2:] if wire_name.startswith(_TOPIC_PREFIX + "/") else None


def demangle_service(wire_name: str) -> str | None:
    """`rq/addRequest` or `rr/addReply` to `/add`; None for what belongs to no service."""
    for prefix, suffix in ((_REQUEST_PREFIX, "Request"), (_REPLY_PREFIX, "Reply")):
        if wire_name.startswith(prefix + "/") and wire_name.endswith(suffix):
            return wire_name[2 : -len(suffix)]
    return None


def type_name(name: str) -> str:
    """`std_msgs/msg/String` to `std_msgs::msg::dds_::String_`."""
    package, kind, short = name.split("/")
    return f"{package}::{kind}::dds_::{short}_"


def demangle_type(wire_type: str) -> str:
    """`std_msgs::msg::dds_::String_` to `std_msgs/msg/String`; anything else is given back as it came."""
    parts = wire_type.split("::")
    if len(parts) == 4 and parts[2] == "dds_" and parts[3].endswith("_"):
        return f"{parts[0]}/{parts[1]}/{parts[3][:-1]}"
    return wire_type


def user_data(**entries: str) -> bytes:
    """`key=value;` pairs, e.g. `enclave=/;` or `clientid=...;typehash=RIHS01_...;`."""
    return "".join(f"{key}={value};" for key, value in entries.items()).encode()


def parse_user_data(data: bytes) -> dict[str, str]:
    """The pairs of `user_data`; whatever is not a pair is left out."""
    pairs = (part.split("=", 1) for part in data.decode("utf-8", "replace").split(";"))
    return {pair[0]: pair[1] for pair in pairs if len(pair) == 2}


def identity(participant_gid: bytes, counter: int) -> str:
    """The id of a client or a server: GUID prefix and counter in hexadecimal, the first byte padded to two."""
    first, *rest = participant_gid[:12] + counter.to_bytes(4, "big")
    return ".".join([f"{first:2x}", *(f"{byte:x}" for byte in rest)])


def add_service_header(data: bytearray, client: int, sequence: int) -> bytearray:
    """Put client and sequence number between the CDR header and the message. 16 bytes, so alignment stays."""
    data[CDR_HEADER_BYTES:CDR_HEADER_BYTES] = SERVICE_HEADER.pack(client, sequence)
    return data


def split_service_header(data: bytes) -> tuple[bytes, int, int]:
    """Message bytes, client and sequence number. Bytes without such a header are given back as no message at all."""
    start, end = CDR_HEADER_BYTES, CDR_HEADER_BYTES + SERVICE_HEADER.size
    if len(data) < end or data[0] != 0 or data[1] not in (0, 1):
        return b"", 0, 0
    order = "<Qq" if data[1] else ">Qq"
    client, sequence = struct.unpack_from(order, data, start)
    return data[:start] + data[end:], client, sequence
