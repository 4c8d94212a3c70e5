"""D4RL HDF5 files: flat arrays `observations`, `actions`, `rewards`, `terminals`, `timeouts`, `next_observations`.

An episode ends where `terminals` or `timeouts` is set. What D4RL has no place for travels in a group `robolearn`;
pictures do not, as D4RL reads all arrays of a file into memory.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robolearn.datasets.convert import hdf5
from robolearn.datasets.convert.source import (
    BESIDES,
    Blocks,
    Foreign,
    ImportSettings,
    Rows,
    Source,
    SourceEpisode,
    WithLast,
    acting,
    besides,
    even_stamps,
    extremes,
    following_lines,
    is_picture,
    masked_lines,
    our_episode,
    our_steps,
    picture_shape,
    shown_actions,
)
from robolearn.datasets.store import CLOSING_ROW, DatasetSpec, EpisodeInfo, EpisodeMeta
from robolearn.datasets.zarr_store import ZarrStore
from robolearn.errors import DatasetError, RobolearnError
from robolearn.progress import OnProgress
from robolearn.specs import ArraySpec
from robolearn.types import EpisodeOutcome

OURS = "robolearn"
DEFAULT_HZ = 20.0  # where nothing tells
ROWS = 4096  # that are read or written at once


def write(store: ZarrStore, file: Path, progress: OnProgress) -> list[str]:
    """Write the vectors of all episodes that have an action; `observations` is `proprio`."""
    import h5py

    spec = _portable(store.spec)
    kept, left_out = acting(store, "D4RL")
    table = [store.episodes[index] for index in kept]
    total, done = sum(episode.length for episode in table), 0
    if "proprio" not in spec.fields:
        raise DatasetError(f"{store.path} has no field proprio; D4RL holds vectors alone")
    with h5py.File(file, "w") as out:
        out.attrs[OURS] = json.dumps({"spec": spec.to_json(), "episodes": [e.to_json() for e in table]})
        for index, episode in zip(kept, table, strict=True):
            columns = _columns(store, index, spec)
            for name, values in columns.items():
                if name not in out:
                    shape = values.shape[1:]
                    out.create_dataset(name, (0, *shape), values.dtype, maxshape=(None, *shape), chunks=(ROWS, *shape))
                start = len(out[name])
                out[name].resize(start + len(values), axis=0)
                out[name][start:] = values
            progress(done := done + episode.length, total)
    left = sorted(set(store.spec.fields) - set(spec.fields))
    lines = left_out + [f"{name} is left out: D4RL holds no pictures" for name in left]
    return lines + following_lines(store, "D4RL") + masked_lines(store, "D4RL")


def _columns(store: ZarrStore, index: int, spec: DatasetSpec) -> dict[str, NDArray]:
    episode = store.episodes[index]
    read = store.read(index, ["proprio", "action"])
    ours = besides(store, index)
    length = episode.num_actions
    last = np.arange(length) == length - 1
    following = np.concatenate([read["proprio"][1:], read["proprio"][-1:]])
    rewards = ours["reward"][:length] if "reward" in ours else last & (episode.success is True)
    there = [store.spec.stamped_fields.index(name) for name in spec.stamped_fields]
    ours |= {name: ours[name][:, there] for name in ("stamp_ns", "valid")}
    return {
        "observations": read["proprio"][:length],
        "next_observations": following[:length],
        "actions": shown_actions(store, index)[:length],
        "rewards": rewards.astype(np.float32),
        "terminals": last & episode.terminated,
        "timeouts": last & (not episode.terminated),
        f"{OURS}/action": read["action"],
        **{f"{OURS}/{name}": ours[name] for name in (*BESIDES, *spec.extra)},
    }


def _portable(spec: DatasetSpec) -> DatasetSpec:
    """The spec without pictures, and without other observations than `proprio`."""
    observation = {name: field for name, field in spec.interface.observation.items() if name == "proprio"}
    extra = {name: field for name, field in spec.extra.items() if name not in spec.image_fields}
    return replace(
        spec, interface=replace(spec.interface, observation=observation), image_codecs={}, extra=extra, streams={}
    )


@contextlib.contextmanager
def read(file: Path, settings: ImportSettings) -> Iterator[Source]:
    """Open a file. `observations` become `proprio`, or `image_observations` where they are pictures."""
    import h5py

    with h5py.File(file, "r") as source:
        arrays = {n: hdf5.rows(file, source, n) for n in ("observations", "actions", "rewards", "terminals")}
        arrays |= {n: hdf5.rows(file, source, n) for n in ("timeouts", "next_observations") if n in source}
        length = len(arrays["actions"])
        wrong = [name for name, values in arrays.items() if len(values) != length]
        if wrong or arrays["actions"].ndim != 2 or not length:
            raise DatasetError(f"{file}: {', '.join(wrong) or 'actions'} does not fit; wanted {length} rows of (A,)")
        ends = hdf5.array(file, source, "terminals").astype(bool).reshape(-1)
        terminated = ends.copy()
        if "timeouts" in arrays:
            ends |= hdf5.array(file, source, "timeouts").astype(bool).reshape(-1)
        ends[-1] = True
        stops = (np.flatnonzero(ends) + 1).tolist()
        parts = list(zip([0, *stops[:-1]], stops, strict=True))
        if OURS in source.attrs:
            yield _ours(file, source, arrays)
            return
        foreign, lost = _foreign(file, source, arrays, settings)
        episodes = (_episode(arrays, start, stop, bool(terminated[stop - 1]), foreign) for start, stop in parts)
        extra = len(parts) if "next_observations" in arrays else 0
        yield Source(foreign.spec(), length + extra, episodes, lost)


def _ours(file: Path, source: Any, flat: dict[str, Any]) -> Source:
    try:
        ours = json.loads(source.attrs[OURS])
        spec = DatasetSpec.from_json(ours["spec"])
        table = [EpisodeInfo.from_json(row) for row in ours["episodes"]]
    except (KeyError, TypeError, ValueError, AttributeError, RobolearnError) as error:
        raise DatasetError(f"{file}: its attribute {OURS} is damaged ({error})") from error
    arrays = {name: hdf5.rows(file, source, f"{OURS}/{name}") for name in (*BESIDES, "action", *spec.extra)}
    length, actions = sum(row.length for row in table), sum(row.num_actions for row in table)
    for told, name, values in ((length, f"{OURS}/valid", arrays["valid"]), (actions, "actions", flat["actions"])):
        if len(values) != told:
            raise DatasetError(f"{file}: its attribute {OURS} tells of {told} rows of {name}, there are {len(values)}")

    def episodes() -> Iterator[SourceEpisode]:
        start = first = 0
        for info, row in zip(table, ours["episodes"], strict=True):
            rows: dict[str, Rows] = {n: values[start : start + info.length] for n, values in arrays.items()}
            stop = first + info.num_actions
            seen = flat["observations"][first:stop]
            closed = stop - first < info.length
            rows["proprio"] = WithLast(seen, flat["next_observations"], stop - 1) if closed else seen
            start, first = start + info.length, stop
            # where the rows lie now and what was lost of old pictures is counted anew
            yield our_episode(row, our_steps(spec, rows))

    return Source(spec, length, episodes())


def _foreign(file: Path, source: Any, arrays: dict[str, Any], settings: ImportSettings) -> tuple[Foreign, list[str]]:
    seen, actions = arrays["observations"], arrays["actions"]
    shape = seen.shape[1:]
    pictures = is_picture(shape, seen.dtype)
    images = {"observations": picture_shape(shape)} if pictures else {}
    vectors = {} if pictures else {"observations": shape}
    blocks = (actions[start : start + ROWS] for start in range(0, len(actions), ROWS))
    low, high = extremes(f"{file}: actions", blocks, actions.shape[1])
    lost = [f"{name} is not kept" for name in source if name not in (*arrays, "timeouts", "next_observations")]
    if settings.control_hz is None:
        lost.append(f"the file has no rate; {DEFAULT_HZ:g} Hz is assumed, name another one")
    extra = {"reward": ArraySpec(())}
    return Foreign(vectors, images, low, high, settings.control_hz or DEFAULT_HZ, file.stem, extra=extra), lost


def _episode(arrays: dict[str, Any], start: int, stop: int, terminated: bool, foreign: Foreign) -> SourceEpisode:
    following = arrays.get("next_observations")
    rows: dict[str, Rows] = {"observations": Blocks(arrays["observations"], start, stop)}
    if following is not None:
        rows = {"observations": WithLast(rows["observations"], following, stop - 1)}
    actions = arrays["actions"][start:stop]
    reward = arrays["rewards"][start:stop].astype(np.float32).reshape(-1)
    stamps = even_stamps(len(rows["observations"]), foreign.control_hz)
    steps = foreign.steps(rows, actions, stamps, {"reward": reward})
    meta = EpisodeMeta(foreign.task, tags={} if following is None else {CLOSING_ROW: True})
    return SourceEpisode(meta, steps, EpisodeOutcome(None, terminated, not terminated))
