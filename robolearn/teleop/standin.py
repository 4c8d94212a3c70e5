"""Stand-ins for devices of the kernel: a gamepad and a SpaceMouse as files that give their bytes, read by read."""

from __future__ import annotations

import fcntl
import os
import struct
from collections.abc import Collection, Mapping


class StandInDevice:
    """A pipe in packet mode: each report that is sent comes out of one read, as from the kernel."""

    def __init__(self) -> None:
        self._out, self._in = os.pipe2(os.O_DIRECT | os.O_NONBLOCK)
        fcntl.fcntl(self._in, fcntl.F_SETPIPE_SZ, 1 << 20)  # every packet takes a page

    @property
    def path(self) -> str:
        return f"/proc/self/fd/{self._out}"

    def send(self, report: bytes) -> None:
        os.write(self._in, report)

    def unplug(self) -> None:
        """Readers meet the end."""
        if self._in >= 0:
            os.close(self._in)
            os.close(self._out)
            self._in = -1


class StandInGamepad(StandInDevice):
    """struct js_event: time, value, type, number."""

    def begin(self, buttons: int = 8, axes: int = 8, down: Collection[int] = ()) -> None:
        """The state that the kernel tells first, and anew when it had more events than it keeps: what is `down`."""
        for kind, count in ((0x81, buttons), (0x82, axes)):
            for number in range(count):
                self.send(struct.pack("<IhBB", 0, int(kind == 0x81 and number in down), kind, number))

    def axis(self, number: int, value: float) -> None:
        self.send(struct.pack("<IhBB", 1, round(value * 32767), 2, number))

    def button(self, number: int, down: bool = True) -> None:
        self.send(struct.pack("<IhBB", 1, int(down), 1, number))


class StandInSpaceMouse(StandInDevice):
    """counts: x, y, z along and about, as the device counts them."""

    def along(self, x: int, y: int, z: int) -> None:
        self.send(struct.pack("<Bhhh", 1, x, y, z))

    def about(self, x: int, y: int, z: int) -> None:
        self.send(struct.pack("<Bhhh", 2, x, y, z))

    def both(self, *counts: int) -> None:
        """As wireless models do: six numbers in report 1."""
        self.send(struct.pack("<B6h", 1, *counts))

    def buttons(self, down: Mapping[int, bool]) -> None:
        self.send(struct.pack("<BI", 3, sum(1 << i for i, held in down.items() if held)))
