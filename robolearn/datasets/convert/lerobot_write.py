"""Writing LeRobot v3.0 datasets, with videos or with pictures as they are.

LeRobot has neither masks nor stamps nor a place for what was sent to the robot. They travel as features `robolearn.*`
and in `meta/robolearn.json`, both of which its policies do not look at, so that a dataset comes back whole. Where a
value is masked, LeRobot sees that of the step before.

Names, types and shapes are those that LeRobot 0.6.2 reads (`src/lerobot/datasets`, 7427f31): `DatasetInfo`,
`get_hf_features_from_features`, `load_tasks`, `DatasetReader` and `aggregate_stats`.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from robolearn.datasets.convert.lerobot_layout import INDICES, OURS_FILE, lerobot_name, task_of
from robolearn.datasets.convert.lerobot_stats import PictureStats, Stats, column_stats, joined, to_json
from robolearn.datasets.held import held
from robolearn.datasets.store import DatasetSpec
from robolearn.datasets.video import VideoWriter, pixel_format
from robolearn.datasets.zarr_store import ZarrStore
from robolearn.progress import OnProgress

DATA_PATH = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
VIDEO_PATH = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
EPISODES_PATH = "meta/episodes/chunk-000/file-000.parquet"
DATA_BYTES, VIDEO_BYTES = 100 << 20, 200 << 20  # at which a new file is begun
CHUNK_FILES = 1000  # files in a folder
EPISODE_ROWS = 100  # rows of the table of episodes that are written at once
BATCH_ROWS = 256  # steps that are coded and written at once
VIDEO_CODEC = "h264"


def write_videos(store: ZarrStore, root: Path, progress: OnProgress) -> list[str]:
    """Write all episodes, pictures as H.264 video."""
    lost = [f"pictures are coded as video ({VIDEO_CODEC}), which changes them"] if _pictures(store.spec) else []
    return lost + _write(store, root, progress, as_video=True)


def write_images(store: ZarrStore, root: Path, progress: OnProgress) -> list[str]:
    """Write all episodes, pictures as PNG within the tables: large, and unchanged."""
    return _write(store, root, progress, as_video=False)


def _write(store: ZarrStore, root: Path, progress: OnProgress, as_video: bool) -> list[str]:
    writer = _Writer(store, root, as_video)
    with contextlib.closing(writer):
        for index in range(len(store.episodes)):
            for done in writer.episode(index):
                progress(done, writer.total)
        writer.finish()
    return writer.lost()


class _Writer:
    def __init__(self, store: ZarrStore, root: Path, as_video: bool) -> None:
        import pyarrow

        self._store, self._root, self._as_video = store, root, as_video
        self._spec = _portable(store.spec)
        self._pictures = _pictures(self._spec)
        self._columns = [name for name in (*self._spec.fields, "stamp_ns", "valid") if name not in self._pictures]
        self._tasks = list(dict.fromkeys(task_of(episode.to_json()) for episode in store.episodes))
        self.total = sum(episode.length for episode in store.episodes)
        self._features = {**self._own_features(), **{name: _feature(*_index_type(name)) for name in INDICES}}
        self._schema = pyarrow.schema(
            {n: _arrow_type(f) for n, f in self._features.items() if f["dtype"] != "video"},
            metadata={"huggingface": json.dumps({"info": {"features": _hugging_face(self._features)}})},
        )
        self._done = 0
        self._masked: dict[str, int] = {}
        self._rows: list[dict[str, Any]] = []  # of the table of episodes, not yet written
        self._episodes: Any = None  # writes that table
        self._stats: dict[str, Stats] = {}
        self._data: Any = None
        self._data_file = -1
        self._videos: dict[str, VideoWriter] = {}
        self._video_file: dict[str, int] = {}

    def episode(self, index: int) -> Iterator[int]:
        """Write an episode; the steps written so far, now and then."""
        store, info = self._store, self._store.episodes[index]
        spec, fps = self._spec, self._spec.interface.control_hz
        self._begin_files()
        valid = store.read_valid(index)
        columns = self._read_columns(index, valid)
        frames = np.arange(info.length)
        columns |= {
            "timestamp": (frames / fps).astype(np.float32),
            "frame_index": frames,
            "episode_index": np.full(info.length, index),
            "index": self._done + frames,
            "task_index": np.full(info.length, self._tasks.index(task_of(info.to_json()))),
        }
        row: dict[str, Any] = {
            "episode_index": index,
            "tasks": [task_of(info.to_json())],
            "length": info.length,
            **_place("data", self._data_file),
            "dataset_from_index": self._done,
            "dataset_to_index": self._done + info.length,
            "meta/episodes/chunk_index": 0,
            "meta/episodes/file_index": 0,
        }
        for key, video in self._videos.items():
            row |= _place(f"videos/{key}", self._video_file[key])
            # By the file's own rate: LeRobot looks for a frame within 0.1 ms, and of 33.3333 Hz a long file drifts.
            row[f"videos/{key}/from_timestamp"] = float(video.num_frames / video.rate)
            row[f"videos/{key}/to_timestamp"] = float((video.num_frames + info.length) / video.rate)
        pictures = {name: PictureStats(info.length) for name in self._pictures}
        last = {name: np.zeros(spec.fields[name].shape, np.uint8) for name in self._pictures}
        for start in range(0, info.length, BATCH_ROWS):
            stop = min(start + BATCH_ROWS, info.length)
            batch: dict[str, Any] = {name: values[start:stop] for name, values in columns.items()}
            for name in self._pictures:
                batch[lerobot_name(spec, name)] = coded = []
                for step in range(start, stop):
                    if valid[name][step]:
                        last[name] = store.read(index, [name], step, step + 1)[name][0]
                    pictures[name].add(last[name])
                    coded.append(self._code(name, last[name]))
            self._data.write(batch, stop - start)
            yield self._done + stop
        self._done += info.length
        for name in self._pictures:
            self._masked[name] = self._masked.get(name, 0) + int((~valid[name]).sum())
        # LeRobot merges no statistics of numbers whose feature has "image" in its name: it takes them for a picture's.
        stats = {name: column_stats(values) for name, values in columns.items() if "image" not in name}
        stats |= {lerobot_name(spec, name): collected.stats() for name, collected in pictures.items()}
        for name, each in stats.items():
            self._stats[name] = joined(self._stats[name], each) if name in self._stats else each
        self._rows.append(row | {f"stats/{n}/{k}": v.tolist() for n, each in stats.items() for k, v in each.items()})
        if len(self._rows) >= EPISODE_ROWS:
            self._write_rows()

    def _read_columns(self, index: int, valid: Mapping[str, NDArray]) -> dict[str, NDArray]:
        """Values (T, ...) by feature: vectors flat, those that are masked replaced by the ones before."""
        info = self._store.episodes[index]
        columns: dict[str, NDArray] = {}
        for name in self._columns:
            if name in self._spec.fields:
                values = self._store.read(index, [name])[name]
                if name in valid and not valid[name].all():
                    self._masked[name] = self._masked.get(name, 0) + int((~valid[name]).sum())
                    values = held(values, valid[name]) if valid[name].any() else np.zeros_like(values)
            else:  # columns by stamped field; those of fields that cannot travel stay behind
                there = [self._store.spec.stamped_fields.index(field) for field in self._spec.stamped_fields]
                values = self._store.reader(name).read(info.start, info.stop)[:, there]
            columns[lerobot_name(self._spec, name)] = values.reshape(info.length, -1) if values.ndim > 2 else values
        return columns

    def _code(self, name: str, picture: NDArray) -> dict[str, Any] | None:
        """A picture as it goes into the table; None when it goes into the video."""
        if self._as_video:
            self._videos[lerobot_name(self._spec, name)].append(picture)
            return None
        data = cv2.imencode(".png", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))[1].tobytes()
        return {"bytes": data, "path": None}

    def _begin_files(self) -> None:
        """A new data file or video where there is none yet, or it has its size."""
        if self._data is None or self._data.size > DATA_BYTES:
            if self._data is not None:
                self._data.close()
            self._data_file += 1
            self._data = _Table(self._root / DATA_PATH.format(**_chunk(self._data_file)), self._schema)
        for name in self._pictures if self._as_video else ():
            key = lerobot_name(self._spec, name)
            if key in self._videos and self._videos[key].num_bytes < VIDEO_BYTES:
                continue
            if key in self._videos:
                self._videos[key].close()
            self._video_file[key] = self._video_file.get(key, -1) + 1
            path = self._root / VIDEO_PATH.format(video_key=key, **_chunk(self._video_file[key]))
            self._videos[key] = VideoWriter(
                path, self._spec.interface.control_hz, self._spec.fields[name].shape, VIDEO_CODEC
            )

    def _write_rows(self) -> None:
        import pyarrow
        import pyarrow.parquet as parquet

        table = pyarrow.Table.from_pylist(self._rows, self._episodes and self._episodes.schema)
        if self._episodes is None:
            (self._root / EPISODES_PATH).parent.mkdir(parents=True)
            self._episodes = parquet.ParquetWriter(self._root / EPISODES_PATH, table.schema)
        self._episodes.write_table(table)
        self._rows = []

    def close(self) -> None:
        with contextlib.ExitStack() as stack:  # each of them, whichever cannot be
            for writer in (self._data, self._episodes, *self._videos.values()):
                if writer is not None:
                    stack.callback(writer.close)

    def finish(self) -> None:
        """Write the rest of `meta`, all but what is written as the episodes come."""
        import pyarrow
        import pyarrow.parquet as parquet

        if self._rows:
            self._write_rows()
        meta = self._root / "meta"
        index = {"name": None, "field_name": "__index_level_0__", "pandas_type": "unicode", "numpy_type": "object"}
        column = {"name": "task_index", "field_name": "task_index", "pandas_type": "int64", "numpy_type": "int64"}
        described = {"index_columns": ["__index_level_0__"], "column_indexes": [], "columns": [column, index]}
        tasks = pyarrow.table({"task_index": list(range(len(self._tasks))), "__index_level_0__": self._tasks})
        tasks = tasks.replace_schema_metadata({"pandas": json.dumps(described | {"pandas_version": "2.0.0"})})
        parquet.write_table(tasks, meta / "tasks.parquet")
        fps, number = self._spec.interface.control_hz, len(self._store.episodes)
        info = {
            "codebase_version": "v3.0",
            "robot_type": self._spec.robot.name,
            "total_episodes": number,
            "total_frames": self._done,
            "total_tasks": len(self._tasks),
            "chunks_size": CHUNK_FILES,
            "data_files_size_in_mb": DATA_BYTES >> 20,
            "video_files_size_in_mb": VIDEO_BYTES >> 20,
            "fps": int(fps) if fps == int(fps) else fps,
            "splits": {"train": f"0:{number}"},
            "data_path": DATA_PATH,
            "video_path": VIDEO_PATH if self._videos else None,
            "features": self._features,
        }
        ours = {"spec": self._spec.to_json(), "episodes": [episode.to_json() for episode in self._store.episodes]}
        for name, data in (("info", info), ("stats", to_json(self._stats)), ("robolearn", ours)):
            (meta / f"{name}.json").write_text(json.dumps(data, indent=4 if name == "info" else None))

    def lost(self) -> list[str]:
        gone = sorted(set(self._store.spec.fields) - set(self._spec.fields))
        lines = [f"{name} is left out: it is a picture, but not an 8 bit RGB one" for name in gone]
        lines += [
            f"{name} is nothing that the policy observes, but a camera for LeRobot, whose policies see all pictures; "
            f"remove {lerobot_name(self._spec, name)} there where they shall not"
            for name in self._pictures
            if name in self._spec.extra
        ]
        return lines + [
            f"{name}: {count} masked steps show the value before them; `{OURS_FILE}` and robolearn.valid tell"
            for name, count in self._masked.items()
            if count
        ]

    def _own_features(self) -> dict[str, dict[str, Any]]:
        spec, features = self._spec, {}
        for name in (*spec.fields, "stamp_ns", "valid"):
            if name in self._pictures:
                feature = _feature("video" if self._as_video else "image", spec.fields[name].shape)
                feature["names"] = ["height", "width", "channels"]
                if self._as_video:
                    feature["info"] = self._video_info(name)
            elif name in spec.fields:
                field = spec.fields[name]
                size = int(np.prod(field.shape))
                feature = _feature(field.dtype, (size,), list(field.names) if len(field.shape) == 1 else None)
            else:
                number = len(spec.stamped_fields)
                feature = _feature(*(("int64", (2 * number,)) if name == "stamp_ns" else ("bool", (number,))))
            features[lerobot_name(spec, name)] = feature
        return features

    def _video_info(self, name: str) -> dict[str, Any]:
        height, width, channels = self._spec.fields[name].shape
        return {
            "video.height": height,
            "video.width": width,
            "video.codec": VIDEO_CODEC,
            "video.pix_fmt": pixel_format((height, width)),
            "video.is_depth_map": False,
            "video.fps": self._spec.interface.control_hz,
            "video.channels": channels,
            "has_audio": False,
        }


class _Table:
    """A parquet file that grows."""

    def __init__(self, path: Path, schema: Any) -> None:
        import pyarrow.parquet as parquet

        path.parent.mkdir(parents=True, exist_ok=True)
        self._schema = schema
        self._file = open(path, "wb")  # noqa: SIM115, closed by close
        self._writer = parquet.ParquetWriter(self._file, schema)

    @property
    def size(self) -> int:
        return self._file.tell()

    def write(self, batch: Mapping[str, Any], rows: int) -> None:
        """Columns by feature; those that the schema lacks are in a video."""
        import pyarrow

        columns = []
        for field in self._schema:
            values = batch[field.name]
            if isinstance(values, np.ndarray) and pyarrow.types.is_fixed_size_list(field.type):
                flat = pyarrow.array(np.ascontiguousarray(values).reshape(-1), field.type.value_type)
                columns.append(pyarrow.FixedSizeListArray.from_arrays(flat, type=field.type))
            else:
                flat = values.reshape(rows) if isinstance(values, np.ndarray) else values
                columns.append(pyarrow.array(flat, field.type))
        self._writer.write_batch(pyarrow.record_batch(columns, schema=self._schema))

    def close(self) -> None:
        self._writer.close()
        self._file.close()


def _pictures(spec: DatasetSpec) -> list[str]:
    """Fields that LeRobot knows as pictures."""
    return [n for n in spec.image_fields if spec.fields[n].dtype == "uint8" and spec.fields[n].shape[2:] == (3,)]


def _portable(spec: DatasetSpec) -> DatasetSpec:
    """The spec without pictures that LeRobot does not know: depth, grey."""
    left_out = set(spec.image_fields) - set(_pictures(spec))
    observation = {name: field for name, field in spec.interface.observation.items() if name not in left_out}
    extra = {name: field for name, field in spec.extra.items() if name not in left_out}
    kept = {name: codec for name, codec in spec.image_codecs.items() if name not in left_out}
    interface = replace(spec.interface, observation=observation)
    return replace(spec, interface=interface, extra=extra, image_codecs=kept, streams={})


def _feature(dtype: str, shape: tuple[int, ...], names: list[str] | None = None) -> dict[str, Any]:
    return {"dtype": dtype, "shape": list(shape), "names": names or None}


def _index_type(name: str) -> tuple[str, tuple[int, ...]]:
    return ("float32" if name == "timestamp" else "int64"), (1,)


def _arrow_type(feature: Mapping[str, Any]) -> Any:
    import pyarrow

    if feature["dtype"] == "image":
        return pyarrow.struct({"bytes": pyarrow.binary(), "path": pyarrow.string()})
    value = pyarrow.from_numpy_dtype(np.dtype(feature["dtype"]))
    return value if feature["shape"] == [1] else pyarrow.list_(value, feature["shape"][0])


def _hugging_face(features: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The features as Hugging Face's `datasets` describes them."""
    described: dict[str, Any] = {}
    for name, feature in features.items():
        if feature["dtype"] == "image":
            described[name] = {"_type": "Image"}
        elif feature["dtype"] != "video":
            value = {"dtype": feature["dtype"], "_type": "Value"}
            shape = feature["shape"]
            described[name] = value if shape == [1] else {"feature": value, "length": shape[0], "_type": "List"}
    return described


def _chunk(number: int) -> dict[str, int]:
    return {"chunk_index": number // CHUNK_FILES, "file_index": number % CHUNK_FILES}


def _place(what: str, number: int) -> dict[str, int]:
    return {f"{what}/{name}": value for name, value in _chunk(number).items()}
