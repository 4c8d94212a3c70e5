"""Episodes in a zarr v3 group on a local disk. Implements `Store`.

Any zarr reader opens it; an episode is the slice [start, start + length) of every array, as the episode table in the
group's attributes says. Steps that the table does not know of do not exist.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robolearn.datasets.columns import COLUMNS, Column, ColumnWriter, StoredColumn, read_columns
from robolearn.datasets.disk import Disk, moved_when_whole
from robolearn.datasets.episode_table import Edit, EpisodeTable
from robolearn.datasets.files import Files, LocalFiles
from robolearn.datasets.remote import RemoteFiles, is_url
from robolearn.datasets.shards import ArrayReader
from robolearn.datasets.statistics import Fingerprint, stored, updated
from robolearn.datasets.store import (
    DatasetSpec,
    EpisodeInfo,
    UnfinishedEpisode,
    WriterConfig,
    require_json,
    step_ns,
)
from robolearn.datasets.streams import align
from robolearn.datasets.zarr_layout import (
    ROOT_FILE,
    STREAMS,
    Root,
    array_layouts,
    array_metadata,
    group_metadata,
    open_files,
    read_array,
    read_root,
    repair_advice,
    stream_array,
    stream_stamps,
    write_root,
)
from robolearn.datasets.zarr_recording import recordings, unfinished_episode
from robolearn.datasets.zarr_writer import ZarrWriter
from robolearn.durable import sync
from robolearn.errors import DatasetError, UnknownNameError
from robolearn.specs import ArraySpec

MAX_CATCH_UP = 8  # episodes without statistics that a writer adds to them


class ZarrStore:
    """A dataset on a disk, or in an object store, where it can be read only.

    Reads are thread-safe and see the episodes that were committed when it was opened, or refreshed.
    """

    def __init__(self, files: Files) -> None:
        self.name = files.where("").rstrip("/")  # what people call it: a path or a URL
        self.files = files
        self.fingerprint = Fingerprint()
        self._columns: dict[str, StoredColumn] = {}
        self._load(read_root(files))

    def refresh(self) -> None:
        """See what was committed and computed meanwhile; costs what that is, not what there was before.

        Raises DatasetError when another dataset has taken the name.
        """
        self._load(read_root(self.files, self._root if self.is_local else None))

    def _load(self, root: Root) -> None:
        files = self.files
        readers: dict[str, ArrayReader] = {}
        damaged: dict[str, str] = {}
        for name, layout in array_layouts(root.spec).items():
            try:
                found, num_rows = read_array(files, layout)
            except DatasetError as error:
                damaged[name] = str(error)
                continue
            if num_rows < root.num_rows(name):
                damaged[name] = (
                    f"{files.where(f'{name}/{ROOT_FILE}')}: field {name} has {num_rows} steps, the episode table "
                    f"{root.num_rows(name)}; the array was cut or replaced; {repair_advice(files)}"
                )
            readers[name] = ArrayReader(files, found)
        self._committed(root)
        columns = read_columns(files, self._columns if self.is_local else None)
        readers |= {name: ArrayReader(files, stored.layout) for name, stored in columns.whole.items()}
        self._readers, self._damaged_fields = readers, damaged
        self._columns, self._damaged_columns = dict(columns.whole), dict(columns.damaged)

    @classmethod
    def create(cls, path: Path | str, spec: DatasetSpec) -> ZarrStore:
        """Make an empty dataset. Raises DatasetError when something is there already."""
        path = Path(path)
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise DatasetError(f"{path} exists; open it to add episodes, or name another folder")
        if taken := spec.fields.keys() & {COLUMNS, STREAMS}:
            raise DatasetError(f"{path}: a dataset keeps things of its own in {', '.join(taken)}; rename that field")
        require_json(f"what {path} is to hold", spec.to_json())
        try:
            new = [folder for folder in path.parents if not folder.exists()]
            if path.exists():
                path.rmdir()
            layouts = array_layouts(spec)
            with moved_when_whole(path) as whole, Disk(fsync=False) as disk:  # which is made durable as it is moved
                for name in layouts:
                    (whole / name).mkdir(parents=True)
                if spec.streams:
                    disk.replace({whole / STREAMS / ROOT_FILE: group_metadata({})})
                disk.replace({whole / name / ROOT_FILE: array_metadata(array, 0) for name, array in layouts.items()})
                write_root(whole, Root(spec, EpisodeTable({}), 0, {}), disk)
            for folder in new:
                sync(folder.parent)
        except OSError as error:
            raise DatasetError(f"{path} cannot be made: {os.strerror(error.errno or 0)}") from error
        return cls.open(path)

    @classmethod
    def open(cls, path: Path | str) -> ZarrStore:
        """Open a dataset. Raises DatasetError in one line: not a dataset, of a newer schema, or without a table of its
        episodes. A field or column that is damaged is told when it is read."""
        return cls(RemoteFiles(str(path)) if is_url(path) else open_files(Path(path)))

    @property
    def path(self) -> Path:
        """Raises DatasetError when the dataset lies in an object store."""
        if not isinstance(self.files, LocalFiles):
            raise DatasetError(f"{self.name} lies in an object store and can only be read; pull it, or publish to it")
        return self.files.path

    def require_in_place(self) -> None:
        """Raise DatasetError when another dataset has taken the name."""
        if isinstance(self.files, LocalFiles):
            self.files.require_in_place()

    @property
    def is_local(self) -> bool:
        """Whether it lies on a disk, where it can be written to."""
        return isinstance(self.files, LocalFiles)

    @property
    def spec(self) -> DatasetSpec:
        return self._root.spec

    @property
    def schema_version(self) -> int:
        return int(self._root.attributes["schema_version"])

    @property
    def attributes(self) -> Mapping[str, Any]:
        """What else the root file holds."""
        return self._root.attributes

    @property
    def episodes(self) -> tuple[EpisodeInfo, ...]:
        return self._episodes

    @property
    def edits(self) -> tuple[Edit, ...]:
        """What can be undone, oldest first."""
        return self._root.table.edits

    @property
    def unfinished(self) -> list[UnfinishedEpisode]:
        if not self.is_local:
            return []
        committed = self._root.table.rows
        left = [unfinished_episode(folder) for folder in recordings(self.path)]
        return [episode for episode in left if episode is not None and episode.id not in committed]

    def read(
        self,
        index: int,
        fields: Sequence[str] | None = None,
        start: int = 0,
        stop: int | None = None,
        out: Mapping[str, NDArray] | None = None,
    ) -> dict[str, NDArray]:
        names = self.spec.fields if fields is None else fields
        for name in names:
            self.spec_of(name)
        low, high = self._steps(index, start, stop)
        for name in names:
            stored = self._columns.get(name)
            if stored is not None and not stored.column.has(self._episodes[index].id, low, high):
                raise DatasetError(
                    f"{self.name}: column {name} has no values for episode {self._episodes[index].id}; label it first"
                )
        read = {}
        for name in names:
            target = (out or {}).get(name)
            if name in self.spec.streams:
                values = self._aligned(index, name)[0][start : start + high - low]
                if target is not None:
                    target[...] = values
                read[name] = values if target is None else target
            else:
                read[name] = self.reader(name).read(low, high, target)
        return read

    def read_stream(self, index: int, name: str) -> tuple[NDArray, NDArray[np.int64]]:
        if name not in self.spec.streams:
            raise UnknownNameError("stream", name, self.spec.streams)
        self._steps(index, 0, None)
        first, number = self._episodes[index].streams.get(name, (0, 0))
        values = self.reader(stream_array(name)).read(first, first + number)
        return values, self.reader(stream_stamps(name)).read(first, first + number)

    def _aligned(self, index: int, name: str) -> tuple[NDArray, NDArray[np.bool_]]:
        """A stream at the steps of an episode, and where it has a value."""
        values, stamps = self.read_stream(index, name)
        return align(stamps[:, 0], values, step_ns(self.read_stamps(index)), self.spec.streams[name])

    def spec_of(self, name: str) -> ArraySpec:
        """Spec of a field, of a column, or of a sample of a stream."""
        if name in self._columns:
            return self._columns[name].column.spec
        if name in self.spec.streams:
            return self.spec.streams[name].array
        if name not in self.spec.fields:
            for damaged in (name, COLUMNS):
                if damaged in self._damaged_columns:
                    raise DatasetError(self._damaged_columns[damaged])
            raise UnknownNameError("dataset field", name, [*self.spec.fields, *self._columns, *self.spec.streams])
        return self.spec.fields[name]

    @property
    def columns(self) -> dict[str, Column]:
        """What was computed after recording, by name; `read` knows these names too."""
        return {name: stored.column for name, stored in self._columns.items()}

    @property
    def damaged_fields(self) -> dict[str, str]:
        """What is wrong with arrays of fields and streams that cannot be read, a line each, by name."""
        return dict(self._damaged_fields)

    @property
    def damaged_columns(self) -> dict[str, str]:
        """What is wrong with columns that cannot be read, a line each, by name."""
        return dict(self._damaged_columns)

    @property
    def num_steps(self) -> int:
        """Rows of every array, those of hidden episodes included."""
        return self._root.num_steps

    def column_writer(self, name: str, spec: ArraySpec, attributes: Mapping[str, Any]) -> ColumnWriter:
        """Make a column, or go on with it where it is there already; `attributes` say who makes it and how (JSON).

        Raises DatasetError when one of this name was made otherwise, or somebody is writing columns.
        """
        return ColumnWriter(self, Column(name, spec, attributes, {}), self._columns.get(name), self._wrote_column)

    def read_stamps(self, index: int) -> dict[str, NDArray[np.int64]]:
        stamps = self.reader("stamp_ns").read(*self._steps(index, 0, None))
        return {name: stamps[:, column] for column, name in enumerate(self.spec.stamped_fields)}

    def read_valid(self, index: int) -> dict[str, NDArray[np.bool_]]:
        valid = self.reader("valid").read(*self._steps(index, 0, None))
        fields = {name: valid[:, column] for column, name in enumerate(self.spec.stamped_fields)}
        return fields | {name: self._aligned(index, name)[1] for name in self.spec.streams}

    def reader(self, field: str) -> ArrayReader:
        """The array of a field, along the steps of all episodes. Raises DatasetError where its metadata is damaged."""
        if field in self._damaged_fields:
            raise DatasetError(self._damaged_fields[field])
        if field not in self._readers:
            raise UnknownNameError("dataset field", field, self._readers)
        return self._readers[field]

    def writer(self, config: WriterConfig | None = None) -> ZarrWriter:
        return ZarrWriter(self.path, config or WriterConfig(), self._wrote, self._newest_statistics)

    def _newest_statistics(self) -> dict[str, Any] | None:
        """The statistics with the newest episodes; None where there is too much to catch up with while recording."""
        kept = stored(self)
        if len(self._episodes) - (kept["episodes"] if kept else 0) > MAX_CATCH_UP:
            return None
        try:
            return updated(self, kept)
        except DatasetError:
            return None  # whoever reads those steps is told

    def _committed(self, root: Root) -> None:
        self._root = root
        self._episodes = tuple(episode for episode in root.episodes if not episode.hidden)

    def _wrote(self, root: Root) -> None:
        for reader in self._readers.values():
            reader.forget()
        self._committed(root)

    def _wrote_column(self, stored: StoredColumn) -> None:
        self._columns[stored.column.name] = stored
        self._readers[stored.column.name] = ArrayReader(self.files, stored.layout)
        self._damaged_columns.pop(stored.column.name, None)

    def _steps(self, index: int, start: int, stop: int | None) -> tuple[int, int]:
        episodes = self._episodes
        if not -len(episodes) <= index < len(episodes):
            raise DatasetError(f"{self.name} has {len(episodes)} episodes; there is no episode {index}")
        episode = episodes[index]
        stop = episode.length if stop is None else stop
        if not 0 <= start <= stop <= episode.length:
            raise DatasetError(f"episode {index} has {episode.length} steps; [{start}, {stop}) is not within it")
        return episode.start + start, episode.start + stop
