"""The right to change a dataset, which the system gives back when its holder dies."""

from __future__ import annotations

import contextlib
import fcntl
import os
from pathlib import Path

from robolearn.errors import DatasetBusyError, DatasetError

LOCK = "lock"


def require_own(path: Path, folder: Path) -> None:
    """Raise DatasetError where `folder`, whose contents are removed, is a link or lies behind one in the dataset
    `path`: that may come from anybody, and lead anywhere."""
    base = path if folder.is_relative_to(path) else path.parent
    if folder.resolve() != base.resolve() / folder.relative_to(base):
        raise DatasetError(f"{folder} is a link to {folder.resolve()}, where nothing is the dataset's; remove the link")


class WriterLock:
    """Held by one writer at a time, of this process or another one."""

    def __init__(self, path: Path, folder: Path) -> None:
        """Lock the dataset `path` by a file in `folder`. Raises DatasetBusyError naming the holder if there is one."""
        self._path, self._folder = path, folder
        self._file = folder / LOCK
        require_own(path, folder)
        while True:
            try:
                self._folder.mkdir(exist_ok=True)
                self._fd = os.open(self._file, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
            except FileNotFoundError as error:
                if not path.is_dir():
                    raise DatasetError(f"{path} is not there any more; nothing can be written to it") from error
                continue  # the holder that just left took the folder with it
            except OSError as error:
                raise DatasetError(f"{path} cannot be written to: {error.strerror}") from error
            try:
                fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                holder = os.pread(self._fd, 20, 0).decode("ascii", "replace").strip()
                os.close(self._fd)
                raise DatasetBusyError(
                    f"{path} is being written to by process {holder or '?'}; wait for it to end or stop it"
                ) from error
            except OSError as error:
                os.close(self._fd)
                raise DatasetError(
                    f"{path} cannot be locked ({error.strerror}); keep it on a file system that has locks"
                ) from error
            with contextlib.suppress(FileNotFoundError):
                if os.stat(self._file).st_ino == os.fstat(self._fd).st_ino:
                    break
            os.close(self._fd)  # the holder that just left took the file with it
        with contextlib.suppress(OSError):  # on a full disk others are not told whose it is
            os.ftruncate(self._fd, 0)
            os.pwrite(self._fd, str(os.getpid()).encode(), 0)

    @property
    def is_held(self) -> bool:
        """Whether nobody has removed the file, or replaced the dataset; then another one can have the right as well."""
        with contextlib.suppress(OSError):
            return os.path.samestat(os.stat(self._file), os.fstat(self._fd))
        return False

    def require_held(self) -> None:
        """Raise DatasetError where it was taken away."""
        if not self.is_held:
            holder = ""
            with contextlib.suppress(OSError):
                holder = f", and process {self._file.read_text('ascii', 'replace').strip()[:20]} writes there now"
            raise DatasetError(f"{self._path}: somebody removed the lock of this writer{holder}; open another one")

    def release(self) -> None:
        with contextlib.suppress(OSError):
            if self.is_held:
                self._file.unlink()
                self._folder.rmdir()  # unfinished episodes stay
        os.close(self._fd)
