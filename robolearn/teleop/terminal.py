"""The keys of a terminal, also over ssh: as they are typed, and what those mean that say something of an episode."""

from __future__ import annotations

import contextlib
import os
import re
import select
import termios
import tty

from robolearn.errors import HardwareError
from robolearn.teleop.teleoperator import TeleopEvent

EVENTS = {
    " ": TeleopEvent.STOP,
    "\r": TeleopEvent.SUCCESS,
    "\n": TeleopEvent.SUCCESS,
    "x": TeleopEvent.FAILURE,
    "\x7f": TeleopEvent.DISCARD,  # backspace
    "\b": TeleopEvent.DISCARD,
}
ESCAPE_SEQUENCE = re.compile(r"\x1b(\[[0-9;]*[A-Za-z~]|O[A-Za-z])")  # arrows and the like: not ours
UNFINISHED = re.compile(r"\x1b(\[[0-9;]*|O)?$")


class Terminal:
    """fd: its file descriptor, which stays the caller's."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._before: list | None = None  # its own settings
        self._text = ""

    def take(self) -> None:
        """From now on keys come at once and are not shown; what was typed before is forgotten."""
        if not os.isatty(self._fd):
            raise HardwareError("the keyboard needs a terminal, and standard input is none; start it from a shell")
        if self._before is None:
            self._before = termios.tcgetattr(self._fd)
            tty.setcbreak(self._fd)
        self._text = ""

    def typed(self) -> str:
        """What was typed since the last reading. Raises HardwareError when nobody can type there any more."""
        if self._before is None:
            raise HardwareError("the keyboard is not connected; call connect() first")
        while select.select([self._fd], [], [], 0)[0]:
            try:
                data = os.read(self._fd, 1024)
            except OSError:
                data = b""
            if not data:
                raise HardwareError("the keyboard's terminal was closed; the robot holds, start again from a shell")
            self._text += data.decode("utf-8", "ignore")
        text = ESCAPE_SEQUENCE.sub("", self._text)
        rest = UNFINISHED.search(text)
        self._text = rest.group() if rest else ""
        return text[: rest.start()] if rest else text

    def give_back(self) -> None:
        """Leave it as it was."""
        if self._before is not None:
            with contextlib.suppress(termios.error):  # the terminal is gone
                termios.tcsetattr(self._fd, termios.TCSADRAIN, self._before)
            self._before = None
