"""Runs writers that die by SIGKILL, each in a forked child, and prints what they had committed.

    python kill_writer.py random DATASET SEED KILLS     killed after a random time
    python kill_writer.py step DATASET STRIDE           killed by its own hand before every STRIDE-th change of a file
    python kill_writer.py create DATASET STRIDE         the same while it makes the dataset; told is what is there then

Every episode's numbers run on from the committed one before it, so that any loss or shift shows.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from painted import SUCCESS, dataset_spec, stamps, step

from robolearn import durable
from robolearn.datasets import zarr_layout
from robolearn.datasets.store import EpisodeMeta, WriterConfig
from robolearn.datasets.zarr_store import ZarrStore

SMALL_BLOCK = 600  # bytes: two rows of the episode table make a block
CHANGES = ("open", "write", "pwrite", "replace", "rename", "unlink", "rmdir", "mkdir", "fsync", "copy_file_range")


def write_forever(path: Path, length: int, episodes: int, fsync: bool, told: int) -> None:
    """Commit episodes and tell their number after each."""
    store = ZarrStore.open(path)
    with store.writer(WriterConfig(fsync=fsync)) as writer:
        for _ in range(episodes):
            first = store.episodes[-1].stop if store.episodes else 0
            writer.begin(EpisodeMeta(task="push-v1"))
            for number in range(first, first + length):
                writer.append(step(number), stamps(number))  # type: ignore[arg-type]
            writer.commit(SUCCESS)
            os.write(told, bytes([1]))


def in_child(work: Callable[[int], None], kill_after_s: float | None) -> tuple[int, bool]:
    """Episodes that the child said it had committed, and whether it was killed."""
    reading, told = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        work(told)
        os._exit(0)
    os.close(told)
    if kill_after_s is not None:
        time.sleep(kill_after_s)
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    with os.fdopen(reading, "rb") as pipe:
        return len(pipe.read()), os.WIFSIGNALED(status)


def die_before(number: int, thread: str = "") -> None:
    """Arrange for this process to kill itself before its `number`-th change of a file, by a thread of that name."""
    changes, opening = 0, os.open

    def dying(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            nonlocal changes
            reads = function is opening and not args[1] & (os.O_WRONLY | os.O_RDWR)
            if not reads and threading.current_thread().name.startswith(thread):
                changes += 1  # of blocks there are more with every episode: with reads the kills would never catch up
                if changes == number:
                    os.kill(os.getpid(), signal.SIGKILL)
            return function(*args, **kwargs)

        return call

    for name in CHANGES:
        setattr(os, name, dying(getattr(os, name)))
    durable.exchange = dying(durable.exchange)


def main() -> None:
    mode, path = sys.argv[1], Path(sys.argv[2])
    zarr_layout.BLOCK_BYTES = SMALL_BLOCK
    if mode == "random":
        rng = random.Random(int(sys.argv[3]))
        for _ in range(int(sys.argv[4])):
            before = len(ZarrStore.open(path).episodes)
            fsync, length = rng.random() < 0.3, rng.choice([2, 10, 40])
            told, _ = in_child(lambda pipe: write_forever(path, length, 10**6, fsync, pipe), rng.uniform(0.0, 0.25))  # noqa: B023
            print(before + told, len(ZarrStore.open(path).episodes), flush=True)
        return
    if mode == "create":
        for number in range(1, 1000, int(sys.argv[3])):

            def make(told: int, number: int = number) -> None:
                die_before(number)
                ZarrStore.create(path, dataset_spec())

            _, killed = in_child(make, None)
            print(int(killed), len(ZarrStore.open(path).spec.fields) if path.exists() else 0, flush=True)
            if path.exists():
                return
    for number in range(1, 1000, int(sys.argv[3])):
        before = len(ZarrStore.open(path).episodes)

        def work(told: int, number: int = number) -> None:
            die_before(number)
            write_forever(path, 2, 1, True, told)

        told, killed = in_child(work, None)
        print(before + told, len(ZarrStore.open(path).episodes), flush=True)
        if not killed:
            return


if __name__ == "__main__":
    main()
