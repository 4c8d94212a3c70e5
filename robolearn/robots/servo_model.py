"""What the driver must know of a kind of servo motor: its protocol, its registers and their units."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from robolearn.robots.servo_bus import Register, ServoProtocol


@dataclass(frozen=True)
class ServoModel:
    """Registers by role. `position` and `velocity` lie close together, and so do all that are only read: one sync read
    fetches each group. So do goal and speed limit, which are written together; what lies between them is 0."""

    name: str
    protocol: ServoProtocol
    model_number: Register
    model_numbers: Mapping[int, str]  # those that this table is true of
    multi_turn: bool  # whether goals beyond one turn are followed; if not, a joint must not cross the encoder's seam
    settings: tuple[tuple[Register, int], ...]  # stored in the motor, that the driver counts on
    torque_enable: Register
    goal_position: Register
    goal_speed: Register  # limits the speed towards a goal
    position: Register
    velocity: Register
    load: Register
    voltage: Register
    temperature: Register  # [deg C]
    faults: Register
    fault_names: Mapping[int, str]  # by bit
    homing: Register | None  # stored in the motor: present position = encoder - homing
    lock: Register | None  # 0 opens the stored registers for writing
    id: Register
    baud: Register
    baud_rates: Mapping[int, int]  # what the register holds for each, the factory's and ours first
    bus_watchdog: Register | None  # stops the motor when the bus is silent, in units of 20 ms
    ticks_per_turn: int
    speed_unit_ticks_s: float
    load_unit: float
    voltage_unit_v: float

    @property
    def rad_per_tick(self) -> float:
        return 2 * math.pi / self.ticks_per_turn

    def goal(self, ticks: int, speed: int) -> tuple[int, bytes]:
        """First address of the block that holds a goal and the limit of the speed towards it, and its bytes."""
        start, length = _span(self.goal_position, self.goal_speed)
        block = bytearray(length)
        for register, value in ((self.goal_position, ticks), (self.goal_speed, speed)):
            at = register.address - start
            block[at : at + register.length] = register.encode(value)
        return start, bytes(block)

    @property
    def motion(self) -> tuple[int, int]:
        """First address and length of the block that holds position and velocity."""
        return _span(self.position, self.velocity)

    @property
    def everything(self) -> tuple[int, int]:
        """First address and length of the block that also holds load, voltage and temperature."""
        return _span(self.position, self.velocity, self.load, self.voltage, self.temperature)

    def faults_in(self, bits: int) -> str:
        """The faults that the bits of the `faults` register stand for."""
        return " and ".join(self.fault_names.get(i, f"fault bit {i}") for i in range(8) if bits >> i & 1)


def _span(*registers: Register) -> tuple[int, int]:
    start = min(r.address for r in registers)
    return start, max(r.address + r.length for r in registers) - start
