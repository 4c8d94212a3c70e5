"""Groups of episodes for a GPU: processes read and decode pictures into memory that it copies from by itself.

Threads that decode would keep the interpreter from those that launch kernels. The processes write into blocks of
memory that all of them share, mapped and pinned once: what this process does for a picture is to start its copy.
SCORERS threads score, each in a stream of its own: one group is computed while the next is copied to the device.
"""

from __future__ import annotations

import mmap
import multiprocessing
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, closing
from functools import lru_cache
from multiprocessing.context import ForkServerContext
from multiprocessing.forkserver import ensure_running
from pathlib import Path
from queue import SimpleQueue
from typing import Generic, TypeAlias, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from robolearn.errors import DatasetError
from robolearn.recipes.in_order import in_order
from robolearn.recipes.rewards.data import RewardData
from robolearn.recipes.rewards.side_by_side import READ_AHEAD_BYTES
from robolearn.recipes.workers import end_with_parent, leave_interrupts_to_starter, process_pool
from robolearn.rewards.reward_model import Episodes

Scored = TypeVar("Scored")

Read: TypeAlias = tuple[Sequence[str], NDArray[np.float32] | None, NDArray[np.int64]]
"""Of a group what its pictures do not say: text, proprio (B, T, P) and length (B,)."""

SCORERS = 2  # threads that feed a GPU
GROUP_STEPS = 256

_memory: NDArray[np.uint8]
"""In a process that reads: the blocks, one behind the other."""


def start_server() -> ForkServerContext:
    """Begin to start the process that those who read are forked from, once: it takes seconds, in which a model may be
    loaded. It reads the modules that this one has, which each of the others would read for itself."""
    context = multiprocessing.get_context("forkserver")
    ours = __name__.partition(".")[0]
    context.set_forkserver_preload([name for name in sys.modules if name.partition(".")[0] == ours])
    ensure_running()
    return context


class ReadAhead(Generic[Scored]):
    """`score` takes the pictures of a group on the CPU, and is done with them when it returns."""

    def __init__(
        self, data: RewardData, cameras: Sequence[str], score: Callable[[Episodes], Scored], device: torch.device
    ) -> None:
        self._data, self._cameras, self._score, self._device = data, tuple(cameras), score, device
        self._cores = len(os.sched_getaffinity(0))
        self._ahead = self._cores + 2 * SCORERS  # groups

    def group_steps(self, steps: int, step_bytes: int) -> int:
        """How many steps a group should have at most, with `step_bytes` of pictures each."""
        return max(min(GROUP_STEPS, READ_AHEAD_BYTES // (self._ahead * max(step_bytes, 1))), 1)

    def run(self, groups: Sequence[list[int]]) -> Iterator[list[tuple[list[int], Scored]]]:
        """Each group and what was made of it, in order. All that is ready comes at once."""
        if not groups:
            return
        size = max(self._data.picture_bytes(group, self._cameras) for group in groups)
        with ExitStack() as stack:
            blocks = stack.enter_context(closing(_Blocks(min(self._ahead + 1, len(groups)), size, self._device)))
            readers = self._processes(blocks.path)
            stack.callback(readers.shutdown, cancel_futures=True)
            scorers = ThreadPoolExecutor(SCORERS, "score", self._own_stream)
            stack.callback(scorers.shutdown, cancel_futures=True)

            def score(group: list[int], read: Future[Read], block: slice) -> Scored:
                try:
                    text, proprio, length = read.result()
                    pictures = self._data.pictures(group, self._cameras, blocks.filled(block))
                    images = {camera: torch.from_numpy(rows) for camera, rows in pictures.items()}
                    seen = None if proprio is None else torch.from_numpy(proprio)
                    return self._score(Episodes(images, text, seen, torch.from_numpy(length)))
                finally:
                    blocks.free.put(block)

            def begin(group: list[int]) -> Future[Scored]:
                block = blocks.free.get()
                read = readers.submit(_read, self._data.path, group, self._cameras, block)
                return scorers.submit(score, group, read, block)

            try:
                yield from in_order(groups, begin, self._ahead)
            except BrokenProcessPool as error:
                raise DatasetError("a process that reads pictures died; is memory short?") from error

    def _processes(self, memory: str) -> ProcessPoolExecutor:
        """Forked from a process that knows no GPU."""
        return process_pool(self._cores, start_server(), _begin_reading, memory, remedy="label with --device cpu")

    def _own_stream(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)  # what the model was made of is there
            torch.cuda.set_stream(torch.cuda.Stream(self._device))


class _Blocks:
    """Memory that other processes open at `path` and write into, in blocks, and that a GPU copies from by itself. It
    has no file, so that /dev/shm may be small."""

    def __init__(self, number: int, size: int, device: torch.device) -> None:
        size = -(-size // mmap.PAGESIZE) * mmap.PAGESIZE
        self._file = os.memfd_create("pictures")
        os.truncate(self._file, number * size)
        self._memory = np.frombuffer(mmap.mmap(self._file, number * size), np.uint8)
        self.path = f"/proc/{os.getpid()}/fd/{self._file}"
        self.free: SimpleQueue[slice] = SimpleQueue()
        for start in range(0, number * size, size):
            self.free.put(slice(start, start + size))
        self._device = device
        self._pinned: set[int] = set()

    def filled(self, block: slice) -> NDArray[np.uint8]:
        """What was written there. A block is pinned once, when its pages are there already."""
        memory = self._memory[block]
        if self._device.type == "cuda" and block.start not in self._pinned:
            torch.cuda.check_error(int(torch.cuda.cudart().cudaHostRegister(memory.ctypes.data, memory.nbytes, 0)))
            self._pinned.add(block.start)
        return memory

    def close(self) -> None:
        """Give it back."""
        if self._pinned:
            torch.cuda.synchronize(self._device)  # after an error, copies may be under way
        for start in self._pinned:
            torch.cuda.check_error(int(torch.cuda.cudart().cudaHostUnregister(self._memory.ctypes.data + start)))
        os.close(self._file)


def _begin_reading(memory: str) -> None:
    global _memory
    leave_interrupts_to_starter()
    end_with_parent()
    torch.set_num_threads(1)
    with open(memory, "r+b") as file:
        _memory = np.frombuffer(mmap.mmap(file.fileno(), 0), np.uint8)


def _read(dataset: Path, group: list[int], cameras: tuple[str, ...], block: slice) -> Read:
    """The group without its pictures, which lie in the block then. Arrays, for torch would give each tensor shared
    memory of its own and a connection to fetch it by."""
    episodes = _opened(dataset).episodes(group, cameras, _memory[block])
    assert episodes.length is not None
    proprio = None if episodes.proprio is None else episodes.proprio.numpy()
    return episodes.text, proprio, episodes.length.numpy()


@lru_cache(maxsize=1)
def _opened(dataset: Path) -> RewardData:
    return RewardData(dataset)
