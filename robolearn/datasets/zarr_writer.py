"""The writer of a zarr dataset: one lock, one background thread, one atomic step an episode.

`append` checks a step, copies it and hands it to the thread, which codes the images, writes the journal and adds rows
to shards that nobody sees. Committing moves those shards into place and then replaces the root file; the length of the
episode does not matter to how long that takes.
"""

from __future__ import annotations

import contextlib
import re
import threading
import uuid
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from robolearn import __version__
from robolearn.datasets.disk import Disk
from robolearn.datasets.journal import StepRecord, StreamBlock
from robolearn.datasets.lock import WriterLock
from robolearn.datasets.shards import ArrayLayout
from robolearn.datasets.store import NO_STAMP, Annotation, EpisodeInfo, EpisodeMeta, WriterConfig, require_json
from robolearn.datasets.zarr_layout import (
    RECORDING,
    ROOT_FILE,
    STATISTICS,
    Root,
    array_layouts,
    array_metadata,
    open_files,
    read_array,
    read_root,
    repair_advice,
    write_root,
)
from robolearn.datasets.zarr_recording import Recording, Step, clean
from robolearn.errors import DatasetError, SpecError, UnknownNameError, quoted
from robolearn.specs import ArraySpec
from robolearn.types import EpisodeOutcome

EPISODE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")

T = TypeVar("T")


def _in_bytes(array: NDArray) -> bool:
    """Whether its numbers lie in bytes, which nobody can change, as those of a picture that was received do."""
    while isinstance(array.base, np.ndarray):
        array = array.base
    return isinstance(array.base, bytes)


def _stop() -> None:
    """Ends the thread."""


class ZarrWriter:
    """See EpisodeWriter. A context manager; leaving it with a begun episode leaves that one behind, unfinished."""

    def __init__(
        self,
        path: Path,
        config: WriterConfig,
        on_commit: Callable[[Root], None],
        summarize: Callable[[], dict[str, Any] | None],
    ) -> None:
        """`on_commit` is part of committing; `summarize` gives the new statistics when the caller has gone on."""
        self._path = path
        self._config = config
        self._on_commit = on_commit
        self._summarize = summarize
        self._unwritten = False  # whether there are statistics that the root file lacks
        self._lock = WriterLock(path, path / RECORDING)
        self._disk = Disk(config.fsync)
        try:
            self._root = read_root(path)
            self._layouts = self._heal()
        except BaseException:
            self._disk.close()
            self._lock.release()
            raise
        spec = self._root.spec
        self._fields = spec.fields
        self._images = spec.image_fields
        self._columns = {name: column for column, name in enumerate(spec.stamped_fields)}
        self._dtypes = {name: np.dtype(field_spec.dtype) for name, field_spec in self._fields.items()}
        self._begun: EpisodeMeta | None = None
        self._num_appended = 0
        self._failure: Exception | None = None  # why the begun episode cannot be completed
        self._work: deque[Step | StreamBlock | Callable[[], None]] = deque()
        self._waiting_bytes = 0
        self._changed = threading.Condition()
        self._closed = False
        self._recording: Recording | None = None
        self._thread = threading.Thread(target=self._run, name="dataset-writer", daemon=True)
        self._thread.start()

    @property
    def is_open(self) -> bool:
        """Whether an episode can be begun: it was not closed, and nobody has taken its lock away."""
        return not self._closed and self._lock.is_held

    # --- the caller's side ---------------------------------------------------------------------------------------

    def begin(self, meta: EpisodeMeta, phase: int = 0) -> None:
        """See EpisodeWriter. `phase` is for copies of episodes that begin in the midst of a group of frames."""
        if self._closed:
            raise DatasetError(f"{self._path}: this writer is closed; open another one")
        self._lock.require_held()
        if self._begun is not None:
            raise DatasetError(f"{self._path}: episode {self._begun.id!r} is not ended; commit or discard it first")
        meta = replace(
            meta,
            seed=None if meta.seed is None else int(meta.seed),
            created_ns=int(meta.created_ns),
            id=meta.id or uuid.uuid4().hex[:16],
            software_version=meta.software_version or f"robolearn {__version__}",
        )
        if not EPISODE_ID.fullmatch(meta.id):
            raise DatasetError(f"episode id {meta.id!r} is not of letters, digits, '.', '_' and '-' (at most 100)")
        if meta.id in self._root.table.rows:
            raise DatasetError(f"{self._path} has an episode {meta.id!r} already; ids are unique")
        require_json(f"what is said of episode {meta.id!r}", asdict(meta))
        self._begun, self._num_appended, self._failure = meta, 0, None
        self._stream_ns: dict[str, int] = {}  # newest stamp of every stream
        self._enqueue(lambda: self._open_episode(meta, phase))

    def append(
        self,
        step: Mapping[str, ArrayLike],
        stamps_ns: Mapping[str, int],
        received_ns: Mapping[str, int] | None = None,
        valid: Mapping[str, bool] | None = None,
    ) -> None:
        self._check_begun()
        for name in (*step, *stamps_ns, *(received_ns or ()), *(valid or ())):
            if name not in self._fields:
                raise UnknownNameError("dataset field", name, self._fields)
        stamps = np.full((len(self._columns), 2), NO_STAMP, np.int64)
        usable = np.zeros(len(self._columns), np.bool_)
        rows: dict[str, NDArray] = {"stamp_ns": stamps, "valid": usable}
        pictures: dict[str, NDArray | bytes | None] = {}
        for name, spec in self._fields.items():
            value = self._value(name, spec, step[name]) if name in step else None
            column = self._columns.get(name)
            if column is not None:
                told = stamps_ns.get(name, NO_STAMP), (received_ns or {}).get(name, NO_STAMP)
                try:
                    stamps[column] = told
                except (TypeError, ValueError, OverflowError) as error:
                    raise SpecError(f"the stamps of {name} are {told}; wanted whole nanoseconds") from error
                usable[column] = value is not None and (valid or {}).get(name, True)
                if value is not None and value.dtype.kind == "f" and not np.isfinite(value).all():
                    usable[column] = False
            if name in self._images:
                pictures[name] = value if value is not None and usable[self._columns[name]] else None
            else:
                rows[name] = self._layouts[name].empty_chunk()[0] if value is None else value
        self._enqueue_step(rows, pictures, usable)
        self._num_appended += 1

    def append_record(self, record: StepRecord, dropped: Sequence[str] = ()) -> None:
        """Add a step as a journal or another dataset holds it; `dropped` names what had been lost for want of time."""
        self._check_begun()
        size = sum(
            picture.nbytes if isinstance(picture, np.ndarray) else len(picture or b"")
            for picture in record.pictures.values()
        )
        self._wait_for_room(size)
        self._enqueue(Step(record.rows, record.pictures, tuple(dropped), size))
        self._num_appended += 1

    def append_stream(
        self, name: str, values: ArrayLike, stamps_ns: ArrayLike, received_ns: ArrayLike | None = None
    ) -> None:
        self._check_begun()
        streams = self._root.spec.streams
        if name not in streams:
            raise UnknownNameError("stream", name, streams)
        spec, array = streams[name].array, np.asarray(values)
        captured = np.asarray(stamps_ns, np.int64)
        received = np.full(len(array), NO_STAMP) if received_ns is None else np.asarray(received_ns, np.int64)
        dtype = np.dtype(spec.dtype)
        wanted = (len(array), *spec.shape)
        if array.shape != wanted or not np.can_cast(array.dtype, dtype, "same_kind"):
            raise SpecError(f"stream {name} is {array.dtype} {array.shape}, the dataset wants {dtype} {wanted}")
        if not captured.shape == received.shape == (len(array),):
            raise SpecError(
                f"stream {name} has {len(array)} samples, {captured.shape} capture and {received.shape} receive stamps"
            )
        before = np.concatenate([[self._stream_ns.get(name, np.iinfo(np.int64).min)], captured])
        if (before[1:] < before[:-1]).any():
            raise SpecError(f"the stamps of stream {name} run backwards; add its samples in the order of their capture")
        if not len(array):
            return
        self._stream_ns[name] = int(captured[-1])
        block = StreamBlock(name, np.array(array, dtype, order="C"), np.stack([captured, received], axis=1))
        if not self._config.drop_when_full:  # there the caller never waits, and samples are small
            self._wait_for_room(block.num_bytes)
        self._enqueue(block)

    def mark(self, label: str, author: str = "") -> None:
        self._check_begun()
        if not label:
            raise DatasetError(f"{self._path}: a mark wants a label")
        self._enqueue(lambda: self._mark(label, author))

    def commit(
        self,
        outcome: EpisodeOutcome,
        tags: Mapping[str, Any] | None = None,
        annotations: Sequence[Annotation] = (),
    ) -> EpisodeInfo:
        """See EpisodeWriter; `annotations` are added to the marks."""
        if self._begun is not None and self._failure is None and self._num_appended == 0:
            raise DatasetError(f"{self._path}: the episode has no steps; discard it")
        if self._begun is not None:
            said = [dict(tags or {}), outcome.reason, [asdict(note) for note in annotations]]
            require_json(f"what is said of episode {self._begun.id!r}", said)
        try:
            self._check_begun()
            info = self._in_thread(lambda: self._commit_episode(outcome, tags or {}, annotations))
            if self._config.statistics:
                self._enqueue(self._add_statistics)
            return info
        finally:
            self._begun = None

    def discard(self) -> None:
        if self._begun is None:
            raise DatasetError(f"{self._path}: there is no episode to discard; begin one first")
        self._begun, self._failure = None, None
        with self._changed:
            self._work = deque(work for work in self._work if not isinstance(work, (Step, StreamBlock)))
            self._waiting_bytes = 0
        self._in_thread(lambda: self._abandon(keep=False))

    def close(self) -> None:
        """Finish what was appended, leave a begun episode unfinished, and give the dataset free."""
        if self._closed:
            return
        self._closed = True
        self._begun = None
        try:
            self._in_thread(lambda: self._abandon(keep=True))
            self._in_thread(self._write_statistics)
            with self._changed:
                self._work.append(_stop)
                self._changed.notify_all()
            self._thread.join()
            self._disk.close()
        finally:
            self._lock.release()

    def __enter__(self) -> ZarrWriter:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _check_begun(self) -> None:
        if self._begun is None:
            raise DatasetError(f"{self._path}: no episode is begun; call begin first")
        if self._failure is not None:
            raise DatasetError(
                f"{self._path}: episode {self._begun.id!r} cannot be recorded: {self._failure}; what came before "
                "is kept, mend the cause and begin again"
            ) from self._failure

    def _value(self, name: str, spec: ArraySpec, value: ArrayLike) -> NDArray:
        """The value in the field's dtype, as it stays whatever the caller does with it. Numbers that are not finite are
        facts and stay."""
        dtype, unit = self._dtypes[name], f" [{spec.unit}]" if spec.unit else ""
        try:
            array = np.asarray(value)
        except ValueError as error:  # rows of unequal lengths
            raise SpecError(f"{name} is no array, the dataset wants {dtype} {spec.shape}{unit}") from error
        fits = array.dtype == dtype or np.can_cast(array.dtype, dtype, "same_kind")
        if not fits and array.dtype.kind in "iub":
            fits = bool((array.astype(dtype) == array).all())  # a Python 0 is a good uint8
        if array.shape != spec.shape or not fits:
            raise SpecError(f"{name} is {array.dtype} {array.shape}, the dataset wants {dtype} {spec.shape}{unit}")
        return np.asarray(array, dtype, order="C") if _in_bytes(array) else np.array(array, dtype, order="C")

    def _enqueue_step(
        self, rows: dict[str, NDArray], pictures: dict[str, NDArray | bytes | None], usable: NDArray[np.bool_]
    ) -> None:
        """Hand a step over; its pictures wait for room, or are dropped where that is wanted."""
        size = sum(value.nbytes for value in pictures.values() if isinstance(value, np.ndarray))
        dropped: tuple[str, ...] = ()
        if self._config.drop_when_full and not self._has_room(size):
            dropped = tuple(name for name, picture in pictures.items() if picture is not None)
            for name in dropped:
                pictures[name] = None
                usable[self._columns[name]] = False
            size = 0
        if size:
            self._wait_for_room(size)
        self._enqueue(Step(rows, pictures, dropped, size))

    def _has_room(self, size: int) -> bool:
        return self._waiting_bytes == 0 or self._waiting_bytes + size <= self._config.queue_bytes

    def _wait_for_room(self, size: int) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._has_room(size) or self._failure is not None)

    def _enqueue(self, work: Step | StreamBlock | Callable[[], None]) -> None:
        with self._changed:
            self._work.append(work)
            self._waiting_bytes += work.num_bytes if isinstance(work, (Step, StreamBlock)) else 0
            self._changed.notify_all()

    def _in_thread(self, function: Callable[[], T]) -> T:
        """The function's result, once the thread has done all that was asked before."""
        future: Future[T] = Future()

        def run() -> None:
            try:
                future.set_result(function())
            except Exception as error:  # noqa: BLE001, it is raised again where it was asked for
                future.set_exception(error)

        self._enqueue(run)
        return future.result()

    # --- the thread's side ---------------------------------------------------------------------------------------

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._work)
                work = self._work.popleft()
            if work is _stop:
                return
            try:
                if isinstance(work, (Step, StreamBlock)):
                    self._add(work)
                else:
                    work()
            except Exception as error:  # noqa: BLE001, the next call of the owner raises it
                self._failure = error
                self._abandon(keep=True)
            if isinstance(work, (Step, StreamBlock)) and work.num_bytes:
                with self._changed:
                    self._waiting_bytes = max(self._waiting_bytes - work.num_bytes, 0)
                    self._changed.notify_all()

    def _open_episode(self, meta: EpisodeMeta, phase: int) -> None:
        self._recording = Recording(self._path, self._root, self._layouts, meta, self._disk, phase)

    def _add(self, work: Step | StreamBlock) -> None:
        if self._recording is None:
            return  # it failed, and its owner will be told
        if isinstance(work, Step):
            self._recording.add(work)
        else:
            self._recording.add_stream(work)

    def _mark(self, label: str, author: str) -> None:
        if self._recording is not None:
            self._recording.mark(label, author)

    def _commit_episode(
        self, outcome: EpisodeOutcome, tags: Mapping[str, Any], annotations: Sequence[Annotation]
    ) -> EpisodeInfo:
        recording = self._recording
        if recording is None:
            raise DatasetError(f"{self._path}: the episode was not recorded: {self._failure}") from self._failure
        try:
            self._lock.require_held()
        except DatasetError as error:
            self._abandon(keep=True)
            raise DatasetError(
                f"{error}, and salvage the episode that was not committed with: "
                f"robolearn dataset repair {quoted(self._path)}"
            ) from error
        try:
            root = recording.commit(outcome, tags, annotations)
        except OSError as error:
            self._abandon(keep=True)
            with contextlib.suppress(DatasetError):
                self._root = read_root(self._path)  # whatever failed, this file tells whether the episode is there
            raise DatasetError(
                f"{self._path}: the episode was not committed: {error}; make room, then salvage it with: "
                f"robolearn dataset repair {quoted(self._path)}"
            ) from error
        self._root, self._unwritten = root, False
        self._on_commit(root)
        self._abandon(keep=False)
        return root.episodes[-1]

    def _add_statistics(self) -> None:
        """They go into the root file with the next episode, or at the end."""
        if (whole := self._summarize()) is not None:
            self._root = replace(self._root, attributes={**self._root.attributes, STATISTICS: whole})
            self._on_commit(self._root)
            self._unwritten = True

    def _write_statistics(self) -> None:
        if self._unwritten and self._lock.is_held:
            with contextlib.suppress(OSError):  # they can be computed again
                self._root = write_root(self._path, self._root, self._disk)

    def _abandon(self, keep: bool) -> None:
        recording, self._recording = self._recording, None
        if recording is not None:
            recording.abandon(keep)

    def _heal(self) -> dict[str, ArrayLayout]:
        """Mend what a writer that died left half done; return the layout of every array."""
        path, root = self._path, self._root
        clean(path, root.table.rows)
        layouts, files = {}, open_files(path)
        for name, layout in array_layouts(root.spec).items():
            layouts[name], num_rows = read_array(files, layout)
            wanted = root.num_rows(name)
            if num_rows < wanted:
                raise DatasetError(
                    f"{path / name}: field {name} has {num_rows} steps, the episodes have {wanted}; "
                    f"{repair_advice(files)}"
                )
            if num_rows > wanted:
                self._disk.replace({path / name / ROOT_FILE: array_metadata(layouts[name], wanted)})
        return layouts
