"""Reading LeRobot datasets, v3.0, v2.1 and v2.0.

The time stamps of LeRobot are frame_index / fps whatever really happened; they are taken for capture stamps.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robolearn.datasets.columns import COLUMNS
from robolearn.datasets.convert.lerobot_layout import (
    OURS_FILE,
    Folder,
    Row,
    StepReader,
    column_rows,
    lerobot_name,
    record_batches,
)
from robolearn.datasets.convert.source import (
    Foreign,
    ImportSettings,
    Source,
    SourceEpisode,
    Step,
    extremes,
    is_picture,
    is_vector,
    our_episode,
    our_step,
    picture_shape,
)
from robolearn.datasets.store import RESERVED_NAMES, DatasetSpec, EpisodeMeta
from robolearn.datasets.video import VideoReader
from robolearn.datasets.zarr_layout import STREAMS
from robolearn.errors import DatasetError, RobolearnError
from robolearn.specs import ArraySpec
from robolearn.types import EpisodeOutcome

TAKEN = ("proprio", "action_sent", "action_source", "held", *RESERVED_NAMES, COLUMNS, STREAMS)
"""Names that features of others cannot have with us."""
OUTCOMES = ("next.done", "next.success")  # features that become the outcome of the episode
STATE = "observation.state"
POSITION = re.compile(r"(main_)?(?P<joint>.+?)(\.pos|\.position)?")
"""What entries of action and state are called that are of one joint: `x.pos`, `x.position`, `main_x`, `x`."""


@contextlib.contextmanager
def read(root: Path, settings: ImportSettings) -> Iterator[Source]:
    """Open a dataset folder. What `lerobot_write` wrote comes back whole, but for what the video codec changed.

    Of other datasets, `observation.state` and every other vector of the observation become `proprio`, in the order of
    info.json; where the action is targets of joints that the state has, these are `<joint>.position` there, and
    `<joint>` in the action. `next.reward` becomes the extra field `reward`, and further numbers extra fields of their
    names.
    """
    folder = Folder(root)
    num_steps = sum(row.length for row in folder.rows)
    with contextlib.ExitStack() as stack:
        steps = StepReader(folder, {key: stack.enter_context(VideoReader(key)) for key in folder.videos})
        ours = folder.ours()
        if ours is None:
            yield _foreign_source(folder, num_steps, steps, settings)
            return
        try:
            spec = DatasetSpec.from_json(ours["spec"])
        except (KeyError, TypeError, ValueError, AttributeError, RobolearnError) as error:
            raise DatasetError(f"{root}: {OURS_FILE}: spec is damaged ({error})") from error
        pairs = zip(folder.rows, ours["episodes"], strict=True)
        yield Source(spec, num_steps, (our_episode(table, _our_steps(row, spec, steps)) for row, table in pairs))


def _our_steps(row: Row, spec: DatasetSpec, steps: StepReader) -> Iterator[Step]:
    features = {name: lerobot_name(spec, name) for name in (*spec.fields, "stamp_ns", "valid")}
    shapes = {name: field.shape for name, field in spec.fields.items()}
    shapes |= {"stamp_ns": (len(spec.stamped_fields), 2), "valid": (len(spec.stamped_fields),)}
    for values in steps.rows(row, list(features.values())):
        ours = {name: values[feature] for name, feature in features.items()}
        yield our_step(spec, {n: None if v is None else np.asarray(v).reshape(shapes[n]) for n, v in ours.items()})


def _foreign_source(folder: Folder, num_steps: int, steps: StepReader, settings: ImportSettings) -> Source:
    images, vectors, extras = _sorted_features(folder)
    shapes, features = folder.shapes, folder.features
    width = shapes["action"][0] if len(shapes["action"]) == 1 else 0
    if not width:
        raise DatasetError(f"{folder.root}: feature action has shape {shapes['action']}, wanted (A,)")
    low, high = extremes(f"{folder.root}: actions", (action for (action,) in _columns(folder, "action")), width)
    joints, names = _joints(folder, {name: _entry_names(features[name]) for name in vectors})
    dtypes = {name: str(np.dtype(features[feature]["dtype"])) for name, feature in extras.items()}
    foreign = Foreign(
        {name: shapes[name] for name in vectors},
        {name: picture_shape(shapes[name]) for name in images},
        low,
        high,
        settings.control_hz or folder.fps,
        robot=str(folder.info.get("robot_type") or "unknown"),
        action_names=joints,
        vector_names=names,
        extra={
            name: ArraySpec(() if shapes[feature] == (1,) else shapes[feature], dtypes[name])
            for name, feature in extras.items()
        },
    )
    kept = {*images, *vectors, *extras.values(), "action", *OUTCOMES}
    lost = [f"{n} ({f['dtype']} {list(shapes[n])}) is not kept" for n, f in features.items() if n not in kept]
    lost.append("its stamps are frame_index / fps; LeRobot does not know when anything was captured")
    lost.append("the unit of its actions, which LeRobot does not know; what learns from them acts in that unit")
    if (folder.root / OURS_FILE).exists():
        lost.append(f"{OURS_FILE} is not used: it does not fit the episodes, somebody edited them")
    if several := sum(len(set(row.tasks)) > 1 for row in folder.rows):
        lost.append(f"{several} episodes have several tasks; the first one stands for all of their steps")
    gaps: dict[str, int] = {}

    def episodes() -> Iterator[SourceEpisode]:
        for row in folder.rows:
            yield _episode(row, foreign, extras, steps, gaps)
        lost.extend(
            f"{name}: {count} steps have no frame in the video; they are masked" for name, count in gaps.items()
        )

    return Source(foreign.spec(), num_steps, episodes(), lost)


def _episode(
    row: Row, foreign: Foreign, extras: Mapping[str, str], reader: StepReader, gaps: dict[str, int]
) -> SourceEpisode:
    meta = EpisodeMeta(instruction=row.tasks[0] if row.tasks else "", tags={"lerobot": row.index})
    episode = SourceEpisode(meta, iter(()), EpisodeOutcome(None, False, True))
    names = [*foreign.vectors, *foreign.images, "action", *extras.values()]

    def steps() -> Iterator[Step]:
        success: bool | None = None
        done = False
        for values in reader.rows(row, names):
            for name in foreign.images:
                if values[name] is None:
                    gaps[name] = gaps.get(name, 0) + 1
            extra = {
                name: np.asarray(values[feature]).reshape(foreign.extra[name].shape) for name, feature in extras.items()
            }
            yield foreign.step(values, round(float(values["timestamp"]) * 1e9), values["action"], extra)
            done = bool(values.get("next.done", False))
            if "next.success" in values:
                success = bool(success) or bool(values["next.success"])
        terminated = done and success is not False
        episode.outcome = EpisodeOutcome(success, terminated, not terminated)

    episode.steps = steps()
    return episode


def _sorted_features(folder: Folder) -> tuple[list[str], list[str], dict[str, str]]:
    """Features that are pictures, those that are observed vectors, and the other numbers by their field of ours."""
    images, vectors, extras = [], [], {}
    for name, feature in folder.features.items():
        shape, dtype = folder.shapes[name], str(feature["dtype"])
        if dtype in ("video", "image"):
            if is_picture(shape, np.uint8) and not _is_depth(feature):
                images.append(name)
        elif dtype in ("string", "language") or not is_vector(shape, dtype) or name in ("action", *OUTCOMES):
            continue
        elif name.startswith("observation."):
            vectors.append(name)
        else:
            extras[_field_name(name)] = name
    return images, vectors, extras


def _is_depth(feature: Mapping[str, Any]) -> bool:
    info = feature.get("info")
    return isinstance(info, dict) and bool(info.get("video.is_depth_map") or info.get("is_depth_map"))


def _field_name(feature: str) -> str:
    if feature == "next.reward":
        return "reward"
    word = re.sub(r"[^a-z0-9_]+", "_", feature.lower()).strip("_")
    return word if word[:1].isalpha() and word not in TAKEN else f"x_{word}"


def _entry_names(feature: Mapping[str, Any]) -> list[str]:
    """Names of the entries: a list, or the lists in a dict."""
    names = feature.get("names") or ()
    parts = list(names.values()) if isinstance(names, dict) else [names]
    return [str(name) for part in parts for name in (part if isinstance(part, (list, tuple)) else [part])]


def _joints(folder: Folder, names: dict[str, list[str]]) -> tuple[list[str], dict[str, list[str]]]:
    """Names of the action, and of the vectors: as they are, but where an action is a target of a joint whose position
    is an entry of the state. names: of the vectors' entries."""
    actions, state = _entry_names(folder.features["action"]), names.get(STATE, [])
    width, shape = folder.shapes["action"][0], folder.shapes.get(STATE, ())
    if STATE not in names or len(shape) != 1:
        return actions, names
    wanted, seen = ([_joint(name) for name in each] for each in (actions, state))
    if not len(set(seen)) == len(seen) == shape[0]:
        seen = []
    if not len(set(wanted)) == len(wanted) == width:
        wanted = seen if len(seen) == width else [f"action_{n}" for n in range(width)]
    places = {n: seen.index(joint) for n, joint in enumerate(wanted) if joint in seen and not joint.endswith(".vel")}
    if not places and shape[0] == width:
        places = {n: n for n in range(width)}
    if not places or not _follow(folder, places):
        return actions, names
    entries = list(state) if len(state) == shape[0] else [f"{STATE}.{n}" for n in range(shape[0])]
    for n, place in places.items():
        entries[place] = f"{wanted[n]}.position"
    return wanted, names | {STATE: entries}


def _joint(name: str) -> str:
    found = POSITION.fullmatch(name)
    return found["joint"] if found else name


def _follow(folder: Folder, places: Mapping[int, int]) -> bool:
    """Whether most of the actions (the keys) go where these entries of the state go, as targets of positions do, and
    steps, speeds and torques do not, whatever they are called: the difference of the two varies less than either of
    them, which is to say that the greater variance is at most twice the covariance."""
    count, start = 0, np.zeros((2, len(places)))
    sums, products = np.zeros((2, len(places))), np.zeros((3, len(places)))
    for action, state in _columns(folder, "action", STATE):
        rows = np.stack([action[:, list(places)], state[:, list(places.values())]]).astype(np.float64)
        rows = rows[:, np.isfinite(rows).all(axis=(0, 2))]
        if not count and rows.size:
            start = rows[:, 0].copy()
        rows -= start[:, None]  # what stands still has a variance of 0, not of what rounding leaves
        count += rows.shape[1]
        sums += rows.sum(axis=1)
        products += np.stack([np.square(rows[0]), np.square(rows[1]), rows[0] * rows[1]]).sum(axis=1)
    means = sums / max(count, 1)
    of_action, of_state, of_both = products / max(count, 1) - np.stack([*np.square(means), means[0] * means[1]])
    return bool((np.maximum(of_action, of_state) <= 2 * of_both).mean() > 0.5)


def _columns(folder: Folder, *names: str) -> Iterator[tuple[NDArray, ...]]:
    """The values (rows, ...) of features, of some steps at a time."""
    import pyarrow.parquet as parquet

    for path in dict.fromkeys(row.data for row in folder.rows):
        file = parquet.ParquetFile(path)
        if missing := [name for name in names if name not in file.schema_arrow.names]:
            raise DatasetError(f"{path}: it has no column {', '.join(missing)}")
        for batch in record_batches(path, file, names, folder.shapes):
            yield tuple(column_rows(path, batch, name, folder.shapes[name]) for name in names)
