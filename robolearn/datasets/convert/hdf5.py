"""Reading HDF5 files of others: no link is followed, nothing outside of the file is read, nothing absurd allocated."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from robolearn.datasets.convert.guard import MAX_ROW_BYTES, check_size
from robolearn.errors import DatasetError


def group(file: Path, parent: Any, name: str) -> Any:
    """A group below `parent`. Raises DatasetError when there is none in this file itself."""
    import h5py

    found = _follow(file, parent, name)
    if not isinstance(found, h5py.Group):
        raise DatasetError(f"{file}: {parent.name.rstrip('/')}/{name} is no group")
    return found


def rows(file: Path, parent: Any, name: str) -> Any:
    """An array of numbers below `parent`, unread. Raises DatasetError when it lies elsewhere or is too large."""
    import h5py

    found = _follow(file, parent, name)
    where = f"{file}: {parent.name.rstrip('/')}/{name}"
    if not isinstance(found, h5py.Dataset) or found.is_virtual or found.external or not found.ndim:
        raise DatasetError(f"{where} is no array that lies in this file")
    if found.dtype.kind not in "fiub":
        raise DatasetError(f"{where} has dtype {found.dtype}, wanted numbers")
    check_size(where, found.shape, found.dtype.itemsize, file.stat().st_size)
    if math.prod(found.chunks or ()) * found.dtype.itemsize > MAX_ROW_BYTES:
        raise DatasetError(f"{where} is stored in chunks of {found.chunks}; one would not fit into memory")
    return found


def array(file: Path, parent: Any, name: str) -> NDArray:
    """The whole of such an array, which is to be one episode's."""
    found = rows(file, parent, name)
    if found.nbytes > MAX_ROW_BYTES:
        raise DatasetError(f"{file}: {found.name} declares {found.nbytes / 2**30:.1f} GiB of vectors in one episode")
    return found[()]


def _follow(file: Path, parent: Any, name: str) -> Any:
    """The object of that name, never through a link that could lead elsewhere."""
    import h5py

    for part in name.split("/"):
        link = parent.get(part, getlink=True)
        if not isinstance(link, h5py.HardLink):
            what = "is missing" if link is None else "is a link, which is refused"
            raise DatasetError(f"{file}: {parent.name.rstrip('/')}/{part} {what}")
        parent = parent[part]
    return parent
