"""Devices that move one robot together, such as a leader for each of its arms. Legend: J joints of the robot.

Each moves the joints whose names begin with the name of its part (`left_`), and knows them without. The person is in
charge while one of them is and none asks for something first, as for a leader to be brought near its arm. The part of a
device that lies still meanwhile stays where it was last sent, or where it stood.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robolearn.errors import HardwareError, SpecError
from robolearn.plugins import Device
from robolearn.robots.combined import part_named, require_parts
from robolearn.specs import RobotSpec
from robolearn.teleop.teleoperator import Fed, TeleopCommand, Teleoperator
from robolearn.types import RobotState


@dataclass(frozen=True)
class CombinedTeleopConfig:
    """Who moves what."""

    parts: Mapping[str, Device]  # teleoperators, by what stands before the names of their joints

    def __post_init__(self) -> None:
        require_parts(self.parts)


class CombinedTeleop:
    """Implements `Teleoperator`."""

    config_type = CombinedTeleopConfig

    def __init__(self, config: CombinedTeleopConfig, spec: RobotSpec) -> None:
        """Raises SpecError unless each joint of the robot is moved by one of the devices."""
        from robolearn.teleop import TELEOPERATORS  # which names this one, too

        self._joints = {name: _joints(name, spec) for name in config.parts}
        moved = sorted(joint for joints in self._joints.values() for joint in joints)
        if moved != list(range(len(spec.joint_names))) or not all(self._joints.values()):
            raise SpecError(
                f"the parts {', '.join(config.parts)} do not share out the joints {', '.join(spec.joint_names)}: each "
                "name has to begin with that of one part"
            )
        self._parts: dict[str, Teleoperator] = {}
        for name, device in config.parts.items():
            made: Any = TELEOPERATORS[device.driver]
            with part_named(name):
                if isinstance(made, type) and issubclass(made, Fed):
                    raise SpecError(f"{device.driver} moves a whole robot alone")
                self._parts[name] = made(device.config, _part_of(spec, name, self._joints[name]))
        self._kept: dict[str, NDArray[np.float32]] = {}  # where a part is to be while its device lies still

    def connect(self) -> None:
        self._kept.clear()
        try:
            for name, part in self._parts.items():
                with part_named(name):
                    part.connect()
        except BaseException:  # Ctrl-C, too
            self.close()
            raise

    def read(self, state: RobotState, now_ns: int) -> TeleopCommand:
        commands: dict[str, TeleopCommand] = {}
        failures = []
        for name, part in self._parts.items():
            own = self._joints[name]
            seen = RobotState(state.joint_position[own], state.joint_velocity[own], state.stamp_ns)
            try:
                commands[name] = part.read(seen, now_ns)
            except HardwareError as error:
                failures.append(f"{name}: {error}")
        if failures:
            self._kept.clear()
            raise HardwareError("; ".join(failures))
        events = tuple(event for command in commands.values() for event in command.events)
        reason = "; ".join(f"{name}: {command.reason}" for name, command in commands.items() if command.reason)
        if reason or all(command.action is None for command in commands.values()):
            self._kept.clear()
            return TeleopCommand(None, events, reason)
        action = np.empty_like(state.joint_position)
        for name, command in commands.items():
            own = self._joints[name]
            if command.action is not None:
                self._kept[name] = command.action
            action[own] = self._kept.setdefault(name, state.joint_position[own])
        return TeleopCommand(action, events)

    def close(self) -> None:
        for part in self._parts.values():
            part.close()


def _joints(part: str, spec: RobotSpec) -> list[int]:
    """Which joints of the robot are those of a part."""
    return [i for i, joint in enumerate(spec.joint_names) if joint.startswith(f"{part}_")]


def _part_of(spec: RobotSpec, part: str, joints: list[int]) -> RobotSpec:
    """A part of a robot as its device knows it."""
    return RobotSpec(
        name=f"{spec.name} {part}",
        joint_names=tuple(spec.joint_names[i].removeprefix(f"{part}_") for i in joints),
        position_low=tuple(spec.position_low[i] for i in joints),
        position_high=tuple(spec.position_high[i] for i in joints),
        max_speed=tuple(spec.max_speed[i] for i in joints),
        unit=spec.unit,
    )
