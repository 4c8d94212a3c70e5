"""LeRobot folders, v3.0, v2.1 and v2.0: where everything lies.

v3.0    meta/{info.json,tasks.parquet}, meta/episodes/chunk-*/file-*.parquet (a row an episode), many episodes in each
        data/chunk-*/file-*.parquet and videos/<key>/chunk-*/file-*.mp4
v2.x    meta/{info.json,tasks.jsonl,episodes.jsonl}, one parquet file and one mp4 per camera an episode
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robolearn.datasets.convert.guard import check_links, check_size, inside
from robolearn.datasets.convert.source import picture_shape
from robolearn.datasets.store import DatasetSpec
from robolearn.datasets.video import MAX_PIXELS, VideoReader
from robolearn.errors import DatasetError
from robolearn.messages import coded_size

OURS_FILE = "meta/robolearn.json"  # spec and episode table of a dataset that we wrote
OURS = "robolearn."  # prefix of the features of ours that LeRobot has no name for
INDICES = ("timestamp", "frame_index", "episode_index", "index", "task_index")
VERSIONS = ("v3.0", "v2.1", "v2.0")
BATCH_ROWS = 64
MAX_TASKS = 4096  # of an episode
PLACEHOLDER = re.compile(r"\{(\w+)(?::0(\d)d)?\}")


def lerobot_name(spec: DatasetSpec, field: str) -> str:
    """The feature that holds a field of ours."""
    if field.startswith("image_") and field in spec.image_fields:
        return f"observation.images.{field.removeprefix('image_')}"
    return {"proprio": "observation.state", "action": "action", "reward": "next.reward"}.get(field, OURS + field)


def task_of(episode: Mapping[str, Any]) -> str:
    """The task of a row of our episode table."""
    return episode["instruction"] or episode["task"] or "unknown"


@dataclass(frozen=True)
class Row:
    """Where one episode lies."""

    index: int
    length: int
    tasks: tuple[str, ...]
    data: Path
    videos: Mapping[str, tuple[Path, float]]  # by feature: the file, and where in it the episode begins [s]


class Folder:
    """A dataset folder, its tables read. `rows` are checked to lie inside of it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        check_links(root)
        self.info = self._json("meta/info.json")
        self.version = str(self.info.get("codebase_version", ""))
        if self.version not in VERSIONS:
            raise DatasetError(
                f"{root}: meta/info.json has codebase_version {self.version!r}; wanted {', '.join(VERSIONS)}: let "
                "LeRobot convert it first"
            )
        features = self.info.get("features")
        if not isinstance(features, dict) or not {"action", *INDICES} <= set(features):
            raise DatasetError(f"{root}: meta/info.json: features lack action or one of {', '.join(INDICES)}")
        self.features: dict[str, dict[str, Any]] = {n: f for n, f in features.items() if n not in INDICES}
        self.shapes = {name: tuple(int(n) for n in feature["shape"]) for name, feature in self.features.items()}
        self.fps = float(self.info.get("fps") or 0)
        if not 0 < self.fps < 1e5:
            raise DatasetError(f"{root}: meta/info.json has fps {self.info.get('fps')!r}; wanted frames a second")
        self.videos = [name for name, feature in self.features.items() if feature["dtype"] == "video"]
        self.rows = list(self._v3_rows() if self.version == "v3.0" else self._v2_rows())
        if not self.rows:
            raise DatasetError(f"{root} has no episodes")

    def ours(self) -> dict[str, Any] | None:
        """What we wrote beside, where it still fits the episodes."""
        if not (self.root / OURS_FILE).exists():
            return None
        ours = self._json(OURS_FILE)
        told = [(row["length"], (task_of(row),)) for row in ours["episodes"]]
        return ours if told == [(row.length, row.tasks) for row in self.rows] else None

    def _v3_rows(self) -> Iterator[Row]:
        import pyarrow.parquet as parquet

        files = sorted(self.root.glob("meta/episodes/*/*.parquet"))
        for file in files:
            table = parquet.ParquetFile(file)
            wanted = [n for n in table.schema_arrow.names if not n.startswith(("stats/", "meta/"))]
            for batch in record_batches(file, table, wanted, {"tasks": (MAX_TASKS,)}):
                for row in batch.to_pylist():
                    place = {"chunk_index": row["data/chunk_index"], "file_index": row["data/file_index"]}
                    yield self._row(
                        row,
                        self._path("data_path", place),
                        {
                            key: (self._video(key, row), float(row[f"videos/{key}/from_timestamp"]))
                            for key in self.videos
                        },
                    )

    def _video(self, key: str, row: Mapping[str, Any]) -> Path:
        place = {name: row[f"videos/{key}/{name}"] for name in ("chunk_index", "file_index")}
        return self._path("video_path", {**place, "video_key": key})

    def _v2_rows(self) -> Iterator[Row]:
        for line in self._file("meta/episodes.jsonl", "meta").read_text().splitlines():
            row = json.loads(line)
            number = int(row["episode_index"])
            place = {"episode_chunk": number // int(self.info.get("chunks_size", 1000)), "episode_index": number}
            videos = {key: (self._path("video_path", {**place, "video_key": key}), 0.0) for key in self.videos}
            yield self._row(row, self._path("data_path", place), videos)

    def _row(self, row: Mapping[str, Any], data: Path, videos: Mapping[str, tuple[Path, float]]) -> Row:
        tasks = tuple(str(task) for task in row.get("tasks") or ())
        return Row(int(row["episode_index"]), int(row["length"]), tasks, data, videos)

    def _path(self, template: str, values: Mapping[str, Any]) -> Path:
        """A file by the template of that name in info.json; nothing but whole numbers and the key is put in."""

        def put(match: re.Match[str]) -> str:
            value = values[match[1]]
            return f"{int(value):0{int(match[2])}d}" if match[2] else str(value)

        return self._file(PLACEHOLDER.sub(put, str(self.info[template])), template)

    def _file(self, name: str, field: str) -> Path:
        path = inside(self.root, name, field)
        if not path.is_file():
            raise DatasetError(f"{self.root}: {field}: there is no file {name}")
        return path

    def _json(self, name: str) -> dict[str, Any]:
        try:
            data = json.loads(self._file(name, "meta").read_bytes())
        except ValueError as error:
            raise DatasetError(f"{self.root}: {name} is damaged: it is not JSON ({error})") from error
        if not isinstance(data, dict):
            raise DatasetError(f"{self.root}: {name} is damaged: it holds no object")
        return data


class StepReader:
    """The steps of a folder's episodes, in order: values by feature, pictures decoded."""

    def __init__(self, folder: Folder, videos: Mapping[str, VideoReader]) -> None:
        self._folder, self._videos = folder, videos
        self._path: Path | None = None
        self._batches: Iterator[Any] = iter(())
        self._waiting: list[dict[str, Any]] = []  # read, but of a later episode; the next one last

    def rows(self, row: Row, names: list[str]) -> Iterator[dict[str, Any]]:
        """The steps of one episode; None for a frame that its video lacks. Raises DatasetError when one is missing."""
        if row.data != self._path or (self._waiting and self._waiting[-1]["episode_index"] > row.index):
            self._open(row.data, names)
        tolerance_s = 0.5 / self._folder.fps
        step = 0
        while values := self._next():
            if values["episode_index"] > row.index:
                self._waiting.append(values)
                break
            if values["episode_index"] < row.index:
                continue
            for name in names:
                if name in self._videos:
                    path, begin_s = row.videos[name]
                    values[name] = self._videos[name].read(path, begin_s + float(values["timestamp"]), tolerance_s)
                elif self._folder.features[name]["dtype"] == "image":
                    values[name] = _picture(row.data, name, values[name], self._folder.shapes[name])
            yield values
            step += 1
        if step != row.length:
            raise DatasetError(
                f"{row.data}: episode_index {row.index} has {step} rows, the table of episodes {row.length}"
            )

    def _open(self, path: Path, names: list[str]) -> None:
        import pyarrow.parquet as parquet

        table = parquet.ParquetFile(path)
        there = table.schema_arrow.names
        missing = [name for name in (*names, "timestamp", "episode_index") if name not in (*there, *self._videos)]
        if missing:
            raise DatasetError(f"{path}: it has no column {', '.join(missing)}")
        wanted = dict.fromkeys([*names, "next.done", "next.success", "timestamp", "episode_index"])
        self._path, self._waiting = path, []
        columns = [name for name in wanted if name in there]
        self._batches = record_batches(path, table, columns, self._folder.shapes)

    def _next(self) -> dict[str, Any] | None:
        if not self._waiting:
            batch = next(self._batches, None)
            if batch is None:
                return None
            shapes = self._folder.shapes
            columns = {name: column_rows(self._path, batch, name, shapes.get(name, ())) for name in batch.schema.names}
            steps = [{name: column[step] for name, column in columns.items()} for step in range(batch.num_rows)]
            self._waiting = steps[::-1]
        return self._waiting.pop() if self._waiting else self._next()


def record_batches(
    file: Path, table: Any, columns: Sequence[str], shapes: Mapping[str, tuple[int, ...]]
) -> Iterator[Any]:
    """Record batches of columns of a parquet file that was opened, of which no more is in memory than some rows."""
    _check_columns(file, table, columns, shapes)
    # one row group after the other: asked for all of them at once, pyarrow holds more and more of the file
    for number in range(table.num_row_groups):
        yield from table.iter_batches(BATCH_ROWS, row_groups=[number], columns=columns, use_threads=False)


def _check_columns(file: Path, table: Any, columns: Sequence[str], shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Raise DatasetError where the head of a parquet file tells of more values in one of these columns than rows of its
    shape have, a value each where none is told, or of absurdly more bytes than it holds."""
    fields = sorted(table.schema_arrow.names, key=len, reverse=True)
    paths = [table.schema.column(place).path for place in range(len(table.schema))]
    names = [next((name for name in fields if f"{path}.".startswith(f"{name}.")), path) for path in paths]
    for number in range(table.num_row_groups):
        group = table.metadata.row_group(number)
        for place, name in enumerate(names):
            if name not in columns:
                continue
            column, most = group.column(place), group.num_rows * max(math.prod(shapes.get(name, ())), 1)
            if column.num_values > most:
                raise DatasetError(
                    f"{file}: column {name} has {column.num_values} values in {group.num_rows} rows, "
                    f"wanted at most {most}"
                )
            check_size(f"{file}: column {name}", (column.total_uncompressed_size,), 1, column.total_compressed_size)


def column_rows(file: Path | None, batch: Any, name: str, shape: tuple[int, ...]) -> Any:
    """A column of a record batch as an array (rows, ...); pictures stay structs."""
    import pyarrow.types as types

    column = batch[name]
    if types.is_struct(column.type):
        return column
    is_list = False
    while types.is_list(column.type) or types.is_large_list(column.type) or types.is_fixed_size_list(column.type):
        column, is_list = column.flatten(), True
    flat = column.to_numpy(zero_copy_only=False)
    if flat.dtype.kind not in "fiub":
        raise DatasetError(f"{file}: column {name} has {column.type}, wanted numbers")
    wanted = (batch.num_rows, *(shape if is_list else ()))
    if flat.size != int(np.prod(wanted)):
        raise DatasetError(f"{file}: column {name} has {flat.size} numbers, info.json wants {wanted}")
    return flat.reshape(wanted)


def _picture(file: Path, name: str, cell: Any, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """Decode the picture in a cell, which names no other file."""
    import cv2

    data = cell["bytes"].as_py()
    if data is None:
        raise DatasetError(f"{file}: {name} names a file instead of holding a picture; that is refused")
    height, width = picture_shape(shape)[:2]
    told = coded_size(data)
    if told is None:
        raise DatasetError(f"{file}: {name} holds neither a JPEG nor a PNG")
    if sorted(told) != sorted((height, width)):  # a camera that is held upright tells it lying, and how to turn it
        raise DatasetError(f"{file}: {name} holds a picture of another size than info.json says")
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB) if height * width < MAX_PIXELS else None
    if image is None or image.shape != (height, width, 3):
        raise DatasetError(f"{file}: {name} holds no picture of {width} x {height}")
    return image.astype(np.uint8, copy=False)
