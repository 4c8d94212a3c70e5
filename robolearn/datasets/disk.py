"""Putting files on a disk so that whoever looks finds the old one or the new one, whatever happens."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from robolearn.datasets.lock import WriterLock
from robolearn.durable import sync
from robolearn.errors import DatasetError

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
NO_LINK = os.O_NOFOLLOW | os.O_CLOEXEC  # what is written to lies in the dataset, whoever it comes from
SYNC_THREADS = 16  # files that are made durable at once; a disk answers many in the time of one


@dataclass(frozen=True)
class NewFile:
    """A complete file: where it lies and where it has to go."""

    source: Path
    target: Path


class Disk:
    """With `fsync`, what was put survives a power cut; without, it survives the death of any process.

    Letting go of an old file can take a file system some milliseconds, for every file; a thread of its own does it.
    """

    def __init__(self, fsync: bool) -> None:
        self._pool = ThreadPoolExecutor(SYNC_THREADS, "dataset-sync") if fsync else None
        self._cleaner = ThreadPoolExecutor(1, "dataset-cleaner")

    def move(self, files: Sequence[NewFile]) -> None:
        """Move files. Their new names are durable after the next `replace` in the same folders."""
        self._sync(file.source for file in files)
        for file in files:
            old = None
            with contextlib.suppress(FileNotFoundError):
                old = os.open(file.target, os.O_RDONLY | os.O_CLOEXEC)  # while it is open, replacing it takes no time
            os.replace(file.source, file.target)
            if old is not None:
                self.later(os.close, old)

    def replace(self, files: Mapping[Path, bytes]) -> None:
        """Write files, each in the place of an older one or of none."""
        new = [NewFile(target.with_name(f".{target.name}.tmp"), target) for target in files]
        try:
            for file in new:
                fd = os.open(file.source, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | NO_LINK, 0o666)
                try:
                    write_all(fd, files[file.target])
                finally:
                    os.close(fd)
        except OSError:
            for file in new:
                file.source.unlink(missing_ok=True)
            raise
        self.move(new)
        self._sync({file.target.parent for file in new})

    def append(self, file: Path, data: bytes, offset: int) -> None:
        """Add to a file behind its first `offset` bytes, in the place of what a process that died left there."""
        fd = os.open(file, os.O_WRONLY | NO_LINK)
        try:
            os.ftruncate(fd, offset)
            write_all(fd, data, offset)
        finally:
            os.close(fd)
        self._sync([file])

    def make_folder(self, folder: Path) -> None:
        """Make a folder, and its name durable."""
        folder.mkdir()
        self._sync([folder.parent])

    def later(self, function: Callable[..., object], *arguments: object) -> None:
        """Call the function in the cleaner's thread."""
        self._cleaner.submit(function, *arguments)

    def close(self) -> None:
        if self._pool is not None:
            self._pool.shutdown()
        self._cleaner.shutdown()

    def __enter__(self) -> Disk:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _sync(self, paths: Iterable[Path]) -> None:
        if self._pool is not None:
            list(self._pool.map(sync, paths))


def write_all(fd: int, data: bytes, offset: int | None = None) -> None:
    """Write everything, at `offset` or where the file stands."""
    view = memoryview(data)
    while view:
        written = os.write(fd, view) if offset is None else os.pwrite(fd, view, offset)
        view = view[written:]
        offset = None if offset is None else offset + written


@contextlib.contextmanager
def moved_when_whole(path: Path) -> Iterator[Path]:
    """A path in a folder beside the wanted one: moved there, on the disk for good, when all went well, and removed when
    not. Raises DatasetError when the wanted one is there, or there is no room for it on the disk, and DatasetBusyError
    while another process makes it."""
    if path.exists() or path.is_symlink():
        raise DatasetError(f"{path} exists; name another one")
    path.parent.mkdir(parents=True, exist_ok=True)
    folder = path.with_name(f".{path.name}.converting")
    temporary = folder / path.name
    lock = WriterLock(path, folder)
    try:
        _remove(temporary)  # of a process that was killed
        yield temporary
        with ThreadPoolExecutor(SYNC_THREADS, "dataset-sync") as pool:
            list(pool.map(sync, (temporary, *temporary.rglob("*"))))
        if path.exists():
            raise DatasetError(f"{path} was made by somebody else meanwhile; name another one")
        os.rename(temporary, path)
        sync(path.parent)
    except Exception as error:
        if full := _no_room(error):  # what is told of the folder that it was made in helps nobody: it goes
            raise DatasetError(f"{path} cannot be written: {full}; make room and try again, nothing is left") from error
        raise
    finally:
        _remove(temporary)
        lock.release()


def _no_room(error: BaseException | None) -> str:
    """What the system says of a full disk, where that is why something failed; empty where it is not."""
    while error is not None and not (isinstance(error, OSError) and error.errno in NO_ROOM):
        error = error.__cause__
    return "" if error is None else os.strerror(error.errno or 0)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
