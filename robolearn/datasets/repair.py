"""Mending what a dead writer left, and damage: unfinished episodes, the episode table, metadata of arrays, columns."""

from __future__ import annotations

import contextlib
import shutil
import struct
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from robolearn.datasets.column_repair import mend_columns
from robolearn.datasets.disk import Disk
from robolearn.datasets.episode_table import BLOCKS, is_whole
from robolearn.datasets.files import File, LocalFiles
from robolearn.datasets.journal import JOURNAL, JournalReader
from robolearn.datasets.lock import WriterLock
from robolearn.datasets.shards import ArrayLayout, ArrayReader, shard_files
from robolearn.datasets.store import UnfinishedEpisode, WriterConfig
from robolearn.datasets.zarr_layout import (
    RECORDING,
    ROOT_FILE,
    SPARE,
    array_layouts,
    array_metadata,
    open_files,
    read_array,
    read_root,
)
from robolearn.datasets.zarr_recording import recordings, unfinished_episode
from robolearn.datasets.zarr_store import ZarrStore
from robolearn.datasets.zarr_writer import ZarrWriter
from robolearn.errors import DatasetDamagedError, DatasetError
from robolearn.types import EpisodeOutcome

MAX_CHUNKS_LOG2 = 14  # of a shard of any version
SALVAGED = EpisodeOutcome(success=None, terminated=False, truncated=True, reason="salvaged: the writer died")


@dataclass
class RepairReport:
    """What was done; ids of episodes."""

    path: str
    dropped: list[str] = field(default_factory=list)
    salvaged: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)  # that cannot be salvaged, only dropped
    mended: list[str] = field(default_factory=list)  # files of the episode table; arrays, by their metadata; columns
    removed: list[str] = field(default_factory=list)  # columns of which nothing tells what they are

    @property
    def is_empty(self) -> bool:
        """Whether there was nothing to repair."""
        return not (self.dropped or self.salvaged or self.left or self.mended or self.removed)

    def __str__(self) -> str:
        done = [f"{what} {', '.join(names)}" for what, names in self.to_json().items() if what != "path" and names]
        return f"{self.path}: {'nothing to repair' if self.is_empty else '; '.join(done)}"

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def repair(path: Path | str, action: Literal["salvage", "drop"] = "salvage", dry_run: bool = False) -> RepairReport:
    """Salvage or drop every unfinished episode, put what was written twice in the place of a file of the episode table
    that is damaged, write metadata of arrays anew that is damaged or not of the length of the episode table, and mend
    columns: of these, what cannot be read is missing again, until it is labelled.

    A salvaged episode keeps all steps that reached the journal. It has the outcome, tags and annotations that were
    committed when its writer died in committing; else it is truncated, of unknown success. Finished episodes are never
    touched.

    Raises DatasetError while a writer lives.
    """
    path = Path(path)
    if action not in ("salvage", "drop"):
        raise DatasetError(f"repair knows the actions salvage and drop, not {action!r}")
    spares = _spares(path)
    report = RepairReport(str(path), mended=list(spares))
    if spares and dry_run:
        return report  # what else there is can be told when the table is there
    lock = WriterLock(path, path / RECORDING)
    try:
        with Disk(fsync=True) as disk:
            disk.replace({path / name: data for name, data in _spares(path).items()})
        fields = _mend_metadata(path, dry_run)
        columns, report.removed = mend_columns(path, dry_run)
        report.mended += [*fields, *columns]
        unfinished = _unfinished(path)
        if action == "drop":
            report.dropped = [episode.id for _, episode in unfinished]
            for folder in recordings(path) if not dry_run else ():
                shutil.rmtree(folder)  # those of committed or empty episodes too: nobody writes here
    finally:
        lock.release()
    if action == "salvage":
        whole = [(folder, episode) for folder, episode in unfinished if episode.meta is not None and episode.length]
        report.salvaged = [episode.id for _, episode in whole]
        report.left = [episode.id for _, episode in unfinished if episode.id not in report.salvaged]
        if whole and not dry_run:
            with ZarrStore.open(path).writer(WriterConfig()) as writer:
                for folder, episode in whole:
                    try:
                        _salvage(writer, folder, episode)
                    except (LookupError, TypeError, ValueError, struct.error) as error:
                        raise DatasetError(
                            f"{folder / JOURNAL} is damaged: its steps are not as it tells ({error}); drop this episode"
                        ) from error
            for folder in recordings(path):  # shorter remains of the same episodes
                if (left := unfinished_episode(folder)) is not None and left.id in report.salvaged:
                    shutil.rmtree(folder, ignore_errors=True)
    return report


class _Instead:
    """The files of a dataset with others in the place of some."""

    def __init__(self, files: LocalFiles, others: Mapping[str, bytes]) -> None:
        self._files, self._others = files, others

    def where(self, name: str) -> str:
        return self._files.where(name)

    def open(self, name: str) -> File:
        return self._files.open(name)

    def read(self, name: str) -> bytes:
        return self._others[name] if name in self._others else self._files.read(name)


def _spares(path: Path) -> dict[str, bytes]:
    """Contents of the files of the episode table that are damaged, by name, from what was written beside them.

    Raises DatasetError where that does not help.
    """
    files = open_files(path)
    spares: dict[str, bytes] = {}
    for file in sorted((path / BLOCKS).glob(SPARE.format("*"))):
        name = f"{BLOCKS}/{file.name.removeprefix('.').removesuffix('.spare')}"
        if not is_whole(files, name):
            spares[name] = file.read_bytes()
    try:
        read_root(_Instead(files, spares))
    except DatasetDamagedError:
        spare = path / SPARE.format(ROOT_FILE)
        if not spare.exists():
            raise
        spares[ROOT_FILE] = spare.read_bytes()
        try:
            read_root(_Instead(files, spares))
        except DatasetDamagedError as error:
            twice = "its episode table is damaged, and so is what was written beside it"
            raise DatasetError(f"{path} cannot be mended: {twice}; copy it from where it is whole") from error
    return spares


def _mend_metadata(path: Path, dry_run: bool) -> list[str]:
    """Write the zarr.json of arrays anew that are missing, damaged or of another length."""
    files = open_files(path)
    root = read_root(files)
    mended: dict[str, bytes] = {}
    for name, layout in array_layouts(root.spec).items():
        try:
            found, num_rows = read_array(files, layout)
        except DatasetError:
            found, num_rows = _layout_by_shards(files, layout), -1
        if num_rows != root.num_rows(name):
            mended[name] = array_metadata(found, root.num_rows(name))
    if not dry_run:
        for name in mended:
            (path / name).mkdir(parents=True, exist_ok=True)
        with Disk(fsync=True) as disk:
            disk.replace({path / name / ROOT_FILE: data for name, data in mended.items()})
    return list(mended)


def _layout_by_shards(files: LocalFiles, layout: ArrayLayout) -> ArrayLayout:
    """What an array must have been written with: versions differ in the rows of a shard, and its index tells them."""
    sizes = [layout.shard_rows, *(layout.chunk_rows << power for power in range(MAX_CHUNKS_LOG2 + 1))]
    for shard_rows in sizes:
        reader = ArrayReader(files, replace(layout, shard_rows=shard_rows))
        for number in shard_files(files.path / layout.name):
            with contextlib.suppress(DatasetError):
                reader.read_coded(number * reader.layout.chunks_per_shard)
                return reader.layout
    return layout


def _unfinished(path: Path) -> list[tuple[Path, UnfinishedEpisode]]:
    """One folder per unfinished episode, the longest where a salvage died too."""
    committed = read_root(path).table.rows
    found: dict[str, tuple[Path, UnfinishedEpisode]] = {}
    for folder in recordings(path):
        episode = unfinished_episode(folder)
        if episode is None or episode.id in committed:
            continue
        if episode.id not in found or found[episode.id][1].length < episode.length:
            found[episode.id] = folder, episode
    return list(found.values())


def _salvage(writer: ZarrWriter, folder: Path, episode: UnfinishedEpisode) -> None:
    assert episode.meta is not None
    journal = JournalReader(folder / JOURNAL)
    writer.begin(episode.meta, journal.phase)
    for block in journal.streams():
        writer.append_stream(block.name, block.values, *block.stamps.T)
    marks = list(journal.marks)
    for step, (record, dropped) in enumerate(journal.steps()):
        while marks and marks[0].step <= step:
            mark = marks.pop(0)
            writer.mark(mark.label, mark.author)
        writer.append_record(record, dropped)
    writer.commit(episode.outcome or SALVAGED, journal.tags, journal.annotations)
    shutil.rmtree(folder, ignore_errors=True)
