"""Every error that a user can cause or meet.

A message names the thing, what came, what was wanted and what to do, in one line. The command line prints it and exits
with `exit_code`; `--debug` shows the traceback.
"""

from __future__ import annotations

import difflib
import re
import shlex
from collections.abc import Iterable

BAD_INPUT_EXIT_CODE = 78
"""Of a node that another try cannot mend, as for a path with a typo, and with which its launch ends; EX_CONFIG of C."""

VERSION = re.compile(r"-v\d+$")
"""The end of a task's name, by which all are alike."""


def quoted(word: object) -> str:
    """A path or name in a command that a message tells: pasted, it is one word for the shell, whatever is in it."""
    return shlex.quote(str(word))


class RobolearnError(Exception):
    """Base of all errors raised on purpose."""

    exit_code = 2


class SpecError(RobolearnError):
    """An array, a dataset or a checkpoint does not fit the spec it is used with."""


class DatasetError(RobolearnError):
    """A dataset is missing, damaged, locked or of another kind."""


class DatasetBusyError(DatasetError):
    """Somebody else is writing to a dataset: the same may be tried again."""


class DatasetDamagedError(DatasetError):
    """The table of a dataset's episodes cannot be read, and so nothing of it."""


class CheckpointError(RobolearnError):
    """A checkpoint is missing, damaged or does not fit the robot."""


class AssetError(RobolearnError):
    """A model file of `sim_assets` is missing or wrong."""


class LaunchError(RobolearnError):
    """A launch file is wrong, or a node that it starts failed."""


class TransportError(RobolearnError):
    """The ROS 2 transport could not be opened or broke."""


class ServingError(RobolearnError):
    """A policy server is absent, refuses, or says what is no protocol of ours."""


class HardwareError(RobolearnError):
    """A device is absent, silent or reports a fault."""


class PluginError(RobolearnError):
    """A package that adds something by an entry point cannot be used."""


class CellError(RobolearnError):
    """The YAML file of a physical cell is wrong."""


class UnknownNameError(RobolearnError):
    """A name that no table holds. Names the near misses, or without `known` nothing else."""

    def __init__(self, kind: str, name: str, known: Iterable[str] | None = None) -> None:
        if known is None:
            super().__init__(f"unknown {kind} {name!r}")
            return
        names = sorted(known)
        stem = {each: VERSION.sub("", each) for each in names}
        close = difflib.get_close_matches(VERSION.sub("", name), set(stem.values()), n=3, cutoff=0.6)
        near = [each for like in close for each in names if stem[each] == like]
        hint = f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(names) or 'none'}"
        super().__init__(f"unknown {kind} {name!r}; {hint}")

    def __reduce__(self) -> tuple[type[RobolearnError], tuple[str]]:
        """As its message, between the processes of one run."""
        return RobolearnError, (str(self),)
