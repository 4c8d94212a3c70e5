"""Label a dataset: what a reward model says of every step becomes columns; what was recorded stays as it was."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import chain
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from robolearn.algorithms.compile import keep_memory
from robolearn.datasets.columns import COLUMN_KINDS, ColumnWriter, column_beside, remove_column
from robolearn.datasets.zarr_store import ZarrStore
from robolearn.errors import DatasetBusyError, SpecError
from robolearn.recipes.rewards.data import RewardData
from robolearn.recipes.rewards.read_ahead import ReadAhead
from robolearn.recipes.rewards.settings import Report
from robolearn.recipes.rewards.side_by_side import SideBySide
from robolearn.rewards.matching import DiscountConfig, MatchingReward, scheduled_discount
from robolearn.rewards.reward_model import Episodes, RewardModel, cameras_of, lasting_settings, trained_on
from robolearn.rewards.score_client import RemoteReward
from robolearn.rewards.success import decided
from robolearn.specs import ArraySpec

BESIDE = ("confidence", "stage", "done", "followed")
"""First parts of the names of the columns that are written beside the value."""

TRAIN_EPISODES = "train_episodes"
"""Attribute of a column: ids of the episodes that its model was trained on. Older columns lack it."""

Columns = dict[str, NDArray]
"""Values (B, T) of a group of episodes by column."""

Scored = tuple[list[int], Columns]
"""Indices of episodes, and what was made of them."""

BUSY_S, PATIENCE_S = 0.02, 60.0  # between two tries while others write columns, and altogether
WRITE_EVERY_S = 1.0  # at most: to make little durable takes a disk as long as much


def column_name(model: RewardModel, wanted: str = "") -> str:
    """`reward/vlm-<version>`; of `wanted`, what is missing: the version behind `reward/vlm`, model and version behind
    `reward`. A full name is taken as it is. Raises SpecError for the name of what is written beside it."""
    kind, _, name = check_name(wanted).partition("/")
    if name and name.endswith(model.version):
        return wanted
    return f"{kind or COLUMN_KINDS[model.kind]}/{name or model.id}-{model.version}"


def check_name(wanted: str) -> str:
    """The name that somebody wants for a column. Raises SpecError for one that is written beside another."""
    kind = wanted.partition("/")[0]
    if kind in BESIDE:
        raise SpecError(f"column {wanted!r}: {kind}/... is written beside the value; name it otherwise, as reward/mine")
    return wanted


def made_by(model: RewardModel) -> dict[str, Any]:
    """Attributes of the columns that a model writes; where and how it ran is left out, so that others can go on."""
    config = model.config  # type: ignore[attr-defined]
    settings = model.settings if isinstance(model, RemoteReward) else lasting_settings(config)
    return {
        "model": model.id,
        "version": model.version,
        "kind": model.kind,
        "causal": model.causal,
        "settings": settings,
    }


def device_of(model: RewardModel) -> torch.device:
    """Where a model computes."""
    if isinstance(model, nn.Module):
        return next((tensor.device for tensor in chain(model.parameters(), model.buffers())), torch.device("cpu"))
    return getattr(model, "device", torch.device("cpu"))


def label_dataset(
    dataset: Path, model: RewardModel, column: str = "", progress: Report = lambda done, text: None
) -> dict[str, Any]:
    """Write the column `column_name(model, column)`, and beside it `confidence/...`, of stages `stage/...`, and of a
    success classifier `done/...`, its decisions: a reward.

    Episodes that are labelled already are skipped, so a run that was interrupted goes on. The answer has `column`,
    `columns`, `episodes` and `images` (of this run), `skipped`, `images_per_s` and `kind`. Of matching there are
    `followed/...`, too, and the `discount` that it gives for the median episode. `progress` counts episodes.
    """
    data = RewardData(dataset)
    cameras = cameras_of(model) or data.cameras
    step_bytes = sum(3 * prod(data.image_size(camera)) for camera in cameras)
    name = column_name(model, column)
    wanted, attributes = _columns(model, name), made_by(model)
    learned_from: dict[str, Any] = {TRAIN_EPISODES: sorted(trained_on(model))}
    if name in data.store.columns:  # it is gone on with as it is, also where it does not say that yet
        known = data.store.columns[name].attributes
        learned_from = {key: known[key] for key in learned_from if key in known}
    of_done = {column_beside("done", name): {**attributes, "kind": "reward"}}
    attributes_of = {**of_done, name: {**attributes, **learned_from}}
    started_s, images, episodes = time.perf_counter(), 0, 0
    with _column_writer(data.store, name, "float32", attributes_of[name]) as writer:
        missing = writer.missing
    had = len(data.store.episodes) - len(missing)
    if had and model.kind == "success" and "threshold" in attributes["settings"]:
        _decide_earlier(data.store, name, missing, of_done)

    def score(episodes: Episodes) -> Columns:
        output = model.score(episodes)
        told = [output.raw[what] if what in output.raw else getattr(output, what) for what, _ in wanted.values()]
        together = torch.stack([values.float() for values in told]).cpu().numpy()  # a GPU is waited for once
        return {key: values.astype(dtype) for (key, (_, dtype)), values in zip(wanted.items(), together, strict=True)}

    device = device_of(model)
    work: ReadAhead[Columns] | SideBySide[Columns]
    if device.type == "cuda":
        work = ReadAhead(data, cameras, score, device)
    else:
        work = SideBySide(lambda group: score(data.episodes(group, cameras)))
    steps = sum(data.store.episodes[index].length for index in missing)
    groups = data.groups(missing, work.group_steps(steps, step_bytes))
    keep_memory()  # pages that the system gives anew would cost a small network a third of its time
    results = _Writer(data.store, {key: attributes_of.get(key, attributes) for key in wanted})
    try:
        for ready in work.run(groups):
            indices = [index for group, _ in ready for index in group]
            episodes += len(indices)
            images += sum(data.store.episodes[index].length for index in indices) * len(cameras)
            results.add(ready, last=episodes == len(missing))
            progress(had + episodes, f"{images / (time.perf_counter() - started_s):.0f} images/s")
    finally:  # whatever ended it, what was scored is kept
        results.close()
        if not had and not episodes:  # a column that says nothing would be in the way of a leaderboard
            remove_column(dataset, name)
    wall_s = time.perf_counter() - started_s
    followed = column_beside("followed", name)
    scheduled = {"discount": followed_discount(dataset, followed)} if followed in wanted else {}
    return {
        "column": name,
        "columns": list(wanted),
        "kind": model.kind,
        "episodes": episodes,
        "skipped": had,
        "images": images,
        "images_per_s": images / wall_s if images else 0.0,
        **scheduled,
    }


def _columns(model: RewardModel, name: str) -> dict[str, tuple[str, str]]:
    """By column that is written, what of the model's output it holds, and as which dtype. The value is the last one,
    for an episode that has it is not scored again."""
    beside = {"confidence": "float32"}
    if len(getattr(model.config, "stages", ())) > 1:  # type: ignore[attr-defined]
        beside["stage"] = "int32"
    if isinstance(model, MatchingReward):
        beside["followed"] = "int32"
    if model.kind == "success":
        beside["done"] = "bool"
    return {**{column_beside(kind, name): (kind, dtype) for kind, dtype in beside.items()}, name: ("value", "float32")}


def followed_discount(dataset: Path, column: str) -> float:
    """The discount that ADS gives for as many frames as the median episode followed the demonstration."""
    store = ZarrStore.open(dataset)
    last = [store.read(i, [column])[column][-1] for i, info in enumerate(store.episodes) if info.length]
    return scheduled_discount(round(float(np.median(last))) if last else 0, DiscountConfig())


def _column_writer(store: ZarrStore, name: str, dtype: str, attributes: Mapping[str, Any]) -> ColumnWriter:
    """Waits for others who write columns, as another labelling does for moments now and then. Raises DatasetBusyError
    when they take longer than PATIENCE_S."""
    end_s = time.monotonic() + PATIENCE_S
    while True:
        try:
            return store.column_writer(name, ArraySpec((), dtype), attributes)
        except DatasetBusyError:
            if time.monotonic() > end_s:
                raise
            time.sleep(BUSY_S)


def _decide_earlier(
    store: ZarrStore, name: str, missing: Sequence[int], attributes: Mapping[str, Mapping[str, Any]]
) -> None:
    """Write the decisions of episodes that were labelled when only their probability was written."""
    ((done, of_done),) = attributes.items()
    with _column_writer(store, done, "bool", of_done) as writer:
        for index in sorted(set(writer.missing) - set(missing)):
            writer.write(index, decided(store.read(index, [name])[name], of_done["settings"]))


class _Writer:
    """Makes what was scored durable, now and then and beside the scoring."""

    def __init__(self, store: ZarrStore, attributes: Mapping[str, Mapping[str, Any]]) -> None:
        """Attributes of each column by its name."""
        self._store, self._attributes = store, attributes
        self._pool = ThreadPoolExecutor(1, "write")
        self._scored: list[Scored] = []
        self._began_s = time.perf_counter()
        self._writing: Future[None] | None = None

    def add(self, scored: Sequence[Scored], last: bool) -> None:
        """Raises what went wrong in an earlier write."""
        self._scored += scored
        due = time.perf_counter() - self._began_s > WRITE_EVERY_S and (self._writing is None or self._writing.done())
        if due or last:  # the last are written while those who read end
            self._begin()

    def close(self) -> None:
        """Write the rest. Raises what went wrong in a write."""
        try:
            if self._scored:
                self._begin()
            if self._writing is not None:
                self._writing.result()
        finally:
            self._pool.shutdown()

    def _begin(self) -> None:
        if self._writing is not None:
            self._writing.result()
        self._writing = self._pool.submit(_write, self._store, self._scored, self._attributes)
        self._scored, self._began_s = [], time.perf_counter()


def _write(store: ZarrStore, scored: Sequence[Scored], attributes: Mapping[str, Mapping[str, Any]]) -> None:
    """Write (B, T) values of the episodes of each group, column by column."""
    for name, example in scored[0][1].items():
        values = {
            index: columns[name][row, : store.episodes[index].length]
            for group, columns in scored
            for row, index in enumerate(group)
        }
        with _column_writer(store, name, str(example.dtype), attributes[name]) as writer:
            writer.write_all(values)
