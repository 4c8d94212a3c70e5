"""What a file from elsewhere may not do: lead out of its folder, declare more than it holds, leave half an output."""

from __future__ import annotations

import contextlib
import math
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from robolearn.errors import DatasetError

MAX_ROW_BYTES = 1 << 30  # of one step of one field
MAX_UNPACKED_BYTES = 4 << 30  # that may be declared whatever a file holds
MAX_RATIO = 2000  # of what is declared to what is stored, beyond that


def inside(root: Path, name: str, field: str) -> Path:
    """The path of the file `name` below `root`. Raises DatasetError when that leads elsewhere, by `..` or a link."""
    path = Path(root, name)
    if "\0" in name or not path.resolve().is_relative_to(root.resolve()):
        raise DatasetError(f"{root}: {field} names {name!r}, which lies outside of it; that is refused")
    return path


def check_links(root: Path) -> None:
    """Raise DatasetError when a link below `root` leads out of it."""
    for folder, folders, files in os.walk(root):
        for name in (*folders, *files):
            path = Path(folder, name)
            if path.is_symlink():
                inside(root, str(path.relative_to(root)), "a link")


def check_size(where: str, shape: tuple[int, ...], itemsize: int, stored: int) -> None:
    """Raise DatasetError when an array (T, ...) declares absurdly more than the `stored` bytes of its file."""
    if min(shape, default=0) < 0 or math.prod(shape[1:]) * itemsize > MAX_ROW_BYTES:
        raise DatasetError(f"{where} declares the shape {shape}; a step of it would not fit into memory")
    declared = math.prod(shape) * itemsize
    if declared > max(MAX_UNPACKED_BYTES, MAX_RATIO * stored):
        raise DatasetError(f"{where} declares {declared / 2**30:.1f} GiB, but holds {stored / 2**20:.1f} MiB; refused")


@contextlib.contextmanager
def moved_when_whole(path: Path) -> Iterator[Path]:
    """A path beside the wanted one: moved there, on the disk for good, when all went well, and removed when not."""
    if path.exists() or path.is_symlink():
        raise DatasetError(f"{path} exists; name another one")
    temporary = path.with_name(f".{path.name}.converting")
    _remove(temporary)
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield temporary
        for file in (temporary, *temporary.rglob("*")):
            _sync(file)
        os.rename(temporary, path)
        _sync(path.parent)
    finally:
        _remove(temporary)


def _sync(file: Path) -> None:
    fd = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
