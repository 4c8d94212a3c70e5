"""Columns: values per step that were computed after recording, such as rewards, progress, stages and weights.

columns/zarr.json               names of all columns (attribute `columns`)
columns/<name>/                 zarr v3 array (steps, ...) beside the fields, row for row

A column is named `<kind>` or `<kind>/<model>-<version>` and says in its attributes who made it and how; nothing that
was recorded is ever changed. It is written episode by episode, and an episode is there when the array's attribute
`episodes` names its rows: that file is replaced after the values, so a reader sees all of an episode or nothing, and a
labeller that died goes on where it stopped.
"""

from __future__ import annotations

import json
import math
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from robolearn.datasets.codecs import Zstd
from robolearn.datasets.disk import Disk
from robolearn.datasets.files import Files, LocalFiles
from robolearn.datasets.lock import WriterLock
from robolearn.datasets.shards import ArrayLayout, ArrayReader, power_of_two, write_shard
from robolearn.datasets.zarr_layout import CHUNK_ROWS, ROOT_FILE, SHARD_ROWS, group_metadata, read_array
from robolearn.errors import DatasetError, SpecError, UnknownNameError
from robolearn.specs import ArraySpec

if TYPE_CHECKING:
    from robolearn.datasets.zarr_store import ZarrStore

COLUMN_KINDS: Mapping[str, str] = {"reward": "reward", "potential": "progress", "success": "success"}
"""First part of a column's name, by what a reward model's values mean."""

COLUMNS = "columns"
LABELLING = ".labelling"  # exists while somebody writes columns
NAME = re.compile(r"[a-z][a-z0-9_]*(/[A-Za-z0-9][A-Za-z0-9_.-]{0,99})?")
SHARD_BYTES = 4 << 20  # uncompressed; a shard is written anew with what comes into it
COPIED_AT_ONCE = 64  # episodes; with each write the list of those that are there is written, too
OURS = ("spec", "episodes", "unit", "names")  # attributes that say what the array is, not who made it


@dataclass(frozen=True)
class Column:
    """A column of a dataset."""

    name: str
    spec: ArraySpec  # of a step
    attributes: Mapping[str, Any]  # who made it and how: model, version, settings
    rows: Mapping[str, tuple[int, int]]  # first row and the one behind the last, by id of the episodes that have it

    def has(self, episode_id: str, start: int, stop: int) -> bool:
        """Whether the episode in these rows of the dataset's arrays has values."""
        low, high = self.rows.get(episode_id, (0, 0))
        return low <= start and stop <= high


def column_layout(column: Column) -> ArrayLayout:
    """How a column lies on disk. What was never written reads as NaN, zero or false."""
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
        "episodes": {name: list(rows) for name, rows in column.rows.items()},
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


def read_columns(files: Files) -> dict[str, tuple[Column, ArrayLayout]]:
    """The columns of a dataset and how each was written. Raises DatasetError naming a damaged file."""
    index = f"{COLUMNS}/{ROOT_FILE}"
    try:
        names = json.loads(files.read(index))["attributes"]["columns"]
        if not all(isinstance(name, str) and NAME.fullmatch(name) for name in names):
            raise ValueError(f"names {names}")
    except FileNotFoundError:
        return {}
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise DatasetError(f"{files.where(index)}: the list of columns cannot be read ({error!r})") from error
    return {name: _read_column(files, name) for name in names}


def _read_column(files: Files, name: str) -> tuple[Column, ArrayLayout]:
    file = f"{COLUMNS}/{name}/{ROOT_FILE}"
    try:
        attributes = dict(json.loads(files.read(file))["attributes"])
        spec = ArraySpec.from_json(attributes["spec"])
        rows = {str(key): (int(low), int(high)) for key, (low, high) in attributes["episodes"].items()}
    except OSError as error:
        raise DatasetError(f"{files.where(file)}: column {name} cannot be read: {error.strerror or error}") from error
    except (KeyError, TypeError, ValueError, AttributeError, SpecError) as error:
        raise DatasetError(f"{files.where(file)}: column {name}: its metadata is damaged ({error!r})") from error
    column = Column(name, spec, {key: value for key, value in attributes.items() if key not in OURS}, rows)
    layout, num_rows = read_array(files, column_layout(column))
    if any(not 0 <= low <= high <= num_rows for low, high in rows.values()):
        raise DatasetError(f"{files.where(file)}: column {name} has {num_rows} steps, its episodes reach beyond")
    return column, layout


class ColumnWriter:
    """Writes a column, some episodes at a time, in any order. A context manager; one at a time on a dataset.

    Recording may go on meanwhile: what it adds is missing in the column until it is written there.
    """

    def __init__(self, store: ZarrStore, column: Column, on_write: Callable[[], None]) -> None:
        """Raises DatasetError when there is a column of this name that was made otherwise, or the dataset was written
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
            self._column, self._layout = self._found_or_made(column)
        except BaseException:
            self.close()
            raise

    @property
    def missing(self) -> list[int]:
        """Indices of the store's episodes that have no values yet."""
        return [i for i, e in enumerate(self._store.episodes) if not self._column.has(e.id, e.start, e.stop)]

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
        rows = self._layout.shard_rows
        parts: dict[int, list[tuple[int, NDArray]]] = {}
        for index, episode in episodes.items():
            for shard in range(episode.start // rows, -(-episode.stop // rows)):
                parts.setdefault(shard, []).append((episode.start, arrays[index]))
        for shard, inside in parts.items():
            self._write_shard(shard, inside)
        written = {episode.id: (episode.start, episode.stop) for episode in episodes.values()}
        self._column = replace(self._column, rows={**self._column.rows, **written})
        self._publish()

    def _checked(self, index: int, values: ArrayLike) -> NDArray:
        episode = self._store.episodes[index]
        spec = self._column.spec
        array, dtype = np.asarray(values), np.dtype(spec.dtype)
        if array.shape != (episode.length, *spec.shape) or not np.can_cast(array.dtype, dtype, "same_kind"):
            raise SpecError(
                f"column {self._column.name}: values of episode {episode.id} are {array.dtype} {array.shape}, "
                f"expected {dtype} {(episode.length, *spec.shape)}"
            )
        if dtype.kind == "f" and not np.isfinite(array).all():
            raise SpecError(f"column {self._column.name}: values of episode {episode.id} are not all finite")
        return array.astype(dtype, copy=False)

    def close(self) -> None:
        self._disk.close()
        self._lock.release()

    def __enter__(self) -> ColumnWriter:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _found_or_made(self, column: Column) -> tuple[Column, ArrayLayout]:
        """Raises DatasetError when the column is there with another spec or other attributes."""
        there = read_columns(LocalFiles(self._store.path))
        if column.name in there:
            found = there[column.name][0]
            for what in ("spec", "attributes"):
                if getattr(found, what) != getattr(column, what):
                    raise DatasetError(
                        f"{self._store.path} has a column {column.name} of other {what}: "
                        f"{_brief(getattr(found, what))}, not {_brief(getattr(column, what))}; give it another version"
                    )
            return there[column.name]
        folder = self._store.path / COLUMNS
        (folder / column.name).mkdir(parents=True, exist_ok=True)
        layout = column_layout(column)
        files = {folder / column.name / ROOT_FILE: self._metadata(layout, column)}
        if "/" in column.name:
            files[folder / column.name.split("/")[0] / ROOT_FILE] = group_metadata({})
        self._disk.replace(files)
        self._disk.replace({folder / ROOT_FILE: group_metadata({"columns": [*there, column.name]})})
        self._on_write()
        return column, layout

    def _write_shard(self, shard: int, parts: Sequence[tuple[int, NDArray]]) -> None:
        """A shard with the values of each part, from its first row on, in their place, and what it had elsewhere."""
        first = shard * self._layout.shard_rows
        layout = replace(self._layout, attributes={})
        rows = np.full((layout.shard_rows, *layout.row_shape), layout.fill_value, layout.dtype)
        target = self._store.path / layout.file(shard)
        if target.exists():
            ArrayReader(LocalFiles(self._store.path), layout).read(first, first + layout.shard_rows, rows)
        for start, values in parts:
            low, high = max(start, first), min(start + len(values), first + layout.shard_rows)
            rows[low - first : high - first] = values[low - start : high - start]
        self._disk.replace({target: write_shard(layout, rows)})

    def _publish(self) -> None:
        layout = replace(column_layout(self._column), chunk_rows=self._layout.chunk_rows)
        layout = replace(layout, shard_rows=self._layout.shard_rows)
        self._disk.replace({self._store.path / self._layout.name / ROOT_FILE: self._metadata(layout, self._column)})
        self._on_write()

    def _metadata(self, layout: ArrayLayout, column: Column) -> bytes:
        num_rows = max([self._store.num_steps, *(high for _, high in column.rows.values())])
        return json.dumps(layout.to_zarr(num_rows)).encode()


def remove_column(path: Path, name: str) -> None:
    """Take a column away, for good."""
    lock = WriterLock(path, path / LABELLING)
    try:
        there = read_columns(LocalFiles(path))
        if name not in there:
            raise UnknownNameError("column", name, there)
        with Disk(fsync=True) as disk:
            left = [other for other in there if other != name]
            disk.replace({path / COLUMNS / ROOT_FILE: group_metadata({"columns": left})})
        shutil.rmtree(path / COLUMNS / name, ignore_errors=True)
    finally:
        lock.release()


def copy_columns(sources: Sequence[tuple[ZarrStore, int]], target: ZarrStore) -> None:
    """Write the columns of the source episodes to the target, whose episodes are these in this order."""
    columns: dict[str, Column] = {}
    for store, _ in sources:
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
