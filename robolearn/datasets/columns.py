"""Columns: values per step that were computed after recording, such as rewards, progress, stages and weights.

columns/zarr.json               names of all columns (attribute `columns`)
columns/<name>/                 zarr v3 array (steps, ...) beside the fields, row for row
columns/<name>/episodes.jsonl   the episodes that are there, a line each: id, first row, the one behind the last, CRC-32

A column is named `<kind>` or `<kind>/<model>-<version>` and says in its attributes who made it and how; nothing that
was recorded is ever changed. It is written episode by episode, and an episode is there when a line names its rows.
Lines are only ever added, after the values, so a reader sees all of an episode or nothing, writing costs what it adds,
and a labeller that died goes on where it stopped; a line that its death cut off does not count, and of one id the
newest does. The attribute `id` of the array is another one whenever the lines were written anew.

Older columns have all of this in the array's attribute `episodes`. They are read as they are, and get their lines when
something is written to them.
"""

from __future__ import annotations

import contextlib
import json
import math
import re
import uuid
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from robolearn.datasets.codecs import Zstd
from robolearn.datasets.disk import Disk
from robolearn.datasets.files import Files, LocalFiles
from robolearn.datasets.lock import WriterLock, require_own
from robolearn.datasets.shards import ArrayLayout, ArrayReader, power_of_two, write_shard
from robolearn.datasets.zarr_layout import (
    CHUNK_ROWS,
    ROOT_FILE,
    SHARD_ROWS,
    array_metadata,
    group_metadata,
    read_array,
    repair_advice,
)
from robolearn.errors import DatasetError, SpecError, UnknownNameError
from robolearn.specs import ArraySpec

if TYPE_CHECKING:
    from robolearn.datasets.zarr_store import ZarrStore

COLUMN_KINDS: Mapping[str, str] = {"reward": "reward", "potential": "progress", "success": "success"}
"""First part of a column's name, by what a reward model's values mean."""

COLUMNS = "columns"
EPISODES = "episodes.jsonl"
LABELLING = ".labelling"  # exists while somebody writes columns
NAME = re.compile(r"[a-z][a-z0-9_]*(/[A-Za-z0-9][A-Za-z0-9_.-]{0,99})?")
SHARD_BYTES = 4 << 20  # uncompressed; a shard is written anew with what comes into it
COPIED_AT_ONCE = 64  # episodes
OURS = ("spec", "episodes", "unit", "names", "id")  # attributes that say what the array is, not who made it


class Rows(NamedTuple):
    """Where the values of an episode lie in a column."""

    start: int
    stop: int
    checksum: int | None = None  # CRC-32 of them; older versions wrote none

    def are(self, values: NDArray) -> bool:
        """Whether these values of all of the rows can be those that were written."""
        if self.checksum is not None:
            return zlib.crc32(values.tobytes()) == self.checksum
        return values.dtype.kind != "f" or bool(np.isfinite(values).all())


@dataclass(frozen=True)
class Column:
    """A column of a dataset."""

    name: str
    spec: ArraySpec  # of a step
    attributes: Mapping[str, Any]  # who made it and how: model, version, settings
    rows: Mapping[str, Rows]  # by id of the episodes that have it

    def has(self, episode_id: str, start: int, stop: int) -> bool:
        """Whether the episode in these rows of the dataset's arrays has values."""
        rows = self.rows.get(episode_id)
        return rows is not None and rows.start <= start and stop <= rows.stop


@dataclass(frozen=True)
class StoredColumn:
    """A column as it lies on disk."""

    column: Column
    layout: ArrayLayout
    num_rows: int  # of the array
    metadata: bytes  # of the array
    position: int  # bytes of the lines that were read

    @property
    def is_short(self) -> bool:
        """Whether there are episodes beyond the end of the array."""
        return max((rows.stop for rows in self.column.rows.values()), default=0) > self.num_rows


@dataclass(frozen=True)
class Columns:
    """The columns of a dataset by name, and of those that are damaged what is wrong, in a line each.

    Where the list of columns is damaged, that is told under the name COLUMNS, and there are no others.
    """

    whole: Mapping[str, StoredColumn]
    damaged: Mapping[str, str]


def column_beside(kind: str, name: str) -> str:
    """The column of another kind by the same model and version, such as `done/state-1` of `success/state-1`."""
    return f"{kind}/{name.partition('/')[2]}"


def column_layout(column: Column, made: str) -> ArrayLayout:
    """How a column lies on disk. What was never written reads as NaN, zero or false. `made` is the attribute `id`,
    which older columns lack."""
    spec = column.spec
    dtype = np.dtype(spec.dtype)
    fill: float | int | bool = math.nan if dtype.kind == "f" else False if dtype.kind == "b" else 0
    chunk = power_of_two(SHARD_BYTES / 16 / max(dtype.itemsize * math.prod(spec.shape), 1), 1, CHUNK_ROWS)
    shard = power_of_two(SHARD_BYTES / max(dtype.itemsize * math.prod(spec.shape), 1), chunk, SHARD_ROWS)
    axes = tuple(f"{column.name.split('/')[0]}_{axis}" for axis in range(len(spec.shape)))
    attributes = {
        **column.attributes,
        "unit": spec.unit,
        "names": list(spec.names),
        "spec": spec.to_json(),
        "id": made,
    }
    return ArrayLayout(
        f"{COLUMNS}/{column.name}",
        spec.shape,
        dtype,
        Zstd(),
        chunk,
        shard,
        ("time", *axes),
        fill,
        attributes,
        sparse=True,
    )


def read_columns(files: Files, known: Mapping[str, StoredColumn] | None = None) -> Columns:
    """The columns of a dataset; of a column that follows on a known one what is new."""
    try:
        names = column_names(files)
    except DatasetError as error:
        return Columns({}, {COLUMNS: str(error)})
    whole: dict[str, StoredColumn] = {}
    damaged: dict[str, str] = {}
    for name in names:
        try:
            whole[name] = read_column(files, name, (known or {}).get(name))
        except DatasetError as error:
            damaged[name] = str(error)
    return Columns(whole, damaged)


def column_names(files: Files) -> list[str]:
    """The list of columns. Raises DatasetError when it is damaged."""
    index = f"{COLUMNS}/{ROOT_FILE}"
    try:
        names = list(json.loads(files.read(index))["attributes"]["columns"])
        if not all(isinstance(name, str) and NAME.fullmatch(name) for name in names):
            raise ValueError(f"names {names}")
    except FileNotFoundError:
        return []
    except (OSError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise DatasetError(
            f"{files.where(index)}: the list of columns cannot be read ({error!r}); {repair_advice(files)}"
        ) from error
    return names


def read_column(files: Files, name: str, known: StoredColumn | None = None) -> StoredColumn:
    """A column; where it follows on a known one, only its new lines are read. Raises DatasetError in one line when it
    is damaged."""
    stored = read_column_metadata(files, name)
    file = f"{stored.layout.name}/{EPISODES}"
    if known is not None and known.metadata == stored.metadata:
        stored = known
    try:
        lines = files.open(file)
        data = lines.read(max(lines.size - stored.position, 0), stored.position)
        data = data[: data.rfind(b"\n") + 1]
        rows = parsed_rows(json.loads(b"[" + data.rstrip(b"\n").replace(b"\n", b",") + b"]"))
    except OSError as error:
        if isinstance(error, FileNotFoundError) and not stored.layout.attributes["id"]:
            return stored  # an older one
        raise _damaged(files, file, name, error.strerror or str(error)) from error
    except (TypeError, ValueError, RecursionError) as error:
        raise _damaged(files, file, name, repr(error)) from error
    column = replace(stored.column, rows={**stored.column.rows, **rows}) if rows else stored.column
    return replace(stored, column=column, position=stored.position + len(data))


def read_column_metadata(files: Files, name: str) -> StoredColumn:
    """A column with no more episodes than its array tells of, which older ones do. Raises DatasetError when that is
    damaged."""
    file = f"{COLUMNS}/{name}/{ROOT_FILE}"
    try:
        metadata = files.read(file)
        attributes = dict(json.loads(metadata)["attributes"])
        spec = ArraySpec.from_json(attributes["spec"])
        rows = parsed_rows((key, *ends) for key, ends in attributes.get("episodes", {}).items())
        column = Column(name, spec, {key: value for key, value in attributes.items() if key not in OURS}, rows)
        layout, num_rows = read_array(files, column_layout(column, str(attributes.get("id", ""))))
    except OSError as error:
        raise _damaged(files, file, name, error.strerror or str(error)) from error
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError, SpecError) as error:
        raise _damaged(files, file, name, repr(error)) from error
    return StoredColumn(column, layout, num_rows, metadata, 0)


def parsed_rows(lines: Iterable[Sequence[Any]]) -> dict[str, Rows]:
    """Rows by episode id. Raises TypeError or ValueError for what is none."""
    rows = {}
    for name, *numbers in lines:
        if not (isinstance(name, str) and all(isinstance(number, int) for number in numbers)):
            raise ValueError(f"rows {numbers} of episode {name!r}")
        rows[name] = there = Rows(*numbers)
        if not 0 <= there.start <= there.stop:
            raise ValueError(f"rows {there.start} to {there.stop} of episode {name!r}")
    return rows


def row_lines(rows: Mapping[str, Rows]) -> bytes:
    """What `parsed_rows` reads, a line each."""
    lines = [[name, *(number for number in there if number is not None)] for name, there in rows.items()]
    return "".join(f"{json.dumps(line)}\n" for line in lines).encode()


def _damaged(files: Files, file: str, name: str, why: str) -> DatasetError:
    return DatasetError(f"{files.where(file)}: column {name} is damaged ({why}); {repair_advice(files)}")


class ColumnWriter:
    """Writes a column, some episodes at a time, in any order. A context manager; one at a time on a dataset.

    Recording may go on meanwhile: what it adds is missing in the column until it is written there.
    """

    def __init__(
        self, store: ZarrStore, column: Column, known: StoredColumn | None, on_write: Callable[[StoredColumn], None]
    ) -> None:
        """`known` is the column as somebody has read it.

        Raises DatasetError when there is a column of this name that was made otherwise, or the dataset was written
        anew since the store was opened: its episodes lie in other rows then."""
        if not NAME.fullmatch(column.name):
            raise DatasetError(
                f"column {column.name!r} is not named like `progress` or `reward/model-1`: a lower-case word, and "
                "behind a '/' letters, digits, '.', '_' and '-'"
            )
        if taken := [key for key in column.attributes if key in OURS]:
            raise DatasetError(f"column {column.name}: attribute {taken[0]!r} is taken; name it otherwise")
        try:
            attributes = json.loads(json.dumps(dict(column.attributes)))
        except (TypeError, ValueError) as error:
            raise DatasetError(f"column {column.name}: its attributes cannot be written as JSON: {error}") from error
        column = replace(column, attributes=attributes)
        self._store, self._on_write = store, on_write
        self._lock = WriterLock(store.path, store.path / LABELLING)
        self._disk = Disk(fsync=True)
        try:
            store.require_in_place()
            self._stored = self._found_or_made(column, known)
            on_write(self._stored)
        except BaseException:
            self.close()
            raise

    @property
    def missing(self) -> list[int]:
        """Indices of the store's episodes that have no values yet."""
        column = self._stored.column
        return [i for i, e in enumerate(self._store.episodes) if not column.has(e.id, e.start, e.stop)]

    def write(self, index: int, values: ArrayLike) -> None:
        """`write_all` of one episode."""
        self.write_all({index: values})

    def write_all(self, values: Mapping[int, ArrayLike]) -> None:
        """The values (T, ...) of episodes, by index. When this returns they are on disk, and seen by whoever opens it.

        A shard is written once for all episodes in it. Raises SpecError, before anything is written, for values that
        do not fit.
        """
        arrays = {index: self._checked(index, one) for index, one in values.items()}
        episodes = {index: self._store.episodes[index] for index in arrays}
        rows = self._stored.layout.shard_rows
        parts: dict[int, list[tuple[int, NDArray]]] = {}
        for index, episode in episodes.items():
            for shard in range(episode.start // rows, -(-episode.stop // rows)):
                parts.setdefault(shard, []).append((episode.start, arrays[index]))
        for shard, inside in parts.items():
            self._write_shard(shard, inside)
        checksums = {index: zlib.crc32(array.tobytes()) for index, array in arrays.items()}
        self._publish({row.id: Rows(row.start, row.stop, checksums[index]) for index, row in episodes.items()})

    def _checked(self, index: int, values: ArrayLike) -> NDArray:
        episode = self._store.episodes[index]
        name, spec = self._stored.column.name, self._stored.column.spec
        array, dtype = np.asarray(values), np.dtype(spec.dtype)
        if array.shape != (episode.length, *spec.shape) or not np.can_cast(array.dtype, dtype, "same_kind"):
            raise SpecError(
                f"column {name}: values of episode {episode.id} are {array.dtype} {array.shape}, "
                f"expected {dtype} {(episode.length, *spec.shape)}"
            )
        if dtype.kind == "f" and not np.isfinite(array).all():
            raise SpecError(f"column {name}: values of episode {episode.id} are not all finite")
        return array.astype(dtype, copy=False)

    def close(self) -> None:
        self._disk.close()
        self._lock.release()

    def __enter__(self) -> ColumnWriter:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _found_or_made(self, column: Column, known: StoredColumn | None) -> StoredColumn:
        """Raises DatasetError when the column is there with another spec or other attributes."""
        files = self._store.files
        names = column_names(files)
        if column.name in names:
            stored = read_column(files, column.name, known)
            for what in ("spec", "attributes"):
                found, wanted = getattr(stored.column, what), getattr(column, what)
                if found != wanted:
                    raise DatasetError(
                        f"{self._store.path} has a column {column.name} of other {what}: {_brief(found)}, not "
                        f"{_brief(wanted)}; give it another version"
                    )
            if not stored.layout.attributes["id"]:
                stored = write_column(self._disk, self._store.path, stored)
            return stored
        for name in names:
            if name.startswith(f"{column.name}/") or column.name.startswith(f"{name}/"):
                raise DatasetError(
                    f"{self._store.path} has a column {name}, and one of two such folders would lie in the other; name "
                    f"{column.name} otherwise"
                )
        folder = self._store.path / COLUMNS
        clear_column(self._store.path, column.name)  # of what a removal that was stopped left
        (folder / column.name).mkdir(parents=True, exist_ok=True)
        if "/" in column.name:
            self._disk.replace({folder / column.name.split("/")[0] / ROOT_FILE: group_metadata({})})
        new = StoredColumn(column, column_layout(column, ""), self._store.num_steps, b"", 0)
        made = write_column(self._disk, self._store.path, new)
        write_column_names(self._disk, self._store.path, [*names, column.name])
        return made

    def _write_shard(self, shard: int, parts: Sequence[tuple[int, NDArray]]) -> None:
        """A shard with the values of each part, from its first row on, in their place, and what it had elsewhere."""
        layout = self._stored.layout
        first = shard * layout.shard_rows
        rows = np.full((layout.shard_rows, *layout.row_shape), layout.fill_value, layout.dtype)
        target = self._store.path / layout.file(shard)
        if target.exists():
            ArrayReader(LocalFiles(self._store.path), layout).read(first, first + layout.shard_rows, rows)
        for start, values in parts:
            low, high = max(start, first), min(start + len(values), first + layout.shard_rows)
            rows[low - first : high - first] = values[low - start : high - start]
        self._disk.replace({target: write_shard(layout, rows)})

    def _publish(self, written: Mapping[str, Rows]) -> None:
        """Tell of the episodes in these rows, by id."""
        stored = self._stored
        folder = self._store.path / stored.layout.name
        if max((rows.stop for rows in written.values()), default=0) > stored.num_rows:
            metadata = array_metadata(stored.layout, self._store.num_steps)
            self._disk.replace({folder / ROOT_FILE: metadata})
            stored = replace(stored, num_rows=self._store.num_steps, metadata=metadata)
        lines = row_lines(written)
        self._disk.append(folder / EPISODES, lines, stored.position)
        column = replace(stored.column, rows={**stored.column.rows, **written})
        self._stored = replace(stored, column=column, position=stored.position + len(lines))
        self._on_write(self._stored)


def write_column(disk: Disk, path: Path, stored: StoredColumn) -> StoredColumn:
    """Write the lines and the metadata of a column anew, in its folder; as it is on disk then."""
    layout = replace(stored.layout, attributes=column_layout(stored.column, uuid.uuid4().hex).attributes)
    lines, metadata = row_lines(stored.column.rows), array_metadata(layout, stored.num_rows)
    disk.replace({path / layout.name / EPISODES: lines})
    disk.replace({path / layout.name / ROOT_FILE: metadata})
    return replace(stored, layout=layout, metadata=metadata, position=len(lines))


def write_column_names(disk: Disk, path: Path, names: Sequence[str]) -> None:
    """Replace the list of columns."""
    disk.replace({path / COLUMNS / ROOT_FILE: group_metadata({"columns": list(names)})})


def remove_column(path: Path, name: str) -> None:
    """Take a column away, for good."""
    lock = WriterLock(path, path / LABELLING)
    try:
        names = column_names(LocalFiles(path))
        if name not in names:
            raise UnknownNameError("column", name, names)
        with Disk(fsync=True) as disk:
            write_column_names(disk, path, [other for other in names if other != name])
        clear_column(path, name)
    finally:
        lock.release()


def clear_column(path: Path, name: str) -> None:
    """Remove what a column that is not in the list any more has on disk, but not columns in its folder."""
    folder = path / COLUMNS / name
    require_own(path, folder)
    with contextlib.suppress(OSError):
        for file in folder.iterdir():
            if file.is_file():
                file.unlink()
        folder.rmdir()


def copy_columns(sources: Sequence[tuple[ZarrStore, int]], target: ZarrStore) -> None:
    """Write the columns of the source episodes to the target, whose episodes are these in this order."""
    columns: dict[str, Column] = {}
    for store, _ in sources:
        for problem in store.damaged_columns.values():
            raise DatasetError(problem)
        for name, column in store.columns.items():
            other = columns.setdefault(name, replace(column, rows={}))
            if (other.spec, other.attributes) != (column.spec, column.attributes):
                raise DatasetError(f"{store.path}: column {name} was made otherwise than that of another dataset")
    for name, column in columns.items():
        with target.column_writer(name, column.spec, column.attributes) as writer:
            for first in range(0, len(sources), COPIED_AT_ONCE):
                values: dict[int, NDArray] = {}
                for index, (store, source) in enumerate(sources[first : first + COPIED_AT_ONCE], first):
                    episode = store.episodes[source]
                    if name in store.columns and store.columns[name].has(episode.id, episode.start, episode.stop):
                        values[index] = store.read(source, [name])[name]
                if values:
                    writer.write_all(values)


def _brief(value: Any) -> str:
    text = str(value)
    return text if len(text) < 200 else text[:197] + "..."
