"""Groups of episodes, read and scored side by side, so that neither disk nor decoder nor network waits for another.

On a CPU every core takes a group of its own, from its pictures to its values: a core that works on a picture of its own
has no others to wait for, as it has where all share one. On a GPU a process for each core reads ahead, for threads that
decode would keep the interpreter from those that launch kernels; SCORERS threads score, each in a stream of its own:
while one group is computed, the next is copied to the device.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import chain
from typing import Generic, TypeVar

import torch
from torch import nn

from robolearn.errors import DatasetError
from robolearn.rewards.reward_model import RewardModel

Read = TypeVar("Read")
Scored = TypeVar("Scored")

SCORERS = 2  # threads that feed a GPU
SHARES = 8  # groups for each core at least, where they stay large enough, so that all cores end at about the same time
LEAST, LEAST_ON_GPU = 64, 256  # steps of such a group
AHEAD = 4  # groups under way for each core, so that none idles while results, which are small, wait to be written
READ_AHEAD_BYTES = 4 << 30  # of pictures at most, whatever their size and the number of cores


def device_of(model: RewardModel) -> torch.device:
    """Where a model computes."""
    if isinstance(model, nn.Module):
        return next((tensor.device for tensor in chain(model.parameters(), model.buffers())), torch.device("cpu"))
    return getattr(model, "device", torch.device("cpu"))


class SideBySide(Generic[Read, Scored]):
    """`read` makes of a group what `score` takes. `device`: where `score` computes; for a GPU `read` can be pickled."""

    def __init__(
        self, read: Callable[[list[int]], Read], score: Callable[[Read], Scored], device: torch.device
    ) -> None:
        self._read, self._score, self._device = read, score, device
        self._on_gpu = device.type == "cuda"
        self._cores = len(os.sched_getaffinity(0)) if self._on_gpu else max(torch.get_num_threads(), 2)
        self._read_ahead = self._cores + 2 * SCORERS if self._on_gpu else self._cores  # groups, with their pictures

    def group_steps(self, steps: int, step_bytes: int) -> int:
        """How many steps a group should have at most, of `steps` altogether with `step_bytes` of pictures each."""
        share = max(steps // (SHARES * self._cores), LEAST_ON_GPU if self._on_gpu else LEAST)
        return max(min(share, READ_AHEAD_BYTES // (self._read_ahead * max(step_bytes, 1))), 1)

    def run(self, groups: Sequence[list[int]]) -> Iterator[list[tuple[list[int], Scored]]]:
        """Each group and what was made of it, in order. All that is ready comes at once."""
        threads = torch.get_num_threads()
        ahead = self._read_ahead if self._on_gpu else AHEAD * self._cores
        waiting: deque[tuple[list[int], Future[Scored]]] = deque()
        readers: Executor = self._processes() if self._on_gpu else ThreadPoolExecutor(self._cores, "read")
        scorers = ThreadPoolExecutor(SCORERS, "score", self._own_stream) if self._on_gpu else None

        def begin(group: list[int]) -> Future[Scored]:
            if scorers is None:
                return readers.submit(lambda: self._score(self._read(group)))
            read = readers.submit(self._read, group)
            return scorers.submit(lambda: self._score(read.result()))

        torch.set_num_threads(1)
        try:
            for group in groups:
                waiting.append((group, begin(group)))
                if len(waiting) > ahead:
                    yield _ready(waiting)
            while waiting:
                yield _ready(waiting)
        except BrokenProcessPool as error:
            raise DatasetError("a process that reads pictures died; is memory short?") from error
        except RuntimeError as error:  # torch's, which has no kind of its own for it
            if "shared memory" not in str(error):
                raise
            raise _no_room(error) from error
        finally:
            for pool in (readers, scorers):
                if pool is not None:
                    pool.shutdown(cancel_futures=True)
            torch.set_num_threads(threads)

    def _processes(self) -> ProcessPoolExecutor:
        """Forked from a process that knows no GPU. What they read comes back in shared memory, as torch does it."""
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["robolearn.recipes.rewards.data"])
        try:
            return ProcessPoolExecutor(self._cores, context, _begin_reading)
        except OSError as error:  # its locks lie there
            raise _no_room(error) from error

    def _own_stream(self) -> None:
        torch.cuda.synchronize(self._device)  # what the model was made of is there
        torch.cuda.set_stream(torch.cuda.Stream(self._device))


def _no_room(error: Exception) -> DatasetError:
    reason = str(error).splitlines()[0]
    return DatasetError(
        f"pictures cannot be handed over through /dev/shm ({reason}); give it more room, in a container by "
        "--shm-size=8g, or label with --device cpu"
    )


def _begin_reading() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal's Ctrl-C is for who labels
    torch.set_num_threads(1)


def _ready(waiting: deque[tuple[list[int], Future[Scored]]]) -> list[tuple[list[int], Scored]]:
    """Take the first ones, waiting for one of them."""
    ready: list[tuple[list[int], Scored]] = []
    while waiting and (not ready or waiting[0][1].done()):
        group, future = waiting.popleft()
        ready.append((group, future.result()))
    return ready
