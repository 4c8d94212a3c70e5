"""Files and folders that keep their names and what is in them when the power fails."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

RENAME_EXCHANGE = 2
AT_FDCWD = -100


def sync(path: Path) -> None:
    """Make a file, or the names in a folder, durable."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def replace(file: Path, target: Path) -> None:
    """Give a whole file the name `target`: whoever looks finds the old one or this one, after a power cut, too."""
    sync(file)
    os.replace(file, target)
    sync(target.parent)


def write(file: Path, content: bytes) -> None:
    """Write a small file whole or not at all, in place of the one that has its name."""
    partial = file.with_name(f".{file.name}.partial")
    partial.write_bytes(content)
    replace(partial, file)


def make_folder(path: Path) -> None:
    """Make a folder, and those above it that are missing, unless it is there."""
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    path.mkdir(parents=True, exist_ok=True)
    for folder in missing:
        sync(folder.parent)


def exchange(first: Path, second: Path) -> None:
    """Swap two files or folders in one atomic step. Raises OSError, as on a file system that cannot."""
    libc = ctypes.CDLL(None, use_errno=True)
    names = os.fsencode(first), os.fsencode(second)
    if libc.renameat2(AT_FDCWD, names[0], AT_FDCWD, names[1], RENAME_EXCHANGE) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), str(second))
