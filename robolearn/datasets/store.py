"""The nouns of a dataset and the Store protocol. Legend: T steps of an episode, A action, H W image."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field
from dataclasses import fields as dataclass_fields
from functools import cached_property
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from robolearn.errors import DatasetError, UnknownNameError
from robolearn.specs import ArraySpec, InterfaceSpec, RobotSpec
from robolearn.types import EpisodeOutcome

UNKNOWN_SOURCE = 255  # of `action_source`, where a step came without one
NO_STAMP = -1  # where a step came without a stamp

CLOSING_ROW = "closing_row"
"""Tag of episodes whose last row is the observation after their last action."""

FIELD_NAME = re.compile(r"[a-z][a-z0-9_]*")
RESERVED_NAMES = ("stamp_ns", "valid")


IMAGE_CODECS = ("jpeg", "jpegxl", "zstd", "h264", "av1")


def require_json(what: str, data: Any) -> None:
    """Raise DatasetError for what is no JSON that every reader knows: other objects, NaN and infinity, halves of
    characters, as of a name that was typed in another encoding."""
    try:
        json.dumps(data, allow_nan=False, ensure_ascii=False).encode()
    except (TypeError, ValueError) as error:
        raise DatasetError(f"{what} cannot be written as JSON: {error}") from error


@dataclass(frozen=True)
class ImageCodec:
    """How images are stored.

    One frame a chunk: `jpeg` (lossy), `jpegxl` (lossless, or lossy by distance), `zstd` (lossless, larger, read by
    every zarr reader without a plug-in). A group of frames a chunk, small archives: `h264`, `av1` (lossy, by crf).
    What a lossy codec is not made for, such as depth of 16 bit, is stored losslessly as JPEG-XL.
    """

    name: Literal["jpeg", "jpegxl", "zstd", "h264", "av1"] = "jpeg"
    quality: int = 90  # of jpeg, 1 to 100
    distance: float = 0.0  # of jpegxl: 0 lossless, 1 hardly to be seen, up to 15
    crf: int = 24  # of video: constant rate factor, 0 best to 51 (h264) or 63 (av1)
    group: int = 16  # of video: frames a group, a power of two up to 256; each episode begins with a new one

    def __post_init__(self) -> None:
        known = self.name in IMAGE_CODECS and 1 <= self.quality <= 100 and 0 <= self.distance <= 15
        if not known or not 0 <= self.crf <= 63 or self.group not in [2**n for n in range(1, 9)]:
            raise DatasetError(
                f"image codec is {self}; wanted jpeg with a quality of 1 to 100, jpegxl with a distance of 0 to 15, "
                "zstd, or h264 or av1 with a crf of 0 to 63 and a group of 2, 4, ... 256 frames"
            )

    @property
    def is_video(self) -> bool:
        return self.name in ("h264", "av1")


@dataclass(frozen=True)
class StreamSpec:
    """A sensor that is stored at its own rate, and how it is aligned to the steps of an episode when it is read."""

    array: ArraySpec  # of a sample
    rate_hz: float
    align: Literal["hold", "nearest", "interpolate"] = "hold"  # the newest at or before; the closest; linear between
    max_age_s: float = 0.1  # a sample further from the step does not count

    def __post_init__(self) -> None:
        kind = np.dtype(self.array.dtype).kind
        if self.align not in ("hold", "nearest", "interpolate") or not (self.rate_hz > 0 and self.max_age_s > 0):
            raise DatasetError(
                f"stream is {self}; wanted align hold, nearest or interpolate, a rate and an age above 0"
            )
        if self.align == "interpolate" and kind != "f":
            raise DatasetError(f"stream of {self.array.dtype} cannot be interpolated; align it by hold or nearest")

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "array": self.array.to_json()}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> StreamSpec:
        return cls(**{**data, "array": ArraySpec.from_json(data["array"])})


@dataclass(frozen=True)
class DatasetSpec:
    """What every episode of a dataset has in common.

    The fields of a step are those of the interface's observation, `action` (commanded), `action_sent` (what left the
    safety filter), `action_source` (ActionSource), `held` (the robot did not follow) and `extra`.
    """

    robot: RobotSpec
    interface: InterfaceSpec
    tasks: tuple[str, ...] = ()  # ids of the tasks that may occur
    cameras: Mapping[str, Any] = field(default_factory=dict)  # calibration by camera name, JSON
    image_codec: ImageCodec = field(default_factory=ImageCodec)  # of every image field, but for those of
    image_codecs: Mapping[str, ImageCodec] = field(default_factory=dict)  # with one of their own, by field
    extra: Mapping[str, ArraySpec] = field(default_factory=dict)  # more fields, such as `pose_<body>`
    streams: Mapping[str, StreamSpec] = field(default_factory=dict)  # sensors with rates of their own

    def __post_init__(self) -> None:
        names = [
            *self.interface.observation,
            "action",
            "action_sent",
            "action_source",
            "held",
            *self.extra,
            *self.streams,
        ]
        for name in names:
            if not FIELD_NAME.fullmatch(name) or name in RESERVED_NAMES or names.count(name) > 1:
                raise DatasetError(f"dataset field {name!r} is reserved, repeated or not a lower-case word; rename it")
        for name in self.image_codecs:
            if name not in self.image_fields:
                raise UnknownNameError("image field", name, self.image_fields)
        for name in self.video_fields:
            height, width, _ = self.fields[name].shape
            if self.codec_of(name).name == "av1" and (height % 2 or width % 2 or min(height, width) < 64):
                raise DatasetError(
                    f"{name} is {height}x{width}; av1 wants even sizes of at least 64 pixels, so choose another codec"
                )

    @cached_property
    def fields(self) -> dict[str, ArraySpec]:
        """Spec of every field of a step, in a fixed order."""
        return {
            **self.interface.observation,
            "action": self.interface.action,
            "action_sent": self.interface.action,
            "action_source": ArraySpec((), "uint8"),
            "held": ArraySpec((), "bool"),
            **self.extra,
        }

    @cached_property
    def stamped_fields(self) -> tuple[str, ...]:
        """Fields with stamps and a validity mask of their own, in the order of their columns on disk.

        `action_source` and `held` tell of the action and share its stamps.
        """
        return tuple(name for name in self.fields if name not in ("action_source", "held"))

    @cached_property
    def image_fields(self) -> tuple[str, ...]:
        """Fields stored by the image codec: 8 or 16 bit integers of two axes or more."""
        return tuple(n for n, s in self.fields.items() if s.dtype in ("uint8", "uint16") and len(s.shape) >= 2)

    @cached_property
    def video_fields(self) -> tuple[str, ...]:
        """Image fields stored in groups of frames."""
        fields = self.fields
        colour = [n for n in self.image_fields if fields[n].dtype == "uint8" and fields[n].shape[2:] == (3,)]
        return tuple(name for name in colour if self.codec_of(name).is_video)

    @cached_property
    def alignment(self) -> int:
        """Rows by whose multiples an episode begins, so that no group of frames has two episodes in it."""
        return max([self.codec_of(name).group for name in self.video_fields], default=1)

    def codec_of(self, image_field: str) -> ImageCodec:
        return self.image_codecs.get(image_field, self.image_codec)

    def to_json(self) -> dict[str, Any]:
        return {
            "robot": asdict(self.robot),
            "interface": self.interface.to_json(),
            "tasks": list(self.tasks),
            "cameras": dict(self.cameras),
            "image_codec": asdict(self.image_codec),
            "image_codecs": {name: asdict(codec) for name, codec in self.image_codecs.items()},
            "extra": {name: spec.to_json() for name, spec in self.extra.items()},
            "streams": {name: stream.to_json() for name, stream in self.streams.items()},
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> DatasetSpec:
        robot: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in data["robot"].items()}
        if not all(type(robot.get(k, "")) is str for k in ("name", "unit")):
            raise ValueError("the robot's name or unit is no text")
        for k in ("position_low", "position_high", "max_speed"):
            if len(robot[k]) != len(robot["joint_names"]) or not all(isinstance(v, int | float) for v in robot[k]):
                raise ValueError(f"{k} is not a number for each joint")
        return cls(
            robot=RobotSpec(**robot),
            interface=InterfaceSpec.from_json(data["interface"]),
            tasks=tuple(data["tasks"]),
            cameras=data["cameras"],
            image_codec=ImageCodec(**data["image_codec"]),
            image_codecs={name: ImageCodec(**codec) for name, codec in data.get("image_codecs", {}).items()},
            extra={name: ArraySpec.from_json(spec) for name, spec in data["extra"].items()},
            streams={name: StreamSpec.from_json(stream) for name, stream in data.get("streams", {}).items()},
        )


@dataclass(frozen=True)
class EpisodeMeta:
    """What is known when an episode begins."""

    task: str = ""
    instruction: str = ""
    seed: int | None = None
    operator: str = ""
    created_ns: int = 0  # wall-clock time; 0 when unknown
    id: str = ""  # unique in the dataset; empty for one made up
    software_version: str = ""  # empty for this robolearn's
    tags: Mapping[str, Any] = field(default_factory=dict)  # free, JSON


@dataclass(frozen=True)
class Annotation:
    """What somebody said of the steps [start, stop) of an episode: a stage of the task, a mistake, a remark."""

    start: int
    stop: int
    label: str
    author: str = ""


@dataclass(frozen=True)
class EpisodeInfo:
    """A row of the episode table: steps [start, start + length) of every array."""

    id: str
    start: int
    length: int
    task: str
    instruction: str
    seed: int | None
    success: bool | None
    terminated: bool
    truncated: bool
    reason: str
    operator: str
    created_ns: int
    software_version: str
    tags: Mapping[str, Any]
    masked: Mapping[str, int]  # steps without a valid value, by field; fields that lack none are left out
    dropped: Mapping[str, int]  # those of them that were lost because the writer could not keep up
    hidden: bool = False  # deleted, until that is undone or the garbage collected
    annotations: tuple[Annotation, ...] = ()  # in the order of their first steps
    streams: Mapping[str, tuple[int, int]] = field(default_factory=dict)  # first sample and number of samples, by name
    checksum: int | None = None  # see `RowsChecksum`; unknown where older versions wrote, and of a part of what was

    @property
    def stop(self) -> int:
        return self.start + self.length

    @property
    def num_actions(self) -> int:
        """Steps that have an action: all, but for a last one that holds the observation after it."""
        return self.length - bool(self.tags.get(CLOSING_ROW))

    def to_json(self) -> dict[str, Any]:
        row = {each.name: getattr(self, each.name) for each in dataclass_fields(self)}
        return {**row, "annotations": [asdict(annotation) for annotation in self.annotations]}

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> EpisodeInfo:
        """Raises KeyError, TypeError or ValueError for what is no such row."""
        for name, kinds in _ROW_KINDS.items():
            if name in row and type(row[name]) not in kinds:
                raise ValueError(f"{name} of an episode is {str(row[name])[:40]!r}")
        annotations = tuple(Annotation(**annotation) for annotation in row.get("annotations", ()))
        streams = {name: (int(start), int(length)) for name, (start, length) in row.get("streams", {}).items()}
        return cls(**{**row, "annotations": annotations, "streams": streams})


_ROW_KINDS: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(("id", "task", "instruction", "reason", "operator", "software_version"), (str,)),
    **dict.fromkeys(("start", "length", "created_ns"), (int,)),
    **dict.fromkeys(("terminated", "truncated", "hidden"), (bool,)),
    **dict.fromkeys(("tags", "masked", "dropped"), (dict,)),
    **dict.fromkeys(("seed", "checksum"), (int, type(None))),
    "success": (bool, type(None)),
}


@dataclass(frozen=True)
class UnfinishedEpisode:
    """An episode whose writer went away before it was committed. `outcome` is there when it died in committing."""

    id: str
    length: int
    meta: EpisodeMeta | None
    outcome: EpisodeOutcome | None
    problem: str = ""  # why it cannot be salvaged

    def __str__(self) -> str:
        what = self.problem or f"{self.length} steps can be salvaged"
        return f"episode {self.id!r} was not finished: {what}"


@dataclass(frozen=True)
class WriterConfig:
    """Settings of a writer."""

    drop_when_full: bool = False  # mask and count images that the codec is too slow for; else `append` waits
    queue_bytes: int = 64 << 20  # of images that wait for the codec
    statistics: bool = True  # add those of every episode when it is committed, else when somebody asks
    fsync: bool = True  # a committed episode survives a power cut too, not only a killed process


class EpisodeWriter(Protocol):
    """Appends episodes, one at a time. What is not committed is never seen by a reader."""

    def begin(self, meta: EpisodeMeta) -> None:
        """Begin an episode."""
        ...

    def append(
        self,
        step: Mapping[str, ArrayLike],
        stamps_ns: Mapping[str, int],
        received_ns: Mapping[str, int] | None = None,
        valid: Mapping[str, bool] | None = None,
    ) -> None:
        """Add a step: values by field, when each was captured and received, and which are not to be trusted.

        A field that `step` lacks is masked, as is a float that is not finite; nothing ever shifts. Raises SpecError
        when a value does not fit its spec, before anything is written, and DatasetError when the disk fails.
        """
        ...

    def append_stream(
        self, name: str, values: ArrayLike, stamps_ns: ArrayLike, received_ns: ArrayLike | None = None
    ) -> None:
        """Add samples (N, ...) of a stream with their capture, and receive, stamps (N,).

        Raises SpecError when they do not fit or a stamp runs backwards, before anything is written.
        """
        ...

    def mark(self, label: str, author: str = "") -> None:
        """A stage begins with the next step; it lasts until the next mark or the end of the episode."""
        ...

    def commit(self, outcome: EpisodeOutcome, tags: Mapping[str, Any] | None = None) -> EpisodeInfo:
        """End the episode and make it visible, whole, by one atomic step; `tags` (JSON) join those it began with."""
        ...

    def discard(self) -> None:
        """Throw the begun episode away."""
        ...


class Store(Protocol):
    """Episodes on disk."""

    @property
    def spec(self) -> DatasetSpec: ...

    @property
    def episodes(self) -> tuple[EpisodeInfo, ...]:
        """The committed episodes; the place of one is the `index` of the methods below."""
        ...

    @property
    def unfinished(self) -> list[UnfinishedEpisode]:
        """Episodes that a writer left behind."""
        ...

    def read(
        self,
        index: int,
        fields: Sequence[str] | None = None,
        start: int = 0,
        stop: int | None = None,
        out: Mapping[str, NDArray] | None = None,
    ) -> dict[str, NDArray]:
        """Steps [start, stop) of an episode: values (T, ...) by field, all fields unless named, or columns, or streams.

        A stream is aligned to the steps by its rule; where it has no value it is zero, see `read_valid`.

        Written into the arrays of `out` where it has one.
        """
        ...

    def read_stamps(self, index: int) -> dict[str, NDArray[np.int64]]:
        """Per stamped field (T, 2) [ns]: capture and receive stamps, NO_STAMP where unknown."""
        ...

    def read_valid(self, index: int) -> dict[str, NDArray[np.bool_]]:
        """Per stamped field and stream (T,): whether the value was there and may be used."""
        ...

    def read_stream(self, index: int, name: str) -> tuple[NDArray, NDArray[np.int64]]:
        """The samples (N, ...) of a stream in an episode, and their capture and receive stamps (N, 2)."""
        ...

    def spec_of(self, name: str) -> ArraySpec:
        """Spec of a field, of a column, or of a sample of a stream. Raises UnknownNameError."""
        ...

    def writer(self, config: WriterConfig | None = None) -> AbstractContextManager[EpisodeWriter]:
        """The only writer. Raises DatasetError while another one lives."""
        ...


def step_ns(stamps: Mapping[str, NDArray[np.int64]]) -> NDArray[np.int64]:
    """The time of every step [ns] (T,), from `read_stamps`: the newest capture stamp of its fields."""
    return np.max([stamp[:, 0] for stamp in stamps.values()], axis=0)


def ages_ns(stamps: Mapping[str, NDArray[np.int64]]) -> dict[str, NDArray[np.int64]]:
    """How old each field was at its step [ns] (T,), from `read_stamps`; NO_STAMP where that is unknown."""
    now = step_ns(stamps)
    return {name: np.where(s[:, 0] == NO_STAMP, NO_STAMP, now - s[:, 0]) for name, s in stamps.items()}
