"""Changing a dataset after the fact.

Deleting, trimming, tagging and relabelling change the episode table alone, in one atomic step, and can be undone:
deleted episodes are hidden. `collect_garbage` frees their room, after which nothing can be undone. Splitting and
merging write new datasets, whole or not at all, and copy images as they are coded.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from robolearn.datasets.codecs import without_checksum
from robolearn.datasets.columns import LABELLING, copy_columns
from robolearn.datasets.disk import Disk, moved_when_whole
from robolearn.datasets.journal import StepRecord
from robolearn.datasets.lock import WriterLock
from robolearn.datasets.preferences import copy_preferences, preferences_held
from robolearn.datasets.shards import ArrayReader
from robolearn.datasets.store import CLOSING_ROW, Annotation, EpisodeInfo, EpisodeMeta, WriterConfig, require_json
from robolearn.datasets.zarr_layout import RECORDING, Root, read_root, write_root
from robolearn.datasets.zarr_store import ZarrStore
from robolearn.datasets.zarr_writer import ZarrWriter
from robolearn.durable import exchange, sync
from robolearn.errors import DatasetError, UnknownNameError, quoted
from robolearn.progress import OnProgress, no_progress
from robolearn.types import EpisodeOutcome

Episode = int | str
"""Index among the visible episodes, or id. Ids stay what they are when others are deleted."""

LABELS: dict[str, Any] = {  # what `relabel` changes, and of which type it is
    "task": str,
    "instruction": str,
    "success": bool | None,
    "terminated": bool,
    "truncated": bool,
    "reason": str,
    "operator": str,
}
SUCCESS_BY = "success_by"  # tag: what each of several people said of the success, by name
SUCCESS_RECORDED = "success_recorded"  # tag: what it was before they did


def delete(path: Path, episodes: Sequence[Episode], dry_run: bool = False) -> list[str]:
    """Hide episodes; their ids."""
    return _edit(path, "delete", episodes, lambda row: replace(row, hidden=True), dry_run)


def trim(path: Path, episode: Episode, start: int, stop: int | None = None, dry_run: bool = False) -> list[str]:
    """Keep the steps [start, stop) of an episode."""

    def trimmed(row: EpisodeInfo) -> EpisodeInfo:
        end = row.length if stop is None else stop
        if not 0 <= start < end <= row.length:
            raise DatasetError(f"episode {row.id!r} has {row.length} steps; [{start}, {end}) is not a part of it")
        store = ZarrStore.open(path)
        valid = store.read_valid(episode_index(store, row.id))
        masked = {name: int((~valid[name][start:end]).sum()) for name in store.spec.stamped_fields}
        # How many of them were dropped by the writer is known for the whole episode only.
        masked = {name: number for name, number in masked.items() if number}
        dropped = {name: min(number, masked[name]) for name, number in row.dropped.items() if name in masked}
        annotations = [
            replace(note, start=max(note.start, start) - start, stop=min(note.stop, end) - start)
            for note in row.annotations
            if note.start < end and note.stop > start
        ]
        return replace(
            row,
            start=row.start + start,
            length=end - start,
            masked=masked,
            dropped=dropped,
            annotations=tuple(annotations),
            checksum=row.checksum if end - start == row.length else None,
            tags=row.tags if end == row.length else {k: v for k, v in row.tags.items() if k != CLOSING_ROW},
        )

    return _edit(path, "trim", [episode], trimmed, dry_run)


def tag(path: Path, episodes: Sequence[Episode], tags: Mapping[str, Any], dry_run: bool = False) -> list[str]:
    """Add tags to episodes; one of value None is removed."""
    require_json("tags", dict(tags))

    def tagged(row: EpisodeInfo) -> EpisodeInfo:
        merged = {**row.tags, **tags}
        return replace(row, tags={key: value for key, value in merged.items() if value is not None})

    return _edit(path, "tag", episodes, tagged, dry_run)


def mark(path: Path, episodes: Sequence[Episode], success: bool | None, dry_run: bool = False) -> list[str]:
    """Say whether episodes were a success; their ids."""
    return _edit(path, "mark", episodes, lambda row: replace(row, success=success), dry_run)


def relabel(path: Path, episodes: Sequence[Episode], changes: Mapping[str, Any], dry_run: bool = False) -> list[str]:
    """Change what is said of episodes: any of LABELS; their ids. A task that is new to the dataset joins its list."""
    for name, value in changes.items():
        if name not in LABELS:
            raise UnknownNameError("label", name, LABELS)
        if not isinstance(value, LABELS[name]):
            raise DatasetError(f"label {name} is {value!r}; wanted {LABELS[name]}")
    if not changes:
        raise DatasetError(f"{path}: nothing is to be relabelled; name one of {', '.join(LABELS)}")
    require_json("labels", dict(changes))
    return _edit(path, "relabel", episodes, lambda row: replace(row, **changes), dry_run)


def annotate(
    path: Path, episode: Episode, annotations: Sequence[Annotation], author: str | None = None, dry_run: bool = False
) -> list[str]:
    """Replace an episode's annotations by those of the same authors and keep everybody else's; its id.

    author: whose they all are; then an empty list takes his away.
    """
    authors = {note.author for note in annotations} if author is None else {author}
    if strangers := {note.author for note in annotations} - authors:
        raise DatasetError(f"annotations of {', '.join(sorted(strangers))} came as those of {author!r}")
    require_json("annotations", [asdict(note) for note in annotations])

    def annotated(row: EpisodeInfo) -> EpisodeInfo:
        for note in annotations:
            if not 0 <= note.start < note.stop <= row.length or not note.label:
                raise DatasetError(f"episode {row.id!r} has {row.length} steps; {note} is not a labelled part of it")
        kept = [note for note in row.annotations if note.author not in authors]
        return replace(row, annotations=tuple(sorted([*kept, *annotations], key=lambda note: note.start)))

    return _edit(path, "annotate", [episode], annotated, dry_run)


def judge(path: Path, episode: Episode, success: bool | None, author: str, dry_run: bool = False) -> list[str]:
    """One person's word on whether an episode was a success, None to take it back; its id.

    The words are kept under the tag SUCCESS_BY, and `success` becomes what most say, unknown where they are even. What
    it was before anybody judged is kept under SUCCESS_RECORDED, and is back when nobody judges any more.
    """
    if not author:
        raise DatasetError(f"{path}: a judgement needs a name; say who judges")
    require_json("the name", author)

    def judged(row: EpisodeInfo) -> EpisodeInfo:
        said = {name: word for name, word in {**success_by(row), author: success}.items() if word is not None}
        recorded = row.tags.get(SUCCESS_RECORDED) if success_by(row) else row.success
        tags = {key: value for key, value in row.tags.items() if key not in (SUCCESS_BY, SUCCESS_RECORDED)}
        if not said:
            return replace(row, success=recorded, tags=tags)
        votes = sum(1 if word else -1 for word in said.values())
        most = None if votes == 0 else votes > 0
        return replace(row, success=most, tags={**tags, SUCCESS_BY: said, SUCCESS_RECORDED: recorded})

    return _edit(path, "judge", [episode], judged, dry_run)


def success_by(episode: EpisodeInfo) -> dict[str, bool]:
    """What each person said of the success of an episode, by name."""
    said = episode.tags.get(SUCCESS_BY)
    return dict(said) if isinstance(said, dict) else {}


def last_edit(store: ZarrStore) -> str:
    """What `undo` would take back, in words; empty where there is nothing."""
    return str(store.edits[-1]) if store.edits else ""


def undo(path: Path, dry_run: bool = False, expected: str | None = None) -> str:
    """Take back the last edit; what it was.

    expected: the words of `last_edit` that somebody read; raises DatasetError when it is another one by now.
    """
    with _locked(path):
        root = read_root(path)
        if not root.table.edits:
            raise DatasetError(f"{path} has no edit to undo")
        last = str(root.table.edits[-1])
        if expected not in (None, last):
            raise DatasetError(f"{path}: the last edit is now {last!r}, not {expected!r}; look again")
        if not dry_run:
            _write(path, replace(root, table=root.table.undone()))
    return last


def collect_garbage(path: Path, dry_run: bool = False, progress: OnProgress = no_progress) -> int:
    """Write the dataset anew without hidden episodes and trimmed steps; the bytes that this frees.

    The new dataset takes the place of the old one in one atomic step, on the disk that it lies on.
    """
    path = path.resolve()  # of a symbolic link the name stays, and what it names is replaced
    with _locked(path), _locked(path, LABELLING):
        root = read_root(path)
        new = path.with_name(f".{path.name}.gc")
        if not dry_run:
            shutil.rmtree(new, ignore_errors=True)  # the old one, or half a new one, where it was killed
        kept = sum(row.length for row in root.episodes if not row.hidden)
        before = _folder_bytes(path)
        if dry_run or not _has_garbage(root):
            return round(before * (1 - kept / root.num_steps)) if _has_garbage(root) else 0
        if ZarrStore.open(path).unfinished:
            raise DatasetError(f"{path} has unfinished episodes; first: robolearn dataset repair {quoted(path)}")
        merge([path], new, progress=progress)
        fresh = read_root(new)
        _write(new, replace(fresh, attributes={**root.attributes, **fresh.attributes}))
        after = _folder_bytes(new)
        try:
            with preferences_held(path):
                store = ZarrStore.open(path)  # answers may have come while the episodes were copied
                copy_preferences([(store, index) for index in range(len(store.episodes))], ZarrStore.open(new))
                _exchange(new, path)
        except DatasetError:
            shutil.rmtree(new)
            raise
        sync(path.parent)  # before the old one goes: a power cut must not find neither of them
    shutil.rmtree(new)
    return before - after


def split(
    path: Path, parts: Mapping[Path, Sequence[Episode]], dry_run: bool = False, progress: OnProgress = no_progress
) -> dict[Path, list[str]]:
    """Copy episodes into new datasets; the ids in each."""
    store = ZarrStore.open(path)
    chosen = {out: episode_indices(store, episodes) for out, episodes in parts.items()}
    for out in parts:
        if out.exists():
            raise DatasetError(f"{out} exists; name another folder")
    if not dry_run:
        for out, indices in chosen.items():
            _copy([(store, index) for index in indices], out, (), progress)
    return {out: [store.episodes[index].id for index in indices] for out, indices in chosen.items()}


def merge(paths: Sequence[Path], out: Path, dry_run: bool = False, progress: OnProgress = no_progress) -> list[str]:
    """Copy the episodes of several datasets of one kind into a new one; their ids.

    Raises DatasetError when robots, fields or codecs differ, or an id occurs twice.
    """
    stores = [ZarrStore.open(path) for path in paths]
    if not stores:
        raise DatasetError("merge wants at least one dataset")
    if out.exists():
        raise DatasetError(f"{out} exists; name another folder")
    first = replace(stores[0].spec, tasks=(), cameras={})
    for store in stores[1:]:
        theirs = replace(store.spec, tasks=(), cameras={}).to_json()
        for key, value in first.to_json().items():
            if theirs[key] != value:
                raise DatasetError(f"{store.path} cannot be merged with {stores[0].path}: they differ in {key}")
        if dict(store.spec.cameras) != dict(stores[0].spec.cameras):
            raise DatasetError(f"{store.path} cannot be merged with {stores[0].path}: they differ in cameras")
    ids = [episode.id for store in stores for episode in store.episodes]
    twice = sorted({name for name in ids if ids.count(name) > 1}) if len(set(ids)) < len(ids) else []
    if twice:
        raise DatasetError(f"episodes {', '.join(twice)} are in more than one of the datasets")
    if not dry_run:
        _copy([(store, index) for store in stores for index in range(len(store.episodes))], out, stores, progress)
    return ids


def _copy(
    episodes: Sequence[tuple[ZarrStore, int]], out: Path, stores: Sequence[ZarrStore], progress: OnProgress
) -> None:
    sources = list(stores) or [store for store, _ in episodes[:1]]
    if not sources:
        raise DatasetError(f"there are no episodes to copy into {out}")
    tasks = dict.fromkeys(task for store in sources for task in store.spec.tasks)
    with moved_when_whole(out) as temporary:
        target = ZarrStore.create(temporary, replace(sources[0].spec, tasks=tuple(tasks)))
        config = WriterConfig(fsync=False, statistics=False)  # all of it becomes durable before it is moved
        with target.writer(config) as writer:
            for number, (store, index) in enumerate(episodes):
                copy_episode(store, index, writer)
                progress(number + 1, len(episodes))
        copy_columns(episodes, target)
        copy_preferences(episodes, target)


def copy_episode(store: ZarrStore, index: int, writer: ZarrWriter) -> None:
    """Append an episode of a dataset to another one of the same fields and codec, images as they are coded."""
    info = store.episodes[index]
    images = store.spec.image_fields
    rows = store.read(index, [name for name in store.spec.fields if name not in images])
    rows |= {name: store.reader(name).read(info.start, info.stop) for name in ("stamp_ns", "valid")}
    meta = {name: getattr(info, name) for name in EpisodeMeta.__dataclass_fields__}
    writer.begin(EpisodeMeta(**meta), info.start % store.spec.alignment)
    for name in store.spec.streams:
        samples, stamps = store.read_stream(index, name)
        writer.append_stream(name, samples, *stamps.T)
    columns = {name: column for column, name in enumerate(store.spec.stamped_fields)}
    dropped = dict(info.dropped)
    for step in range(info.length):
        coded = {name: _coded(store.reader(name), info.start, step) for name in images}
        try:
            pictures = {name: None if data is None else without_checksum(data) for name, data in coded.items()}
        except ValueError as error:
            raise DatasetError(f"{store.path}: episode {info.id!r}: picture {step} is damaged ({error})") from error
        lost = [name for name, left in dropped.items() if left and not rows["valid"][step, columns[name]]]
        dropped.update({name: dropped[name] - 1 for name in lost})
        writer.append_record(StepRecord({name: values[step] for name, values in rows.items()}, pictures), lost)
    outcome = EpisodeOutcome(info.success, info.terminated, info.truncated, info.reason)
    writer.commit(outcome, annotations=info.annotations)


def _has_garbage(root: Root) -> bool:
    """Whether there are hidden episodes or trimmed steps, more than what groups of frames leave free."""
    rows = root.episodes
    ends = [0, *(row.stop for row in rows)]
    gaps = [row.start - end for row, end in zip(rows, ends, strict=False)]
    free = 2 * (root.spec.alignment - 1)
    return any(row.hidden for row in rows) or max(gaps, default=0) > free or root.num_steps > ends[-1]


def _coded(reader: ArrayReader, start: int, step: int) -> bytes | None:
    """The picture of a step as it lies on disk; of video the whole group, with its first step in the episode."""
    group, place = divmod(start + step, reader.layout.chunk_rows)
    return reader.read_coded(group) if place == 0 or step == 0 else None


def _edit(
    path: Path, what: str, episodes: Sequence[Episode], change: Callable[[EpisodeInfo], EpisodeInfo], dry_run: bool
) -> list[str]:
    if not episodes:
        raise DatasetError(f"{path}: there is no episode to {what}; name at least one, by index or id")
    with _locked(path):
        root = read_root(path)
        store = ZarrStore.open(path)
        table = store.episodes
        ids = list(dict.fromkeys(table[index].id for index in episode_indices(store, episodes)))
        rows = [change(root.table.rows[name]) for name in ids]
        tasks = dict.fromkeys([*root.spec.tasks, *(row.task for row in rows if row.task)])
        spec = replace(root.spec, tasks=tuple(tasks)) if root.spec.tasks else root.spec
        if not dry_run and ids:
            _write(path, replace(root, spec=spec, table=root.table.edited(what, rows)))
    return ids


def episode_index(store: ZarrStore, episode: Episode) -> int:
    """Index of an episode among the visible ones."""
    return episode_indices(store, [episode])[0]


def episode_indices(store: ZarrStore, episodes: Sequence[Episode]) -> list[int]:
    """Indices of episodes among the visible ones. Raises DatasetError for one that there is not."""
    of_id = {row.id: index for index, row in enumerate(store.episodes)}
    found = []
    for episode in episodes:
        index = of_id.get(episode) if isinstance(episode, str) else episode
        if index is None:
            raise DatasetError(f"{store.path} has no episode of id {episode!r}; its table lists them")
        if not 0 <= index < len(of_id):
            raise DatasetError(f"{store.path} has {len(of_id)} episodes, counted from 0; there is no episode {episode}")
        found.append(index)
    return found


@contextlib.contextmanager
def _locked(path: Path, folder: str = RECORDING) -> Iterator[None]:
    """The lock of those who record, or who label, for as long as an edit takes."""
    read_root(path)  # raises in words when this is no dataset
    lock = WriterLock(path, path / folder)
    try:
        yield
    finally:
        lock.release()


def _write(path: Path, root: Root) -> None:
    with Disk(fsync=True) as disk:
        write_root(path, root, disk)


def _exchange(first: Path, second: Path) -> None:
    try:
        exchange(first, second)
    except OSError as error:
        raise DatasetError(
            f"{second} cannot be replaced in one step on this file system ({error.strerror}); merge it elsewhere"
        ) from error


def _folder_bytes(path: Path) -> int:
    """Size on disk but for what is being written."""
    files = (file for file in path.rglob("*") if not {RECORDING, LABELLING} & set(file.parts))
    return sum(file.stat().st_size for file in files if file.is_file())
