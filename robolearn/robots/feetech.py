"""Feetech's serial protocol and the registers of the STS3215.

Source: Feetech, "Communication Protocol User Manual" (FT-SCS) and "SMS/STS memory table". A packet is
`FF FF id length instruction-or-error data checksum` with length = data + 2 and checksum = ~(id + ... + data) & FF.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from robolearn.robots.servo_bus import Register, Status
from robolearn.robots.servo_model import ServoModel

PING, READ, WRITE, SYNC_READ, SYNC_WRITE = 0x01, 0x02, 0x03, 0x82, 0x83
BROADCAST = 0xFE
HEADER = b"\xff\xff"
MAX_DATA = 96  # the longest answer that we ever ask for; a longer claim is noise


def checksum(body: bytes) -> int:
    """Of everything between header and checksum."""
    return ~sum(body) & 0xFF


def packet(motor_id: int, instruction: int, data: bytes = b"") -> bytes:
    body = bytes((motor_id, len(data) + 2, instruction)) + data
    return HEADER + body + bytes((checksum(body),))


class FeetechParser:
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
                del pending[: len(pending) - (0 if over or not pending.endswith(b"\xff") else 1)]
                return found
            del pending[:start]
            while pending[2:3] == b"\xff":  # a longer run of FF: the header is its last two
                del pending[0]
            if len(pending) >= 4 and not 2 <= pending[3] <= MAX_DATA + 2:
                del pending[0]
                continue
            size = pending[3] + 4 if len(pending) >= 4 else 6
            if len(pending) < size:
                if not over:
                    return found
                del pending[0]
                continue
            body, check = bytes(pending[2 : size - 1]), pending[size - 1]
            if checksum(body) == check:
                found.append(Status(body[0], body[2], body[3:]))
                del pending[:size]
            else:
                self.corrupt += 1
                del pending[0]


class FeetechProtocol:
    """Questions as bytes. The error byte of an answer holds the motor's fault bits; it never refuses a write."""

    def ping(self, motor_id: int) -> bytes:
        return packet(motor_id, PING)

    def read(self, motor_id: int, address: int, length: int) -> bytes:
        return packet(motor_id, READ, bytes((address, length)))

    def write(self, motor_id: int, address: int, data: bytes) -> bytes:
        return packet(motor_id, WRITE, bytes((address,)) + data)

    def sync_read(self, motor_ids: Sequence[int], address: int, length: int) -> bytes:
        return packet(BROADCAST, SYNC_READ, bytes((address, length, *motor_ids)))

    def sync_write(self, address: int, data: Mapping[int, bytes]) -> bytes:
        length = len(next(iter(data.values())))
        items = b"".join(bytes((motor_id,)) + value for motor_id, value in data.items())
        return packet(BROADCAST, SYNC_WRITE, bytes((address, length)) + items)

    def parser(self) -> FeetechParser:
        return FeetechParser()

    def status_size(self, length: int) -> int:
        return length + 6

    def refusal(self, error: int) -> str:
        return ""

    def alert(self, error: int) -> bool:
        return error != 0


STS3215 = ServoModel(
    name="sts3215",
    protocol=FeetechProtocol(),
    model_number=Register(3, 2),
    model_numbers={777: "STS3215"},
    multi_turn=False,
    settings=(
        (Register(33, 1), 0),  # position mode
        (Register(7, 1), 0),  # answer at once: six motors with the factory's delay take 3 ms
        (Register(9, 2), 0),  # no limits of its own, which would count from another homing
        (Register(11, 2), 4095),
    ),
    torque_enable=Register(40, 1),
    goal_position=Register(42, 2, sign_bit=15),
    goal_speed=Register(46, 2, sign_bit=15),
    position=Register(56, 2, sign_bit=15),
    velocity=Register(58, 2, sign_bit=15),
    load=Register(60, 2, sign_bit=10),
    voltage=Register(62, 1),
    temperature=Register(63, 1),
    faults=Register(65, 1),
    fault_names={0: "wrong voltage", 1: "a broken angle sensor", 2: "overheating", 3: "overcurrent", 5: "overload"},
    homing=Register(31, 2, sign_bit=11),
    lock=Register(55, 1),
    id=Register(5, 1),
    baud=Register(6, 1),
    baud_rates={1_000_000: 0, 500_000: 1, 250_000: 2, 128_000: 3, 115_200: 4, 57_600: 6, 38_400: 7},
    bus_watchdog=None,
    ticks_per_turn=4096,
    speed_unit_ticks_s=1.0,
    load_unit=0.001,
    voltage_unit_v=0.1,
)
