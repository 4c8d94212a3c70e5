"""robomimic HDF5: `data/demo_<i>/{obs,next_obs}/<field>`, `actions`, `rewards`, `dones`, and `mask/{train,valid}`.

robomimic has no stamps, masks, sources or sent actions. They travel in a group `robolearn` beside each demo, which
robomimic does not look at, so that a dataset comes back whole.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robolearn.datasets.sampler import split_episodes
from robolearn.datasets.store import DatasetSpec, EpisodeInfo, EpisodeMeta, ImageCodec
from robolearn.datasets.zarr_store import ZarrStore
from robolearn.datasets.zarr_writer import ZarrWriter
from robolearn.errors import DatasetError, RobolearnError
from robolearn.specs import ArraySpec, InterfaceSpec, RobotSpec, image_spec
from robolearn.types import ActionSource, EpisodeOutcome

OURS = "robolearn"  # attribute and group of what robomimic has no place for
DEFAULT_HZ = 20.0  # of robosuite, where a file does not say
BESIDES = ("action_sent", "action_source", "held", "stamp_ns", "valid")
NATURAL = re.compile(r"(\d+)")


def export_robomimic(store: ZarrStore, file: Path, validation_fraction: float = 0.1, seed: int = 0) -> list[str]:
    """Write all episodes. Rewards are 1 where an episode ended in success, else 0."""
    import h5py

    if file.exists():
        raise DatasetError(f"{file} exists; name another file")
    spec = store.spec
    observed = list(spec.interface.observation)
    with _moved_when_whole(file) as temporary, h5py.File(temporary, "w") as out:
        data = out.create_group("data")
        data.attrs["total"] = sum(episode.length for episode in store.episodes)
        environment = {"env_name": ", ".join(spec.tasks) or "real", "type": 1, "env_kwargs": {}}
        data.attrs["env_args"] = json.dumps(environment)
        data.attrs[OURS] = json.dumps(spec.to_json())
        for index, episode in enumerate(store.episodes):
            _export_episode(store, index, episode, data.create_group(f"demo_{index}"), observed)
        parts = split_episodes(len(store.episodes), validation_fraction, seed)
        for name, indices in zip(("train", "valid"), parts, strict=True):
            out.create_dataset(f"mask/{name}", data=np.array([f"demo_{i}" for i in indices], dtype="S"))
    return []


def _export_episode(store: ZarrStore, index: int, episode: EpisodeInfo, demo: Any, observed: list[str]) -> None:
    demo.attrs["num_samples"] = episode.length
    demo.attrs[OURS] = json.dumps(episode.to_json())
    read = store.read(index)
    for name in observed:
        demo.create_dataset(f"obs/{name}", data=read[name])
        following = np.concatenate([read[name][1:], read[name][-1:]])
        demo.create_dataset(f"next_obs/{name}", data=following)
    demo.create_dataset("actions", data=read["action"])
    last = np.arange(episode.length) == episode.length - 1
    demo.create_dataset("dones", data=last.astype(np.int64))
    demo.create_dataset("rewards", data=(last & (episode.success is True)).astype(np.float64))
    columns = {name: store.reader(name).read(episode.start, episode.stop) for name in ("stamp_ns", "valid")}
    for name in (*BESIDES, *store.spec.extra):
        demo.create_dataset(f"{OURS}/{name}", data=columns[name] if name in columns else read[name])


def import_robomimic(
    file: Path, path: Path, control_hz: float | None = None, codec: ImageCodec | None = None
) -> list[str]:
    """Make a dataset of a file. One that `export_robomimic` wrote comes back whole; images are coded anew.

    Of other files, vectors of `obs` become `proprio` in the order of their names, images `image_<name>`; the limits of
    the robot are the extremes of the actions. Raises DatasetError naming file and field when something does not fit;
    links that lead out of the file are refused. Nothing is left at `path` then.
    """
    import h5py

    if path.exists():
        raise DatasetError(f"{path} exists; name another folder")
    try:
        with h5py.File(file, "r") as source, _moved_when_whole(path) as temporary:
            demos = sorted(_group(file, source, "data"), key=lambda name: [int(n) for n in NATURAL.findall(name)])
            if not demos:
                raise DatasetError(f"{file} has no demos in its group data")
            spec, lost = _spec(file, source, demos, control_hz, codec)
            with ZarrStore.create(temporary, spec).writer() as writer:
                for name in demos:
                    _import_episode(file, _group(file, source, f"data/{name}"), name, writer, spec)
    except (OSError, KeyError, ValueError, TypeError) as error:
        raise DatasetError(f"{file} cannot be read as robomimic HDF5: {error}") from error
    return lost


def _spec(
    file: Path, source: Any, demos: list[str], control_hz: float | None, codec: ImageCodec | None
) -> tuple[DatasetSpec, list[str]]:
    ours = source["data"].attrs.get(OURS)
    if ours is not None:
        try:
            return DatasetSpec.from_json(json.loads(ours)), []
        except (KeyError, TypeError, ValueError, AttributeError, RobolearnError) as error:
            raise DatasetError(f"{file}: its attribute {OURS} is damaged ({error})") from error
    first = _group(file, source, f"data/{demos[0]}")
    observed = {name: _array(file, first, f"obs/{name}") for name in sorted(_group(file, first, "obs"))}
    names: list[str] = []
    images: dict[str, ArraySpec] = {}
    for name, array in observed.items():
        if _is_image(array):
            images[_image_field(name)] = image_spec(*array.shape[1:3])
        else:
            names += [f"{name}.{entry}" for entry in range(int(np.prod(array.shape[1:])))]
    actions = np.concatenate([_array(file, source, f"data/{demo}/actions") for demo in demos])
    joints = tuple(f"action_{number}" for number in range(actions.shape[1]))
    low, high = (tuple(map(float, limit)) for limit in (actions.min(0), actions.max(0)))
    try:
        environment = json.loads(source["data"].attrs.get("env_args", "{}"))
    except ValueError:
        environment = {}
    task = str(environment.get("env_name", "")) if isinstance(environment, dict) else ""
    robot = RobotSpec("unknown", joints, low, high, (1e9,) * len(joints), unit="")
    proprio = ArraySpec((len(names),), names=tuple(names))
    interface = InterfaceSpec({"proprio": proprio, **images}, robot.action_spec, control_hz or DEFAULT_HZ)
    lost = ["rewards and dones are not kept, they are derived", "simulator states are not kept"]
    if control_hz is None:
        lost.append(f"the file has no rate; {DEFAULT_HZ:g} Hz is assumed, name another one")
    return DatasetSpec(robot, interface, (task,) if task else (), image_codec=codec or ImageCodec()), lost


def _import_episode(file: Path, demo: Any, name: str, writer: ZarrWriter, spec: DatasetSpec) -> None:
    ours = demo.attrs.get(OURS)
    info = EpisodeInfo(**json.loads(ours)) if ours is not None else None
    if info is None:
        steps = _foreign_steps(file, demo, spec)
        rewards = _array(file, demo, "rewards") if "rewards" in demo else np.zeros(0)
        success = bool(rewards.max(initial=0) > 0) if len(rewards) else None
        meta = EpisodeMeta(task=spec.tasks[0] if spec.tasks else "", tags={"robomimic": name})
        outcome = EpisodeOutcome(success, terminated=bool(success), truncated=not success)
    else:
        steps = _our_steps(file, demo, spec)
        meta = EpisodeMeta(**{key: getattr(info, key) for key in EpisodeMeta.__dataclass_fields__})
        outcome = EpisodeOutcome(info.success, info.terminated, info.truncated, info.reason)
    writer.begin(meta)
    try:
        for values, stamps, received, valid in steps:
            writer.append(values, stamps, received, valid)
        writer.commit(outcome)
    except RobolearnError as error:
        raise DatasetError(f"{file}: {name}: {error}") from error


Step = tuple[dict[str, Any], dict[str, int], dict[str, int], dict[str, bool]]


def _our_steps(file: Path, demo: Any, spec: DatasetSpec) -> Iterator[Step]:
    arrays = {name: _array(file, demo, f"obs/{name}") for name in spec.interface.observation}
    arrays["action"] = _array(file, demo, "actions")
    arrays |= {name: _array(file, demo, f"{OURS}/{name}") for name in (*BESIDES, *spec.extra)}
    stamps, valid = arrays.pop("stamp_ns"), arrays.pop("valid")
    length = _length(file, demo, {**arrays, "stamp_ns": stamps, "valid": valid})
    columns = {name: column for column, name in enumerate(spec.stamped_fields)}
    for step in range(length):
        usable = {name: bool(valid[step, column]) for name, column in columns.items()}
        yield (
            {name: values[step] for name, values in arrays.items()},
            {name: int(stamps[step, column, 0]) for name, column in columns.items()},
            {name: int(stamps[step, column, 1]) for name, column in columns.items()},
            usable,
        )


def _foreign_steps(file: Path, demo: Any, spec: DatasetSpec) -> Iterator[Step]:
    observed = {name: _array(file, demo, f"obs/{name}") for name in sorted(_group(file, demo, "obs"))}
    actions = _array(file, demo, "actions")
    length = _length(file, demo, {**observed, "actions": actions})
    vectors = [array.reshape(length, -1) for array in observed.values() if not _is_image(array)]
    proprio = np.concatenate([*vectors, np.zeros((length, 0))], axis=1).astype(np.float32)
    images = {_image_field(name): array for name, array in observed.items() if _is_image(array)}
    period_ns = 1e9 / spec.interface.control_hz
    for step in range(length):
        values = {name: array[step] for name, array in images.items()}
        values |= {"proprio": proprio[step], "action": actions[step].astype(np.float32)}
        yield {**values, "action_source": ActionSource.HUMAN}, dict.fromkeys(values, round(step * period_ns)), {}, {}


def _length(file: Path, demo: Any, arrays: Mapping[str, NDArray]) -> int:
    lengths = {name: len(array) for name, array in arrays.items()}
    if len(set(lengths.values())) != 1:
        raise DatasetError(f"{file}: {demo.name}: its fields have unequal lengths {lengths}")
    return next(iter(lengths.values()))


def _is_image(array: NDArray) -> bool:
    return array.dtype == np.uint8 and array.ndim == 4 and array.shape[3] == 3


def _image_field(name: str) -> str:
    word = re.sub(r"[^a-z0-9_]+", "_", name.lower())
    return f"image_{word.removeprefix('image_').removesuffix('_image')}"


def _group(file: Path, parent: Any, name: str) -> Any:
    import h5py

    group = _follow(file, parent, name)
    if not isinstance(group, h5py.Group):
        raise DatasetError(f"{file}: {parent.name.rstrip('/')}/{name} is no group")
    return group


def _array(file: Path, parent: Any, name: str) -> NDArray:
    import h5py

    dataset = _follow(file, parent, name)
    if not isinstance(dataset, h5py.Dataset) or dataset.is_virtual or dataset.external or not dataset.ndim:
        raise DatasetError(f"{file}: {parent.name.rstrip('/')}/{name} is no array that lies in this file")
    if dataset.dtype.kind not in "fiub":
        raise DatasetError(f"{file}: {parent.name.rstrip('/')}/{name} has dtype {dataset.dtype}, wanted numbers")
    return dataset[()]


def _follow(file: Path, parent: Any, name: str) -> Any:
    """The object of that name, never through a link that could lead elsewhere."""
    import h5py

    for part in name.split("/"):
        link = parent.get(part, getlink=True)
        if not isinstance(link, h5py.HardLink):
            what = "is missing" if link is None else "is a link, which is refused"
            raise DatasetError(f"{file}: {parent.name.rstrip('/')}/{part} {what}")
        parent = parent[part]
    return parent


@contextlib.contextmanager
def _moved_when_whole(path: Path) -> Iterator[Path]:
    """A path beside the wanted one, which is moved there when all went well and removed when not."""
    temporary = path.with_name(f".{path.name}.converting")
    _remove(temporary)
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield temporary
        os.rename(temporary, path)
    finally:
        _remove(temporary)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
