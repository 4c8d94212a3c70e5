"""Dynamixel protocol 2.0 and the registers of the X series.

Source: ROBOTIS e-Manual, "DYNAMIXEL Protocol 2.0" and the control tables of XL330, XL430 and XM430. A packet is
`FF FF FD 00 id length(2) instruction [error] data crc(2)`; an `FF FF FD` inside is followed by one more `FD`. Numbers
are little endian, length counts everything after itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from robolearn.robots.servo_bus import Register, Status
from robolearn.robots.servo_model import ServoModel

PING, READ, WRITE, STATUS, SYNC_READ, SYNC_WRITE = 0x01, 0x02, 0x03, 0x55, 0x82, 0x83
BROADCAST = 0xFE
HEADER = b"\xff\xff\xfd"
MAX_DATA = 96  # the longest answer that we ever ask for; a longer claim is noise
MAX_LENGTH = (MAX_DATA + 2) * 4 // 3 + 2  # with the most stuffing
ALERT = 0x80
REFUSALS = {
    1: "it failed to process the packet",
    2: "it does not know the instruction",
    3: "the packet arrived damaged",
    4: "the value is out of range (or its bus watchdog has tripped)",
    5: "the value has the wrong length",
    6: "the value is beyond its limit",
    7: "the register cannot be written now; a stored one needs the torque off",
}


def _crc_of_byte(byte: int) -> int:
    crc = byte << 8
    for _ in range(8):
        crc = (crc << 1 ^ (0x8005 if crc & 0x8000 else 0)) & 0xFFFF
    return crc


CRC_TABLE = tuple(_crc_of_byte(byte) for byte in range(256))


def crc16(data: bytes) -> int:
    """CRC-16 with polynomial 8005 and initial value 0, over the packet from its header on."""
    crc = 0
    for byte in data:
        crc = (crc << 8 & 0xFFFF) ^ CRC_TABLE[crc >> 8 ^ byte]
    return crc


def packet(motor_id: int, instruction: int, data: bytes = b"") -> bytes:
    body = (bytes((instruction,)) + data).replace(HEADER, HEADER + b"\xfd")
    head = HEADER + bytes((0, motor_id)) + (len(body) + 2).to_bytes(2, "little")
    return head + body + crc16(head + body).to_bytes(2, "little")


class DynamixelParser:
    """Status packets out of a stream of bytes."""

    def __init__(self) -> None:
        self.corrupt = 0
        self._pending = bytearray()

    def feed(self, data: bytes) -> list[Status]:
        self._pending += data
        return self._take(over=False)

    def flush(self) -> list[Status]:
        return self._take(over=True)

    def _take(self, over: bool) -> list[Status]:
        found: list[Status] = []
        pending = self._pending
        while True:
            start = pending.find(HEADER)
            if start < 0:
                del pending[: max(len(pending) - (0 if over else 2), 0)]
                return found
            del pending[:start]
            length = int.from_bytes(pending[5:7], "little")
            if len(pending) >= 8 and (pending[3] != 0 or pending[7] != STATUS or not 4 <= length <= MAX_LENGTH):
                del pending[0]
                continue
            size = length + 7 if len(pending) >= 8 else 11
            if len(pending) < size:
                if not over:
                    return found
                del pending[0]
                continue
            whole = bytes(pending[:size])
            if crc16(whole[:-2]) == int.from_bytes(whole[-2:], "little"):
                body = whole[8:-2].replace(HEADER + b"\xfd", HEADER)
                found.append(Status(whole[4], body[0], body[1:]))
                del pending[:size]
            else:
                self.corrupt += 1
                del pending[0]


class DynamixelProtocol:
    """Questions as bytes. The error byte of an answer says whether it refuses, and by its highest bit a fault."""

    def ping(self, motor_id: int) -> bytes:
        return packet(motor_id, PING)

    def read(self, motor_id: int, address: int, length: int) -> bytes:
        return packet(motor_id, READ, _word(address) + _word(length))

    def write(self, motor_id: int, address: int, data: bytes) -> bytes:
        return packet(motor_id, WRITE, _word(address) + data)

    def sync_read(self, motor_ids: Sequence[int], address: int, length: int) -> bytes:
        return packet(BROADCAST, SYNC_READ, _word(address) + _word(length) + bytes(motor_ids))

    def sync_write(self, address: int, data: Mapping[int, bytes]) -> bytes:
        length = len(next(iter(data.values())))
        items = b"".join(bytes((motor_id,)) + value for motor_id, value in data.items())
        return packet(BROADCAST, SYNC_WRITE, _word(address) + _word(length) + items)

    def parser(self) -> DynamixelParser:
        return DynamixelParser()

    def status_size(self, length: int) -> int:
        return (length + 2) * 4 // 3 + 9

    def refusal(self, error: int) -> str:
        number = error & ~ALERT
        return REFUSALS.get(number, f"error {number}") if number else ""

    def alert(self, error: int) -> bool:
        return bool(error & ALERT)


def _word(value: int) -> bytes:
    return value.to_bytes(2, "little")


DYNAMIXEL_X = ServoModel(
    name="dynamixel_x",
    protocol=DynamixelProtocol(),
    model_number=Register(0, 2),
    model_numbers={
        1020: "XM430-W350",
        1030: "XM430-W210",
        1060: "XL430-W250",
        1070: "XC430-W150",
        1080: "XC430-W240",
        1120: "XM540-W270",
        1190: "XL330-M077",
        1200: "XL330-M288",
    },
    multi_turn=True,
    settings=(
        (Register(11, 1), 4),  # extended position mode: goals beyond one turn, so that no joint meets the seam
        (Register(10, 1), 0),  # not reversed, and the profile is a speed and not a time
        (Register(9, 1), 0),  # answer at once
        (Register(20, 4, signed=True), 0),  # no homing offset
    ),
    torque_enable=Register(64, 1),
    goal_position=Register(116, 4, signed=True),
    goal_speed=Register(112, 4),
    position=Register(132, 4, signed=True),
    velocity=Register(128, 4, signed=True),
    load=Register(126, 2, signed=True),
    voltage=Register(144, 2),
    temperature=Register(146, 1),
    faults=Register(70, 1),
    fault_names={0: "wrong voltage", 2: "overheating", 3: "a broken encoder", 4: "an electrical shock", 5: "overload"},
    homing=None,
    lock=None,
    id=Register(7, 1),
    baud=Register(8, 1),
    baud_rates={1_000_000: 3, 57_600: 1, 115_200: 2, 2_000_000: 4, 3_000_000: 5, 4_000_000: 6},
    bus_watchdog=Register(98, 1),
    ticks_per_turn=4096,
    speed_unit_ticks_s=0.229 * 4096 / 60,  # 0.229 turns a minute
    load_unit=0.001,
    voltage_unit_v=0.1,
)
