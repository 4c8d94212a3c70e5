"""A teleoperator without a person, for tests and dry runs."""

from __future__ import annotations

from dataclasses import dataclass

from robolearn.errors import HardwareError
from robolearn.specs import RobotSpec
from robolearn.teleop.teleoperator import TeleopCommand
from robolearn.types import RobotState


@dataclass(frozen=True)
class ScriptedTeleopConfig:
    """The commands, one a reading; after the last one nobody is at the controls."""

    commands: tuple[TeleopCommand, ...] = ()


class ScriptedTeleop:
    """Gives its commands one by one; connecting starts from the first."""

    config_type = ScriptedTeleopConfig

    def __init__(self, config: ScriptedTeleopConfig, spec: RobotSpec) -> None:
        """Raises SpecError when a command does not fit the robot."""
        self._commands = config.commands
        for command in self._commands:
            if command.action is not None:
                spec.action_spec.check("scripted action", command.action)
        self._next: int | None = None

    def connect(self) -> None:
        self._next = 0

    def read(self, state: RobotState, now_ns: int) -> TeleopCommand:
        if self._next is None:
            raise HardwareError("the scripted teleoperator is not connected; call connect() first")
        if self._next == len(self._commands):
            return TeleopCommand()
        self._next += 1
        return self._commands[self._next - 1]

    def close(self) -> None:
        self._next = None
