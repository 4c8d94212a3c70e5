"""OGBench npz files: flat arrays `observations`, `actions`, `terminals` and the simulator's `qpos`, `qvel`, ...

`terminals` is set at the last row of every trajectory, which has no next observation: it becomes a step without an
action. Arrays are read row by row from the archive; nothing is unpickled.
"""

from __future__ import annotations

import contextlib
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robolearn.datasets.convert.guard import check_size
from robolearn.datasets.convert.source import (
    Foreign,
    ImportSettings,
    Source,
    SourceEpisode,
    extremes,
    is_picture,
    is_vector,
    picture_shape,
)
from robolearn.datasets.store import CLOSING_ROW, EpisodeMeta
from robolearn.errors import DatasetError
from robolearn.specs import ArraySpec
from robolearn.types import EpisodeOutcome

DEFAULT_HZ = 20.0  # where nothing tells
MAX_HEADER_BYTES = 10_000  # of an array, which says its shape and dtype
ROWS = 1024  # of the actions that are read at once


@contextlib.contextmanager
def read(file: Path, settings: ImportSettings) -> Iterator[Source]:
    """Open a file. `observations` become `proprio`, or `image_observations` where they are pictures."""
    with zipfile.ZipFile(file) as archive:
        names = [name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy")]
        missing = [name for name in ("observations", "actions", "terminals") if name not in names]
        if missing:
            raise DatasetError(f"{file} has no array {', '.join(missing)}; it has {', '.join(names)}")
        with contextlib.ExitStack() as stack:
            columns = {name: stack.enter_context(_Column(file, archive, name)) for name in names}
            length = columns["terminals"].length
            wrong = [f"{name} {column.length}" for name, column in columns.items() if column.length != length]
            if wrong or len(columns["actions"].shape) != 1:
                raise DatasetError(f"{file}: rows of {', '.join(wrong) or 'actions'}; wanted {length} of each")
            foreign, lost = _foreign(file, archive, columns, settings)
            used = {"observations", "actions", "terminals", *foreign.extra}
            episodes = _episodes({name: columns[name] for name in used}, foreign)
            yield Source(foreign.spec(), length, episodes, lost)


class _Column:
    """An array of the archive, read forward. A context manager."""

    def __init__(self, file: Path, archive: zipfile.ZipFile, name: str) -> None:
        self._where = f"{file}: {name}"
        self._data: Any = archive.open(f"{name}.npy")
        try:
            self.length, self.shape, self.dtype = self._header(archive.getinfo(f"{name}.npy").compress_size)
        except BaseException:
            self._data.close()
            raise

    def _header(self, stored: int) -> tuple[int, tuple[int, ...], np.dtype]:
        """Number and shape of the rows, and their dtype."""
        version = np.lib.format.read_magic(self._data)
        size = int.from_bytes(self._data.peek(4)[: 2 if version == (1, 0) else 4], "little")
        if size > MAX_HEADER_BYTES:  # which NumPy refuses, too, but reads before
            raise DatasetError(f"{self._where} has a header of {size} bytes, wanted {MAX_HEADER_BYTES} at most")
        header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = header(self._data)
        if dtype.hasobject or dtype.kind not in "fiub":
            raise DatasetError(f"{self._where} has dtype {dtype}, wanted numbers; pickled objects are refused")
        if fortran or not shape:
            raise DatasetError(f"{self._where} has shape {shape}{' in Fortran order' if fortran else ''}; wanted rows")
        check_size(self._where, shape, dtype.itemsize, stored)
        return int(shape[0]), tuple(int(n) for n in shape[1:]), dtype

    def next(self, rows: int = 1) -> NDArray:
        """The next rows. Raises DatasetError when the archive ends before them."""
        size = rows * int(np.prod(self.shape)) * self.dtype.itemsize
        data = self._data.read(size)
        if len(data) != size:
            raise DatasetError(f"{self._where} is cut off")
        return np.frombuffer(data, self.dtype).reshape(rows, *self.shape)

    def __enter__(self) -> _Column:
        return self

    def __exit__(self, *exception: object) -> None:
        self._data.close()


def _foreign(
    file: Path, archive: zipfile.ZipFile, columns: dict[str, _Column], settings: ImportSettings
) -> tuple[Foreign, list[str]]:
    seen, actions = columns["observations"], columns["actions"]
    pictures = is_picture(seen.shape, seen.dtype)
    images = {"observations": picture_shape(seen.shape)} if pictures else {}
    vectors = {} if pictures else {"observations": seen.shape}
    others = [name for name in columns if name not in ("observations", "actions", "terminals", "next_observations")]
    kept = [name for name in others if is_vector(columns[name].shape, columns[name].dtype) and name.isidentifier()]
    extra = {name: ArraySpec(columns[name].shape, columns[name].dtype.name) for name in kept}
    with _Column(file, archive, "actions") as again:
        blocks = (again.next(min(ROWS, actions.length - start)) for start in range(0, actions.length, ROWS))
        low, high = extremes(f"{file}: actions", blocks, actions.shape[0])
    lost = [f"{name} is not kept" for name in others if name not in kept]
    if settings.control_hz is None:
        lost.append(f"the file has no rate; {DEFAULT_HZ:g} Hz is assumed, name another one")
    return Foreign(vectors, images, low, high, settings.control_hz or DEFAULT_HZ, file.stem, extra=extra), lost


def _episodes(columns: dict[str, _Column], foreign: Foreign) -> Iterator[SourceEpisode]:
    left = columns["terminals"].length
    period_ns = 1e9 / foreign.control_hz

    def steps() -> Iterator[Any]:
        nonlocal left
        number, over = 0, False
        while left and not over:
            row = {name: column.next()[0] for name, column in columns.items()}
            left -= 1
            over = bool(row["terminals"]) or not left
            extra = {name: row[name] for name in foreign.extra}
            yield foreign.step(row, round(number * period_ns), None if over else row["actions"], extra)
            number += 1

    while left:
        meta = EpisodeMeta(foreign.task, tags={CLOSING_ROW: True})
        yield SourceEpisode(meta, steps(), EpisodeOutcome(None, False, True))
