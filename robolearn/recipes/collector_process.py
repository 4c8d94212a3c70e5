"""A collector in a process of its own, for environments whose Python would take turns with the learner's.

It does what a `Collector` does, call by call, so a training with it is, bit for bit, the training without. What the
learner asks for every step (the newest observation, how many transitions there are, how episodes ended) comes with the
answer to the call before.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import signal
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robolearn.errors import RobolearnError
from robolearn.recipes.collector import Collector
from robolearn.recipes.workers import leave_interrupts_to_starter

LEAVE_S = 5.0  # that it may take to close its environments


class CollectorProcess:
    """See Collector, whose methods these are. Not thread-safe."""

    def __init__(self, make: Callable[[], Collector]) -> None:
        """make: can be pickled. Raises the RobolearnError that it raises."""
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload([__name__])
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_collect, args=(theirs, make), name="collector", daemon=True)
        self._process.start()
        theirs.close()
        self.interface, self.num_envs = self._answer()

    def __len__(self) -> int:
        return self._number

    def step(self, actions: NDArray[np.float32]) -> None:
        self._ask("step", actions)

    def sample(self, batch_size: int, rng: np.random.Generator) -> dict[str, NDArray]:
        return self._ask("sample", batch_size, rng)

    def recent(self) -> dict[str, float]:
        return self._recent

    def state_dict(self) -> dict[str, NDArray]:
        return self._ask("state_dict")

    def load_state_dict(self, state: Mapping[str, NDArray]) -> None:
        self._ask("load_state_dict", state)

    def close(self) -> None:
        """End the process."""
        with contextlib.suppress(OSError):  # it is gone
            self._pipe.close()
        self._process.join(LEAVE_S)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()

    def _ask(self, method: str, *args: Any) -> Any:
        with contextlib.suppress(OSError):  # its answer says so
            self._pipe.send((method, args))
        return self._answer()

    def _answer(self) -> Any:
        try:
            answer, standing = self._pipe.recv()
        except (EOFError, OSError) as error:
            self._process.join(LEAVE_S)
            raise RobolearnError(
                f"the process that steps the environments died (exit code {self._process.exitcode}); is memory short? "
                "--resume goes on from what was saved last"
            ) from error
        if isinstance(answer, Exception):
            raise answer
        self.observation, self._number, self._recent = standing
        return answer


def _collect(pipe: Connection, make: Callable[[], Collector]) -> None:
    """Answer until the other end is closed, by its owner or by its owner's death."""
    leave_interrupts_to_starter(signal.SIGTERM)  # the learner saves what is here, then closes the pipe
    try:
        collector = make()
    except RobolearnError as error:
        pipe.send((error, None))
        return
    with contextlib.closing(collector), contextlib.suppress(EOFError, OSError):
        answer: Any = (collector.interface, collector.num_envs)
        while True:
            pipe.send((answer, (collector.observation, len(collector), collector.recent())))
            method, args = pipe.recv()
            try:
                answer = getattr(collector, method)(*args)
            except (RobolearnError, KeyError, ValueError) as error:  # what callers know how to mend
                answer = error
