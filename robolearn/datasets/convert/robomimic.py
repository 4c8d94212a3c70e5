"""robomimic HDF5: `data/demo_<i>/{obs,next_obs}/<field>`, `actions`, `rewards`, `dones`, and `mask/{train,valid}`.

robomimic has no stamps, masks, sources or sent actions. They travel in a group `robolearn` beside each demo, which
robomimic does not look at, so that a dataset comes back whole.
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
    is_vector,
    masked_lines,
    our_episode,
    our_steps,
    picture_shape,
    shown_actions,
    without_streams,
)
from robolearn.datasets.sampler import split_episodes
from robolearn.datasets.store import CLOSING_ROW, DatasetSpec, EpisodeMeta
from robolearn.datasets.zarr_store import ZarrStore
from robolearn.errors import DatasetError, RobolearnError
from robolearn.progress import OnProgress
from robolearn.specs import ArraySpec
from robolearn.types import EpisodeOutcome

OURS = "robolearn"  # attribute and group of what robomimic has no place for
DEFAULT_HZ = 20.0  # of robosuite, where a file does not say
VALIDATION_FRACTION = 0.1  # of the episodes, in mask/valid
PICTURE_ROWS = 64  # that are copied at once
NATURAL = re.compile(r"(\d+)")


def write(store: ZarrStore, file: Path, progress: OnProgress) -> list[str]:
    """Write all episodes that have an action. Rewards are the recorded ones, or 1 at the end of an episode of success
    and else 0."""
    import h5py

    spec, total = without_streams(store.spec), sum(episode.num_actions for episode in store.episodes)
    kept, left_out = acting(store, "robomimic")
    with h5py.File(file, "w") as out:
        data = out.create_group("data")
        data.attrs["total"] = total
        environment = {"env_name": ", ".join(spec.tasks) or "real", "type": 1, "env_kwargs": {}}
        data.attrs["env_args"] = json.dumps(environment)
        data.attrs[OURS] = json.dumps(spec.to_json())
        done = 0
        for number, index in enumerate(kept):
            _write_episode(store, index, data.create_group(f"demo_{number}"))
            progress(done := done + store.episodes[index].num_actions, total)
        parts = split_episodes(len(kept), VALIDATION_FRACTION, seed=0)
        for name, indices in zip(("train", "valid"), parts, strict=True):
            out.create_dataset(f"mask/{name}", data=np.array([f"demo_{i}" for i in indices], dtype="S"))
    return left_out + following_lines(store, "robomimic") + masked_lines(store, "robomimic")


def _write_episode(store: ZarrStore, index: int, demo: Any) -> None:
    episode = store.episodes[index]
    length = episode.num_actions
    demo.attrs["num_samples"] = length
    demo.attrs[OURS] = json.dumps(episode.to_json())
    for name, field in store.spec.interface.observation.items():
        shape = (length, *field.shape)
        seen, following = (demo.create_dataset(f"{part}/{name}", shape, field.dtype) for part in ("obs", "next_obs"))
        for start in range(0, length, PICTURE_ROWS):
            stop = min(start + PICTURE_ROWS, length)
            after = min(stop + 1, episode.length)  # else the last observation stands for the one that follows it
            values = store.read(index, [name], start, after)[name]
            seen[start:stop] = values[: stop - start]
            following[start:stop] = np.concatenate([values[1:], values[-1:]])[: stop - start]
    demo.create_dataset("actions", data=shown_actions(store, index)[:length])
    last = np.arange(length) == length - 1
    demo.create_dataset("dones", data=last.astype(np.int64))
    columns = besides(store, index)
    rewards = columns["reward"][:length] if "reward" in columns else last & (episode.success is True)
    demo.create_dataset("rewards", data=rewards.astype(np.float64))
    for name, values in (columns | store.read(index, ["action"])).items():
        demo.create_dataset(f"{OURS}/{name}", data=values)


@contextlib.contextmanager
def read(file: Path, settings: ImportSettings) -> Iterator[Source]:
    """Open a file. One that `write` made comes back whole; images are coded anew.

    Of other files, vectors of `obs` become `proprio` in the order of their names, images `image_<name>`; the limits of
    the robot are the extremes of the actions.
    """
    import h5py

    if file.is_dir():
        raise DatasetError(f"{file} is a folder, robomimic's datasets are files; name one, or another format")
    with h5py.File(file, "r") as source:
        data = hdf5.group(file, source, "data")
        demos = sorted(data, key=lambda name: ([int(n) for n in NATURAL.findall(name)], name))
        if not demos:
            raise DatasetError(f"{file} has no demos in its group data")
        steps = sum(len(hdf5.rows(file, data, f"{demo}/actions")) for demo in demos)
        ours = data.attrs.get(OURS)
        if ours is not None:
            spec = _our_spec(file, ours)
            yield Source(spec, steps, (_our_episode(file, hdf5.group(file, data, demo), spec) for demo in demos))
            return
        steps += sum("next_obs" in hdf5.group(file, data, demo) for demo in demos)
        foreign, lost = _foreign(file, data, demos, settings)
        episodes = (_episode(file, hdf5.group(file, data, demo), demo, foreign) for demo in demos)
        yield Source(foreign.spec(), steps, episodes, lost)


def _our_spec(file: Path, text: Any) -> DatasetSpec:
    try:
        return DatasetSpec.from_json(json.loads(text))
    except (KeyError, TypeError, ValueError, AttributeError, RobolearnError) as error:
        raise DatasetError(f"{file}: its attribute {OURS} is damaged ({error})") from error


def _our_episode(file: Path, demo: Any, spec: DatasetSpec) -> SourceEpisode:
    ours = (*BESIDES, "action", *spec.extra)
    rows: dict[str, Rows] = {name: hdf5.array(file, demo, f"{OURS}/{name}") for name in ours}
    length = len(hdf5.rows(file, demo, "actions"))
    for name in spec.interface.observation:
        seen = hdf5.rows(file, demo, f"obs/{name}")
        rows[name] = Blocks(seen) if name in spec.image_fields else hdf5.array(file, demo, f"obs/{name}")
        if length < len(rows["valid"]):
            rows[name] = WithLast(rows[name], hdf5.rows(file, demo, f"next_obs/{name}"), length - 1)
    _length(file, demo, rows)
    return our_episode(json.loads(demo.attrs[OURS]), our_steps(spec, rows))


def _foreign(file: Path, data: Any, demos: list[str], settings: ImportSettings) -> tuple[Foreign, list[str]]:
    first = hdf5.group(file, data, demos[0])
    seen = {name: hdf5.rows(file, first, f"obs/{name}") for name in sorted(hdf5.group(file, first, "obs"))}
    shapes = {name: (values.shape[1:], values.dtype) for name, values in seen.items()}
    images = {name: picture_shape(shape) for name, (shape, dtype) in shapes.items() if is_picture(shape, dtype)}
    vectors = {n: shape for n, (shape, dtype) in shapes.items() if n not in images and is_vector(shape, dtype)}
    lost = [f"obs/{name} is neither a vector nor a picture" for name in shapes if name not in (images | vectors)]
    lost += ["simulator states are not kept"] if "states" in first else []
    lost += ["filter keys (mask) are not kept"] if "mask" in data.parent else []
    actions = hdf5.rows(file, first, "actions")
    width = actions.shape[1] if actions.ndim == 2 else 0
    if not width:
        raise DatasetError(f"{file}: {first.name}/actions has shape {actions.shape}, wanted (T, A)")
    low, high = extremes(f"{file}: actions", (hdf5.array(file, data, f"{demo}/actions") for demo in demos), width)
    environment = _json(data, "env_args")
    arguments = environment.get("env_kwargs")
    told = arguments.get("control_freq") if isinstance(arguments, dict) else None  # as robosuite writes it
    hz = settings.control_hz or (float(told) if isinstance(told, (int, float)) and 0 < told < 1e5 else None)
    if hz is None:
        lost.append(f"the file has no rate; {DEFAULT_HZ:g} Hz is assumed, name another one")
    extra = {"reward": ArraySpec(())} if "rewards" in first else {}
    task = str(environment.get("env_name", ""))
    return Foreign(vectors, images, low, high, hz or DEFAULT_HZ, task, extra=extra), lost


def _json(of: Any, name: str) -> dict[str, Any]:
    """The object in an attribute of a group; an empty one where there is none."""
    try:
        found = json.loads(of.attrs.get(name, "{}"))
    except (TypeError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _instruction(demo: Any) -> str:
    """What the demonstrator was told: by RoboCasa beside each demo, by LIBERO once a file."""
    words = _json(demo, "ep_meta").get("lang") or _json(demo.parent, "problem_info").get("language_instruction") or ""
    return ("".join(words) if isinstance(words, list) else str(words)).strip().strip('"')


def _episode(file: Path, demo: Any, name: str, foreign: Foreign) -> SourceEpisode:
    rows: dict[str, Rows] = {each: hdf5.array(file, demo, f"obs/{each}") for each in foreign.vectors}
    rows |= {each: Blocks(hdf5.rows(file, demo, f"obs/{each}")) for each in foreign.images}
    actions = hdf5.array(file, demo, "actions")
    extra: dict[str, NDArray] = {each: hdf5.array(file, demo, "rewards").astype(np.float32) for each in foreign.extra}
    length = _length(file, demo, {**rows, "actions": actions, **extra})
    closed = "next_obs" in demo
    if closed:
        following = {each: hdf5.rows(file, demo, f"next_obs/{each}") for each in rows}
        _length(file, demo, {**following, "actions": actions})
        rows = {each: WithLast(values, following[each], length - 1) for each, values in rows.items()}
    # a reward that is shaped is above 0 long before there is a success
    told = bool(extra) and bool(np.isin(extra["reward"], (0, 1)).all())
    success = bool(extra["reward"].any()) if told else None
    tags = {"robomimic": name, **({CLOSING_ROW: True} if closed else {})}
    meta = EpisodeMeta(foreign.task, _instruction(demo), tags=tags)
    steps = foreign.steps(rows, actions, even_stamps(length + closed, foreign.control_hz), extra)
    return SourceEpisode(meta, steps, EpisodeOutcome(success, terminated=bool(success), truncated=not success))


def _length(file: Path, demo: Any, rows: dict[str, Rows]) -> int:
    lengths = {name: len(values) for name, values in rows.items()}
    if len(set(lengths.values())) != 1:
        raise DatasetError(f"{file}: {demo.name}: its fields have unequal lengths {lengths}")
    return next(iter(lengths.values()))
