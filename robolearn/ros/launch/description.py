"""What a launch file comes to once its arguments are known: plain data, nothing is running yet."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

SIGTERM_TIMEOUT_S = 5.0  # after SIGINT, as native launch
SIGKILL_TIMEOUT_S = 5.0  # after SIGTERM
OUTPUTS = ("screen", "log", "both", "own_log", "full")


@dataclass(frozen=True)
class LaunchArgument:
    """An argument that the file declares. `default` is its text in the file (None: it must be given)."""

    name: str
    default: str | None = None
    description: str = ""
    choices: tuple[str, ...] = ()


@dataclass(frozen=True)
class ParamsFile:
    """A word of a command that becomes the path of a temporary parameter file with this text."""

    text: str


@dataclass(frozen=True)
class Process:
    """A child process. `name` is its label in the output (`twin_node-1`), `environment` all that it gets to see."""

    name: str
    command: tuple[str | ParamsFile, ...]
    environment: Mapping[str, str] = field(repr=False)
    cwd: str | None = None
    shell: bool = False  # the words are joined and given to /bin/sh
    output: str = "log"
    required: bool = False  # its end is the end of the launch (on_exit: shutdown)
    respawn: bool = False
    respawn_delay_s: float = 0.0
    respawn_max_retries: int = -1  # negative: without limit
    sigterm_timeout_s: float = SIGTERM_TIMEOUT_S
    sigkill_timeout_s: float = SIGKILL_TIMEOUT_S


@dataclass(frozen=True)
class Message:
    """A line for the log (`log`)."""

    text: str


@dataclass(frozen=True)
class Shutdown:
    """The end of the launch (`shutdown`)."""

    reason: str


@dataclass(frozen=True)
class Step:
    """Something to do `after_s` seconds after the start (0 outside of timers)."""

    after_s: float
    action: Process | Message | Shutdown


@dataclass(frozen=True)
class LaunchDescription:
    """All steps of a launch, in the order of their times."""

    path: Path
    arguments: tuple[LaunchArgument, ...]
    steps: tuple[Step, ...]

    @property
    def processes(self) -> tuple[Process, ...]:
        return tuple(step.action for step in self.steps if isinstance(step.action, Process))
