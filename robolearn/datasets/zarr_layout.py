"""Where everything lies in a dataset folder, and its root file.

zarr.json                   zarr v3 group: spec, newest lines of the episode table; replacing it shows an episode
episodes/<number>.jsonl     the older lines, see `episode_table`
.<file>.spare               beside each of these the same once more, which `repair` puts in the place of a damaged one
<field>/                    zarr v3 array (steps, ...) per field: zarr.json and shards
stamp_ns/                   (steps, stamped fields, 2) int64: capture and receive stamp
valid/                      (steps, stamped fields) bool
streams/<name>, streams/<name>_stamp_ns     (samples, ...) and (samples, 2) int64 of sensors with rates of their own
.recording/                 exists only while a writer lives, or after one died
    lock                    the writer's process id, locked by it
    <episode id>/           journal and shards of the episode that is being written
"""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from robolearn.datasets.codecs import Zstd, image_codec
from robolearn.datasets.disk import Disk
from robolearn.datasets.episode_table import (
    BLOCK_BYTES,
    EpisodeTable,
    block,
    block_file,
    older_table,
    parsed_json,
    read_blocks,
)
from robolearn.datasets.files import Files, LocalFiles
from robolearn.datasets.shards import ArrayLayout, power_of_two
from robolearn.datasets.store import NO_STAMP, UNKNOWN_SOURCE, DatasetSpec, EpisodeInfo
from robolearn.errors import DatasetDamagedError, DatasetError, RobolearnError, quoted
from robolearn.specs import ArraySpec

FORMAT = "robolearn-dataset"
SCHEMA_VERSION = 3  # 2 added annotations, 3 blocks of the episode table; older ones are read as they are
RECORDING = ".recording"
STREAMS = "streams"
SPARE = ".{}.spare"  # name of what has the same contents as a file
STATISTICS = "statistics"  # attribute of the root file, see `statistics`
ROOT_FILE = "zarr.json"
NUM_BLOCKS, NEWEST = "episode_blocks", "newest_episodes"  # attributes of the root file: the episode table
ADVICE = "name a folder that `robolearn collect` wrote"
CONVERT = f"{ADVICE}, or convert what others wrote: robolearn dataset convert PATH --from FORMAT --out NEW.zarr"

CHUNK_ROWS = 1024  # of arrays without images
SHARD_ROWS = 65536  # at most
VECTOR_SHARD_BYTES = 128 << 10  # uncompressed, and SHARD_BYTES of images: the last shard is copied for every episode,
SHARD_BYTES = 8 << 20  # which is more than the episode when shards are large


def array_layouts(spec: DatasetSpec) -> dict[str, ArrayLayout]:
    """The layout of every array of a dataset, by name. Images have one frame a chunk."""
    layouts = {name: _field_layout(spec, name, field) for name, field in spec.fields.items()}
    columns = {"fields": list(spec.stamped_fields)}
    number = len(spec.stamped_fields)
    layouts["stamp_ns"] = ArrayLayout(
        name="stamp_ns",
        row_shape=(number, 2),
        dtype=np.dtype("int64"),
        codec=Zstd(),
        chunk_rows=CHUNK_ROWS,
        shard_rows=_shard_rows(16 * number),
        dimension_names=("time", "field", "clock"),
        fill_value=NO_STAMP,
        attributes={**columns, "clocks": ["capture", "receive"], "unit": "ns"},
    )
    layouts["valid"] = ArrayLayout(
        "valid", (number,), np.dtype("bool"), Zstd(), CHUNK_ROWS, _shard_rows(number), ("time", "field"), False, columns
    )
    for name, stream in spec.streams.items():
        axes = tuple(f"{name}_{axis}" for axis in range(len(stream.array.shape)))
        layouts[stream_array(name)] = ArrayLayout(
            name=stream_array(name),
            row_shape=stream.array.shape,
            dtype=np.dtype(stream.array.dtype),
            codec=Zstd(),
            chunk_rows=CHUNK_ROWS,
            shard_rows=_shard_rows(_row_bytes(stream.array)),
            dimension_names=("sample", *axes),
            fill_value=False if stream.array.dtype == "bool" else 0,
            attributes={"unit": stream.array.unit, "names": list(stream.array.names), "rate_hz": stream.rate_hz},
        )
        layouts[stream_stamps(name)] = ArrayLayout(
            name=stream_stamps(name),
            row_shape=(2,),
            dtype=np.dtype("int64"),
            codec=Zstd(),
            chunk_rows=CHUNK_ROWS,
            shard_rows=_shard_rows(16),
            dimension_names=("sample", "clock"),
            fill_value=NO_STAMP,
            attributes={"clocks": ["capture", "receive"], "unit": "ns"},
        )
    return layouts


def stream_array(name: str) -> str:
    """The array of a stream's samples."""
    return f"{STREAMS}/{name}"


def stream_stamps(name: str) -> str:
    """The array of a stream's stamps."""
    return f"{STREAMS}/{name}_stamp_ns"


def _field_layout(spec: DatasetSpec, name: str, field: ArraySpec) -> ArrayLayout:
    dtype = np.dtype(field.dtype)
    axes = tuple(f"{name}_{axis}" for axis in range(len(field.shape)))
    attributes = {"unit": field.unit, "names": list(field.names)}
    if name in spec.image_fields:
        codec, ratio = image_codec(spec.codec_of(name), field)
        grouped = name in spec.video_fields
        chunk = spec.codec_of(name).group if grouped else 1
        rows = power_of_two(SHARD_BYTES * ratio / _row_bytes(field), 64, 16384 if grouped else 4096)
        axes = ("height", "width", "channel")[: len(field.shape)]
        return ArrayLayout(name, field.shape, dtype, codec, chunk, rows, ("time", *axes), 0, attributes, grouped, True)
    fill = {"action_source": UNKNOWN_SOURCE, "held": False}.get(name, False if dtype.kind == "b" else 0)
    rows = _shard_rows(_row_bytes(field))
    return ArrayLayout(name, field.shape, dtype, Zstd(), CHUNK_ROWS, rows, ("time", *axes), fill, attributes)


def _row_bytes(array: ArraySpec) -> int:
    return max(np.dtype(array.dtype).itemsize * math.prod(array.shape), 1)


def _shard_rows(row_bytes: int) -> int:
    return power_of_two(VECTOR_SHARD_BYTES / max(row_bytes, 1), CHUNK_ROWS, SHARD_ROWS)


@dataclass(frozen=True)
class Root:
    """The contents of the root file: the only truth about which steps belong to which episode."""

    spec: DatasetSpec
    table: EpisodeTable
    num_steps: int  # of every array; what one holds beyond them is not there
    attributes: Mapping[str, Any]  # everything else that was found, kept as it is

    @cached_property
    def episodes(self) -> tuple[EpisodeInfo, ...]:
        """Hidden ones too."""
        return tuple(self.table.rows.values())

    def num_rows(self, array: str) -> int:
        """Rows of an array: steps, or samples of a stream."""
        for name in self.spec.streams:
            if array in (stream_array(name), stream_stamps(name)):
                return next((sum(row.streams[name]) for row in reversed(self.episodes) if name in row.streams), 0)
        return self.num_steps


def open_files(path: Path) -> LocalFiles:
    """The folder of a dataset. Raises DatasetError when there is none."""
    try:
        return LocalFiles(path)
    except NotADirectoryError as error:
        raise DatasetError(f"{path} is not a dataset: it is no folder; {CONVERT}") from error
    except FileNotFoundError as error:
        raise DatasetError(f"{path} does not exist; {ADVICE}") from error
    except OSError as error:
        raise DatasetError(f"{path} cannot be read: {error.strerror}") from error


def read_root(source: Path | Files, known: Root | None = None) -> Root:
    """Read the root file, and the blocks that it counts; of a table that follows on a known one what is new.

    Raises DatasetError in one line when this is no dataset of ours, damaged or newer.
    """
    files = open_files(source) if isinstance(source, Path) else source
    path, file = files.where("").rstrip("/"), files.where(ROOT_FILE)
    try:
        data = parsed_json(files.read(ROOT_FILE))
    except FileNotFoundError as error:
        raise _damaged(files, f"{path} is not a dataset: it has no zarr.json", CONVERT) from error
    except OSError as error:
        raise _damaged(files, f"{file} cannot be read: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise _damaged(files, f"{file} is damaged: it is not JSON ({error})") from error
    attributes = data.get("attributes") if isinstance(data, dict) else None
    if not isinstance(attributes, dict) or attributes.get("format") != FORMAT:
        raise _damaged(files, f"{path} is a zarr store but no robolearn dataset: {file} lacks format {FORMAT!r}")
    version = attributes.get("schema_version")
    if not isinstance(version, int) or version > SCHEMA_VERSION:
        raise DatasetError(
            f"{path} has schema version {version}, this robolearn reads up to {SCHEMA_VERSION}; update robolearn"
        )
    attributes = dict(attributes)
    blocks = attributes.pop(NUM_BLOCKS, None if version >= 3 else 0)
    start = EpisodeTable({}) if known is None or known.table.tail is None else known.table
    try:
        older = read_blocks(files, range(start.blocks, blocks)) if isinstance(blocks, int) else []
    except DatasetError as error:
        raise _damaged(files, str(error)) from error
    try:
        spec = DatasetSpec.from_json(attributes.pop("spec"))
        if version < 3:
            table = older_table(attributes.pop("episodes"), attributes.pop("edits", ()))
        else:
            table = start.followed_by(older, blocks, attributes.pop(NEWEST))
        num_steps = int(attributes.pop("num_steps"))
    except (LookupError, TypeError, ValueError, ArithmeticError, AttributeError, RobolearnError) as error:
        raise _damaged(files, f"{file} is damaged: its spec or episode table cannot be read ({error})") from error
    root = Root(spec, table, num_steps, attributes)
    _check_table(files, root)
    return root


def _damaged(files: Files, what: str, advice: str = "") -> DatasetDamagedError:
    """Of an episode table that cannot be read. `advice` is what to do where there is no spare."""
    with contextlib.suppress(OSError):
        files.read(SPARE.format(ROOT_FILE))
        advice = repair_advice(files)
    return DatasetDamagedError("; ".join(filter(None, (what, advice))))


def _check_table(files: Files, root: Root) -> None:
    """Episodes lie one after the other, with gaps where one was trimmed."""
    free = 0
    for number, episode in enumerate(root.episodes):
        fits = isinstance(episode.start, int) and isinstance(episode.length, int)
        if not fits or episode.start < free or episode.length < 0 or episode.stop > root.num_steps:
            raise _damaged(
                files,
                f"{files.where(ROOT_FILE)} is damaged: episode {number} ({episode.id!r}) has start {episode.start} and "
                f"length {episode.length}, expected it within steps {free} to {root.num_steps}",
            )
        free = episode.stop


def write_root(path: Path, root: Root, disk: Disk) -> Root:
    """Replace the root file in one atomic step, and then its spare; the root as it is on disk now.

    Its lines of the episode table become a block before, when they are many.
    """
    lines, blocks = root.table.lines(), root.table.blocks
    if sum(map(len, lines)) >= BLOCK_BYTES:
        target = path / block_file(blocks)
        if not target.parent.exists():
            disk.make_folder(target.parent)
        disk.replace(_with_spare(target, block(lines)))
        lines, blocks = (), blocks + 1
    ours = {
        "format": FORMAT,
        "schema_version": SCHEMA_VERSION,
        "num_steps": root.num_steps,
        "spec": root.spec.to_json(),
        NUM_BLOCKS: blocks,
    }
    others = {key: value for key, value in root.attributes.items() if key not in ours}
    head = json.dumps({"zarr_format": 3, "node_type": "group", "attributes": {**ours, **others}})
    newest = ",\n".join(lines)  # one episode a line: readable, and a difference between two versions is a line
    data = f'{head[:-2]}, "{NEWEST}": [\n{newest}\n]}}}}\n'.encode()
    disk.replace(_with_spare(path / ROOT_FILE, data))
    attributes = {"format": FORMAT, "schema_version": SCHEMA_VERSION, **others}
    return replace(root, table=replace(root.table, blocks=blocks, tail=lines), attributes=attributes)


def _with_spare(file: Path, data: bytes) -> dict[Path, bytes]:
    return {file: data, file.with_name(SPARE.format(file.name)): data}


def group_metadata(attributes: Mapping[str, Any]) -> bytes:
    """The contents of a group's zarr.json."""
    return json.dumps({"zarr_format": 3, "node_type": "group", "attributes": attributes}).encode()


def array_metadata(layout: ArrayLayout, num_rows: int) -> bytes:
    """The contents of an array's zarr.json."""
    return json.dumps(layout.to_zarr(num_rows)).encode()


def repair_advice(files: Files) -> str:
    """What to do about a file that is damaged."""
    return f"mend it with: robolearn dataset repair {quoted(files.where('').rstrip('/'))}"


def read_array(files: Files, layout: ArrayLayout) -> tuple[ArrayLayout, int]:
    """The layout that an array was written with, and its number of rows.

    Chunk sizes may differ from those of `layout`, which this version would write; anything else raises DatasetError.
    """
    file = files.where(f"{layout.name}/{ROOT_FILE}")
    try:
        data = json.loads(files.read(f"{layout.name}/{ROOT_FILE}"))
        found = replace(
            layout,
            chunk_rows=int(data["codecs"][0]["configuration"]["chunk_shape"][0]),
            shard_rows=int(data["chunk_grid"]["configuration"]["chunk_shape"][0]),
        )
        num_rows = int(data["shape"][0])
        wanted = found.to_zarr(num_rows)
        for key in ("data_type", "shape", "chunk_grid", "chunk_key_encoding", "fill_value", "codecs"):
            if data[key] != wanted[key]:
                raise DatasetError(
                    f"{file}: field {layout.name} has {key} {data[key]}, the dataset's spec wants {wanted[key]}; "
                    f"{repair_advice(files)}"
                )
    except OSError as error:
        raise DatasetError(
            f"{file}: field {layout.name} cannot be read: {error.strerror or error}; {repair_advice(files)}"
        ) from error
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, RecursionError) as error:
        raise DatasetError(
            f"{file}: field {layout.name}: the array's metadata is damaged ({error!r}); {repair_advice(files)}"
        ) from error
    if found.chunk_rows < 1 or found.shard_rows % found.chunk_rows:
        raise DatasetError(
            f"{file}: field {layout.name} has shards of {found.shard_rows} rows, chunks of {found.chunk_rows}; "
            f"{repair_advice(files)}"
        )
    return found, num_rows
