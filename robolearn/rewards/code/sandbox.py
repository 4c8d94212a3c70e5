"""Runs written reward code in a process of its own that can reach nothing; never in the one that trains.

    allow-list -> child in a new network namespace, isolated Python, empty environment -> limits on CPU time, memory,
    files and processes, no privileges, few builtins -> one JSON line in, one out, under a wall-clock limit

The code is compiled once and scores many batches. Where the kernel refuses a network namespace there is no sandbox, and
the feature is refused: code never runs without one. What comes back is checked: finite, bounded, not constant.
"""

from __future__ import annotations

import functools
import json
import os
import queue
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from robolearn.rewards.code.allow_list import BUILTINS, LINALG, METHODS, NUMPY, RewardCodeError, check_code

FUNCTION = "compute_reward"


@dataclass(frozen=True)
class SandboxConfig:
    """Limits of the child process."""

    cpu_s: int = 3  # processor time for one answer
    wall_s: float = 8.0  # for one answer
    memory_bytes: int = 2 << 30  # address space
    max_reward: float = 1e4  # absolute value of a reward


@dataclass(frozen=True)
class CodeRewards:
    """Rewards (N,) and the components that the code reported, (N,) each."""

    rewards: NDArray[np.float64]
    components: dict[str, NDArray[np.float64]]


@functools.cache
def launcher() -> tuple[str, ...]:
    """The command that starts a program without network. Raises RewardCodeError where none works."""
    unshare = shutil.which("unshare")
    if unshare is not None:
        command = (unshare, "-n") if os.geteuid() == 0 else (unshare, "-r", "-n")  # or within a namespace of its own
        if subprocess.run([*command, "true"], capture_output=True, check=False).returncode == 0:
            return command
    raise RewardCodeError(
        "reward code needs a sandbox, and this machine allows none (unshare -n is missing or refused); "
        "use closed parameters, or allow user namespaces"
    )


class Sandbox:
    """One accepted piece of code, ready to score. A context manager; raises RewardCodeError for all that goes wrong."""

    def __init__(self, code: str, parameters: Sequence[str], config: SandboxConfig) -> None:
        check_code(code, FUNCTION, parameters)
        self.config = config
        self.parameters = tuple(parameters)
        command = [*launcher(), sys.executable, "-I", str(Path(__file__).with_name("worker.py"))]
        self._folder = tempfile.TemporaryDirectory(prefix="robolearn-reward-")
        self._child = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=self._folder.name,
            env={"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "PATH": os.defpath},
            text=True,
        )
        self._lines: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()
        first = {
            "code": code,
            "name": FUNCTION,
            "cpu_s": config.cpu_s,
            "memory_bytes": config.memory_bytes,
            "drop_privileges": os.geteuid() == 0,  # otherwise it has none, or none outside its namespace
            "numpy": sorted(NUMPY),
            "linalg": sorted(LINALG),
            "methods": sorted(METHODS),
            "builtins": sorted(BUILTINS),
        }
        try:
            self._ask(first)
        except RewardCodeError:
            self.close()
            raise

    def score(self, columns: Mapping[str, NDArray]) -> CodeRewards:
        """Rewards of N rows; each parameter's column is (N, ...). Not finite, huge or constant: RewardCodeError."""
        if set(columns) != set(self.parameters):
            raise RewardCodeError(f"columns {', '.join(columns)} came, expected {', '.join(self.parameters)}")
        ordered = {name: np.asarray(columns[name], float).tolist() for name in self.parameters}
        reply = self._ask({"columns": ordered})
        count = len(ordered[self.parameters[0]])
        try:
            rewards = np.array(reply["rewards"], float)
            components = {str(k): np.array(v, float) for k, v in dict(reply["components"]).items()}  # type: ignore[call-overload]
        except (KeyError, TypeError, ValueError) as error:
            raise RewardCodeError("the code answered with something that is no reward") from error
        if rewards.shape != (count,):
            raise RewardCodeError(f"the code answered {rewards.shape[0]} rewards for {count} rows")
        if not np.isfinite(rewards).all():
            raise RewardCodeError(f"{int((~np.isfinite(rewards)).sum())} of {count} rewards are not finite")
        if np.abs(rewards).max() > self.config.max_reward:
            worst = np.abs(rewards).max()
            raise RewardCodeError(f"a reward reaches {worst:g}; at most {self.config.max_reward:g} is allowed")
        if count > 1 and np.ptp(rewards) == 0.0:
            raise RewardCodeError(f"the reward is constant ({rewards[0]:g}) over {count} different states")
        return CodeRewards(rewards, components)

    def close(self) -> None:
        """End the child."""
        self._child.kill()
        self._child.wait()
        for pipe in (self._child.stdin, self._child.stdout):
            if pipe is not None:
                try:
                    pipe.close()
                except BrokenPipeError:
                    continue
        self._folder.cleanup()

    def __enter__(self) -> Sandbox:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _read(self) -> None:
        assert self._child.stdout is not None
        try:
            for line in self._child.stdout:
                self._lines.put(line)
        except ValueError:  # closed while reading
            pass
        self._lines.put("")

    def _ask(self, request: Mapping[str, object]) -> dict[str, object]:
        assert self._child.stdin is not None
        try:
            self._child.stdin.write(json.dumps(request) + "\n")
            self._child.stdin.flush()
            line = self._lines.get(timeout=self.config.wall_s)
        except (BrokenPipeError, ValueError) as error:
            raise RewardCodeError("the code's process has ended") from error
        except queue.Empty as error:
            raise RewardCodeError(f"the code gave no answer within {self.config.wall_s:g} s") from error
        if not line:
            raise RewardCodeError(f"the code broke a limit: {self.config.cpu_s} s of CPU time, or memory")
        reply = json.loads(line)
        if "error" in reply:
            raise RewardCodeError(str(reply["error"]))
        return reply
