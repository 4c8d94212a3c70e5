"""The framing of both servo protocols: documented packets, any splits, any noise."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from robolearn.robots.dynamixel import DynamixelParser, DynamixelProtocol, crc16
from robolearn.robots.feetech import FeetechParser, FeetechProtocol
from robolearn.robots.servo_bus import Register, Status
from robolearn.robots.standin_wire import DYNAMIXEL_WIRE, FEETECH_WIRE, crc_bitwise

KINDS = {
    "feetech": (FeetechProtocol(), FeetechParser, FEETECH_WIRE),
    "dynamixel": (DynamixelProtocol(), DynamixelParser, DYNAMIXEL_WIRE),
}
NASTY = st.sampled_from([b"\xff\xff\xfd", b"\xff\xff", b"\xfd\xfd", b"\xff\xff\xfd\xfd", b"\x00", b"\x55"])
DATA = st.lists(st.one_of(NASTY, st.binary(max_size=4)), max_size=6).map(b"".join)
STATUSES = st.lists(st.builds(Status, st.integers(0, 252), st.integers(0, 127), DATA), max_size=6)


def test_packets_of_the_feetech_manual() -> None:
    protocol = FeetechProtocol()
    assert protocol.ping(1).hex(" ") == "ff ff 01 02 01 fb"
    assert protocol.read(1, 0x38, 2).hex(" ") == "ff ff 01 04 02 38 02 be"
    assert protocol.sync_read([1, 2], 0x38, 8).hex(" ") == "ff ff fe 06 82 38 08 01 02 36"
    (status,) = FeetechParser().feed(bytes.fromhex("ff ff 01 04 00 18 05 dd"))
    assert status == Status(1, 0, bytes.fromhex("18 05"))


def test_packets_of_the_dynamixel_manual() -> None:
    protocol = DynamixelProtocol()
    assert protocol.ping(1).hex(" ") == "ff ff fd 00 01 03 00 01 19 4e"
    assert protocol.read(1, 132, 4).hex(" ") == "ff ff fd 00 01 07 00 02 84 00 04 00 1d 15"
    assert protocol.write(1, 116, bytes.fromhex("00020000")).hex(" ") == (
        "ff ff fd 00 01 09 00 03 74 00 00 02 00 00 ca 89"
    )
    assert protocol.sync_read([1, 2], 132, 4).hex(" ") == "ff ff fd 00 fe 09 00 82 84 00 04 00 01 02 ce fa"
    (status,) = DynamixelParser().feed(bytes.fromhex("ff ff fd 00 01 08 00 55 00 a6 00 00 00 8c c0"))
    assert status == Status(1, 0, bytes.fromhex("a6 00 00 00"))


@given(st.binary(max_size=60))
def test_both_ways_to_compute_the_crc_agree(data: bytes) -> None:
    assert crc16(data) == crc_bitwise(data)


@pytest.mark.parametrize("kind", sorted(KINDS))
@given(statuses=STATUSES, cuts=st.lists(st.integers(1, 9)), data=st.data())
def test_splits_and_line_noise_lose_nothing(kind: str, statuses: list[Status], cuts: list[int], data: Any) -> None:
    """Noise without a header between packets, and packets that arrive in pieces."""
    _, parser_class, wire = KINDS[kind]
    noise = st.binary(max_size=8).map(lambda b: b.replace(b"\xff", b"\xfe"))
    stream = b"".join(data.draw(noise) + wire.answer(s.motor_id, s.error, 0, s.data) for s in statuses)
    if kind == "feetech":
        stream = b"".join(data.draw(noise) + wire.answer(s.motor_id, 0, s.error, s.data) for s in statuses)
    parser, found, at = parser_class(), [], 0
    for cut in [*cuts, len(stream)]:
        found += parser.feed(stream[at : at + cut])
        at += cut
    assert found == statuses
    assert parser.corrupt == 0


@pytest.mark.parametrize("kind", sorted(KINDS))
@given(noise=st.lists(st.one_of(NASTY, st.binary(max_size=12)), max_size=12).map(b"".join), last=DATA)
def test_any_noise_is_survived_and_nothing_is_made_up(kind: str, noise: bytes, last: bytes) -> None:
    _, parser_class, wire = KINDS[kind]
    packet = wire.answer(7, 0, 0, last)
    parser = parser_class()
    found = parser.feed(noise + packet) + parser.flush()
    for status in found:
        fields = (0, status.error) if kind == "feetech" else (status.error & 0x7F, status.error & 0x80)
        assert wire.answer(status.motor_id, *fields, status.data) in noise + packet
    assert parser.feed(packet) + parser.flush() == [Status(7, 0, last)]


def test_a_damaged_packet_is_counted_and_the_next_one_found() -> None:
    for _, parser_class, wire in KINDS.values():
        good = wire.answer(3, 0, 0, b"\x01\x02")
        bad = bytearray(good)
        bad[-2] ^= 0x10
        parser = parser_class()
        assert parser.feed(bytes(bad) + good) == [Status(3, 0, b"\x01\x02")]
        assert parser.corrupt == 1


@pytest.mark.parametrize("kind", sorted(KINDS))
@given(data=st.binary(min_size=4, max_size=15), at=st.integers(0, 10**6), mask=st.integers(1, 255))
def test_one_damaged_byte_never_passes_for_an_answer(kind: str, data: bytes, at: int, mask: int) -> None:
    """Of the length that was asked for, which the bus checks: a shorter one may pass Feetech's 8-bit checksum."""
    _, parser_class, wire = KINDS[kind]
    packet = bytearray(wire.answer(3, 0, 0, data))
    packet[at % len(packet)] ^= mask
    parser = parser_class()
    found = parser.feed(bytes(packet)) + parser.flush()
    assert [status for status in found if len(status.data) == len(data)] == []


def test_a_header_of_noise_does_not_swallow_the_answer() -> None:
    for _, parser_class, wire in KINDS.values():
        answer = wire.answer(3, 0, 0, b"\x01\x02")
        parser = parser_class()
        found = parser.feed(answer[:7] + answer) + parser.flush()
        assert found == [Status(3, 0, b"\x01\x02")]


@pytest.mark.parametrize("kind", sorted(KINDS))
@given(ids=st.lists(st.integers(0, 252), min_size=1, max_size=8, unique=True), value=st.binary(min_size=4, max_size=4))
def test_the_other_side_reads_what_we_write(kind: str, ids: list[int], value: bytes) -> None:
    protocol, _, wire = KINDS[kind]
    pending = bytearray(protocol.sync_write(42, dict.fromkeys(ids, value)) + protocol.sync_read(ids, 56, 15))
    written, asked = wire.parse(pending), wire.parse(pending)
    assert written is not None
    assert asked is not None
    assert (written.kind, written.address, dict(written.payload)) == ("sync_write", 42, dict.fromkeys(ids, value))
    assert (asked.kind, asked.address, asked.length, list(asked.payload)) == ("sync_read", 56, 15, ids)


@given(st.integers(-2047, 2047))
def test_registers_keep_their_sign(value: int) -> None:
    for register in (Register(0, 2, sign_bit=11), Register(0, 2, signed=True), Register(0, 4, signed=True)):
        assert register.decode(register.encode(value)) == value
