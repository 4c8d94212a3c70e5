"""Mending columns: what of them cannot be read is forgotten, so that it is labelled anew, and the rest is kept."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from robolearn.datasets.columns import (
    COLUMNS,
    EPISODES,
    LABELLING,
    NAME,
    Rows,
    StoredColumn,
    clear_column,
    column_names,
    parsed_rows,
    read_column_metadata,
    write_column,
    write_column_names,
)
from robolearn.datasets.disk import Disk
from robolearn.datasets.files import Files, LocalFiles
from robolearn.datasets.lock import WriterLock
from robolearn.datasets.shards import ArrayReader, shard_files, write_shard
from robolearn.datasets.zarr_layout import ROOT_FILE
from robolearn.errors import DatasetError


def mend_columns(path: Path, dry_run: bool) -> tuple[list[str], list[str]]:
    """Folders of the columns that were mended, COLUMNS for the list of them; and names of those that had to be removed
    because nothing tells what they are. Raises DatasetBusyError while somebody writes columns."""
    mended: list[str] = []
    removed: list[str] = []
    if not (path / COLUMNS).is_dir():
        return mended, removed
    lock = WriterLock(path, path / LABELLING)
    try:
        files = LocalFiles(path)
        with Disk(fsync=True) as disk:
            unlisted = unlisted_columns(files)
            names = unlisted or column_names(files)
            for name in names:
                try:
                    stored = read_column_metadata(files, name)
                except DatasetError:
                    removed.append(name)
                    continue
                if _mend(disk, files, stored, dry_run):
                    mended.append(f"{COLUMNS}/{name}")
            if not dry_run and (unlisted or removed):
                write_column_names(disk, path, [name for name in names if name not in removed])
            for name in removed if not dry_run else ():
                clear_column(path, name)
        return [*mended, *([COLUMNS] if unlisted else [])], removed
    finally:
        lock.release()


def unlisted_columns(files: LocalFiles) -> list[str]:
    """The columns that lie on disk, where the list of columns is damaged or missing; else none."""
    if (files.path / COLUMNS / ROOT_FILE).exists():
        with contextlib.suppress(DatasetError):
            column_names(files)
            return []
    found = []
    for file in sorted((files.path / COLUMNS).rglob(ROOT_FILE)):
        name = file.parent.relative_to(files.path / COLUMNS).as_posix()
        try:
            if NAME.fullmatch(name) and _lines(files, read_column_metadata(files, name))[0]:
                found.append(name)
        except DatasetError:
            continue  # a group of columns, or one of which nothing can be told
    return found


def _mend(disk: Disk, files: LocalFiles, stored: StoredColumn, dry_run: bool) -> bool:
    """Whether there was something to mend."""
    rows, damaged = _lines(files, stored)
    reader = ArrayReader(files, stored.layout)
    whole = {name: there for name, there in rows.items() if _is_whole(reader, there)}
    stored = replace(stored, column=replace(stored.column, rows=whole))
    shards = dict(_mended_shards(reader, files.path / stored.layout.name))
    if not (damaged or stored.is_short or shards or len(whole) < len(rows)):
        return False
    if not dry_run:
        num_rows = max([stored.num_rows, *(there.stop for there in whole.values())])
        write_column(disk, files.path, replace(stored, num_rows=num_rows))
        disk.replace(shards)
    return True


def _lines(files: Files, stored: StoredColumn) -> tuple[dict[str, Rows], bool]:
    """The rows of the episodes that can be told, and whether there was damage."""
    rows = dict(stored.column.rows)
    damaged = False
    try:
        lines = files.read(f"{stored.layout.name}/{EPISODES}").split(b"\n")[:-1]
    except OSError:
        return rows, bool(stored.layout.attributes["id"])  # older ones have none
    for line in lines:
        try:
            rows |= parsed_rows([json.loads(line)])
        except (TypeError, ValueError, RecursionError):
            damaged = True
    return rows, damaged


def _is_whole(reader: ArrayReader, rows: Rows) -> bool:
    try:
        return rows.are(reader.read(rows.start, rows.stop))
    except DatasetError:
        return False


def _mended_shards(reader: ArrayReader, folder: Path) -> Iterator[tuple[Path, bytes]]:
    """The contents of shards that are damaged, without what cannot be read."""
    layout = reader.layout
    for number, file in shard_files(folder).items():
        shard = np.full((layout.shard_rows, *layout.row_shape), layout.fill_value, layout.dtype)
        damaged = False
        for chunk in range(layout.chunks_per_shard):
            part = shard[chunk * layout.chunk_rows : (chunk + 1) * layout.chunk_rows]
            try:
                reader.read_chunk(number * layout.chunks_per_shard + chunk, part)
            except DatasetError:
                part[...] = layout.fill_value
                damaged = True
        if damaged:
            yield file, write_shard(layout, shard)
