"""The replay buffer of diffusion_policy: a zarr v2 group `data/<array>` (T, ...) and `meta/episode_ends`.

It is a folder, or a zip file of one. What it has no place for travels in a group `robolearn`, at which diffusion_policy
does not look, so that a dataset comes back whole.
"""

from __future__ import annotations

import contextlib
import json
import math
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robolearn.datasets.convert.guard import MAX_ROW_BYTES, check_links, check_size
from robolearn.datasets.convert.source import (
    BESIDES,
    Blocks,
    Foreign,
    ImportSettings,
    Rows,
    Source,
    SourceEpisode,
    Step,
    besides,
    even_stamps,
    extremes,
    is_picture,
    is_vector,
    masked_lines,
    our_episode,
    our_steps,
    picture_shape,
    shown_actions,
    without_streams,
)
from robolearn.datasets.store import DatasetSpec, EpisodeMeta
from robolearn.datasets.zarr_store import ZarrStore
from robolearn.errors import DatasetError, RobolearnError
from robolearn.progress import OnProgress
from robolearn.types import EpisodeOutcome

OURS = "robolearn"
DEFAULT_HZ = 10.0  # of its experiments, where a file does not say
ROWS = 1024  # of a chunk of vectors
PICTURE_ROWS = 16  # of a chunk of pictures: one file each would be too many
CODERS = ("blosc", "zstd", "lz4", "zlib", "gzip", "bz2", "lzma")  # of chunks; of pictures those of imagecodecs too
PICTURE_CODERS = ("imagecodecs_jpeg", "imagecodecs_jpeg2k", "imagecodecs_jpegxl", "imagecodecs_png")


def write(store: ZarrStore, root: Path, progress: OnProgress) -> list[str]:
    """Write all episodes; `timestamp` [s] is when the first observed field was captured, or should have been."""
    import zarr
    from numcodecs import Blosc

    spec, total = without_streams(store.spec), sum(episode.length for episode in store.episodes)
    group = zarr.open_group(str(root), mode="w", zarr_format=2)
    data, meta, ours = (group.create_group(name) for name in ("data", "meta", OURS))
    ours.attrs.update({"spec": spec.to_json(), "episodes": [episode.to_json() for episode in store.episodes]})
    arrays: dict[str, Any] = {}

    def make(parent: Any, name: str, shape: tuple[int, ...], dtype: Any, picture: bool = False) -> None:
        coder = Blosc("zstd", 5, Blosc.BITSHUFFLE) if picture else Blosc("lz4", 5, Blosc.NOSHUFFLE)
        rows = PICTURE_ROWS if picture else ROWS
        arrays[name] = parent.create_array(
            name,
            shape=(total, *shape),
            dtype=dtype,
            chunks=(rows, *shape),
            compressors=coder,
        )

    for name, field in spec.fields.items():
        inside = data if name not in BESIDES else ours
        make(inside, name, field.shape, field.dtype, name in spec.image_fields)
    number = len(spec.stamped_fields)
    make(ours, "stamp_ns", (number, 2), "int64")
    make(ours, "valid", (number,), "bool")
    make(data, "timestamp", (), "float64")
    shown = arrays["action"]
    make(ours, "action", spec.interface.action.shape, spec.interface.action.dtype)
    start = 0
    for index, episode in enumerate(store.episodes):
        stop = start + episode.length
        columns = besides(store, index)
        vectors = [name for name in spec.fields if name not in (*columns, *spec.image_fields)]
        columns |= store.read(index, vectors)
        columns["timestamp"] = _timestamps(columns["stamp_ns"][:, 0, 0], spec.interface.control_hz)
        for name, values in columns.items():
            arrays[name][start:stop] = values
        shown[start:stop] = shown_actions(store, index)
        while start < stop:
            after = min((start // PICTURE_ROWS + 1) * PICTURE_ROWS, stop)  # no chunk is written more often than it must
            steps = start + episode.length - stop, after + episode.length - stop
            for name in spec.image_fields:
                arrays[name][start:after] = store.read(index, [name], *steps)[name]
            progress(start := after, total)
    ends = np.cumsum([episode.length for episode in store.episodes])
    meta.create_array("episode_ends", data=ends.astype(np.int64), chunks=(ROWS,), compressors=None)
    return masked_lines(store, "diffusion_policy")


def _timestamps(stamps_ns: NDArray[np.int64], control_hz: float) -> NDArray[np.float64]:
    """Stamps (T,) in seconds: where one is unknown, as far from its neighbours as the rate says, between two evenly."""
    even_s, known = np.arange(len(stamps_ns)) / control_hz, stamps_ns >= 0
    if not known.any():
        return even_s
    offset_s = stamps_ns[known] * 1e-9 - even_s[known]
    return np.where(known, stamps_ns * 1e-9, even_s + np.interp(even_s, even_s[known], offset_s))


@contextlib.contextmanager
def read(path: Path, settings: ImportSettings) -> Iterator[Source]:
    """Open a buffer. Vectors of `data` become `proprio`, in the order of their names; pictures `image_<name>`.

    `timestamp` gives the capture stamps where there is one.
    """
    import zarr
    from imagecodecs.numcodecs import register_codecs

    register_codecs(verbose=False)
    listing = _Listing(path)
    store: Any = zarr.storage.ZipStore(path, mode="r") if listing.zipped else str(path)
    group: Any = zarr.open_group(store, mode="r", zarr_format=2)
    try:
        arrays = {name: group[f"data/{name}"] for name in listing.arrays("data")}
        if "action" not in arrays or "meta/episode_ends" not in listing.metadata:
            raise DatasetError(f"{path} lacks data/action or meta/episode_ends; it is no diffusion_policy buffer")
        ends = np.asarray(group["meta/episode_ends"][:]).astype(np.int64)
        lengths = {name: array.shape[0] for name, array in arrays.items()}
        if not len(ends) or (np.diff(ends, prepend=0) <= 0).any() or set(lengths.values()) != {int(ends[-1])}:
            raise DatasetError(f"{path}: meta/episode_ends {ends[-3:].tolist()} does not fit the arrays {lengths}")
        parts = list(zip([0, *ends[:-1].tolist()], ends.tolist(), strict=True))
        if OURS in group:
            yield _ours(path, group, listing, arrays, parts)
            return
        foreign, lost = _foreign(path, arrays, parts, settings)
        white = {name: _white(arrays[name]) for name in foreign.images}
        lost += [f"data/{name} has levels from 0 to 1; they are taken times 255" for name in white if white[name] == 1]
        episodes = (_episode(arrays, start, stop, foreign, white) for start, stop in parts)
        yield Source(foreign.spec(), int(ends[-1]), episodes, lost)
    finally:
        group.store.close()


class _Listing:
    """The metadata of all arrays, checked before zarr sees them: nothing is unpickled, nothing absurd allocated."""

    def __init__(self, path: Path) -> None:
        self.zipped = path.is_file()
        self.metadata: dict[str, dict[str, Any]] = {}
        sizes: dict[str, int] = {}
        if self.zipped:
            with zipfile.ZipFile(path) as archive:
                for entry in archive.infolist():
                    if entry.file_size > MAX_ROW_BYTES:
                        raise DatasetError(f"{path}: {entry.filename} unpacks to {entry.file_size / 2**30:.1f} GiB")
                    parent, _, name = entry.filename.rpartition("/")
                    sizes[parent] = sizes.get(parent, 0) + entry.compress_size
                    if name == ".zarray":
                        self.metadata[parent] = json.loads(archive.read(entry))
        else:
            check_links(path)
            for file in path.rglob("*"):
                parent = str(file.parent.relative_to(path))
                sizes[parent] = sizes.get(parent, 0) + file.lstat().st_size
                if file.name == ".zarray":
                    self.metadata[parent] = json.loads(file.read_bytes())
        for name, data in self.metadata.items():
            _check(f"{path}: {name}", data, sizes.get(name, 0))

    def arrays(self, group: str) -> list[str]:
        return sorted(n.removeprefix(f"{group}/") for n in self.metadata if n.rpartition("/")[0] == group)


def _check(where: str, data: Any, stored: int) -> None:
    """Raise DatasetError for an array that is not one of plain numbers, plainly coded."""
    try:
        dtype, shape, chunks = np.dtype(data["dtype"]), tuple(data["shape"]), tuple(data["chunks"])
        coder = (data["compressor"] or {"id": None})["id"]
        sizes = [int(number) for number in (*shape, *chunks)]
    except (KeyError, TypeError, ValueError) as error:
        raise DatasetError(f"{where}: its .zarray is damaged ({error!r})") from error
    if dtype.hasobject or dtype.kind not in "fiub" or data.get("filters"):
        raise DatasetError(f"{where} has dtype {data['dtype']} and filters {data.get('filters')}, wanted plain numbers")
    if coder not in (None, *CODERS, *PICTURE_CODERS):
        raise DatasetError(f"{where} is coded by {coder!r}; known: {', '.join((*CODERS, *PICTURE_CODERS))}")
    if min(sizes, default=1) < 0 or math.prod(chunks) * dtype.itemsize > MAX_ROW_BYTES or not shape:
        raise DatasetError(f"{where} has shape {shape} in chunks of {chunks}; a chunk would not fit into memory")
    check_size(where, shape, dtype.itemsize, stored)


def _ours(path: Path, group: Any, listing: _Listing, arrays: Mapping[str, Any], parts: list[tuple[int, int]]) -> Source:
    try:
        attributes = dict(group[OURS].attrs)
        spec = DatasetSpec.from_json(attributes["spec"])
        rows = list(attributes["episodes"])
    except (KeyError, TypeError, ValueError, AttributeError, RobolearnError) as error:
        raise DatasetError(f"{path}: the attributes of its group {OURS} are damaged ({error})") from error
    columns = dict(arrays) | {name: group[f"{OURS}/{name}"] for name in listing.arrays(OURS)}
    missing = [name for name in (*spec.fields, "stamp_ns", "valid") if name not in columns]
    if missing or [row["length"] for row in rows] != [stop - start for start, stop in parts]:
        raise DatasetError(f"{path}: its group {OURS} does not fit meta/episode_ends, or lacks {', '.join(missing)}")

    def episodes() -> Iterator[SourceEpisode]:
        for row, (start, stop) in zip(rows, parts, strict=True):
            steps: dict[str, Rows] = {n: Blocks(columns[n], start, stop) for n in (*spec.fields, "stamp_ns", "valid")}
            yield our_episode(row, our_steps(spec, steps))

    return Source(spec, parts[-1][1], episodes())


def _foreign(
    path: Path, arrays: Mapping[str, Any], parts: list[tuple[int, int]], settings: ImportSettings
) -> tuple[Foreign, list[str]]:
    images: dict[str, tuple[int, ...]] = {}
    vectors: dict[str, tuple[int, ...]] = {}
    lost: list[str] = []
    for name, array in arrays.items():
        shape = tuple(array.shape[1:])
        if name in ("action", "timestamp"):
            continue
        if len(shape) == 3 and is_picture(shape, np.uint8) and (array.dtype == np.uint8 or array.dtype.kind == "f"):
            images[name] = picture_shape(shape)  # some files hold grey levels as floats
        elif is_vector(shape, array.dtype):
            vectors[name] = shape
        else:
            lost.append(f"data/{name} is neither a vector nor a picture")
    actions = arrays["action"]
    if len(actions.shape) != 2:
        raise DatasetError(f"{path}: data/action has shape {actions.shape}, wanted (T, A)")
    low, high = extremes(f"{path}: actions", (actions[start:stop] for start, stop in parts), actions.shape[1])
    hz = settings.control_hz or _rate(arrays, parts) or DEFAULT_HZ
    if settings.control_hz is None and "timestamp" not in arrays:
        lost.append(f"the buffer has no rate; {DEFAULT_HZ:g} Hz is assumed, name another one")
    return Foreign(vectors, images, low, high, hz), lost


def _rate(arrays: Mapping[str, Any], parts: list[tuple[int, int]]) -> float | None:
    """Steps a second, by the time stamps of the first episode."""
    if "timestamp" not in arrays or parts[0][1] < 2:
        return None
    step_s = float(np.median(np.diff(arrays["timestamp"][: parts[0][1]])))
    return float(round(1 / step_s, 1)) if 1e-4 < step_s < 1e3 else None


def _white(pictures: Any) -> int:
    """The level of white: 255, or 1 where some pictures (T, H, W, 3) of floats are not above it and not all black."""
    if pictures.dtype == np.uint8:
        return 255
    last = pictures.shape[0] - 1
    brightest = max(float(np.max(pictures[row])) for row in (0, last // 2, last))
    return 1 if 0 < brightest <= 1 else 255


def _episode(
    arrays: Mapping[str, Any], start: int, stop: int, foreign: Foreign, white: Mapping[str, int]
) -> SourceEpisode:
    names = (*foreign.vectors, *foreign.images)
    rows: dict[str, Rows] = {name: Blocks(arrays[name], start, stop) for name in names}
    rows |= {name: _Levels(rows[name], white[name]) for name in foreign.images}
    stamps = even_stamps(stop - start, foreign.control_hz)
    if "timestamp" in arrays:
        stamps = [int(stamp) for stamp in _nanoseconds(np.asarray(arrays["timestamp"][start:stop], np.float64))]
    steps: Iterator[Step] = foreign.steps(rows, Blocks(arrays["action"], start, stop), stamps, {})
    return SourceEpisode(EpisodeMeta(), steps, EpisodeOutcome(None, False, True))


def _nanoseconds(seconds: NDArray[np.float64]) -> NDArray[np.int64]:
    return np.round(np.where(np.isfinite(seconds), seconds, -1e-9) * 1e9).astype(np.int64)


class _Levels:
    """Pictures as bytes, whatever number their grey levels are."""

    def __init__(self, rows: Rows, white: int) -> None:
        self._rows, self._scale = rows, 255 / white

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, row: int, /) -> Any:
        picture = self._rows[row]
        return (
            picture if picture.dtype == np.uint8 else np.clip(np.round(picture * self._scale), 0, 255).astype(np.uint8)
        )
