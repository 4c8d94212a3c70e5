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
import select
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from robolearn.rewards.code.allow_list import BUILTINS, LINALG, METHODS, NUMPY, RewardCodeError, check_code

FUNCTION = "compute_reward"
MAX_ANSWER_BYTES, READ_BYTES = 64 << 20, 1 << 16


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
            bufsize=0,
        )
        assert self._child.stdin is not None
        os.set_blocking(self._child.stdin.fileno(), False)
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
                pipe.close()
        self._folder.cleanup()

    def __enter__(self) -> Sandbox:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _ask(self, request: Mapping[str, object]) -> dict[str, object]:
        try:
            reply = json.loads(self._answer(json.dumps(request).encode() + b"\n"))
            if not isinstance(reply, dict):
                raise ValueError(f"{type(reply).__name__} came")
        except RewardCodeError:
            self._child.kill()  # what it may still say would be taken for the answer to what it is asked next
            raise
        except (ValueError, RecursionError) as error:
            self._child.kill()
            raise RewardCodeError("the code answered with something that is no reward") from error
        if "error" in reply:
            raise RewardCodeError(str(reply["error"])[:500])
        return reply

    def _answer(self, request: bytes) -> bytes:
        """The line that the child says to a request, which it may be slow to read, too."""
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        to_child, from_child = self._child.stdin.fileno(), self._child.stdout.fileno()
        waiting = select.poll()
        waiting.register(to_child, select.POLLOUT)
        waiting.register(from_child, select.POLLIN)
        answer, left, end_s = bytearray(), memoryview(request), time.monotonic() + self.config.wall_s
        while not answer.endswith(b"\n"):
            left_s = end_s - time.monotonic()
            ready = [descriptor for descriptor, _ in waiting.poll(max(left_s, 0.0) * 1e3)]
            if not ready or left_s <= 0:
                raise RewardCodeError(f"the code gave no answer within {self.config.wall_s:g} s")
            if to_child in ready:
                try:
                    left = left[os.write(to_child, left) :]
                except BrokenPipeError as error:
                    raise RewardCodeError("the code's process has ended") from error
                if not left:
                    waiting.unregister(to_child)
            if from_child in ready:
                part = os.read(from_child, READ_BYTES)
                answer += part
                if not part:
                    raise RewardCodeError(f"the code broke a limit: {self.config.cpu_s} s of CPU time, or memory")
                if len(answer) > MAX_ANSWER_BYTES:
                    raise RewardCodeError(f"the code answered with more than {MAX_ANSWER_BYTES} bytes")
        return bytes(answer)
