"""The writer of a zarr dataset: one lock, one background thread, one atomic step an episode.

`append` checks a step, copies it and hands it to the thread, which codes the images, writes the journal and adds rows
to shards that nobody sees. Committing moves those shards into place and then replaces the root file; the length of the
episode does not matter to how long that takes.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import re
import shutil
import threading
import uuid
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from robolearn import __version__
from robolearn.datasets.journal import JOURNAL, JournalReader, JournalWriter, StepRecord
from robolearn.datasets.shards import ArrayLayout, ArrayWriter
from robolearn.datasets.store import NO_STAMP, EpisodeInfo, EpisodeMeta, WriterConfig
from robolearn.datasets.zarr_layout import (
    RECORDING,
    ROOT_FILE,
    Root,
    array_layouts,
    array_metadata,
    read_array,
    read_root,
    replace_file,
    sync_folder,
    write_root,
)
from robolearn.errors import DatasetError, SpecError, UnknownNameError
from robolearn.specs import ArraySpec
from robolearn.types import EpisodeOutcome

EPISODE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")
LOCK = "lock"
SYNC_THREADS = 16  # files that are made durable at once; a disk answers many in the time of one

T = TypeVar("T")


def _stop() -> None:
    """Ends the thread."""


class WriterLock:
    """The right to change a dataset, held by one process at a time and given back by the system when it dies."""

    def __init__(self, path: Path) -> None:
        """Raises DatasetError naming the holder when there is one."""
        self._folder = path / RECORDING
        self._file = self._folder / LOCK
        while True:
            try:
                self._folder.mkdir(exist_ok=True)
                self._fd = os.open(self._file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            except FileNotFoundError:
                continue  # the holder that just left took the folder with it
            except OSError as error:
                raise DatasetError(f"{path} cannot be written to: {error.strerror}") from error
            try:
                fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                holder = os.pread(self._fd, 20, 0).decode("ascii", "replace").strip()
                os.close(self._fd)
                raise DatasetError(
                    f"{path} is being written to by process {holder or '?'}; wait for it to end or stop it"
                ) from error
            with contextlib.suppress(FileNotFoundError):
                if os.stat(self._file).st_ino == os.fstat(self._fd).st_ino:
                    break
            os.close(self._fd)  # the holder that just left took the file with it
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, str(os.getpid()).encode(), 0)

    def release(self) -> None:
        self._file.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # unfinished episodes stay
            self._folder.rmdir()
        os.close(self._fd)


@dataclass
class _Episode:
    """The episode that is being recorded. Only the writer's thread touches it."""

    meta: EpisodeMeta
    folder: Path
    arrays: dict[str, ArrayWriter]
    journal: JournalWriter
    length: int = 0
    masked: Counter[str] = field(default_factory=Counter)
    dropped: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class _Step:
    """A step on its way to the thread: rows by array name, pictures raw or coded (None: not there)."""

    rows: dict[str, NDArray]
    pictures: Mapping[str, NDArray | bytes | None]
    dropped: tuple[str, ...] = ()
    num_bytes: int = 0


class ZarrWriter:
    """See EpisodeWriter. A context manager; leaving it with a begun episode leaves that one behind, unfinished."""

    def __init__(self, path: Path, config: WriterConfig, on_commit: Callable[[Root], None]) -> None:
        self._path = path
        self._config = config
        self._on_commit = on_commit
        self._lock = WriterLock(path)
        try:
            self._root = read_root(path)
            self._layouts = self._heal()
        except BaseException:
            self._lock.release()
            raise
        spec = self._root.spec
        self._fields = spec.fields
        self._images = spec.image_fields
        self._columns = {name: column for column, name in enumerate(spec.stamped_fields)}
        self._dtypes = {name: np.dtype(field_spec.dtype) for name, field_spec in self._fields.items()}
        self._sync_pool = ThreadPoolExecutor(SYNC_THREADS, "dataset-sync") if config.fsync else None
        self._begun: EpisodeMeta | None = None
        self._num_appended = 0
        self._failure: Exception | None = None  # why the begun episode cannot be completed
        self._work: deque[_Step | Callable[[], None]] = deque()
        self._waiting_bytes = 0
        self._changed = threading.Condition()
        self._closed = False
        self._episode: _Episode | None = None
        self._thread = threading.Thread(target=self._run, name="dataset-writer", daemon=True)
        self._thread.start()

    # --- the caller's side ---------------------------------------------------------------------------------------

    def begin(self, meta: EpisodeMeta) -> None:
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
        if any(episode.id == meta.id for episode in self._root.episodes):
            raise DatasetError(f"{self._path} has an episode {meta.id!r} already; ids are unique")
        try:
            json.dumps(dict(meta.tags))
        except (TypeError, ValueError) as error:
            raise DatasetError(f"tags of episode {meta.id!r} cannot be written as JSON: {error}") from error
        self._begun, self._num_appended, self._failure = meta, 0, None
        self._enqueue(lambda: self._open_episode(meta))

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
                stamps[column] = stamps_ns.get(name, NO_STAMP), (received_ns or {}).get(name, NO_STAMP)
                usable[column] = value is not None and (valid or {}).get(name, True)
                if value is not None and value.dtype.kind == "f" and not np.isfinite(value).all():
                    usable[column] = False
            if name in self._images:
                pictures[name] = value if value is not None and usable[self._columns[name]] else None
            else:
                rows[name] = self._layouts[name].empty_chunk()[0] if value is None else value
        self._enqueue_step(rows, pictures, usable)
        self._num_appended += 1

    def append_record(self, record: StepRecord) -> None:
        """Add a step of a journal, as it is."""
        self._check_begun()
        self._enqueue(_Step(record.rows, record.pictures))
        self._num_appended += 1

    def commit(self, outcome: EpisodeOutcome) -> EpisodeInfo:
        self._check_begun()
        if self._num_appended == 0:
            raise DatasetError(f"{self._path}: the episode has no steps; discard it")
        try:
            return self._in_thread(lambda: self._commit_episode(outcome))
        finally:
            self._begun = None

    def discard(self) -> None:
        if self._begun is None:
            raise DatasetError(f"{self._path}: there is no episode to discard; begin one first")
        self._begun, self._failure = None, None
        with self._changed:
            self._work = deque(work for work in self._work if not isinstance(work, _Step))
            self._waiting_bytes = 0
        self._in_thread(self._discard_episode)

    def close(self) -> None:
        """Finish what was appended, leave a begun episode unfinished, and give the dataset free."""
        if self._closed:
            return
        self._closed = True
        try:
            self._in_thread(lambda: self._abandon(keep_journal=True))
            with self._changed:
                self._work.append(_stop)
                self._changed.notify_all()
            self._thread.join()
            if self._sync_pool is not None:
                self._sync_pool.shutdown()
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
        """A copy of the value in the field's dtype. Numbers that are not finite are facts and stay."""
        array = np.asarray(value)
        dtype = self._dtypes[name]
        fits = array.dtype == dtype or np.can_cast(array.dtype, dtype, "same_kind")
        if not fits and array.dtype.kind in "iub":
            fits = bool((array.astype(dtype) == array).all())  # a Python 0 is a good uint8
        if array.shape != spec.shape or not fits:
            raise SpecError(
                f"{name} is {array.dtype} {array.shape}, the dataset wants {dtype} {spec.shape} [{spec.unit}]"
            )
        return np.array(array, dtype, order="C")

    def _enqueue_step(
        self, rows: dict[str, NDArray], pictures: dict[str, NDArray | bytes | None], usable: NDArray[np.bool_]
    ) -> None:
        num_bytes = sum(value.nbytes for value in pictures.values() if isinstance(value, np.ndarray))
        dropped: list[str] = []
        with self._changed:

            def full() -> bool:
                return self._waiting_bytes > 0 and self._waiting_bytes + num_bytes > self._config.queue_bytes

            if self._config.drop_when_full and full():
                dropped = [name for name, picture in pictures.items() if picture is not None]
                num_bytes = 0
            else:
                self._changed.wait_for(lambda: not full() or self._failure is not None)
        for name in dropped:
            pictures[name] = None
            usable[self._columns[name]] = False
        self._enqueue(_Step(rows, pictures, tuple(dropped), num_bytes))

    def _enqueue(self, work: _Step | Callable[[], None]) -> None:
        with self._changed:
            self._work.append(work)
            self._waiting_bytes += work.num_bytes if isinstance(work, _Step) else 0
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
                if isinstance(work, _Step):
                    self._add(work)
                else:
                    work()
            except Exception as error:  # noqa: BLE001, the next call of the owner raises it
                self._failure = error
                self._abandon(keep_journal=True)
            if isinstance(work, _Step) and work.num_bytes:
                with self._changed:
                    self._waiting_bytes = max(self._waiting_bytes - work.num_bytes, 0)
                    self._changed.notify_all()

    def _open_episode(self, meta: EpisodeMeta) -> None:
        scratch = self._path / RECORDING / uuid.uuid4().hex
        scratch.mkdir()
        rows = {n: layout.empty_chunk()[0] for n, layout in self._layouts.items() if n not in self._images}
        journal = JournalWriter(scratch / JOURNAL, meta, rows, self._images)
        self._episode = _Episode(meta, scratch, {}, journal)
        for name, layout in self._layouts.items():
            self._episode.arrays[name] = ArrayWriter(self._path / name, layout, self._root.num_steps, scratch)

    def _add(self, step: _Step) -> None:
        episode = self._episode
        if episode is None:
            return  # it failed, and its owner will be told
        pictures = {
            name: self._layouts[name].codec.encode(value[None]) if isinstance(value, np.ndarray) else value
            for name, value in step.pictures.items()
        }
        episode.journal.step(StepRecord(step.rows, pictures))
        for name, row in step.rows.items():
            episode.arrays[name].append(row)
        for name, data in pictures.items():
            episode.arrays[name].append_coded(data)
        episode.length += 1
        episode.masked.update(name for name, column in self._columns.items() if not step.rows["valid"][column])
        episode.dropped.update(step.dropped)

    def _commit_episode(self, outcome: EpisodeOutcome) -> EpisodeInfo:
        episode = self._episode
        if self._failure is not None or episode is None:
            raise DatasetError(f"{self._path}: the episode was not recorded: {self._failure}") from self._failure
        try:
            info = self._make_visible(episode, outcome)
        except OSError as error:
            self._abandon(keep_journal=True)
            raise DatasetError(
                f"{self._path}: episode {episode.meta.id!r} was not committed: {error}; it can be salvaged "
                f"with: robolearn dataset repair {self._path} --action salvage"
            ) from error
        self._abandon(keep_journal=False)
        return info

    def _make_visible(self, episode: _Episode, outcome: EpisodeOutcome) -> EpisodeInfo:
        """Move everything into place; the last step, and the only one that a reader notices, is the root file."""
        meta = episode.meta
        info = EpisodeInfo(
            **asdict(meta),
            success=None if outcome.success is None else bool(outcome.success),
            terminated=bool(outcome.terminated),
            truncated=bool(outcome.truncated),
            reason=outcome.reason,
            start=self._root.num_steps,
            length=episode.length,
            masked=dict(episode.masked),
            dropped=dict(episode.dropped),
        )
        root = replace(self._root, episodes=(*self._root.episodes, info))
        episode.journal.outcome(outcome)
        sealed = [file for array in episode.arrays.values() for file in array.seal()]
        try:
            self._sync([fd for fd, _, _ in sealed])
        finally:
            for fd, _, _ in sealed:
                os.close(fd)
        for _, source, target in sealed:
            os.replace(source, target)
        self._write_metadata(root.num_steps)
        write_root(self._path, root, self._config.fsync)
        if self._config.fsync:
            sync_folder(self._path)
        self._root = root
        self._on_commit(root)
        return info

    def _write_metadata(self, num_rows: int) -> None:
        """Give every array its length, durably; the root file goes by what it finds here."""
        files = {self._path / n / ROOT_FILE: array_metadata(x, num_rows) for n, x in self._layouts.items()}
        fds = []
        try:
            for file, data in files.items():
                temporary = file.with_name(f".{file.name}.tmp")
                fds.append(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644))
                if os.write(fds[-1], data) < len(data):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(temporary))
            self._sync(fds)
        finally:
            for fd in fds:
                os.close(fd)
        for file in files:
            os.replace(file.with_name(f".{file.name}.tmp"), file)
        folders = [os.open(file.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC) for file in files]
        try:
            self._sync(folders)
        finally:
            for fd in folders:
                os.close(fd)

    def _sync(self, fds: Sequence[int]) -> None:
        if self._sync_pool is not None:
            list(self._sync_pool.map(os.fsync, fds))

    def _discard_episode(self) -> None:
        self._abandon(keep_journal=False)

    def _abandon(self, keep_journal: bool) -> None:
        """Let go of the episode's files; without its journal, nothing of it is left."""
        episode, self._episode = self._episode, None
        if episode is None:
            return
        for array in episode.arrays.values():
            array.close()
        episode.journal.close()
        if keep_journal and episode.length:
            remove_scratch(episode.folder)
        else:
            shutil.rmtree(episode.folder, ignore_errors=True)

    def _heal(self) -> dict[str, ArrayLayout]:
        """Mend what a writer that died left half done; return the layout of every array."""
        path, root = self._path, self._root
        layouts = {}
        for name, layout in array_layouts(root.spec).items():
            layouts[name], num_rows = read_array(path, layout)
            if num_rows < root.num_steps:
                raise DatasetError(
                    f"{path / name}: field {name} has {num_rows} steps, the episodes have {root.num_steps}; "
                    f"see: robolearn dataset verify {path}"
                )
            if num_rows > root.num_steps:
                replace_file(path / name / ROOT_FILE, array_metadata(layouts[name], root.num_steps), self._config.fsync)
        ids = {episode.id for episode in root.episodes}
        for folder in recordings(path):
            if journal_id(folder) in (None, *ids):
                shutil.rmtree(folder, ignore_errors=True)
            else:
                remove_scratch(folder)
        return layouts


def recordings(path: Path) -> list[Path]:
    """Folders of episodes that are, or were, being recorded."""
    folder = path / RECORDING
    return sorted(entry for entry in folder.iterdir() if entry.is_dir()) if folder.is_dir() else []


def journal_id(folder: Path) -> str | None:
    """Id of the episode that was recorded there, the folder's name where it cannot be told, None without a journal."""
    if not (folder / JOURNAL).exists():
        return None
    try:
        return JournalReader(folder / JOURNAL).meta.id
    except DatasetError:
        return folder.name


def remove_scratch(folder: Path) -> None:
    """Free the disk of an episode's shards; the journal has it all."""
    for file in folder.iterdir():
        if file.name != JOURNAL:
            with contextlib.suppress(OSError):
                file.unlink()
