"""Reading the files of a dataset by name, whoever keeps them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Protocol

from robolearn.errors import DatasetError

READING = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK  # a pipe in the place of a file is an error, not for ever


class File(Protocol):
    """An open file. Closed when nobody holds it any more."""

    size: int

    def read(self, length: int, offset: int) -> bytes: ...


class Files(Protocol):
    """A folder of a disk or of an object store."""

    def where(self, name: str) -> str:
        """What people call the file."""
        ...

    def open(self, name: str) -> File:
        """Raises OSError."""
        ...

    def read(self, name: str) -> bytes:
        """All of a file. Raises OSError."""
        ...


class LocalFile:
    def __init__(self, fd: int) -> None:
        self._fd = fd
        self.size = os.fstat(fd).st_size

    def __del__(self) -> None:
        os.close(self._fd)

    def read(self, length: int, offset: int) -> bytes:
        return os.pread(self._fd, length, offset)


class LocalFiles:
    """A folder, held open: when another one takes its name, this still is the old one."""

    def __init__(self, path: Path) -> None:
        """Raises OSError."""
        self.path = path
        self._fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def __del__(self) -> None:
        if hasattr(self, "_fd"):
            os.close(self._fd)

    def where(self, name: str) -> str:
        return str(self.path / name)

    def open(self, name: str) -> LocalFile:
        try:
            return LocalFile(os.open(name, READING, dir_fd=self._fd))
        except FileNotFoundError:
            self.require_in_place()
            raise

    def require_in_place(self) -> None:
        """Raise DatasetError where the folder has lost its name to another one, or to none."""
        if not os.path.exists(self.path) or not os.path.samestat(os.stat(self.path), os.fstat(self._fd)):
            raise DatasetError(f"{self.path} was written anew since it was opened; open it again") from None

    def read(self, name: str) -> bytes:
        file = self.open(name)
        return file.read(file.size, 0)
