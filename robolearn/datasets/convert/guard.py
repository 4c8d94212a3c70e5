"""What a file from elsewhere may not do: lead out of its folder, or declare more than it holds."""

from __future__ import annotations

import math
import os
from pathlib import Path

from robolearn.errors import DatasetError

MAX_ROW_BYTES = 1 << 30  # of one step of one field
MAX_UNPACKED_BYTES = 4 << 30  # that may be declared whatever a file holds
MAX_CHUNK_BYTES = 512 << 20  # that are unpacked into memory at once
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
