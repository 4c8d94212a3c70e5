"""An episode on its way into a zarr dataset.

Until its commit it is a folder that no reader looks at: a journal, from which it can be salvaged, and the shards as
they will be. A folder without a live writer is an unfinished episode.
"""

from __future__ import annotations

import contextlib
import shutil
import uuid
import zlib
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robolearn.datasets.disk import Disk
from robolearn.datasets.journal import (
    FRAMES,
    JOURNAL,
    JournalReader,
    JournalWriter,
    Mark,
    StepRecord,
    StreamBlock,
    is_being_written,
)
from robolearn.datasets.shards import ArrayLayout, ArrayWriter
from robolearn.datasets.store import Annotation, DatasetSpec, EpisodeInfo, EpisodeMeta, UnfinishedEpisode
from robolearn.datasets.video_codec import Video, VideoEncoder
from robolearn.datasets.zarr_layout import (
    RECORDING,
    ROOT_FILE,
    Root,
    array_layouts,
    array_metadata,
    stream_array,
    stream_stamps,
    write_root,
)
from robolearn.errors import DatasetError
from robolearn.types import EpisodeOutcome


@dataclass(frozen=True)
class Step:
    """Rows by array name, pictures raw or coded (None: not there), and the pictures that were lost by haste."""

    rows: Mapping[str, NDArray]
    pictures: Mapping[str, NDArray | bytes | None]
    dropped: tuple[str, ...] = ()
    num_bytes: int = 0  # of the raw pictures


class RowsChecksum:
    """Of all that an episode has beside its images, whose chunks are there or missing: the CRC-32 of each array's rows,
    and of these, in the order of the layouts, once more.

    A chunk of vectors holds several episodes. In a copy that was made while somebody recorded it may be one of before,
    whole by itself, that lacks the newest.
    """

    def __init__(self, spec: DatasetSpec) -> None:
        self._parts = {name: 0 for name in array_layouts(spec) if name not in spec.image_fields}

    def add(self, array: str, rows: NDArray) -> None:
        self._parts[array] = zlib.crc32(rows.tobytes(), self._parts[array])

    @property
    def value(self) -> int:
        return zlib.crc32(np.array(list(self._parts.values()), "<u4").tobytes())


class VideoTrack:
    """The frames of a video field on their way into groups."""

    def __init__(self, array: ArrayWriter, journal: JournalWriter, row: int) -> None:
        self._array, self._journal, self._row = array, journal, row
        self._name, self._rows = array.layout.name, array.layout.chunk_rows
        self._in_group = 0  # rows of the running group that are of this episode
        self._coded: bytes | None = None  # the running group, where it came coded
        self._encoder: VideoEncoder | None = None
        self._last = np.zeros(array.layout.row_shape, np.uint8)

    def frame(self, value: NDArray | bytes | None) -> None:
        """Take the frame of the next step, or the group that it begins. One that is missing repeats the one before."""
        if isinstance(value, bytes):
            self._coded = value
        elif isinstance(value, np.ndarray):
            self._journal.frame(self._name, self._row % self._rows, value)
            self._last = value
        if self._coded is None:
            if self._encoder is None:
                codec = self._array.layout.codec
                assert isinstance(codec, Video)
                self._encoder = VideoEncoder(codec, *self._last.shape[:2])
            self._encoder.add(self._last)
        self._row += 1
        self._in_group += 1

    def end_step(self) -> None:
        """To be called when the step is in the journal."""
        if self._row % self._rows == 0:
            self.end_group()

    def end_group(self) -> None:
        if self._in_group == 0:
            return
        data = self._coded
        if self._encoder is not None:
            data = self._encoder.finish()
            self._journal.group(self._name, data)
        self._array.append_group(data, self._in_group)
        self._coded, self._encoder, self._in_group = None, None, 0


class Recording:
    """The begun episode of a writer. Used by one thread."""

    def __init__(
        self, path: Path, root: Root, layouts: Mapping[str, ArrayLayout], meta: EpisodeMeta, disk: Disk, phase: int
    ) -> None:
        """The first step lies in row `phase` of a group of frames, where there are some."""
        self._path, self._root, self._layouts, self._meta, self._disk = path, root, layouts, meta, disk
        self._columns = {name: column for column, name in enumerate(root.spec.stamped_fields)}
        self._length = 0
        self._marks: list[Mark] = []
        self._masked: Counter[str] = Counter()
        self._dropped: Counter[str] = Counter()
        self._checksum = RowsChecksum(root.spec)
        self._folder = path / RECORDING / uuid.uuid4().hex
        self._folder.mkdir()
        images = root.spec.image_fields
        steps = {name: layout for name, layout in layouts.items() if layout.dimension_names[0] == "time"}
        rows = {name: layout.empty_chunk()[0] for name, layout in steps.items() if name not in images}
        streams = {name: (spec.array.dtype, spec.array.shape) for name, spec in root.spec.streams.items()}
        self._samples: Counter[str] = Counter()
        videos = {name: (layouts[name].chunk_rows, layouts[name].row_shape) for name in root.spec.video_fields}
        self._journal = JournalWriter(self._folder / JOURNAL, meta, rows, images, videos, phase, streams)
        alignment = root.spec.alignment
        self._start = -(-root.num_steps // alignment) * alignment + phase
        self._arrays: dict[str, ArrayWriter] = {}
        try:
            for name, layout in layouts.items():
                self._arrays[name] = ArrayWriter(path, layout, root.num_rows(name), self._folder)
                if layout.dimension_names[0] == "time":
                    self._arrays[name].skip_to(self._start)
        except BaseException:
            self.abandon(keep=False)
            raise
        self._videos = {name: VideoTrack(self._arrays[name], self._journal, self._start) for name in videos}

    def add(self, step: Step) -> None:
        """Code the images, note the step in the journal, and add it to the shards."""
        pictures: dict[str, bytes | None] = {}
        for name, value in step.pictures.items():
            if name in self._videos:
                self._videos[name].frame(value)
                pictures[name] = value if isinstance(value, bytes) else None
            else:
                coded = self._layouts[name].codec.encode(value[None]) if isinstance(value, np.ndarray) else value
                pictures[name] = coded
        self._journal.step(StepRecord(step.rows, pictures), step.dropped)
        for name, row in step.rows.items():
            self._arrays[name].append(row)
            self._checksum.add(name, row)
        for name, data in pictures.items():
            if name in self._videos:
                self._videos[name].end_step()
            else:
                self._arrays[name].append_coded(data)
        self._length += 1
        self._masked.update(name for name, column in self._columns.items() if not step.rows["valid"][column])
        self._dropped.update(step.dropped)

    def add_stream(self, block: StreamBlock) -> None:
        """Note samples in the journal, and add them to the shards."""
        self._journal.stream(block)
        self._checksum.add(stream_array(block.name), block.values)
        self._checksum.add(stream_stamps(block.name), block.stamps)
        for value, stamps in zip(block.values, block.stamps, strict=True):
            self._arrays[stream_array(block.name)].append(value)
            self._arrays[stream_stamps(block.name)].append(stamps)
        self._samples[block.name] += len(block.values)

    def mark(self, label: str, author: str) -> None:
        """A stage begins with the next step."""
        mark = Mark(self._length, label, author)
        self._journal.mark(mark)
        self._marks.append(mark)

    def commit(self, outcome: EpisodeOutcome, tags: Mapping[str, Any], annotations: Sequence[Annotation] = ()) -> Root:
        """Move everything into place; the last step, and the only one that a reader notices, is the root file."""
        success = None if outcome.success is None else bool(outcome.success)
        outcome = EpisodeOutcome(success, bool(outcome.terminated), bool(outcome.truncated), outcome.reason)
        info = EpisodeInfo(
            **asdict(replace(self._meta, tags={**self._meta.tags, **tags})),
            **asdict(outcome),
            start=self._start,
            length=self._length,
            masked=dict(self._masked),
            dropped=dict(self._dropped),
            checksum=self._checksum.value,
            streams={n: (self._root.num_rows(stream_array(n)), number) for n, number in self._samples.items()},
            annotations=tuple(sorted([*self._stages(), *annotations], key=lambda note: note.start)),
        )
        root = replace(self._root, table=self._root.table.added(info), num_steps=info.stop)
        for video in self._videos.values():
            video.end_group()
        self._journal.outcome(outcome, tags, annotations)
        self._disk.move([file for array in self._arrays.values() for file in array.seal()])
        lengths = {self._path / n / ROOT_FILE: array_metadata(x, root.num_rows(n)) for n, x in self._layouts.items()}
        self._disk.replace(lengths)
        return write_root(self._path, root, self._disk)

    def _stages(self) -> list[Annotation]:
        """The marks, each up to the next one of its author or the end. One without a step is no stage."""
        stages = []
        for number, mark in enumerate(self._marks):
            after = [other.step for other in self._marks[number + 1 :] if other.author == mark.author]
            stages.append(Annotation(mark.step, min([*after, self._length]), mark.label, mark.author))
        return [stage for stage in stages if stage.start < stage.stop]

    def abandon(self, keep: bool) -> None:
        """Let go of the files. What is kept is the journal, if there is a step in it."""
        for array in self._arrays.values():
            array.close()
        self._journal.close()
        if keep and self._length:
            remove_shards(self._folder)
        else:
            with contextlib.suppress(OSError):
                (self._folder / JOURNAL).replace(self._folder / "done")  # no journal, no episode
            self._disk.later(shutil.rmtree, self._folder, True)


def recordings(path: Path) -> list[Path]:
    """Folders of episodes that are, or were, being recorded."""
    folder = path / RECORDING
    entries = folder.iterdir() if folder.is_dir() else ()
    return sorted(entry for entry in entries if entry.is_dir() and not entry.is_symlink())


def unfinished_episode(folder: Path) -> UnfinishedEpisode | None:
    """The episode that a dead writer left in the folder; None where there is none, or its writer lives."""
    journal = folder / JOURNAL
    try:
        if is_being_written(journal):
            return None
        reader = JournalReader(journal)
    except FileNotFoundError:
        return None
    except DatasetError as error:
        return UnfinishedEpisode(folder.name, 0, None, None, str(error))
    except OSError as error:  # another user's
        return UnfinishedEpisode(folder.name, 0, None, None, f"{journal} cannot be read: {error.strerror}")
    return UnfinishedEpisode(reader.meta.id, reader.length, reader.meta, reader.outcome) if reader.length else None


def clean(path: Path, committed: Collection[str]) -> None:
    """Free the disk of what dead writers left, but for the journals of unfinished episodes. Wants the writer's lock."""
    for folder in recordings(path):
        with contextlib.suppress(OSError):
            if is_being_written(folder / JOURNAL):
                continue  # by a writer whose lock was taken away
        episode = unfinished_episode(folder)
        if episode is None or episode.id in committed:
            shutil.rmtree(folder, ignore_errors=True)
        else:
            remove_shards(folder)


def remove_shards(folder: Path) -> None:
    """Leave nothing but the journal and the last frames, which are all there is. A disk that is gone keeps it all."""
    with contextlib.suppress(OSError):
        for file in folder.iterdir():
            if file.name != JOURNAL and not file.name.endswith(FRAMES):
                file.unlink()
