"""Golden bytes and hashes of native ROS 2 Jazzy, and the formats of the DDS wire (embedded client only)."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import pytest

from robolearn.ros import definitions, messages, wire

VECTORS = json.loads(Path(__file__).with_name("wire_vectors.json").read_text(encoding="utf-8"))


def class_of(name: str) -> Any:
    package, kind, short = name.split("/")
    module = importlib.import_module(f"{package}.{kind}")
    for part in ("Request", "Response"):
        if short.endswith(f"_{part}"):
            return getattr(getattr(module, short.removesuffix(f"_{part}")), part)
    return getattr(module, short)


def build(cls: Any, values: dict[str, Any]) -> Any:
    """A message from plain JSON values."""
    fields = dict(definitions.store().fielddefs[cls._TYPE][1])
    given = {}
    for key, value in values.items():
        inner = fields[key]
        while isinstance(inner[1], tuple) and isinstance(inner[1][0], tuple):
            inner = inner[1][0]
        if inner[1] == ("byte", 0) and cls._FIELD_TYPES[key] == "octet":
            value = bytes(value)
        elif isinstance(inner[1], str):
            nested = messages.message_class(inner[1])
            value = [build(nested, item) for item in value] if isinstance(value, list) else build(nested, value)
        given[key] = value
    return cls(**given)


@pytest.mark.parametrize("vector", VECTORS["messages"], ids=lambda vector: vector["type"])
def test_bytes_equal_those_of_native_ros(vector: dict[str, Any]) -> None:
    cls = class_of(vector["type"])
    message = build(cls, vector["value"])
    assert bytes(messages.serialize(message)).hex() == vector["cdr_hex"]
    assert messages.deserialize(bytes.fromhex(vector["cdr_hex"]), cls) == message


def test_hashes_equal_those_of_native_ros() -> None:
    checked, unknown = 0, set()
    for name, expected in VECTORS["type_hashes"].items():
        package, kind, short = name.split("/")
        base = f"{package}/{kind}/{short.split('_')[0]}"
        try:
            {"msg": messages.message_class, "srv": messages.service_class, "action": messages.action_class}[kind](base)
        except LookupError as error:
            raise AssertionError(name) from error
        except messages.definitions.UnknownNameError:
            unknown.add(base)
            continue
        assert messages.type_hash(name) == expected, name
        checked += 1
    assert checked > 250
    assert {name.split("/")[0] for name in unknown} <= {"control_msgs", "example_interfaces"}


def test_names_round_trip() -> None:
    assert wire.topic_name("/a/b") == "rt/a/b"
    assert wire.request_topic("/a/add") == "rq/a/addRequest"
    assert wire.reply_topic("/a/add") == "rr/a/addReply"
    assert wire.demangle_topic("rt/a/b") == "/a/b"
    assert wire.demangle_topic("ros_discovery_info") is None
    assert wire.demangle_service("rq/a/addRequest") == wire.demangle_service("rr/a/addReply") == "/a/add"
    assert wire.demangle_service("rt/rq/addRequest") is None
    assert wire.type_name("std_msgs/msg/String") == "std_msgs::msg::dds_::String_"
    assert wire.demangle_type("std_srvs::srv::dds_::Trigger_Request_") == "std_srvs/srv/Trigger_Request"
    assert wire.demangle_type("foreign::Type") == "foreign::Type"


def test_user_data_and_identity() -> None:
    assert wire.user_data(enclave="/") == b"enclave=/;"
    assert wire.parse_user_data(b"clientid=1.2;typehash=RIHS01_ab;junk") == {"clientid": "1.2", "typehash": "RIHS01_ab"}
    assert wire.identity(bytes(range(1, 17)), 258) == " 1.2.3.4.5.6.7.8.9.a.b.c.0.0.1.2"


def test_service_header_stands_after_the_cdr_header() -> None:
    message = bytes.fromhex("0001000007")
    data = wire.add_service_header(bytearray(message), client=0x0102030405060708, sequence=9)
    assert data.hex() == "00010000" + "0807060504030201" + "0900000000000000" + "07"
    assert wire.split_service_header(bytes(data)) == (message, 0x0102030405060708, 9)
    assert wire.split_service_header(b"\x00\x01\x00") == (b"", 0, 0)
