"""Processes of nodes, forked from one that has read the modules, for to read them takes each a second, or three with
torch, and has described the messages to Cyclone DDS, half a second more. How a node begins on its own is in
test_node_start.py, and `robolearn launch` starts nodes as a user does.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path

NODES = ("camera", "policy", "practice", "recorder", "replay", "reward", "robot", "supervisor", "tag", "teleop", "twin")
SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(
    [*(f"robolearn_nodes.{node}_node" for node in NODES), "robolearn.recipes.rewards.write", "described", "forked"]
)


def _work(node: str, arguments: list[str], log: Path, environment: Mapping[str, str]) -> None:
    os.environ.clear()
    os.environ.update(environment)
    with log.open("wb") as file:
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)
    sys.argv = [node, *arguments]
    signal.signal(signal.SIGINT, signal.default_int_handler)
    raise SystemExit(import_module(f"robolearn_nodes.{node}_node").main())


class ForkedNode:
    """The node `<node>_node` with these arguments, whose output is in `log`; to be held as a `subprocess.Popen`."""

    def __init__(self, node: str, arguments: list[str], log: Path) -> None:
        log.touch()
        self._process = SERVER.Process(target=_work, args=(node, arguments, log, dict(os.environ)), daemon=True)
        self._process.start()

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def poll(self) -> int | None:
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        self._process.join(timeout)
        if self.returncode is None:
            raise subprocess.TimeoutExpired("node", timeout or 0.0)
        return self.returncode

    def send_signal(self, number: int) -> None:
        assert self._process.pid is not None
        os.kill(self._process.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)
