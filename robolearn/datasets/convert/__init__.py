"""Formats of others, in and out: a table of them, and the two functions that convert.

A conversion streams, a step at a time; its output appears whole or not at all; and it tells, a line each, what the
other side has no place for.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from robolearn.datasets.convert import (
    d4rl,
    diffusion_policy,
    lerobot,
    lerobot_write,
    minari,
    ogbench,
    robomimic,
    rosbag,
)
from robolearn.datasets.convert.guard import check_size
from robolearn.datasets.convert.source import ImportSettings, Samples, Source, SourceEpisode
from robolearn.datasets.disk import moved_when_whole
from robolearn.datasets.store import DatasetSpec, WriterConfig
from robolearn.datasets.zarr_store import ZarrStore
from robolearn.datasets.zarr_writer import ZarrWriter
from robolearn.errors import DatasetError, RobolearnError, UnknownNameError
from robolearn.progress import OnProgress, no_progress


@dataclass(frozen=True)
class Format:
    """How a format is read and written; None where it is not."""

    what: str
    read: Callable[[Path, ImportSettings], AbstractContextManager[Source]] | None = None
    write: Callable[[ZarrStore, Path, OnProgress], list[str]] | None = None


FORMATS: dict[str, Format] = {
    "lerobot": Format("LeRobot v3.0, v2.1 or v2.0 folder", lerobot.read, lerobot_write.write_videos),
    "lerobot-images": Format("LeRobot v3.0 folder with PNG pictures", lerobot.read, lerobot_write.write_images),
    "robomimic": Format("robomimic HDF5 file", robomimic.read, robomimic.write),
    "diffusion_policy": Format("diffusion_policy zarr folder or zip", diffusion_policy.read, diffusion_policy.write),
    "minari": Format("Minari folder or HDF5 file", minari.read, minari.write),
    "d4rl": Format("D4RL HDF5 file", d4rl.read, d4rl.write),
    "ogbench": Format("OGBench npz file", ogbench.read),
    "rosbag": Format("rosbag2 folder or file, MCAP or sqlite3", rosbag.read),
}


@dataclass(frozen=True)
class Conversion:
    """What was converted, or would be, and what was lost on the way."""

    format: str
    out: str
    episodes: int
    steps: int
    lost: list[str]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def export_dataset(
    store: ZarrStore, name: str, out: Path, dry_run: bool = False, progress: OnProgress = no_progress
) -> Conversion:
    """Write a dataset in the format of that name. Raises DatasetError; nothing is left at `out` then."""
    write = _format(name).write
    if write is None:
        raise DatasetError(f"robolearn reads {name}, but does not write it; it writes {', '.join(writable())}")
    if not store.episodes:
        raise DatasetError(f"{store.path} has no episodes; there is nothing to convert")
    lost = [f"column {column} is not kept" for column in store.columns]
    lost += [f"stream {stream} is not kept: {name} has one rate for all" for stream in store.spec.streams]
    if not dry_run:
        try:
            with _needs(name), moved_when_whole(out.absolute()) as temporary:
                lost += write(store, temporary, progress)
        except (RobolearnError, OSError):
            raise
        except Exception as error:
            raise DatasetError(f"{store.name} cannot be written as {name}: {_reason(error)}") from error
    return Conversion(name, str(out), len(store.episodes), sum(row.length for row in store.episodes), lost)


def import_dataset(
    name: str,
    source: Path,
    out: Path,
    settings: ImportSettings | None = None,
    dry_run: bool = False,
    progress: OnProgress = no_progress,
) -> Conversion:
    """Make a dataset of a file or folder in the format of that name.

    Raises DatasetError naming file and field when something in it is damaged, hostile or does not fit; nothing is left
    at `out` then. A dry run reads what the episodes are, but not their steps.
    """
    read = _format(name).read
    if read is None:
        raise DatasetError(f"robolearn writes {name}, but does not read it; it reads {', '.join(readable())}")
    if not source.exists():
        raise DatasetError(f"{source} does not exist; name a {FORMATS[name].what}")
    if out.exists():
        raise DatasetError(f"{out} exists; name another folder")
    settings = settings or ImportSettings()
    if settings.control_hz is not None and not 0 < settings.control_hz < 1e5:
        raise DatasetError(f"the control rate is {settings.control_hz:g} Hz; wanted a number above 0")
    try:
        # Absolute, for some libraries take what stands before a colon for a URL's scheme.
        with _needs(name), read(source.absolute(), settings) as opened:
            for field, told in opened.spec.fields.items():
                check_size(f"{source}: {field}", (1, *told.shape), np.dtype(told.dtype).itemsize, 0)
            if settings.image_codec is not None:
                opened.spec = replace(opened.spec, image_codec=settings.image_codec, image_codecs={})
            if dry_run:
                return Conversion(name, str(out), 0, opened.num_steps, opened.lost + _coded(opened.spec))
            with moved_when_whole(out) as temporary:
                episodes, steps = _write(opened, temporary, source, progress)
            return Conversion(name, str(out), episodes, steps, opened.lost + _coded(opened.spec))
    except RobolearnError:
        raise
    except Exception as error:
        raise DatasetError(f"{source} cannot be read as {name}: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    """What a library of others says, in a line."""
    return (str(error) or repr(error)).splitlines()[0]


def _coded(spec: DatasetSpec) -> list[str]:
    """What to tell of pictures that are coded anew with loss."""
    codecs = {name: spec.codec_of(name) for name in spec.image_fields if spec.fields[name].dtype == "uint8"}
    lossy = [f"{n} ({c.name})" for n, c in codecs.items() if c.name not in ("zstd", "jpegxl") or c.distance]
    return [f"pictures are coded anew, which changes them: {', '.join(lossy)}; --lossless keeps them"] if lossy else []


@contextlib.contextmanager
def _needs(name: str) -> Iterator[None]:
    """Tell in words when the library that a format takes is not installed."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise DatasetError(f"format {name} wants {error.name}: pip install 'robolearn[convert]'") from error


def _write(source: Source, path: Path, origin: Path, progress: OnProgress) -> tuple[int, int]:
    """Make the dataset; the number of its episodes and steps. What is left out is added to what is lost."""
    episodes = done = left_out = 0
    # What is written here becomes durable as a whole, before it is moved into place.
    with ZarrStore.create(path, source.spec).writer(WriterConfig(fsync=False)) as writer:
        for number, episode in enumerate(source.episodes):
            try:
                steps = _write_episode(writer, episode, done, source.num_steps, progress)
            except RobolearnError as error:
                raise DatasetError(f"{origin}: episode {number}: {error}") from error
            done += steps
            episodes += steps > 0
            left_out += steps == 0
    if not episodes:
        raise DatasetError(f"{origin} has no episodes that are to be kept; there is nothing to convert")
    if left_out:
        source.lost.append(f"{left_out} episodes are left out: discarded when they were recorded, or without a step")
    return episodes, done


def _write_episode(writer: ZarrWriter, episode: SourceEpisode, done: int, total: int, progress: OnProgress) -> int:
    """The number of its steps; 0 where it is left out."""
    steps = 0
    writer.begin(episode.meta)
    for step in episode.steps:
        if isinstance(step, Samples):
            writer.append_stream(step.stream, step.values, step.stamps_ns, step.received_ns)
        else:
            writer.append(*step)
            steps += 1
            progress(done + steps, total)
    if not steps or not episode.kept:
        writer.discard()
        return 0
    writer.commit(episode.outcome, annotations=episode.annotations)
    return steps


def readable() -> list[str]:
    return [name for name, each in FORMATS.items() if each.read]


def writable() -> list[str]:
    return [name for name, each in FORMATS.items() if each.write]


def _format(name: str) -> Format:
    if name not in FORMATS:
        raise UnknownNameError("dataset format", name, FORMATS)
    return FORMATS[name]
