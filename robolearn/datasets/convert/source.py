"""What every importer makes of a foreign file: a spec, and episodes that are read a step at a time.

Legend: T steps, A action, H W image.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from robolearn.datasets.held import held
from robolearn.datasets.store import Annotation, DatasetSpec, EpisodeInfo, EpisodeMeta, ImageCodec
from robolearn.datasets.zarr_store import ZarrStore
from robolearn.errors import DatasetError
from robolearn.specs import ArraySpec, InterfaceSpec, RobotSpec, image_spec
from robolearn.types import ActionSource, EpisodeOutcome

UNKNOWN_SPEED = 1e9  # [unit/s], of a robot that nobody described
STILL_MARGIN = 0.01  # of an action that never changed, to either side, as a share of it or of 1
MAX_BLOCK_BYTES = 64 << 20  # of rows that are decoded at once
MAX_VECTOR = 4096  # entries of an observation or an action that still count as a vector
BESIDES = ("action_sent", "action_source", "held", "stamp_ns", "valid")  # what no other format has a place for


@dataclass(frozen=True)
class Samples:
    """Some of a sensor that is stored at its own rate: values (N, ...), capture and receive stamps (N,)."""

    stream: str
    values: NDArray
    stamps_ns: Sequence[int]
    received_ns: Sequence[int]


Step = tuple[dict[str, Any], dict[str, int], dict[str, int], dict[str, bool]]
"""Values, capture stamps, receive stamps, validity: the arguments of `EpisodeWriter.append`."""


class Rows(Protocol):
    """An array (T, ...) of which one row is read at a time: a NumPy array, an HDF5 dataset, a video."""

    def __len__(self) -> int: ...

    def __getitem__(self, row: int, /) -> Any: ...


@dataclass
class SourceEpisode:
    """An episode of a foreign file. `outcome` and `kept` may become known with its last step."""

    meta: EpisodeMeta
    steps: Iterator[Step | Samples]
    outcome: EpisodeOutcome
    annotations: tuple[Annotation, ...] = ()
    kept: bool = True  # False: who recorded it did not want it


@dataclass
class Source:
    """A foreign file, opened. `lost` says, a line each, what a dataset of ours will not hold of it."""

    spec: DatasetSpec
    num_steps: int
    episodes: Iterator[SourceEpisode]
    lost: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class ImportSettings:
    """What a foreign file does not say."""

    control_hz: float | None = None
    image_codec: ImageCodec | None = None  # of all pictures; that of our own files, and JPEG for others, unless given
    contract: Path | None = None  # of a bag: which topic is which field


@dataclass(frozen=True)
class Foreign:
    """Names and sizes of a dataset that knows nothing of robolearn."""

    vectors: Mapping[str, tuple[int, ...]]  # shape of a row; together, in this order, they become `proprio`
    images: Mapping[str, tuple[int, ...]]  # (H, W, 3)
    low: Sequence[float]  # limits of the action (A,), or the extremes that occur
    high: Sequence[float]
    control_hz: float
    task: str = ""
    robot: str = "unknown"
    action_names: Sequence[str] = ()
    vector_names: Mapping[str, Sequence[str]] = field(default_factory=dict)
    extra: Mapping[str, ArraySpec] = field(default_factory=dict)

    def spec(self) -> DatasetSpec:
        width = len(self.low)
        named = len(set(self.action_names)) == width == len(self.action_names)
        joints = tuple(self.action_names) if named else tuple(f"action_{n}" for n in range(width))
        robot = RobotSpec(self.robot, joints, tuple(self.low), tuple(self.high), (UNKNOWN_SPEED,) * width, unit="")
        names: list[str] = []
        for name, shape in self.vectors.items():
            entries = self.vector_names.get(name, ())
            size = int(np.prod(shape))
            names += entries if len(entries) == size else [f"{name}.{n}" for n in range(size)]
        proprio = ArraySpec((len(names),), names=tuple(names))
        images = {image_field(name): image_spec(*shape[:2]) for name, shape in self.images.items()}
        if len(images) < len(self.images):
            raise DatasetError(f"pictures {', '.join(self.images)} would share a field; rename one")
        observation = {**({"proprio": proprio} if names else {}), **images}
        interface = InterfaceSpec(observation, robot.action_spec, self.control_hz)
        tasks = (self.task,) if self.task else ()
        return DatasetSpec(robot, interface, tasks, extra=self.extra)

    def step(
        self, row: Mapping[str, Any], stamp_ns: int, action: Any = None, extra: Mapping[str, Any] | None = None
    ) -> Step:
        """A step of one row. One without an action holds the observation after the last one. None is a lost picture."""
        parts = [np.asarray(row[name], np.float32).reshape(-1) for name in self.vectors]
        values: dict[str, Any] = {"proprio": np.concatenate(parts)} if parts else {}
        values |= {image_field(name): as_picture(row[name]) for name in self.images if row[name] is not None}
        values |= extra or {}
        if action is not None:
            values["action"] = np.asarray(action, np.float32)
        stamped = dict.fromkeys(values, stamp_ns)
        if action is not None:
            values["action_source"] = ActionSource.HUMAN
        return values, stamped, {}, {}

    def steps(
        self, rows: Mapping[str, Rows], actions: Rows, stamps_ns: Sequence[int], extra: Mapping[str, Rows]
    ) -> Iterator[Step]:
        """One step a stamp; those beyond the actions have none."""
        for number, stamp in enumerate(stamps_ns):
            row = {name: rows[name][number] for name in (*self.vectors, *self.images)}
            if number < len(actions):
                yield self.step(row, stamp, actions[number], {name: column[number] for name, column in extra.items()})
            else:
                yield self.step(row, stamp)


class Blocks:
    """Rows of an array (T, ...) on disk, of which those that lie in one chunk are decoded once."""

    def __init__(self, array: Any, start: int = 0, stop: int | None = None) -> None:
        """`array` has a shape, chunks (None: contiguous) and slices, as those of h5py and zarr do."""
        self._array, self._start = array, start
        self._stop = array.shape[0] if stop is None else stop
        row_bytes = max(math.prod(array.shape[1:]) * np.dtype(array.dtype).itemsize, 1)
        chunk = (array.chunks or (1,))[0]
        self._rows = max(min(chunk, MAX_BLOCK_BYTES // row_bytes), 1)
        self._first = -1
        self._block: Any = None

    def __len__(self) -> int:
        return self._stop - self._start

    def __getitem__(self, row: int, /) -> Any:
        at = self._start + row
        first = at // self._rows * self._rows
        if first != self._first:
            self._block, self._first = self._array[first : min(first + self._rows, self._stop)], first
        return self._block[at - first]


class WithLast:
    """Rows, and behind them one row of another array: the observation after the last action."""

    def __init__(self, rows: Rows, others: Rows, other: int) -> None:
        self._rows, self._others, self._other = rows, others, other

    def __len__(self) -> int:
        return len(self._rows) + 1

    def __getitem__(self, row: int, /) -> Any:
        return self._rows[row] if row < len(self._rows) else self._others[self._other]


def acting(store: ZarrStore, kind: str) -> tuple[list[int], list[str]]:
    """Indices of the episodes that have an action, which is all that a format of transitions holds, and what to tell of
    the others. Raises DatasetError when there are only others."""
    indices = [index for index, episode in enumerate(store.episodes) if episode.num_actions]
    if not indices:
        raise DatasetError(f"{store.path} has no episode with an action; {kind} holds transitions")
    others = len(store.episodes) - len(indices)
    return indices, [f"{others} episodes without an action are left out: {kind} holds transitions"] if others else []


def shown_actions(store: ZarrStore, index: int) -> NDArray[np.float32]:
    """The actions (T, A) of an episode for who knows no masks: where one is masked, the one before it stands. On disk
    it is zero there, which a robot under position control would take for a place to go to."""
    return held(store.read(index, ["action"])["action"], store.read_valid(index)["action"])


def following_lines(store: ZarrStore, kind: str) -> list[str]:
    """What to tell of episodes that end with an action, where a format wants an observation after each."""
    number = sum(0 < episode.num_actions == episode.length for episode in store.episodes)
    lines = [f"{number} episodes have no observation after their last action: in {kind} the one before it stands there"]
    return lines if number else []


def masked_lines(store: ZarrStore, kind: str) -> list[str]:
    """What to tell of masked steps, where a format has no masks."""
    counts: Counter[str] = Counter()
    for episode in store.episodes:
        counts.update(episode.masked)
    unfilled = {name for name, count in counts.items() if count == sum(row.length for row in store.episodes)}
    return [
        f"{name}: {count} masked steps; {kind} has no masks, only its group robolearn tells them apart"
        for name, count in counts.items()
        if count and name not in unfilled
    ]


def even_stamps(length: int, control_hz: float) -> list[int]:
    """Stamps [ns] of steps that came without any."""
    return [round(step * 1e9 / control_hz) for step in range(length)]


def image_field(name: str) -> str:
    word = name.lower().removeprefix("observation.").removeprefix("images.")
    word = re.sub(r"[^a-z0-9_]+", "_", word).strip("_")
    return f"image_{word.removeprefix('image_').removesuffix('_image')}"


def is_picture(shape: tuple[int, ...], dtype: Any) -> bool:
    """Whether rows of this shape are RGB pictures, channels last or first."""
    return np.dtype(dtype) == np.uint8 and len(shape) == 3 and (shape[2] == 3 or shape[0] == 3)


def is_vector(shape: tuple[int, ...], dtype: Any) -> bool:
    return np.dtype(dtype).kind in "fiub" and int(np.prod(shape)) <= MAX_VECTOR


def picture_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    """(H, W, 3) of rows that are pictures, channels last or first."""
    return shape if shape[2] == 3 else (shape[1], shape[2], 3)


def as_picture(image: NDArray) -> NDArray[np.uint8]:
    return image if image.shape[2] == 3 else np.ascontiguousarray(image.transpose(1, 2, 0))


def extremes(where: str, actions: Iterable[NDArray], width: int) -> tuple[list[float], list[float]]:
    """Least and greatest value of every entry of an action (A,), over what is finite; where they are the same, as of a
    gripper that stays closed, limits close around it, for none of a width of 0 can be learned in. Raises DatasetError
    before it reads any where an action is no vector any more; `where` they lie."""
    if width > MAX_VECTOR:
        raise DatasetError(f"{where} have {width} entries each, wanted at most {MAX_VECTOR}")
    low, high = np.full(width, np.inf), np.full(width, -np.inf)
    for part in actions:
        finite = np.asarray(part, np.float64)[np.isfinite(part).all(axis=1)]
        if len(finite):
            low, high = np.minimum(low, finite.min(axis=0)), np.maximum(high, finite.max(axis=0))
    nothing = low > high
    still = np.where(low == high, STILL_MARGIN * np.maximum(np.abs(low), 1.0), 0.0)
    low, high = low - still, high + still
    return np.where(nothing, -1.0, low).tolist(), np.where(nothing, 1.0, high).tolist()


def without_streams(spec: DatasetSpec) -> DatasetSpec:
    """The spec without sensors of their own rate, for which other formats have no place."""
    return replace(spec, streams={})


# --- datasets of ours that travelled through another format ----------------------------------------------------------


def besides(store: ZarrStore, index: int) -> dict[str, NDArray]:
    """What the format has no place for, of one episode: columns (T, ...) by name, `stamp_ns` and `valid` as on disk."""
    episode = store.episodes[index]
    read = store.read(index, [*BESIDES[:3], *store.spec.extra])
    return read | {name: store.reader(name).read(episode.start, episode.stop) for name in BESIDES[3:]}


def our_step(spec: DatasetSpec, row: Mapping[str, Any]) -> Step:
    """A step of ours: a value for each of its fields, `stamp_ns` (F, 2) and `valid` (F,)."""
    columns = {name: column for column, name in enumerate(spec.stamped_fields)}
    stamps, valid = row["stamp_ns"], row["valid"]
    return (
        {name: row[name] for name in spec.fields if row[name] is not None},
        {name: int(stamps[column, 0]) for name, column in columns.items()},
        {name: int(stamps[column, 1]) for name, column in columns.items()},
        {name: bool(valid[column]) for name, column in columns.items()},
    )


def our_steps(spec: DatasetSpec, rows: Mapping[str, Rows]) -> Iterator[Step]:
    """Steps of an episode of ours, by column."""
    for number in range(len(rows["valid"])):
        yield our_step(spec, {name: column[number] for name, column in rows.items()})


def our_episode(row: Mapping[str, Any], steps: Iterator[Step]) -> SourceEpisode:
    """An episode by its row in our table, as JSON."""
    info = EpisodeInfo.from_json(row)
    meta = EpisodeMeta(**{key: getattr(info, key) for key in EpisodeMeta.__dataclass_fields__})
    outcome = EpisodeOutcome(info.success, info.terminated, info.truncated, info.reason)
    return SourceEpisode(meta, steps, outcome, info.annotations)
