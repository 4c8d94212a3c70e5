"""The motors' side of the two servo protocols, for the stand-in: instructions in, answers out, registers between.

Written from the protocol documents and not from the drivers, so that one mistake does not hide another: the CRC is
computed bit by bit, and the frames are taken apart from the other end. Sources as in `feetech.py` and `dynamixel.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Literal

Kind = Literal["ping", "read", "write", "sync_read", "sync_write", "unknown"]
CODES: dict[int, Kind] = {0x01: "ping", 0x02: "read", 0x03: "write", 0x82: "sync_read", 0x83: "sync_write"}


@dataclass(frozen=True)
class Instruction:
    """What the host asks: of `motor_id`, or of the keys of `payload` (id -> data to write, empty when reading)."""

    kind: Kind
    motor_id: int
    address: int = 0
    length: int = 0
    payload: Mapping[int, bytes] = field(default_factory=dict)


@dataclass(frozen=True)
class Cell:
    """A register: address, bytes, and how its sign is kept: not at all, two's complement, or a bit of its own."""

    address: int
    length: int
    sign: Literal["none", "complement"] | int = "none"


class Wire:
    """What the two kinds of motor have in common. Subclasses hold the tables and the frames."""

    registers: ClassVar[Mapping[str, Cell]]
    rates: ClassVar[Mapping[int, int]]  # baud, by what the register holds
    single_turn: bool
    speed_unit_ticks_s: float
    disabling_faults: int  # fault bits that make the motor let go

    def get(self, memory: bytearray, name: str) -> int:
        cell = self.registers[name]
        value = int.from_bytes(memory[cell.address : cell.address + cell.length], "little")
        if cell.sign == "complement" and value >= 1 << (8 * cell.length - 1):
            value -= 1 << (8 * cell.length)
        elif isinstance(cell.sign, int) and value >= 1 << cell.sign:
            value = (1 << cell.sign) - value
        return value

    def set(self, memory: bytearray, name: str, value: int) -> None:
        cell = self.registers[name]
        if value < 0:
            value = (1 << (8 * cell.length)) + value if cell.sign == "complement" else (1 << int(cell.sign)) - value
        memory[cell.address : cell.address + cell.length] = value.to_bytes(cell.length, "little")

    def set_up(self, memory: bytearray, motor_id: int) -> None:
        """A motor as its owner set it up once."""
        raise NotImplementedError

    def refuse(self, memory: bytearray, address: int, data: bytes) -> int:
        """The error that a write is answered with, 0 when it is done."""
        raise NotImplementedError

    def outlives_power(self, memory: bytearray, address: int) -> bool:
        raise NotImplementedError

    def parse(self, pending: bytearray) -> Instruction | None:
        """Take the next instruction out of `pending`, or nothing while it is not whole."""
        raise NotImplementedError

    def ping_data(self, memory: bytearray) -> bytes:
        """What a ping is answered with besides the error."""
        raise NotImplementedError

    def answer(self, motor_id: int, error: int, fault_bits: int, data: bytes = b"") -> bytes:
        raise NotImplementedError


class FeetechWire(Wire):
    """STS3215. Stored registers end at 39 and are open while the lock (55) is 0."""

    single_turn = True
    speed_unit_ticks_s = 1.0
    disabling_faults = 0b100100  # overheating, overload
    rates: ClassVar[Mapping[int, int]] = {0: 1_000_000, 1: 500_000, 2: 250_000, 4: 115_200, 6: 57_600}
    registers: ClassVar[Mapping[str, Cell]] = {
        "model": Cell(3, 2),
        "id": Cell(5, 1),
        "baud": Cell(6, 1),
        "delay": Cell(7, 1),
        "low": Cell(9, 2),
        "high": Cell(11, 2),
        "homing": Cell(31, 2, 11),
        "mode": Cell(33, 1),
        "torque": Cell(40, 1),
        "goal": Cell(42, 2, 15),
        "goal_speed": Cell(46, 2, 15),
        "lock": Cell(55, 1),
        "position": Cell(56, 2, 15),
        "speed": Cell(58, 2, 15),
        "load": Cell(60, 2, 10),
        "voltage": Cell(62, 1),
        "temperature": Cell(63, 1),
        "faults": Cell(65, 1),
    }

    def set_up(self, memory: bytearray, motor_id: int) -> None:
        for name, value in {"model": 777, "id": motor_id, "delay": 250, "high": 4095, "lock": 1, "goal": 2048}.items():
            self.set(memory, name, value)

    def refuse(self, memory: bytearray, address: int, data: bytes) -> int:
        return 0  # a Feetech motor answers writes that it does not do just the same

    def outlives_power(self, memory: bytearray, address: int) -> bool:
        return address < 40 and not self.get(memory, "lock")

    def parse(self, pending: bytearray) -> Instruction | None:
        while len(pending) >= 6:
            if pending[0] != 0xFF or pending[1] != 0xFF or pending[2] == 0xFF:
                del pending[0]
                continue
            end = 4 + pending[3]
            if len(pending) < end:
                return None
            frame = bytes(pending[:end])
            if pending[3] < 2 or (sum(frame[2:]) & 0xFF) != 0xFF:  # the checksum complements the sum
                del pending[0]
                continue
            del pending[:end]
            return self._instruction(frame[2], frame[4], frame[5:-1])
        return None

    def _instruction(self, motor_id: int, code: int, data: bytes) -> Instruction:
        kind = CODES.get(code, "unknown")
        if kind == "read":
            return Instruction(kind, motor_id, data[0], data[1])
        if kind == "write":
            return Instruction(kind, motor_id, data[0], payload={motor_id: data[1:]})
        if kind == "sync_read":
            return Instruction(kind, motor_id, data[0], data[1], dict.fromkeys(data[2:], b""))
        if kind == "sync_write":
            step = data[1] + 1
            items = (data[i : i + step] for i in range(2, len(data), step))
            return Instruction(kind, motor_id, data[0], data[1], {item[0]: item[1:] for item in items})
        return Instruction(kind, motor_id)

    def ping_data(self, memory: bytearray) -> bytes:
        return b""

    def answer(self, motor_id: int, error: int, fault_bits: int, data: bytes = b"") -> bytes:
        frame = bytes((motor_id, 2 + len(data), fault_bits)) + data
        return b"\xff\xff" + frame + bytes((255 - sum(frame) % 256,))


class DynamixelWire(Wire):
    """X series. Registers below 64 are stored and closed while the torque is on."""

    single_turn = False
    speed_unit_ticks_s = 0.229 * 4096 / 60
    disabling_faults = 0b110100  # overheating, electrical shock, overload
    rates: ClassVar[Mapping[int, int]] = {0: 9_600, 1: 57_600, 2: 115_200, 3: 1_000_000, 4: 2_000_000}
    registers: ClassVar[Mapping[str, Cell]] = {
        "model": Cell(0, 2),
        "id": Cell(7, 1),
        "baud": Cell(8, 1),
        "delay": Cell(9, 1),
        "drive_mode": Cell(10, 1),
        "mode": Cell(11, 1),
        "offset": Cell(20, 4, "complement"),
        "torque": Cell(64, 1),
        "faults": Cell(70, 1),
        "watchdog": Cell(98, 1),
        "goal_speed": Cell(112, 4),
        "goal": Cell(116, 4, "complement"),
        "load": Cell(126, 2, "complement"),
        "speed": Cell(128, 4, "complement"),
        "position": Cell(132, 4, "complement"),
        "voltage": Cell(144, 2),
        "temperature": Cell(146, 1),
    }

    def set_up(self, memory: bytearray, motor_id: int) -> None:
        for name, value in {"model": 1200, "id": motor_id, "delay": 250, "mode": 3, "baud": 3}.items():
            self.set(memory, name, value)

    def refuse(self, memory: bytearray, address: int, data: bytes) -> int:
        if address < 64 and self.get(memory, "torque"):
            return 7
        goal = self.registers["goal"]
        if address == goal.address and self.get(memory, "watchdog") == 0xFF:
            return 4
        within_turn = 0 <= int.from_bytes(data, "little", signed=True) < 4096
        if address == goal.address and self.get(memory, "mode") == 3 and not within_turn:
            return 4
        if address == self.registers["torque"].address and data[0] and self.get(memory, "faults"):
            return 1
        return 0

    def outlives_power(self, memory: bytearray, address: int) -> bool:
        return address < 64

    def parse(self, pending: bytearray) -> Instruction | None:
        while len(pending) >= 10:
            if pending[:4] != b"\xff\xff\xfd\x00":
                del pending[0]
                continue
            end = 7 + pending[5] + 256 * pending[6]
            if len(pending) < end:
                return None
            frame = bytes(pending[:end])
            if end < 10 or crc_bitwise(frame[:-2]) != frame[-2] + 256 * frame[-1]:
                del pending[0]
                continue
            del pending[:end]
            body, code = frame[8:-2].replace(b"\xff\xff\xfd\xfd", b"\xff\xff\xfd"), frame[7]
            return self._instruction(frame[4], code, body)
        return None

    def _instruction(self, motor_id: int, code: int, data: bytes) -> Instruction:
        kind = CODES.get(code, "unknown")
        if kind in ("ping", "unknown"):
            return Instruction(kind, motor_id)
        address = data[0] + 256 * data[1]
        if kind == "write":
            return Instruction(kind, motor_id, address, payload={motor_id: data[2:]})
        length = data[2] + 256 * data[3]
        if kind == "read":
            return Instruction(kind, motor_id, address, length)
        if kind == "sync_read":
            return Instruction(kind, motor_id, address, length, dict.fromkeys(data[4:], b""))
        items = (data[i : i + length + 1] for i in range(4, len(data), length + 1))
        return Instruction(kind, motor_id, address, length, {item[0]: item[1:] for item in items})

    def ping_data(self, memory: bytearray) -> bytes:
        return bytes((memory[0], memory[1], 50))  # model number, firmware

    def answer(self, motor_id: int, error: int, fault_bits: int, data: bytes = b"") -> bytes:
        body = bytes((0x55, error | (0x80 if fault_bits else 0))) + data
        body = body.replace(b"\xff\xff\xfd", b"\xff\xff\xfd\xfd")
        count = len(body) + 2
        frame = bytes((0xFF, 0xFF, 0xFD, 0, motor_id, count & 255, count >> 8)) + body
        crc = crc_bitwise(frame)
        return frame + bytes((crc & 255, crc >> 8))


def crc_bitwise(data: bytes) -> int:
    """Remainder of `data` times x^16 modulo x^16 + x^15 + x^2 + 1."""
    crc = 0
    for byte in data:
        for i in range(7, -1, -1):
            crc = crc << 1 | byte >> i & 1
            if crc & 0x10000:
                crc ^= 0x18005
    for _ in range(16):
        crc <<= 1
        if crc & 0x10000:
            crc ^= 0x18005
    return crc


FEETECH_WIRE = FeetechWire()
DYNAMIXEL_WIRE = DynamixelWire()
