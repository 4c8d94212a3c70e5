"""Arrays that grow along time, in zarr v3 shards (codec `sharding_indexed`, index at the end).

A shard file is its chunks one after the other, then a table of (offset, length) of every chunk, uint64, and the CRC-32C
of the table. A file that a reader can see is never written to: growing the last shard means copying it under another
name, adding chunks and moving it over the old one, so a reader finds the old file or the new one, both whole.
"""

from __future__ import annotations

import math
import os
import re
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from robolearn.datasets.codecs import BYTES, DECODE_ERRORS, Codec, with_checksum, without_checksum
from robolearn.datasets.disk import NewFile, write_all
from robolearn.datasets.files import Files, LocalFiles
from robolearn.datasets.video_codec import Group, Video
from robolearn.errors import DatasetError

T = TypeVar("T")

SHARD_FILE = re.compile(r"c\.(\d+)(\.0)*")
EMPTY = np.iinfo(np.uint64).max  # offset and length of a chunk that is not there
KEPT_GROUPS = 4  # of frames, decoded
KEPT_CHUNK_BYTES = 4 << 20  # of other rows; a larger chunk is decoded again
OPEN_SHARDS = 512  # files, with their index tables, that all readers keep open together: a process often may 1,024
READ_AT_ONCE = 4 << 20  # bytes of rows that lie side by side


@dataclass(frozen=True)
class ArrayLayout:
    """How one array lies on disk. The first axis is time; a row is one step."""

    name: str
    row_shape: tuple[int, ...]
    dtype: np.dtype
    codec: Codec
    chunk_rows: int
    shard_rows: int
    dimension_names: tuple[str, ...]
    fill_value: int | bool | float = 0
    attributes: dict[str, Any] = field(default_factory=dict)
    grouped: bool = False  # a chunk is a group of frames: coded once, never continued
    sparse: bool = False  # a chunk that was never written is no damage

    @property
    def chunks_per_shard(self) -> int:
        return self.shard_rows // self.chunk_rows

    @property
    def index_bytes(self) -> int:
        return 16 * self.chunks_per_shard + 4

    def file(self, shard: int) -> str:
        """Name of a shard's file, from the dataset's folder."""
        return f"{self.name}/{'.'.join(['c', str(shard), *('0' * len(self.row_shape))])}"

    def empty_chunk(self) -> NDArray:
        return np.full((self.chunk_rows, *self.row_shape), self.fill_value, self.dtype)

    def to_zarr(self, num_rows: int) -> dict[str, Any]:
        """The contents of zarr.json."""
        sharding = {
            "chunk_shape": [self.chunk_rows, *self.row_shape],
            "codecs": [*self.codec.to_zarr(), {"name": "crc32c"}],
            "index_codecs": [BYTES, {"name": "crc32c"}],
            "index_location": "end",
        }
        return {
            "zarr_format": 3,
            "node_type": "array",
            "shape": [num_rows, *self.row_shape],
            "data_type": self.dtype.name,
            "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [self.shard_rows, *self.row_shape]}},
            "chunk_key_encoding": {"name": "default", "configuration": {"separator": "."}},
            "fill_value": "NaN" if self.fill_value != self.fill_value else self.fill_value,
            "codecs": [{"name": "sharding_indexed", "configuration": sharding}],
            "dimension_names": list(self.dimension_names),
            "attributes": self.attributes,
        }


class _Shard:
    """An open shard file and its index (chunks, 2) of offsets and lengths."""

    def __init__(self, files: Files, name: str, layout: ArrayLayout) -> None:
        self.where = files.where(name)
        try:
            self.file = files.open(name)
            size = self.file.size
            whole = size >= layout.index_bytes
            data = self.file.read(layout.index_bytes, size - layout.index_bytes) if whole else b""
        except OSError as error:
            raise DatasetError(
                f"{self.where}: field {layout.name} misses this shard ({error.strerror or error})"
            ) from error
        try:
            self.index = np.frombuffer(without_checksum(data), "<u8").reshape(-1, 2)
        except ValueError as error:
            raise DatasetError(
                f"{self.where}: field {layout.name}: this shard is cut off or damaged (index: {error})"
            ) from error

    def chunk(self, number: int) -> bytes | None:
        """The coded chunk, or None when it was never written."""
        offset, length = int(self.index[number, 0]), int(self.index[number, 1])
        if offset == EMPTY:
            return None
        try:
            return self.file.read(length, offset)
        except OSError as error:
            raise DatasetError(f"{self.where}: chunk {number} cannot be read ({error.strerror or error})") from error


class _LastRead:
    """Which shards were read last, by all readers of the process; the one that was read longest ago is let go of."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._order: OrderedDict[tuple[weakref.ref[ArrayReader], int], None] = OrderedDict()

    def note(self, reader: weakref.ref[ArrayReader], shard: int) -> None:
        with self._lock:
            self._order[reader, shard] = None
            self._order.move_to_end((reader, shard))
            oldest = [self._order.popitem(last=False)[0] for _ in range(len(self._order) - OPEN_SHARDS)]
        for whose, its_shard in oldest:
            if (owner := whose()) is not None:
                owner.let_go(its_shard)


_LAST_READ = _LastRead()


class ArrayReader:
    """Reads rows. Safe to use from several threads; all readers together hold a bounded number of files open."""

    def __init__(self, files: Files, layout: ArrayLayout) -> None:
        self.layout = layout
        self._files = files
        self._self = weakref.ref(self)
        self._shards: dict[int, _Shard] = {}
        self._groups: OrderedDict[int, Group] = OrderedDict()
        self._last_chunk: tuple[int, NDArray] = -1, np.empty(0)  # replaced as one, for threads read beside each other
        self._lock = threading.Lock()

    def read(self, start: int, stop: int, out: NDArray | None = None) -> NDArray:
        """Rows [start, stop), into `out` when given. Raises DatasetError naming the file."""
        layout = self.layout
        rows = np.empty((stop - start, *layout.row_shape), layout.dtype) if out is None else out
        chunk_rows = layout.chunk_rows
        if chunk_rows == 1:
            done = 0
            while done < len(rows):
                done += self._read_run(start + done, rows[done:])
            return rows
        for chunk in range(start // chunk_rows, -(-stop // chunk_rows)):
            first = chunk * chunk_rows
            low, high = max(start, first), min(stop, first + chunk_rows)
            target = rows[low - start : high - start]
            if layout.grouped:
                self._read_group(chunk, low - first, target)
            else:
                target[...] = self._rows_of(chunk)[low - first : high - first]
        return rows

    def _rows_of(self, chunk: int) -> NDArray:
        """All rows of a chunk. The last one is kept: it holds many short episodes, which are read one after another."""
        number, rows = self._last_chunk
        if number != chunk:
            rows = self.layout.empty_chunk()
            self.read_chunk(chunk, rows)
            if rows.nbytes <= KEPT_CHUNK_BYTES:
                self._last_chunk = chunk, rows
        return rows

    def read_chunk(self, chunk: int, out: NDArray) -> None:
        """Decode chunk number `chunk` into `out` (chunk_rows, ...); the fill value where it was never written."""

        def decode(data: bytes | None) -> None:
            if data is None:
                out[...] = self.layout.fill_value
            else:
                self.layout.codec.decode(data, out)

        self._decoded(chunk, decode)

    def _read_run(self, chunk: int, out: NDArray) -> int:
        """Read the first rows of `out`, which are a chunk each, as far as they lie side by side; how many these are.

        Many pictures are small: read one by one, they cost more in calls than in decoding.
        """
        shard, number = self._shard_of(chunk)
        offset, length = shard.index[number : number + len(out)].T
        end = offset + length
        joined = (offset[1:] == end[:-1]) & (end[1:] - offset[0] <= READ_AT_ONCE)
        rows = 1 + (len(joined) if joined.all() else int(joined.argmin()))
        if rows == 1:
            self.read_chunk(chunk, out[:1])
            return 1
        ends = (end[:rows] - offset[0]).tolist()
        try:
            data = shard.file.read(ends[-1], int(offset[0]))
        except OSError:
            data = b""
        for row, (low, high) in enumerate(zip([0, *ends], ends, strict=False)):
            target = out[row : row + 1]
            try:
                self.layout.codec.decode(without_checksum(data[low:high]), target)
            except DECODE_ERRORS:
                self.read_chunk(chunk + row, target)  # once more by itself, and it says what is wrong
        return rows

    def _read_group(self, chunk: int, first: int, out: NDArray) -> None:
        """Rows from `first` on of a group. The last groups are kept: neighbours are often wanted next."""
        number = first + len(out)
        with self._lock:
            group = self._groups.get(chunk)
        if group is None or group.number < number:
            codec = self.layout.codec
            assert isinstance(codec, Video)
            opened = self._decoded(chunk, lambda data: Group([], number) if data is None else codec.open(data, number))
            with self._lock:
                self._groups[chunk] = group = opened
                self._groups.move_to_end(chunk)
                if len(self._groups) > KEPT_GROUPS:
                    self._groups.popitem(last=False)
        try:
            group.read(first, out)
        except DECODE_ERRORS as error:
            raise self._damaged(self._shard_of(chunk)[0], chunk, error) from error

    def _decoded(self, chunk: int, decode: Callable[[bytes | None], T]) -> T:
        """What `decode` makes of a chunk; None stands for one that was never written."""
        for last_try in (False, True):
            shard, number = self._shard_of(chunk)
            data = shard.chunk(number)
            if data is None and not self.layout.sparse:
                first, rows = chunk * self.layout.chunk_rows, self.layout.chunk_rows
                raise DatasetError(
                    f"{shard.where}: field {self.layout.name}: rows {first} to {first + rows - 1} are missing"
                )
            try:
                return decode(None if data is None else without_checksum(data))
            except DECODE_ERRORS as error:
                if last_try:
                    raise self._damaged(shard, chunk, error) from error
                self.forget()  # in an object store the file may have been replaced since its index was read
        raise AssertionError("not reached")

    def _damaged(self, shard: _Shard, chunk: int, error: Exception) -> DatasetError:
        row = chunk * self.layout.chunk_rows
        return DatasetError(f"{shard.where}: field {self.layout.name}: row {row} is damaged ({error})")

    def read_coded(self, chunk: int) -> bytes | None:
        """Chunk number `chunk` as it lies on disk, None where it was never written."""
        shard, number = self._shard_of(chunk)
        return shard.chunk(number)

    def forget(self) -> None:
        """Close the files, because newer ones may have taken their names."""
        with self._lock:
            self._shards.clear()
            self._groups.clear()
            self._last_chunk = -1, np.empty(0)

    def let_go(self, shard: int) -> None:
        """Close a shard's file, when nobody reads it any more."""
        with self._lock:
            self._shards.pop(shard, None)

    def _shard_of(self, chunk: int) -> tuple[_Shard, int]:
        number, within = divmod(chunk, self.layout.chunks_per_shard)
        with self._lock:
            shard = self._shards.get(number)
            if shard is None:
                shard = self._shards[number] = _Shard(self._files, self.layout.file(number), self.layout)
        _LAST_READ.note(self._self, number)
        return shard, within


class ArrayWriter:
    """Adds rows after row `num_rows` of an array, in files of the folder `scratch` that nobody sees until `seal`.

    Not thread-safe; does all its work in the thread that calls it.
    """

    def __init__(self, path: Path, layout: ArrayLayout, num_rows: int, scratch: Path) -> None:
        self.layout = layout
        self._path = path
        self._scratch = scratch
        self._sealed: list[NewFile] = []
        self._fd = -1
        self._pending = layout.empty_chunk()  # rows of the chunk that is being filled
        self._num_rows = -(-num_rows // layout.chunk_rows) * layout.chunk_rows if layout.grouped else num_rows
        if self._num_rows % layout.shard_rows:
            self._continue_shard(self._num_rows // layout.shard_rows)

    def append(self, row: NDArray | int | bool | float) -> None:
        """Add a row."""
        within = self._num_rows % self.layout.chunk_rows
        self._pending[within] = row
        self._num_rows += 1
        if within + 1 == self.layout.chunk_rows:
            self._write_chunk((self._num_rows - 1) // self.layout.chunk_rows, self.layout.codec.encode(self._pending))
            self._pending[...] = self.layout.fill_value

    def append_coded(self, data: bytes | None) -> None:
        """Add a row that is coded already; only where a chunk is one row. None leaves the chunk out."""
        self._num_rows += 1
        self._write_chunk(self._num_rows - 1, data)

    def append_group(self, data: bytes | None, rows: int) -> None:
        """Add the rows of a coded group; None leaves it out."""
        chunk = self._num_rows // self.layout.chunk_rows
        self._num_rows += rows
        self._write_chunk(chunk, data)

    def skip_to(self, row: int) -> None:
        """Leave out the rows before this one."""
        while self._num_rows < row:
            if self.layout.grouped:
                end = (self._num_rows // self.layout.chunk_rows + 1) * self.layout.chunk_rows
                if end <= row:
                    self.append_group(None, end - self._num_rows)
                else:
                    self._num_rows = row
            elif self.layout.chunk_rows == 1:
                self.append_coded(None)
            else:
                self.append(self.layout.fill_value)

    def seal(self) -> list[NewFile]:
        """Complete the files and hand them over. They are closed: an episode may have more than a process may open."""
        chunk, within = divmod(self._num_rows, self.layout.chunk_rows)
        if within and not self.layout.grouped:
            self._write_chunk(chunk, self.layout.codec.encode(self._pending))
        self._end_shard()
        sealed, self._sealed = self._sealed, []
        return sealed

    def close(self) -> None:
        """Drop everything that was not sealed."""
        if self._fd >= 0:
            os.close(self._fd)
        self._sealed, self._fd = [], -1

    def _open_shard(self, shard: int) -> None:
        self._shard = shard
        self._source = self._scratch / f"{self.layout.name.replace('/', '+')}.{shard}"
        self._fd = os.open(self._source, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666)
        self._index = np.full((self.layout.chunks_per_shard, 2), EMPTY, "<u8")
        self._offset = 0

    def _continue_shard(self, number: int) -> None:
        """Copy the chunks of the last shard that are full, and take the rows of the one that is not."""
        old = _Shard(LocalFiles(self._path), self.layout.file(number), self.layout)
        self._open_shard(number)
        full, rows = divmod(self._num_rows % self.layout.shard_rows, self.layout.chunk_rows)
        self._index[:full] = old.index[:full]
        there = self._index[self._index[:, 0] != EMPTY]
        end = int(there.sum(axis=1).max()) if len(there) else 0
        with open(old.where, "rb") as source:
            while self._offset < end:
                copied = os.copy_file_range(source.fileno(), self._fd, end - self._offset, self._offset, self._offset)
                if copied == 0:
                    raise DatasetError(f"{old.where}: field {self.layout.name}: this shard is cut off")
                self._offset += copied
        if rows:
            data = old.chunk(full)
            if data is not None:
                try:
                    self.layout.codec.decode(without_checksum(data), self._pending)
                except DECODE_ERRORS as error:
                    raise DatasetError(
                        f"{old.where}: field {self.layout.name}: its last rows are damaged ({error})"
                    ) from error
            self._pending[rows:] = self.layout.fill_value

    def _write_chunk(self, chunk: int, data: bytes | None) -> None:
        shard, within = divmod(chunk, self.layout.chunks_per_shard)
        if self._fd < 0:
            self._open_shard(shard)
        if data is not None:
            data = with_checksum(data)
            self._index[within] = self._offset, len(data)
            self._write(data)
        if within + 1 == self.layout.chunks_per_shard:
            self._end_shard()

    def _end_shard(self) -> None:
        if self._fd < 0:
            return
        self._write(with_checksum(self._index.tobytes()))
        fd, self._fd = self._fd, -1
        os.close(fd)
        self._sealed.append(NewFile(self._source, self._path / self.layout.file(self._shard)))

    def _write(self, data: bytes) -> None:
        write_all(self._fd, data, self._offset)
        self._offset += len(data)


def shard_files(folder: Path) -> dict[int, Path]:
    """The shards in the folder of an array, by number."""
    named = {file: SHARD_FILE.fullmatch(file.name) for file in (folder.iterdir() if folder.is_dir() else ())}
    return {int(match[1]): file for file, match in named.items() if match}


def write_shard(layout: ArrayLayout, rows: NDArray) -> bytes:
    """A whole shard file of these rows (shard_rows, ...). Chunks of nothing but the fill value are left out."""
    index = np.full((layout.chunks_per_shard, 2), EMPTY, "<u8")
    parts: list[bytes] = []
    offset = 0
    empty = layout.empty_chunk()
    for chunk in range(layout.chunks_per_shard):
        values = rows[chunk * layout.chunk_rows : (chunk + 1) * layout.chunk_rows]
        if not np.array_equal(values, empty, equal_nan=layout.dtype.kind == "f"):
            parts.append(with_checksum(layout.codec.encode(values)))
            index[chunk] = offset, len(parts[-1])
            offset += len(parts[-1])
    return b"".join([*parts, with_checksum(index.tobytes())])


def power_of_two(value: float, low: int, high: int) -> int:
    """The largest power of two that is not above `value`, within [low, high]."""
    return min(max(2 ** int(math.log2(max(value, 1))), low), high)
