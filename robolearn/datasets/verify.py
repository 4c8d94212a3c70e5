"""Checking a dataset: every byte is read.

A problem is damage or a contradiction, and makes the dataset not whole. A warning is a fact about the robot's day that
one should know before learning from it: gaps in time, lost images, a camera that stood still.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robolearn.datasets.column_repair import unlisted_columns
from robolearn.datasets.columns import COLUMNS, read_column
from robolearn.datasets.statistics import stored, updated
from robolearn.datasets.store import NO_STAMP, EpisodeInfo
from robolearn.datasets.zarr_layout import (
    ROOT_FILE,
    array_layouts,
    open_files,
    read_array,
    read_root,
    repair_advice,
    stream_array,
    stream_stamps,
)
from robolearn.datasets.zarr_recording import RowsChecksum
from robolearn.datasets.zarr_store import ZarrStore
from robolearn.errors import DatasetError, quoted
from robolearn.progress import OnProgress, no_progress
from robolearn.specs import ArraySpec

GAP_PERIODS = 2.5  # control periods between two steps that count as a gap
FROZEN_S = 1.0  # identical images for longer than this are a camera that stands still
REPEATED_SHARE = 0.2  # of images that equal the one before, from which on a camera is slower than the steps
LIMIT_TOLERANCE = 1e-5  # of the range of a joint, by which float32 may pass its limit
TRAIN_MARGIN = 1e-3  # of the range of an action, by which a training lets it pass its limit


@dataclass(frozen=True)
class VerifyReport:
    """What was found. `ok` when there is no problem."""

    path: str
    episodes: int
    steps: int
    problems: list[str]
    warnings: list[str]

    @property
    def ok(self) -> bool:
        return not self.problems

    def to_json(self) -> dict[str, Any]:
        return {"ok": self.ok, **asdict(self)}


def verify(path: Path | str, progress: OnProgress = no_progress) -> VerifyReport:
    """Read all of a dataset. Raises DatasetError only when it cannot be opened as one at all."""
    path = Path(path)
    files = open_files(path)
    root = read_root(files)
    problems: list[str] = []
    warnings: list[str] = []
    store = ZarrStore.open(path)
    if store.damaged_fields:
        problems += store.damaged_fields.values()
        return VerifyReport(str(path), len(root.episodes), root.num_steps, problems, warnings)
    for name, layout in array_layouts(root.spec).items():
        num_rows, wanted = read_array(files, layout)[1], root.num_rows(name)
        if num_rows > wanted:
            longer = f"{path / name}: field {name} has {num_rows} steps, the episode table {wanted}"
            problems.append(f"{longer}; {repair_advice(files)}")
    problems += [f"{path}: {left}" for left in store.unfinished]
    problems += [*store.damaged_columns.values(), *_column_problems(store)]
    for index, episode in enumerate(store.episodes):
        where = f"episode {index} ({episode.id})"
        problems += [f"{where}: {text}" for text in _episode_problems(store, index, episode)]
        warnings += [f"{where}: {text}" for text in _episode_warnings(store, index, episode)]
        progress(index + 1, len(store.episodes))
    warnings += _dataset_warnings(store)
    problems += _statistics_problems(store)
    # A shard serves several episodes; one message for each is enough.
    steps = sum(episode.length for episode in store.episodes)
    return VerifyReport(str(path), len(store.episodes), steps, list(dict.fromkeys(problems)), warnings)


def _is_as_recorded(store: ZarrStore, episode: EpisodeInfo) -> bool:
    """Whether the rows are those that were committed. Raises DatasetError where they cannot be read."""
    if episode.checksum is None:
        return True
    checksum = RowsChecksum(store.spec)
    ends = {name: (episode.start, episode.stop) for name in store.spec.fields if name not in store.spec.image_fields}
    ends |= dict.fromkeys(("stamp_ns", "valid"), (episode.start, episode.stop))
    for name, (first, number) in episode.streams.items():
        ends |= dict.fromkeys((stream_array(name), stream_stamps(name)), (first, first + number))
    for name, (first, stop) in ends.items():
        checksum.add(name, store.reader(name).read(first, stop))
    return checksum.value == episode.checksum


def _episode_problems(store: ZarrStore, index: int, episode: EpisodeInfo) -> Iterator[str]:
    spec = store.spec
    try:
        valid = store.read_valid(index)
        stamps = store.read_stamps(index)
    except DatasetError as error:
        yield str(error)
        return
    try:
        if not _is_as_recorded(store, episode):
            yield (
                "its steps are not those that were recorded, as in a copy that was made while somebody recorded; copy "
                f"it again, or: robolearn dataset delete {quoted(store.path)} {quoted(episode.id)}"
            )
    except DatasetError as error:
        yield str(error)
    for name in spec.streams:
        try:
            samples = store.read_stream(index, name)[1][:, 0]
        except DatasetError as error:
            yield str(error)
            continue
        backwards = np.diff(samples) < 0
        if backwards.any():
            yield f"the capture stamps of stream {name} run backwards after sample {int(np.argmax(backwards))}"
    for name in stamps:
        mask = valid[name]
        if (masked := int((~mask).sum())) != episode.masked.get(name, 0):
            yield f"{name} is masked in {masked} steps, the episode table says {episode.masked.get(name, 0)}"
        captured = stamps[name][:, 0]
        captured = captured[captured != NO_STAMP]
        if (np.diff(captured) < 0).any():
            yield f"the capture stamps of {name} run backwards after step {int(np.argmax(np.diff(captured) < 0))}"
    for name, column in store.columns.items():
        rows = column.rows.get(episode.id)
        if rows is None:
            continue
        try:
            if not rows.are(store.reader(name).read(rows.start, rows.stop)):
                yield f"column {name} has other values than were written; {repair_advice(store.files)}"
        except DatasetError as error:
            yield str(error)
    for name, field in spec.fields.items():
        try:
            values = _read_whole(store, index, name, valid.get(name))
        except DatasetError as error:
            yield str(error)
            continue
        if values is None or values.dtype.kind != "f":
            continue
        there = values[valid[name]]
        if not np.isfinite(there).all():
            yield f"{name} holds numbers that are not finite in steps that are marked valid"
        if name == "action_sent" and (outside := outside_limits(there, field, LIMIT_TOLERANCE)):
            yield f"action_sent is {outside}"


def outside_limits(values: NDArray, field: ArraySpec, margin: float) -> str:
    """Which entries of vectors (T, D) are outside the limits of `field` by more than `margin` of their range, and in
    how many steps; nothing where none is."""
    if field.low is None or field.high is None:
        return ""
    low, high = np.array(field.low), np.array(field.high)
    outside = (values < low - margin * (high - low)) | (values > high + margin * (high - low))
    entries = [field.names[entry] if field.names else str(entry) for entry in np.flatnonzero(outside.any(axis=0))]
    steps = int(outside.any(axis=1).sum())
    return f"outside the limits of {', '.join(entries)} in {steps} steps" if entries else ""


def _column_problems(store: ZarrStore) -> Iterator[str]:
    if not store.columns and (names := unlisted_columns(open_files(store.path))):
        yield f"{store.files.where(f'{COLUMNS}/{ROOT_FILE}')} does not list {', '.join(names)}"
    for name in store.columns:
        if (stored := read_column(store.files, name)).is_short:
            yield f"{store.name}: column {name} has {stored.num_rows} steps, and episodes that reach beyond"


def _statistics_problems(store: ZarrStore) -> Iterator[str]:
    """What the root file says, against the steps."""
    kept = stored(store)
    if kept is None:
        return
    try:
        wanted = updated(store, None)["fields"]
    except DatasetError:
        return  # it is among the problems
    for name, summary in wanted.items() if kept["episodes"] == len(store.episodes) else ():
        found = kept["fields"].get(name, {})
        if not all(np.allclose(found.get(key, np.nan), summary[key], rtol=1e-3, atol=1e-5) for key in ("mean", "std")):
            yield f"{store.name}: the statistics of {name} are not those of its steps"


def _read_whole(store: ZarrStore, index: int, name: str, valid: NDArray[np.bool_] | None) -> NDArray | None:
    """The values; of images nothing, but each is decoded, and one that is valid has to be there."""
    if name not in store.spec.image_fields or valid is None:
        return store.read(index, [name])[name]
    reader, start = store.reader(name), store.episodes[index].start
    for step, wanted in enumerate(valid.tolist()):
        store.read(index, [name], step, step + 1)
        if wanted and reader.read_coded((start + step) // reader.layout.chunk_rows) is None:
            raise DatasetError(f"{store.files.where(name)}: field {name}: the picture of step {step} is missing")
    return None


def _episode_warnings(store: ZarrStore, index: int, episode: EpisodeInfo) -> Iterator[str]:
    spec = store.spec
    period_ns = 1e9 / spec.interface.control_hz
    for name, lost in episode.dropped.items():
        yield f"{lost} images of {name} were lost because the codec was too slow"
    try:
        for name, stamps in store.read_stamps(index).items():
            captured = stamps[stamps[:, 0] != NO_STAMP, 0]
            gaps = np.diff(captured) > GAP_PERIODS * period_ns
            if gaps.any():
                longest_s = float(np.diff(captured).max()) * 1e-9
                yield f"{name} has {int(gaps.sum())} gaps in time, the longest of {longest_s:.3f} s"
        for name in spec.image_fields:
            run, repeated = _standstill(store, index, name)
            if run * period_ns > FROZEN_S * 1e9:
                yield f"{name} shows one and the same picture for {run} steps"
            elif repeated > REPEATED_SHARE * episode.length:
                yield f"{name} shows the picture of the step before in {repeated} of {episode.length} steps"
        acted = store.read(index, ["action"])["action"][store.read_valid(index)["action"]]
        if outside := outside_limits(acted, spec.interface.action, TRAIN_MARGIN):
            yield f"action is {outside}; the safety filter clipped that, and no training takes the episode"
    except DatasetError:
        return  # it is among the problems


def _standstill(store: ZarrStore, index: int, name: str) -> tuple[int, int]:
    """Most steps in a row whose pictures are coded alike, and the number of steps that repeat the one before."""
    episode = store.episodes[index]
    reader = store.reader(name)
    longest = run = repeated = 0
    before: bytes | None = None
    for step in range(episode.start, episode.stop):
        coded = reader.read(step, step + 1).tobytes() if reader.layout.grouped else reader.read_coded(step)
        same = coded is not None and coded == before
        run = run + 1 if same else 1
        repeated += same
        before = coded
        longest = max(longest, run)
    return longest, repeated


def _dataset_warnings(store: ZarrStore) -> Iterator[str]:
    """What shows over all episodes only: entries of vectors that never move."""
    for name in ("proprio", "action"):
        spec = store.spec.fields.get(name)
        if spec is None or len(spec.shape) != 1:
            continue
        low, high = np.full(spec.shape, np.inf), np.full(spec.shape, -np.inf)
        steps = 0
        try:
            for index in range(len(store.episodes)):
                there = store.read(index, [name])[name][store.read_valid(index)[name]]
                steps += len(there)
                low, high = (
                    np.minimum(low, there.min(0, initial=np.inf)),
                    np.maximum(high, there.max(0, initial=-np.inf)),
                )
        except DatasetError:
            continue  # it is among the problems
        still = [spec.names[entry] if spec.names else str(entry) for entry in np.flatnonzero(low == high)]
        if still and steps > 1:
            yield f"{name}: {', '.join(still)} never moves in any of {steps} steps"
