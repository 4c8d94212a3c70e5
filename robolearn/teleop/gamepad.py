"""A gamepad, through the kernel's joystick interface (Documentation/input/joydev/joystick-api.rst), without a package.

Events are 8 bytes, little endian: time [ms] u32, value s16, type u8 (1 button, 2 axis; 0x80 added for the state at the
start), number u8. The default mapping is that of an Xbox pad as the driver `xpad` numbers it.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

from robolearn.specs import RobotSpec
from robolearn.teleop.cartesian import CartesianConfig
from robolearn.teleop.device_file import DeviceFile
from robolearn.teleop.sticks import StickMapping, Sticks

EVENT = struct.Struct("<IhBB")
BUTTON, AXIS, AT_START = 1, 2, 0x80
XBOX = StickMapping(
    x="-1", y="-0", z="-4", yaw="-3", pitch="7", roll="6", clutch=5, toggle=4, slower=2, faster=3, stop=1, success=0,
    failure=6, discard=7,
)  # fmt: skip


@dataclass(frozen=True)
class GamepadConfig:
    """One pad."""

    arm: CartesianConfig = field(default=CartesianConfig())
    device: str = "/dev/input/js0"
    mapping: StickMapping = field(default=XBOX)


class JoystickDevice:
    """The events of one joystick. Triggers rest at -1 and count as axes like the others.

    The kernel keeps 64 events; when there were more, it tells the state anew, in which buttons may have been pressed.
    """

    def __init__(self, path: str) -> None:
        self.axes: dict[int, float] = {}
        self.held: set[int] = set()
        self._file = DeviceFile(path, "input")
        self._rest = b""
        self._known = False  # whether the state at the start has come

    def open(self) -> None:
        self._file.open()
        self.axes, self.held, self._rest, self._known = {}, set(), b"", False

    def update(self, now_ns: int) -> list[int]:
        pressed = []
        data = self._rest
        while more := self._file.read(64 * EVENT.size):
            data += more
        whole = len(data) // EVENT.size * EVENT.size
        self._rest = data[whole:]
        for _, value, kind, number in EVENT.iter_unpack(data[:whole]):
            if kind & ~AT_START == AXIS:
                self.axes[number] = max(value / 32767, -1.0)
            elif kind & ~AT_START == BUTTON and value:
                if not kind & AT_START or (self._known and number not in self.held):
                    pressed.append(number)
                self.held.add(number)
            elif kind & ~AT_START == BUTTON:
                self.held.discard(number)
        self._known |= whole > 0
        return pressed

    def close(self) -> None:
        self._file.close()


class Gamepad(Sticks):
    """By default: hold RB to move; sticks move and turn the tool, the cross tilts it, LB opens and closes; B stops."""

    config_type = GamepadConfig

    def __init__(self, config: GamepadConfig, spec: RobotSpec) -> None:
        super().__init__(JoystickDevice(config.device), config.mapping, config.arm, spec)
