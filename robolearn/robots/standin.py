"""A stand-in for an arm on a serial bus: motors with registers, physics and faults behind a pseudo-terminal.

The driver opens it like any port, so everything above the wire is tried without an arm:

    python -m robolearn.robots.standin sts3215 --link /tmp/robolearn-arm

What it knows of the protocols was written from the vendors' documents apart from the drivers (`standin_wire.py`), and
the vendors' own SDKs are run against it in the tests. `Motor` has the physics: a first-order lag behind the goal, a
speed limit, end stops. Faults are made by setting fields: a motor that is absent or restarts, heat, fault flags,
answers that are damaged, lost or late, and a cable that is pulled.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import math
import os
import re
import select
import signal
import termios
import threading
import time
import tty
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

from robolearn.errors import HardwareError, UnknownNameError
from robolearn.robots.standin_wire import DYNAMIXEL_WIRE, FEETECH_WIRE, Instruction, Wire

WIRES: dict[str, Wire] = {"sts3215": FEETECH_WIRE, "dynamixel_x": DYNAMIXEL_WIRE}
STEP_NS = 10_000_000
LAG_S = 0.05  # first-order lag of a motor behind its goal
MAX_SPEED_TICKS_S = 3000.0  # of a motor without a speed limit
AMBIENT_C = 30
RATES = {code: int(name[1:]) for name, code in vars(termios).items() if re.fullmatch(r"B\d+", name)}


class Motor:
    """One servo: its registers, and the shaft behind them. Positions in encoder ticks."""

    def __init__(self, wire: Wire, motor_id: int, encoder: float = 2048.0) -> None:
        self.wire = wire
        self.motor_id = motor_id
        self.encoder = encoder  # of the shaft, before the homing offset
        self.stops = (-1e9, 1e9)  # where the shaft can go
        self.speed = 0.0
        self.present = True  # whether it is on the bus
        self.temperature_c = AMBIENT_C
        self.volts = 12.0
        self.fault_bits = 0
        self.stored = bytearray(256)  # what outlives the power
        self.memory = bytearray(256)
        self._last_ns: int | None = None
        self.heard_ns = 0
        wire.set_up(self.stored, motor_id)
        self.restart()

    def restart(self) -> None:
        """Power off and on: limp, and back to what is stored."""
        self.memory[:] = self.stored
        self.speed = 0.0
        self.fault_bits = 0

    def get(self, name: str) -> int:
        return self.wire.get(self.memory, name)

    def set(self, name: str, value: int) -> None:
        self.wire.set(self.memory, name, value)

    @property
    def position(self) -> float:
        """As the motor counts it."""
        if not self.wire.single_turn:
            return self.encoder
        return (self.encoder - self.get("homing")) % 4096

    @property
    def limp(self) -> bool:
        return not self.get("torque") or bool(self.fault_bits & self.wire.disabling_faults)

    def advance(self, now_ns: int) -> None:
        """Move to where the shaft is at `now_ns`, and write what it measures into the registers."""
        before, since_ns = self.encoder, self._last_ns if self._last_ns is not None else now_ns
        at_ns = since_ns
        while at_ns < now_ns:
            step_ns = min(STEP_NS, now_ns - at_ns)
            at_ns += step_ns
            self._guard(at_ns)
            self._turn(step_ns * 1e-9)
        self._last_ns = now_ns
        if now_ns > since_ns:
            self.speed = (self.encoder - before) / ((now_ns - since_ns) * 1e-9)
        self.set("position", min(round(self.position), 4095) if self.wire.single_turn else round(self.position))
        self.set("speed", round(self.speed / self.wire.speed_unit_ticks_s))
        self.set("temperature", self.temperature_c)
        self.set("voltage", round(self.volts * 10))
        self.set("load", 0 if self.limp else round(100 * min(1.0, abs(self.speed) / MAX_SPEED_TICKS_S)))
        self.set("faults", self.fault_bits)

    def _guard(self, now_ns: int) -> None:
        """The bus watchdog: stop, and take no more goals."""
        if "watchdog" in self.wire.registers and self.get("torque"):
            units = self.get("watchdog")
            if 0 < units < 128 and now_ns - self.heard_ns > units * 20_000_000:
                self.set("watchdog", 0xFF)
                self.set("goal", round(self.position))

    def _turn(self, elapsed_s: float) -> None:
        if not self.limp:
            most = (self.get("goal_speed") * self.wire.speed_unit_ticks_s or MAX_SPEED_TICKS_S) * elapsed_s
            step = (self.get("goal") - self.position) * -math.expm1(-elapsed_s / LAG_S)
            self.encoder = max(self.stops[0], min(self.stops[1], self.encoder + max(-most, min(most, step))))

    def store(self, address: int, data: bytes) -> int:
        """A write from the bus; returns the error that the motor answers with."""
        error = self.wire.refuse(self.memory, address, data)
        if not error:
            self.memory[address : address + len(data)] = data
            if self.wire.outlives_power(self.memory, address):
                self.stored[address : address + len(data)] = data
        return error


class StandInBus:
    """Motors on a pseudo-terminal, served by a thread. Use as a context manager.

    motors: by id. path: where to link the port, as udev would; None: `port` is the bare pseudo-terminal.
    latency_s: between a question and its answer.
    """

    def __init__(
        self, kind: str, motor_ids: Sequence[int] = range(1, 7), path: Path | None = None, latency_s: float = 0.0003
    ) -> None:
        if kind not in WIRES:
            raise UnknownNameError("servo model", kind, WIRES)
        self.wire = WIRES[kind]
        self.motors: Mapping[int, Motor] = {i: Motor(self.wire, i) for i in motor_ids}
        self.latency_s = latency_s
        self.noise = b""  # sent ahead of every answer
        self.damage_next = 0  # so many of the next answers are damaged
        self.lose_next = 0  # so many of the next answers are not sent
        self.heard = 0  # instructions
        self._path = path
        self._port = ""
        self._master = self._slave = -1
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._wake_read, self._wake_write = os.pipe()

    @property
    def port(self) -> str:
        return str(self._path or self._port)

    def __enter__(self) -> Self:
        self.plug_in()
        return self

    def __exit__(self, *_: object) -> None:
        self.pull_cable()
        os.close(self._wake_read)
        os.close(self._wake_write)

    def plug_in(self) -> None:
        """The port appears, unless it is there. Raises HardwareError where another's, or anything else, is."""
        if self._thread is not None:
            return
        if self._path is not None and self._path.exists():  # a link that a killed one left leads nowhere
            raise HardwareError(
                f"{self._path} is there already, as {self._path.resolve()}; end the stand-in that made it, or delete it"
            )
        self._master, self._slave = os.openpty()
        tty.setraw(self._slave)
        self._port = os.ttyname(self._slave)
        if self._path is not None:
            self._path.unlink(missing_ok=True)
            self._path.symlink_to(self._port)
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def pull_cable(self) -> None:
        """The port vanishes; the motors keep their power."""
        if self._thread is None:
            return
        os.write(self._wake_write, b"x")
        self._thread.join()
        self._thread = None
        os.close(self._slave)
        os.close(self._master)
        if self._path is not None:
            self._path.unlink(missing_ok=True)

    def settle(self) -> None:
        """Bring every shaft up to now."""
        with self._lock:
            now_ns = time.monotonic_ns()
            for motor in self.motors.values():
                motor.advance(now_ns)

    def _serve(self) -> None:
        pending = bytearray()
        while True:
            ready, _, _ = select.select([self._master, self._wake_read], [], [])
            if self._wake_read in ready:
                os.read(self._wake_read, 1)
                return
            pending += os.read(self._master, 4096)
            while (instruction := self.wire.parse(pending)) is not None:
                self.heard += 1
                answers = self._answers(instruction)
                if answers:
                    time.sleep(self.latency_s)
                    with contextlib.suppress(OSError):  # the host has just gone
                        os.write(self._master, answers)

    def _answers(self, instruction: Instruction) -> bytes:
        self.settle()
        out = b""
        on_bus = {motor.get("id"): motor for motor in self.motors.values()}
        asked = instruction.payload or ([instruction.motor_id] if instruction.motor_id != 0xFE else on_bus)
        rate = RATES.get(termios.tcgetattr(self._master)[5])
        for motor_id in asked:
            motor = on_bus.get(motor_id)
            if motor is None or not motor.present or self.wire.rates.get(motor.get("baud")) != rate:
                if instruction.kind == "sync_read":
                    break  # those behind it wait for its answer
                continue
            motor.heard_ns = time.monotonic_ns()
            error, data = 0, b""
            if instruction.kind in ("write", "sync_write"):
                error = motor.store(instruction.address, instruction.payload[motor_id])
            elif instruction.kind in ("read", "sync_read"):
                data = bytes(motor.memory[instruction.address : instruction.address + instruction.length])
            elif instruction.kind == "ping":
                data = self.wire.ping_data(motor.memory)
            if instruction.kind not in ("sync_write", "unknown"):
                out += self._spoil(self.wire.answer(motor_id, error, motor.fault_bits, data))
        return out

    def _spoil(self, answer: bytes) -> bytes:
        if self.lose_next > 0:
            self.lose_next -= 1
            return b""
        if self.damage_next > 0:
            self.damage_next -= 1
            answer = answer[:-2] + bytes((answer[-2] ^ 0x10, answer[-1]))
        return self.noise + answer


def main() -> None:
    """Stand in for an arm until interrupted."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("kind", choices=sorted(WIRES))
    parser.add_argument("--link", type=Path, required=True, help="where the port is to appear")
    parser.add_argument("--motors", type=int, default=6)
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # `kill %1` takes the port away, too
    try:
        with StandInBus(args.kind, range(1, args.motors + 1), args.link) as bus, contextlib.suppress(KeyboardInterrupt):
            logging.basicConfig(level=logging.INFO, format="%(message)s")
            logging.info("%s motors 1..%d on %s", args.kind, args.motors, bus.port)
            threading.Event().wait()
    except (HardwareError, OSError) as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
