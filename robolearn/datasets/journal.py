"""The journal of an episode that is being recorded: all that salvaging it takes, if its writer dies.

A file of records, each a header (length, kind, CRC-32 of the payload) and a payload: first the episode's meta and the
layout of a step, then the steps in order, at last the outcome and what was said with it. A record that the death of
the writer cut off fails its check, and what comes before it counts. Fields stored as video have their groups of frames
here once they are complete, and the frames of the running group raw, in a file each with a place for every frame of a
group. The writer holds a lock on the journal, so that others can tell whether it lives.
"""

from __future__ import annotations

import fcntl
import json
import os
import struct
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from robolearn.datasets.disk import write_all
from robolearn.datasets.store import Annotation, EpisodeMeta
from robolearn.errors import DatasetError
from robolearn.types import EpisodeOutcome

JOURNAL = "journal"
FRAMES = ".frames"  # of the file of the running group of a video field
MAGIC = b"robolearn-journal-1\n"
META, STEP, OUTCOME, MARK, GROUP, STREAM, DROPPED = range(7)
HEADER = struct.Struct("<IBI")
LENGTH = struct.Struct("<i")
MISSING = -1  # length of a picture that is not there


@dataclass(frozen=True)
class StepRecord:
    """A step as it goes to disk: rows by array name, pictures already coded (None: not there).

    Of a field stored as video the first step of a group brings the whole group, coded, or each step its raw frame.
    """

    rows: Mapping[str, NDArray]
    pictures: Mapping[str, NDArray | bytes | None]


@dataclass(frozen=True)
class Mark:
    """A stage that begins with a step."""

    step: int
    label: str
    author: str


@dataclass(frozen=True)
class StreamBlock:
    """Samples (N, ...) of a stream, with their capture and receive stamps (N, 2)."""

    name: str
    values: NDArray
    stamps: NDArray[np.int64]

    @property
    def num_bytes(self) -> int:
        return self.values.nbytes + self.stamps.nbytes


class JournalWriter:
    """Appends records. Every record is handed to the operating system at once, so that SIGKILL costs nothing."""

    def __init__(
        self,
        path: Path,
        meta: EpisodeMeta,
        rows: Mapping[str, NDArray],
        pictures: Sequence[str],
        videos: Mapping[str, tuple[int, tuple[int, ...]]],
        phase: int,
        streams: Mapping[str, tuple[str, tuple[int, ...]]],
    ) -> None:
        """`rows` are arrays of the shape and dtype that every step has; `videos` frames a group and shape of a frame.

        The episode begins with frame `phase` of a group. `streams` are dtype and shape of a sample.
        """
        begun = path.with_suffix(".tmp")
        self._fd = os.open(begun, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        fcntl.flock(self._fd, fcntl.LOCK_EX)
        self._rows, self._pictures = tuple(rows), tuple(pictures)
        layout = {name: [row.dtype.name, list(row.shape)] for name, row in rows.items()}
        header = {
            "meta": asdict(meta),
            "rows": layout,
            "pictures": list(pictures),
            "videos": videos,
            "phase": phase,
            "streams": streams,
        }
        self._folder, self._videos, self._streams = path.parent, tuple(videos), tuple(streams)
        self._frames: dict[str, int] = {}
        write_all(self._fd, MAGIC)
        self._record(META, json.dumps(header).encode())
        os.rename(begun, path)

    def step(self, record: StepRecord, dropped: Sequence[str] = ()) -> None:
        """Note a step, and before it the fields whose pictures were lost by haste."""
        if dropped:
            self._record(DROPPED, json.dumps(list(dropped)).encode())
        parts = [record.rows[name].tobytes() for name in self._rows]
        for name in self._pictures:
            picture = record.pictures[name]
            parts.append(LENGTH.pack(MISSING if picture is None else len(picture)))
            parts.append(bytes(picture or b""))
        self._record(STEP, b"".join(parts))

    def frame(self, field: str, place: int, frame: NDArray) -> None:
        """Keep a raw frame of the running group, before its step is noted."""
        if field not in self._frames:
            flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC
            self._frames[field] = os.open(self._folder / f"{field}{FRAMES}", flags, 0o666)
        write_all(self._frames[field], frame.tobytes(), place * frame.nbytes)

    def group(self, field: str, data: bytes) -> None:
        """Note a complete group, after its last step."""
        self._record(GROUP, bytes([self._videos.index(field)]) + data)

    def stream(self, block: StreamBlock) -> None:
        head = LENGTH.pack(self._streams.index(block.name)) + LENGTH.pack(len(block.values))
        self._record(STREAM, head + block.stamps.tobytes() + block.values.tobytes())

    def mark(self, mark: Mark) -> None:
        self._record(MARK, json.dumps(asdict(mark)).encode())

    def outcome(self, outcome: EpisodeOutcome, tags: Mapping[str, Any], annotations: Sequence[Annotation]) -> None:
        """Note how the episode ended, and the tags and annotations that came with it."""
        said = {**asdict(outcome), "tags": dict(tags), "annotations": [asdict(note) for note in annotations]}
        self._record(OUTCOME, json.dumps(said).encode())

    def close(self) -> None:
        for fd in [*self._frames.values(), self._fd]:
            if fd >= 0:
                os.close(fd)
        self._fd, self._frames = -1, {}

    def _record(self, kind: int, payload: bytes) -> None:
        write_all(self._fd, HEADER.pack(len(payload), kind, zlib.crc32(payload)) + payload)


class JournalReader:
    """Reads what a dead writer left. Raises DatasetError when not even the episode's meta is there."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with self._open() as file:
            records = self._records(file)
            try:
                kind, payload = next(records)
                header = json.loads(payload) if kind == META else {}
                self.meta = EpisodeMeta(**header["meta"])
                self._rows = {n: (np.dtype(dtype), tuple(shape)) for n, (dtype, shape) in header["rows"].items()}
                self._pictures: list[str] = header["pictures"]
                self._videos = {n: (int(rows), tuple(shape)) for n, (rows, shape) in header.get("videos", {}).items()}
                self.phase = int(header.get("phase", 0))
                self._streams = [
                    (name, np.dtype(dtype), tuple(shape)) for name, (dtype, shape) in header.get("streams", {}).items()
                ]
                self.length = 0
                self.outcome: EpisodeOutcome | None = None
                self.tags: dict[str, Any] = {}  # that came with the outcome, and the annotations that did
                self.annotations: list[Annotation] = []
                self.marks: list[Mark] = []
                self._groups: dict[str, list[bytes]] = {name: [] for name in self._videos}
                for kind, payload in records:
                    self.length += kind == STEP
                    if kind == MARK:
                        self.marks.append(Mark(**json.loads(payload)))
                    if kind == GROUP:
                        self._groups[list(self._videos)[payload[0]]].append(payload[1:])
                    if kind == OUTCOME:
                        said = json.loads(payload)
                        self.tags = said.pop("tags", {})
                        self.annotations = [Annotation(**note) for note in said.pop("annotations", ())]
                        self.outcome = EpisodeOutcome(**said)
            except (StopIteration, LookupError, TypeError, ValueError, AttributeError) as error:
                raise DatasetError(f"{path} is damaged: its episode cannot be told; drop it") from error

    def steps(self) -> Iterator[tuple[StepRecord, list[str]]]:
        """The steps, each with the fields whose pictures were lost by haste."""
        number = 0
        dropped: list[str] = []
        with self._open() as file:
            for kind, payload in self._records(file):
                if kind == DROPPED:
                    dropped = json.loads(payload)
                if kind != STEP:
                    continue
                step = self._parse(payload)
                videos = {name: self._video(name, number) for name in self._videos if step.pictures[name] is None}
                yield StepRecord(step.rows, {**step.pictures, **videos}), dropped
                number, dropped = number + 1, []

    def streams(self) -> Iterator[StreamBlock]:
        with self._open() as file:
            for kind, payload in self._records(file):
                if kind != STREAM:
                    continue
                stream, number = (LENGTH.unpack_from(payload, at)[0] for at in (0, LENGTH.size))
                name, dtype, shape = self._streams[stream]
                at = 2 * LENGTH.size
                stamps = np.frombuffer(payload, np.int64, 2 * number, at).reshape(number, 2)
                values = np.frombuffer(payload, dtype, number * int(np.prod(shape)), at + stamps.nbytes)
                yield StreamBlock(name, values.reshape(number, *shape), stamps)

    def _video(self, name: str, step: int) -> NDArray | bytes | None:
        """Of the first step of a complete group all of it, of a step of the last group its frame."""
        rows, shape = self._videos[name]
        group, place = divmod(step + self.phase, rows)
        if group < len(self._groups[name]):
            return self._groups[name][group] if place == 0 else None
        size = int(np.prod(shape))
        try:
            with open(self.path.parent / f"{name}{FRAMES}", "rb") as file:
                file.seek(place * size)
                data = file.read(size)
        except OSError:
            return None
        return np.frombuffer(data, np.uint8).reshape(shape) if len(data) == size else None

    def _parse(self, payload: bytes) -> StepRecord:
        rows: dict[str, NDArray] = {}
        pictures: dict[str, NDArray | bytes | None] = {}
        at = 0
        for name, (dtype, shape) in self._rows.items():
            number = int(np.prod(shape))
            rows[name] = np.frombuffer(payload, dtype, number, at).reshape(shape)
            at += number * dtype.itemsize
        for name in self._pictures:
            (length,) = LENGTH.unpack_from(payload, at)
            at += LENGTH.size
            pictures[name] = None if length == MISSING else payload[at : at + length]
            at += max(length, 0)
        return StepRecord(rows, pictures)

    def _open(self) -> BinaryIO:
        try:
            return open(self.path, "rb", opener=_at_once)
        except OSError as error:
            raise DatasetError(f"{self.path} cannot be read: {error.strerror}; drop this episode") from error

    @staticmethod
    def _records(file: BinaryIO) -> Iterator[tuple[int, bytes]]:
        """Records up to the first one that is cut off or damaged."""
        if file.read(len(MAGIC)) != MAGIC:
            return
        while len(header := file.read(HEADER.size)) == HEADER.size:
            length, kind, checksum = HEADER.unpack(header)
            payload = file.read(length)
            if len(payload) < length or zlib.crc32(payload) != checksum:
                return
            yield kind, payload


def _at_once(path: str, flags: int) -> int:
    """Opens a file; a pipe in its place, too, without waiting for who would write to it."""
    return os.open(path, flags | os.O_NONBLOCK)


def is_being_written(path: Path) -> bool:
    """Whether the writer of this journal lives."""
    with open(path, "rb", opener=_at_once) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False
