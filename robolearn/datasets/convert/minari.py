"""Minari datasets: `data/metadata.json` and `data/main_data.hdf5`, with a group `episode_<i>` each.

A group holds `observations` (one row more than the rest), `actions`, `rewards`, `terminations`, `truncations`, `infos`.
What Minari has no place for travels in a group `robolearn` of each episode, so that a dataset comes back whole.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robolearn.datasets.convert import hdf5
from robolearn.datasets.convert.guard import inside
from robolearn.datasets.convert.source import (
    BESIDES,
    Blocks,
    Foreign,
    ImportSettings,
    Rows,
    Source,
    SourceEpisode,
    besides,
    even_stamps,
    extremes,
    following_lines,
    is_picture,
    is_vector,
    masked_lines,
    our_episode,
    our_steps,
    picture_shape,
    shown_actions,
    without_streams,
)
from robolearn.datasets.store import CLOSING_ROW, DatasetSpec, EpisodeMeta
from robolearn.datasets.zarr_store import ZarrStore
from robolearn.errors import DatasetError, RobolearnError
from robolearn.progress import OnProgress
from robolearn.specs import ArraySpec
from robolearn.types import EpisodeOutcome

MAIN = "main_data.hdf5"
OURS = "robolearn"
DEFAULT_HZ = 20.0  # where nothing tells
VERSION = "0.5.4"  # of Minari, whose layout this is
PICTURE_ROWS = 64  # that are copied at once


def write(store: ZarrStore, root: Path, progress: OnProgress) -> list[str]:
    """Write all episodes. Where no observation follows the last action, the last one stands for it."""
    import h5py

    spec, total = without_streams(store.spec), sum(episode.length for episode in store.episodes)
    (root / "data").mkdir(parents=True)
    done = steps = 0
    with h5py.File(root / "data" / MAIN, "w") as out:
        out.attrs[OURS] = json.dumps(spec.to_json())
        for index, episode in enumerate(store.episodes):
            steps += _write_episode(store, index, out.create_group(f"episode_{index}", track_order=True))
            progress(done := done + episode.length, total)
    metadata = {
        "total_episodes": len(store.episodes),
        "total_steps": steps,
        "data_format": "hdf5",
        "jpeg_encoding": False,
        "observation_space": json.dumps(_dict_space(spec)),
        "action_space": json.dumps(_box(spec.interface.action)),
        "dataset_id": f"robolearn/{re.sub('[^a-z0-9]+', '-', store.path.stem.lower()).strip('-') or 'dataset'}-v0",
        "minari_version": VERSION,
        "dataset_size": round((root / "data" / MAIN).stat().st_size / 1e6, 1),
        "author": ["robolearn"],
    }
    (root / "data/metadata.json").write_text(json.dumps(metadata))
    return following_lines(store, "Minari") + masked_lines(store, "Minari")


def _write_episode(store: ZarrStore, index: int, group: Any) -> int:
    """The number of actions written."""
    episode, spec = store.episodes[index], store.spec
    length = episode.num_actions
    group.attrs.update({"id": index, "total_steps": length, OURS: json.dumps(episode.to_json())})
    if episode.seed is not None:
        group.attrs["seed"] = episode.seed
    for name, field in spec.interface.observation.items():
        shape = (length + 1, *field.shape)
        chunks = (1, *field.shape) if name in spec.image_fields else None
        out = group.create_dataset(f"observations/{name}", shape, field.dtype, chunks=chunks)
        for start in range(0, episode.length, PICTURE_ROWS):
            stop = min(start + PICTURE_ROWS, episode.length)
            out[start:stop] = store.read(index, [name], start, stop)[name]
        if length == episode.length:
            out[length] = store.read(index, [name], length - 1, length)[name][0]
    columns = besides(store, index)
    last = np.arange(length) == length - 1
    group.create_dataset("actions", data=shown_actions(store, index)[:length])
    rewards = columns["reward"][:length] if "reward" in columns else last & (episode.success is True)
    group.create_dataset("rewards", data=rewards.astype(np.float64))
    group.create_dataset("terminations", data=last & episode.terminated)
    group.create_dataset("truncations", data=last & (episode.truncated or not episode.terminated))
    infos = group.create_group("infos")
    infos.create_dataset("success", data=np.append(last & (episode.success is True), episode.success is True))
    for name, values in columns.items():
        group.create_dataset(f"{OURS}/{name}", data=values)
    group.create_dataset(f"{OURS}/action", data=store.read(index, ["action"])["action"])
    return length


def _dict_space(spec: DatasetSpec) -> dict[str, Any]:
    spaces = {name: _box(field) for name, field in sorted(spec.interface.observation.items())}
    return {"type": "Dict", "subspaces": spaces}


def _box(field: ArraySpec) -> dict[str, Any]:
    """A Gymnasium Box as Minari describes it."""
    dtype = np.dtype(field.dtype)
    limits = (np.iinfo(dtype).min, np.iinfo(dtype).max) if dtype.kind in "iu" else (-np.inf, np.inf)
    low, high = (
        np.broadcast_to(limit if values is None else np.array(values), field.shape).tolist()
        for limit, values in zip(limits, (field.low, field.high), strict=True)
    )
    return {"type": "Box", "dtype": field.dtype, "shape": list(field.shape), "low": low, "high": high}


@contextlib.contextmanager
def read(path: Path, settings: ImportSettings) -> Iterator[Source]:
    """Open a dataset: its folder, the `data` in it, or the HDF5 file.

    Vectors of the observation become `proprio`, in the order of their names, pictures `image_<name>`. The observation
    after the last action is a step without an action.
    """
    import h5py

    folder = path / "data" if (path / "data").is_dir() else path
    file = inside(path, str((folder / MAIN).relative_to(path)), "data") if path.is_dir() else path
    if not file.is_file():
        raise DatasetError(f"{path} has no data/{MAIN}; only Minari datasets of data_format hdf5 are read")
    metadata = _metadata(file.parent / "metadata.json")
    with h5py.File(file, "r") as source:
        names = sorted((name for name in source if name.startswith("episode_")), key=lambda name: (len(name), name))
        if not names:
            raise DatasetError(f"{file} has no groups episode_<i>")
        steps = sum(len(hdf5.rows(file, source, f"{name}/rewards")) for name in names)
        ours = source.attrs.get(OURS)
        if ours is not None:
            try:
                spec = DatasetSpec.from_json(json.loads(ours))
            except (KeyError, TypeError, ValueError, AttributeError, RobolearnError) as error:
                raise DatasetError(f"{file}: its attribute {OURS} is damaged ({error})") from error
            yield Source(spec, steps, (_our_episode(file, hdf5.group(file, source, n), spec) for n in names))
            return
        foreign, lost = _foreign(file, source, names, metadata, settings)
        episodes = (_episode(file, hdf5.group(file, source, name), foreign) for name in names)
        yield Source(foreign.spec(), steps + len(names), episodes, lost)


def _metadata(file: Path) -> dict[str, Any]:
    try:
        data = json.loads(file.read_bytes()) if file.is_file() else {}
    except ValueError as error:
        raise DatasetError(f"{file} is damaged: it is not JSON ({error})") from error
    return data if isinstance(data, dict) else {}


def _our_episode(file: Path, group: Any, spec: DatasetSpec) -> SourceEpisode:
    rows: dict[str, Rows] = {n: hdf5.array(file, group, f"{OURS}/{n}") for n in (*BESIDES, "action", *spec.extra)}
    length = len(rows["valid"])
    for name in spec.interface.observation:
        rows[name] = Blocks(hdf5.rows(file, group, f"observations/{name}"))
    short = [name for name, values in rows.items() if len(values) < length]
    if short:
        raise DatasetError(f"{file}: {group.name}: {', '.join(short)} has fewer than {length} rows")
    return our_episode(json.loads(group.attrs[OURS]), our_steps(spec, rows))


def _observations(file: Path, group: Any, below: str = "observations") -> Iterator[str]:
    """Names of all arrays of the observation, which may be a dict of dicts."""
    import h5py

    found = group.get(below, getlink=True) and group[below]
    if isinstance(found, h5py.Group):
        for name in sorted(found):
            if isinstance(found.get(name, getlink=True), h5py.HardLink):
                yield from _observations(file, group, f"{below}/{name}")
    else:
        yield below


def _foreign(
    file: Path, source: Any, names: list[str], metadata: dict[str, Any], settings: ImportSettings
) -> tuple[Foreign, list[str]]:
    first = hdf5.group(file, source, names[0])
    hdf5.rows(file, first, "actions")
    seen = {name: hdf5.rows(file, first, name) for name in _observations(file, first)}
    shapes = {name: (values.shape[1:], values.dtype) for name, values in seen.items()}
    images = {name: picture_shape(shape) for name, (shape, dtype) in shapes.items() if is_picture(shape, dtype)}
    vectors = {n: shape for n, (shape, dtype) in shapes.items() if n not in images and is_vector(shape, dtype)}
    lost = [f"{name} is neither a vector nor a picture" for name in shapes if name not in (images | vectors)]
    lost += ["infos are not kept, but for success"] if "infos" in first else []
    if settings.control_hz is None:
        lost.append(f"the dataset has no rate; {DEFAULT_HZ:g} Hz is assumed, name another one")
    actions = hdf5.rows(file, first, "actions")
    width = int(np.prod(actions.shape[1:]))
    rows = (_actions(file, hdf5.group(file, source, name), width) for name in names)
    low, high = extremes(f"{file}: actions", rows, width)
    task = str(metadata.get("dataset_id", ""))
    hz = settings.control_hz or DEFAULT_HZ
    return Foreign(vectors, images, low, high, hz, task, extra={"reward": ArraySpec(())}), lost


def _actions(file: Path, group: Any, width: int) -> NDArray:
    """Actions (T, A); a discrete one is a vector of one number."""
    actions = hdf5.array(file, group, "actions")
    if actions.size != len(actions) * width:
        raise DatasetError(f"{file}: {group.name}/actions has shape {actions.shape}, wanted (T, {width})")
    return actions.reshape(len(actions), width)


def _episode(file: Path, group: Any, foreign: Foreign) -> SourceEpisode:
    actions = _actions(file, group, len(foreign.low))
    length = len(actions)
    rows: dict[str, Rows] = {name: Blocks(hdf5.rows(file, group, name)) for name in (*foreign.vectors, *foreign.images)}
    columns = {name: hdf5.array(file, group, name) for name in ("rewards", "terminations", "truncations")}
    wrong = [n for n, v in rows.items() if len(v) != length + 1] + [n for n, v in columns.items() if len(v) != length]
    if wrong or not length:
        raise DatasetError(f"{file}: {group.name}: {', '.join(wrong)} does not fit its {length} actions")
    success = None
    if "infos" in group and "success" in hdf5.group(file, group, "infos"):
        success = bool(hdf5.array(file, group, "infos/success").any())
    terminated = bool(columns["terminations"][-1])
    seed = group.attrs.get("seed")
    known = int(seed) if isinstance(seed, (int, np.integer)) else None
    meta = EpisodeMeta(foreign.task, seed=known, tags={CLOSING_ROW: True})
    reward = columns["rewards"].astype(np.float32)
    steps = foreign.steps(rows, actions, even_stamps(length + 1, foreign.control_hz), {"reward": reward})
    return SourceEpisode(meta, steps, EpisodeOutcome(success, terminated, not terminated))
