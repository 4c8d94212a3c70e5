"""Datasets by the names that a browser uses: found below the data roots, kept open, edited one edit at a time."""

from __future__ import annotations

import json
import os
import stat
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from robolearn.datasets.columns import COLUMNS, EPISODES
from robolearn.datasets.edit import episode_index
from robolearn.datasets.store import EpisodeInfo
from robolearn.datasets.zarr_layout import FORMAT, ROOT_FILE, SPARE
from robolearn.datasets.zarr_store import ZarrStore
from robolearn.errors import DatasetBusyError, RobolearnError, SpecError
from robolearn.web.security import within

T = TypeVar("T")

OPEN_STORES = 32
LONGEST_NAME = 200  # bytes, with room for what stands beside a dataset while it is written
ROOT_FILES = (ROOT_FILE, SPARE.format(ROOT_FILE))  # the second one tells of a dataset where the first is damaged
DEPTH = 4  # folders below a root that may be datasets
HEAD = 4096  # bytes of a root file that tell whether it is one of ours
TRIES, PAUSE_S = 40, 0.05  # for an edit while somebody else is writing


@dataclass
class _Open:
    signature: tuple[tuple[int, int, int], ...]
    store: ZarrStore


class Stores:
    """All datasets below some folders. Thread-safe."""

    def __init__(self, roots: Sequence[Path]) -> None:
        self._roots = tuple(roots)
        self._open: OrderedDict[Path, _Open] = OrderedDict()
        self._lock = threading.Lock()
        self._edits: dict[Path, threading.Lock] = {}

    def names(self) -> list[str]:
        """Every dataset, as a path relative to its root."""
        return sorted({name for root in self._roots for name in _datasets(root)})

    def hidden(self) -> list[Path]:
        """Datasets that no name leads to, for an earlier root has one of the same name."""
        found = []
        for root in self._roots[1:]:
            for name in _datasets(root):
                with suppress(RobolearnError):  # what cannot be named tells so itself
                    if self.path(name) != (root / name).resolve():
                        found.append(root / name)
        return found

    def path(self, name: str) -> Path:
        """Raises SpecError or UnknownNameError for what is not below the roots."""
        return within(self._roots, name)

    def new_path(self, name: str) -> Path:
        """Where a new dataset of this name would lie: beside others, in a folder that there is. Raises SpecError."""
        folder, _, last = name.rpartition("/")
        plain = last.isprintable() and not set(last) & set('\\:*?"<>|') and len(last.encode()) <= LONGEST_NAME
        if not last.endswith(".zarr") or last.startswith(".") or not plain:
            raise SpecError(f"a dataset is named like `better.zarr`, in a folder that there is; {name!r} is not")
        parent = within(self._roots, folder) if folder else self._roots[0].resolve()
        if (parent / last).exists():
            raise SpecError(f"{name} exists; choose another name")
        return parent / last

    def get(self, name: str) -> ZarrStore:
        """The dataset as it is on disk now; opened anew only when it changed."""
        path = self.path(name)
        signature = _signature(path)
        with self._lock:
            found = self._open.get(path)
            if found is not None and found.signature == signature:
                self._open.move_to_end(path)
                return found.store
        store = ZarrStore.open(path)
        with self._lock:
            self._open[path] = _Open(signature, store)
            self._open.move_to_end(path)
            while len(self._open) > OPEN_STORES:
                self._open.popitem(last=False)
        return store

    def episode(self, name: str, episode: str) -> tuple[ZarrStore, int]:
        """A dataset, and the index of the episode of this id. Raises DatasetError."""
        store = self.get(name)
        return store, episode_index(store, episode)

    def edit(self, name: str, change: Callable[[Path], T]) -> T:
        """Call `change` with the dataset's path, one caller after the other.

        While another process writes it is tried again for two seconds; then DatasetBusyError is raised.
        """
        path = self.path(name)
        with self._lock:
            lock = self._edits.setdefault(path, threading.Lock())
        with lock:
            for left in reversed(range(TRIES)):
                try:
                    return change(path)
                except DatasetBusyError:
                    if not left:
                        raise
                    time.sleep(PAUSE_S)
        raise AssertionError("not reached")


def version(store: ZarrStore, episode: EpisodeInfo) -> str:
    """Is another one when the episode is trimmed, or the dataset another; part of the address of its pictures."""
    return f"{episode.start}-{episode.length}-{store.files.where('')}"


def _datasets(root: Path) -> Iterator[str]:
    for folder, folders, names in os.walk(root):
        path = Path(folder)
        if roots := [path / name for name in ROOT_FILES if name in names]:
            folders[:] = []
            if path != root and any(map(_is_ours, roots)):
                yield path.relative_to(root).as_posix()
        elif len(path.relative_to(root).parts) >= DEPTH:
            folders[:] = []
        else:
            folders[:] = [name for name in folders if not name.startswith(".")]


def _is_ours(file: Path) -> bool:
    """By its head, for a large table takes long to parse; what is damaged further on is told when it is opened, as is
    what cannot be read where the folder has a dataset's name."""
    try:
        if not stat.S_ISREG(file.stat().st_mode):  # who opens a pipe waits
            return False
        with file.open("rb") as opened:
            head = opened.read(HEAD)
        ours = f'"{FORMAT}"'.encode() in head
        if not ours and (len(head) < HEAD or not head.startswith(b"{")):
            json.loads(head)
    except (OSError, ValueError, RecursionError):
        return file.parent.suffix == ".zarr"
    return ours


def _signature(path: Path) -> tuple[tuple[int, int, int], ...]:
    """Of the files that are replaced, or added to, when a dataset changes."""
    columns = path / COLUMNS
    files = [path / ROOT_FILE, columns / ROOT_FILE]
    if columns.is_dir():
        for depth in ("*", "*/*"):
            files += sorted([*columns.glob(f"{depth}/{ROOT_FILE}"), *columns.glob(f"{depth}/{EPISODES}")])
    found = []
    for file in files:
        try:
            now = file.stat()
            found.append((now.st_ino, now.st_mtime_ns, now.st_size))
        except OSError:
            found.append((0, 0, 0))
    return tuple(found)
