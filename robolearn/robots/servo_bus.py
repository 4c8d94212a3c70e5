"""A half-duplex serial bus of servo motors: who is asked, how often, and what is said when nobody answers.

The two vendors' SDKs are not used: both poll the port without sleeping while they wait (a core at 100 %), take their
time-outs from the wall clock, and give up a sync read at the first silent motor without saying which; that of Feetech
is an unmaintained copy besides. The framing is 80 lines a protocol (`feetech.py`, `dynamixel.py`), the port is
pyserial's. The tests let both SDKs talk to the stand-in bus: our reading of the protocols is checked against theirs.

The rule of retries: a motor that does not answer, or whose answer is damaged, is asked again up to `retries` times. In
a sync read only those that are missing are asked again, and last of all one by one, because behind a dead motor the
others may wait for ever. Reads and register writes may be repeated without harm. A sync write has no answer and is not
repeated: the next control tick replaces it.
"""

from __future__ import annotations

import contextlib
import errno
import select
import termios
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import serial

from robolearn.errors import HardwareError

QUIET_S = 0.002  # the line must be silent this long after a failed exchange before it is used again


@dataclass(frozen=True)
class Status:
    """One answer of a motor."""

    motor_id: int
    error: int
    data: bytes


@dataclass(frozen=True)
class Register:
    """Where a number lives in a motor. Little endian; `sign_bit`: sign and magnitude, else two's complement."""

    address: int
    length: int
    signed: bool = False
    sign_bit: int | None = None

    def encode(self, value: int) -> bytes:
        if self.sign_bit is not None:
            value = abs(value) | (value < 0) << self.sign_bit
        return value.to_bytes(self.length, "little", signed=self.signed)

    def decode(self, data: bytes) -> int:
        value = int.from_bytes(data, "little", signed=self.signed)
        if self.sign_bit is not None and value >> self.sign_bit & 1:
            return -(value & (1 << self.sign_bit) - 1)
        return value


class Parser(Protocol):
    """Finds status packets in a stream of bytes that may be split anywhere and hold noise."""

    corrupt: int  # packets whose checksum was wrong, so far

    def feed(self, data: bytes) -> list[Status]:
        """The packets that `data` completes, in order."""
        ...

    def flush(self) -> list[Status]:
        """No more bytes will come: give up the unfinished packet, and return what it had swallowed."""
        ...


class ServoProtocol(Protocol):
    """The wire format of one vendor: pure functions from a question to its bytes."""

    def ping(self, motor_id: int) -> bytes: ...
    def read(self, motor_id: int, address: int, length: int) -> bytes: ...
    def write(self, motor_id: int, address: int, data: bytes) -> bytes: ...
    def sync_read(self, motor_ids: Sequence[int], address: int, length: int) -> bytes: ...
    def sync_write(self, address: int, data: Mapping[int, bytes]) -> bytes: ...
    def parser(self) -> Parser: ...
    def status_size(self, length: int) -> int:
        """Bytes on the wire of an answer with `length` bytes of data, at most."""
        ...

    def refusal(self, error: int) -> str:
        """Why a motor did not do what it was told; empty when it did."""
        ...

    def alert(self, error: int) -> bool:
        """Whether the motor reports a fault of its own."""
        ...


@dataclass(frozen=True)
class BusConfig:
    """How long to wait for motors and how often to ask them."""

    baud_rate: int = 1_000_000
    answer_timeout_s: float = 0.02  # for one answer, on top of its time on the wire
    retries: int = 2

    def __post_init__(self) -> None:
        for name, low, high in (("baud_rate", 1200, 10_000_000), ("answer_timeout_s", 1e-4, 1.0), ("retries", 0, 20)):
            if not low <= getattr(self, name) <= high:
                raise HardwareError(f"{name} of the bus is {getattr(self, name):g}, expected {low:g} to {high:g}")


class ServoBus:
    """The only user of one serial port. Its methods may be called from several threads; exchanges do not mix.

    `counts` since the port was opened: exchanges, retries, timeouts (answers that did not come), corrupt.
    `holds`: whether motors have been told to hold, for what is said of a port that is lost.
    Raises HardwareError naming the port, the motor and the remedy.
    """

    def __init__(
        self,
        port: str,
        protocol: ServoProtocol,
        config: BusConfig,
        names: Mapping[int, str],
        holds: Callable[[], bool] = lambda: False,
    ) -> None:
        self.port = port
        self.protocol = protocol
        self.config = config
        self.counts: Counter[str] = Counter()
        self._names, self._holds = names, holds
        self._lock = threading.Lock()
        self._serial: serial.Serial | None = None
        self._late = False  # whether an answer that was given up may still come
        self._gone = ""  # why the port was given up

    def open(self) -> None:
        """Open the port for this process alone (flock)."""
        try:
            self._serial = serial.Serial(
                self.port, self.config.baud_rate, timeout=0.0, write_timeout=0.5, exclusive=True
            )
        except (serial.SerialException, OSError, ValueError) as error:
            raise HardwareError(f"cannot open {self.port}: {_why_not(error)}") from error
        with contextlib.suppress(AttributeError, OSError, ValueError):  # where the adapter has no such mode
            self._serial.set_low_latency_mode(True)  # FTDI adapters otherwise hold answers back for 16 ms
        self.counts.clear()

    def close(self) -> None:
        with self._lock:
            self._gone = ""
            if self._serial is not None:
                self._serial.close()
                self._serial = None

    @property
    def is_open(self) -> bool:
        return self._serial is not None

    def describe(self, motor_ids: Sequence[int]) -> str:
        """Motors by joint name and id."""
        return ", ".join(f"{self._names.get(i, 'motor')} (id {i})" for i in motor_ids)

    def ping(self, motor_id: int) -> bool:
        """Whether the motor answers."""
        with self._lock:
            self._settle()
            return motor_id in self._ask([motor_id], lambda ids: self.protocol.ping(ids[0]), None)

    def read(self, motor_id: int, register: Register) -> int:
        """One register of one motor."""
        with self._lock:
            self._settle()
            question = self.protocol.read(motor_id, register.address, register.length)
            answers = self._ask([motor_id], lambda ids: question, register.length)
        if motor_id not in answers:
            raise self._silent([motor_id])
        return register.decode(answers[motor_id].data)

    def write(self, motor_id: int, register: Register, value: int) -> None:
        """Write one register and wait until the motor has said that it did."""
        with self._lock:
            self._settle()
            question = self.protocol.write(motor_id, register.address, register.encode(value))
            answers = self._ask([motor_id], lambda ids: question, 0)
        if motor_id not in answers:
            raise self._silent([motor_id])
        refusal = self.protocol.refusal(answers[motor_id].error)
        if refusal:
            raise HardwareError(
                f"{self.describe([motor_id])} on {self.port} refused {value} at register {register.address}: {refusal}"
            )

    def sync_read(self, motor_ids: Sequence[int], address: int, length: int) -> dict[int, Status]:
        """The same registers of many motors in one exchange."""
        with self._lock:
            answers = self._ask(motor_ids, lambda ids: self.protocol.sync_read(ids, address, length), length)
            missing = [i for i in motor_ids if i not in answers]
            for motor_id in missing if len(motor_ids) > 1 else ():
                question = self.protocol.read(motor_id, address, length)
                answers |= self._exchange([motor_id], question, length, first=False)
        missing = [i for i in motor_ids if i not in answers]
        if missing:
            raise self._silent(missing)
        return answers

    def sync_write(self, address: int, data: Mapping[int, bytes]) -> None:
        """Write the same registers of many motors at once. Nobody answers."""
        with self._lock:
            self._send(self.protocol.sync_write(address, data))

    def _ask(
        self, motor_ids: Sequence[int], question: Callable[[Sequence[int]], bytes], length: int | None
    ) -> dict[int, Status]:
        """Ask, and ask those that are missing again. `length` None: an answer of any length will do."""
        answers: dict[int, Status] = {}
        missing = list(motor_ids)
        for attempt in range(1 + self.config.retries):
            self.counts["retries"] += attempt > 0
            answers |= self._exchange(missing, question(missing), length, first=attempt == 0)
            missing = [i for i in motor_ids if i not in answers]
            if not missing:
                break
        return answers

    def _exchange(
        self, motor_ids: Sequence[int], question: bytes, length: int | None, first: bool
    ) -> dict[int, Status]:
        """Send once and gather the answers that come in time.

        On the `first` attempt a damaged packet is an answer that need not be waited for; on later ones it may be the
        rest of an answer that came late.
        """
        self._send(question)
        self.counts["exchanges"] += 1
        parser = self.protocol.parser()
        answers: dict[int, Status] = {}
        wire_s = self.protocol.status_size(length or 8) * 10 / self.config.baud_rate
        patience_s = self.config.answer_timeout_s + wire_s
        deadline = time.monotonic() + patience_s + len(question) * 10 / self.config.baud_rate
        while len(answers) < len(motor_ids):
            data = self._receive(deadline - time.monotonic())
            packets = parser.feed(data) if data else parser.flush()
            for status in packets:
                if status.motor_id in motor_ids and length in (None, len(status.data)):
                    answers[status.motor_id] = status
                    deadline = time.monotonic() + patience_s
            if not data or (first and len(answers) + parser.corrupt >= len(motor_ids)):  # nothing more will come
                break
            if time.monotonic() > deadline:  # nor among the noise of a line that is never silent
                break
        self.counts["corrupt"] += parser.corrupt
        missing = len(motor_ids) - len(answers)
        if missing:
            self.counts["timeouts"] += missing
            self._late = True
            self._drain(QUIET_S)
        return answers

    def _settle(self) -> None:
        """After an answer has failed to come, wait until it cannot come any more: registers of a length look alike."""
        if self._late:
            self._drain(self.config.answer_timeout_s)
            self._late = False

    def _drain(self, quiet_s: float) -> None:
        """Wait until the line is silent for so long; one that never is, no longer than an answer takes."""
        end_s = time.monotonic() + self.config.answer_timeout_s + quiet_s
        while self._receive(quiet_s) and time.monotonic() < end_s:
            pass

    def _send(self, packet: bytes) -> None:
        try:
            port = self._require_port()
            port.reset_input_buffer()
            port.write(packet)
        except (serial.SerialException, OSError, termios.error) as error:
            raise self._lost(error) from error

    def _receive(self, wait_s: float) -> bytes:
        """What has arrived; sleeps up to `wait_s` for the first byte, and returns nothing when none came."""
        try:
            port = self._require_port()
            if not select.select([port.fileno()], [], [], max(wait_s, 0.0))[0]:
                return b""
            return port.read(max(port.in_waiting, 1))
        except (serial.SerialException, OSError) as error:
            raise self._lost(error) from error

    def _require_port(self) -> serial.Serial:
        if self._serial is None:
            raise HardwareError(self._gone or f"the bus on {self.port} is not open; call connect() first")
        return self._serial

    def _lost(self, error: Exception) -> HardwareError:
        """What is raised when the port fails. It is given up then, unless it was only too slow: while it is held, the
        kernel gives the adapter that is plugged in again another name."""
        why = f"lost {self.port} ({error}); plug its cable in again, then connect again"
        why += ": the motors hold meanwhile" if self._holds() else ""
        if self._serial is not None and not isinstance(error, serial.SerialTimeoutException):
            with contextlib.suppress(OSError):
                self._serial.close()
            self._serial, self._gone = None, why
        return HardwareError(why)

    def _silent(self, motor_ids: Sequence[int]) -> HardwareError:
        return HardwareError(
            f"no answer from {self.describe(motor_ids)} on {self.port} in {1 + self.config.retries} tries "
            f"at {self.config.baud_rate} baud; check its cable, its power and its id"
        )


def _why_not(error: Exception) -> str:
    number = getattr(error, "errno", None)
    if number == errno.ENOENT:
        return "there is no such port; plug the adapter in, and see `ls -l /dev/serial/by-id`"
    if number == errno.EACCES:
        return "no permission; join the group dialout or install hardware/udev, then log in again"
    if number in (errno.EAGAIN, errno.EBUSY):
        return "another process holds it; end that process first"
    if number == errno.EISDIR or "ioctl" in str(error):
        return "it is no serial port; see `robolearn cell find ports`"
    return f"{error}; check the cable"
