"""Cells for the tests: an arm of stand-in servos on a pseudo-terminal, and a keyboard on another one."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path

from robolearn.robots.standin import StandInBus

ROOT = Path(__file__).parents[2]
CONTROL_HZ = 30


@contextlib.contextmanager
def standin_cell(
    folder: Path, cameras: str = "", max_command_age_s: float = 0.08, control_hz: float = CONTROL_HZ
) -> Iterator[tuple[Path, StandInBus]]:
    """A cell's file, and the bus of its arm, which stands with all joints at 0 rad."""
    cell = folder / "cell.yaml"
    cell.write_text(
        f"name: standin\ncontrol_hz: {control_hz}\n"
        f"robot:\n  driver: servo_arm\n  name: so101\n  port: {folder / 'arm'}\n"
        f"  calibration: {ROOT / 'hardware' / 'calibration' / 'so101_standin.json'}\n"
        f"  bus: {{answer_timeout_s: 0.15}}\n"
        f"safety: {{max_command_age_s: {max_command_age_s}}}\n"
        f"{cameras}"
        "teleop: {driver: keyboard}\n",
        encoding="utf-8",
    )
    with StandInBus("sts3215", path=folder / "arm") as bus:
        yield cell, bus


class Typist:
    """Hands on a keyboard: holds one key down until told otherwise."""

    def __init__(self) -> None:
        self._master, self._slave = os.openpty()
        self.terminal = os.ttyname(self._slave)
        self._held = ""
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._type, daemon=True)
        self._thread.start()

    def press(self, key: str) -> None:
        os.write(self._master, key.encode())

    def hold(self, key: str) -> None:
        """From now on; nothing is held when it is empty."""
        self._held = key

    def close(self) -> None:
        self._closing.set()
        self._thread.join()
        os.close(self._master)
        os.close(self._slave)

    def _type(self) -> None:
        while not self._closing.wait(0.03):
            if self._held:
                self.press(self._held)
