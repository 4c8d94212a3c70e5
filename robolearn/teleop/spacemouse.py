"""A 3Dconnexion SpaceMouse, through the kernel's hidraw interface, without a package.

One read gives one report. Report 1: x, y, z as s16, little endian, and on some models the rotation behind them; report
2: rotation about them; report 3: bits of the buttons. Full deflection is about 350 counts. The device's axes: x to the
right, y towards the person, z down. A cap that is deflected reports on and on; one of which nothing more is heard (its
battery is empty) counts as at rest.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

from robolearn.specs import RobotSpec
from robolearn.teleop.cartesian import CartesianConfig
from robolearn.teleop.device_file import DeviceFile
from robolearn.teleop.sticks import StickMapping, Sticks

FULL = 350.0
SILENT_S = 0.5  # many times what lies between two reports of a deflected cap
MAPPING = StickMapping(
    x="-1", y="-0", z="-2", roll="-4", pitch="-3", yaw="-5", toggle=0, stop=1, dead_zone=0.08, idle_s=1.0
)


@dataclass(frozen=True)
class SpaceMouseConfig:
    """One device."""

    arm: CartesianConfig = field(default=CartesianConfig())
    device: str = "/dev/robolearn/spacemouse"  # a hidraw device; hardware/udev names it
    mapping: StickMapping = field(default=MAPPING)


class SpaceMouseDevice:
    """The reports of one SpaceMouse: axes 0..2 along, 3..5 about x, y, z of the device."""

    def __init__(self, path: str) -> None:
        self.axes: dict[int, float] = {}
        self.held: set[int] = set()
        self._moved_ns = 0
        self._file = DeviceFile(path, "plugdev")

    def open(self) -> None:
        self._file.open()
        self.axes, self.held = {}, set()

    def update(self, now_ns: int) -> list[int]:
        pressed: list[int] = []
        while report := self._file.read(64):
            if report[0] in (1, 2) and len(report) >= 7:
                first = 3 * (report[0] - 1)
                count = 6 if report[0] == 1 and len(report) >= 13 else 3
                self._moved_ns = now_ns
                for i, value in enumerate(struct.unpack_from(f"<{count}h", report, 1)):
                    self.axes[first + i] = min(max(value / FULL, -1.0), 1.0)
            elif report[0] == 3:
                bits = int.from_bytes(report[1:5], "little")
                held = {i for i in range(32) if bits >> i & 1}
                pressed += sorted(held - self.held)
                self.held = held
        if not 0 <= now_ns - self._moved_ns <= SILENT_S * 1e9:
            self.axes = {}
        return pressed

    def close(self) -> None:
        self._file.close()


class SpaceMouse(Sticks):
    """By default: the cap moves and turns the tool, the left button opens and closes, the right one stops."""

    config_type = SpaceMouseConfig

    def __init__(self, config: SpaceMouseConfig, spec: RobotSpec) -> None:
        super().__init__(SpaceMouseDevice(config.device), config.mapping, config.arm, spec)
