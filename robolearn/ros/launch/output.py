"""Where the lines of a launch go: the screen, and log files when a log directory is given."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import TextIO

from robolearn.ros.launch.description import Process

# What `output` means in ros2 launch: the streams that go to the screen, those that go to launch.log, own files or not.
_ROUTES = {
    "screen": (("stdout", "stderr"), (), False),
    "log": (("stderr",), ("stdout", "stderr"), False),
    "both": (("stdout", "stderr"), ("stdout", "stderr"), False),
    "own_log": ((), (), True),
    "full": (("stdout", "stderr"), ("stdout", "stderr"), True),
}


class Output:
    """Routes lines as `ros2 launch` does. Without a log directory, what would go to a file is dropped.

    A log directory gets one directory per launch, with `launch.log`, and for `own_log` and `full` one file per process
    and stream.
    """

    def __init__(
        self,
        screen: Callable[[str], None],
        on_output: Callable[[str, str], None] | None,
        log_dir: Path | None,
    ) -> None:
        self._screen = screen
        self._on_output = on_output
        self._files: dict[str, TextIO] = {}
        self.directory: Path | None = None
        if log_dir is not None:
            stamp = datetime.now().strftime("%Y-%m-%d-%H-%M-%S-%f")
            self.directory = log_dir / f"{stamp}-{socket.gethostname()}-{os.getpid()}"
            self.directory.mkdir(parents=True)

    def event(self, level: str, name: str, text: str) -> None:
        """A line of the launcher itself."""
        self._screen(f"[{level}] [{name}]: {text}")
        self._write("launch.log", f"{_stamp()} [{level}] [{name}]: {text}")

    def line(self, process: Process, stream: str, line: str) -> None:
        """A line that a process wrote to `stream` (stdout or stderr)."""
        to_screen, to_log, to_own = _ROUTES[process.output]
        labelled = f"[{process.name}] {line}"
        if self._on_output is not None:
            self._on_output(process.name, line)
        if stream in to_screen:
            self._screen(labelled)
        if stream in to_log:
            self._write("launch.log", f"{_stamp()} {labelled}")
        if to_own:
            self._write(f"{process.name}.log", labelled)
            self._write(f"{process.name}-{stream}.log", line)

    def close(self) -> None:
        while self._files:
            with suppress(OSError):  # of a full disk, for what it still holds
                self._files.popitem()[1].close()

    def _write(self, name: str, line: str) -> None:
        if self.directory is None:
            return
        try:
            if name not in self._files:
                self._files[name] = (self.directory / name).open("a", encoding="utf-8", buffering=1)
            self._files[name].write(line + "\n")
        except OSError as error:  # no reason to stop a robot
            self._screen(f"[ERROR] [launch]: {self.directory / name}: {error.strerror}; the log files end here")
            self.directory = None
            self.close()


def _stamp() -> str:
    return f"{datetime.now().timestamp():.7f}"
