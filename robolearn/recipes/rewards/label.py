"""Label a dataset: what a reward model says of every step becomes columns; what was recorded stays as it was."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray

from robolearn.datasets.zarr_store import ZarrStore
from robolearn.recipes.rewards.data import RewardData, cameras_of
from robolearn.recipes.rewards.settings import Report
from robolearn.rewards.reward_model import Kind, RewardModel, lasting_settings
from robolearn.specs import ArraySpec

COLUMN_KINDS: dict[Kind, str] = {"reward": "reward", "potential": "progress", "success": "success"}
"""First part of a column's name: what its values mean."""

SHARES = 8  # groups for each core at least, where they stay large enough, so that all cores end at about the same time
LEAST = 64  # steps of such a group
AHEAD = 4  # groups under way for each core, so that none idles while results, which are small, wait to be written

Columns = dict[str, NDArray]
"""Values (B, T) of a group of episodes by column."""

Scored = tuple[list[int], Columns]
"""Indices of episodes, and what was made of them."""


def column_name(model: RewardModel, wanted: str = "") -> str:
    """`reward/vlm-<version>`; of `wanted`, what is missing: the version behind `reward/vlm`, model and version behind
    `reward`. A full name is taken as it is."""
    kind, _, name = wanted.partition("/")
    if name and name.endswith(model.version):
        return wanted
    return f"{kind or COLUMN_KINDS[model.kind]}/{name or model.id}-{model.version}"


def made_by(model: RewardModel) -> dict[str, Any]:
    """Attributes of the columns that a model writes; where and how it ran is left out, so that others can go on."""
    return {
        "model": model.id,
        "version": model.version,
        "kind": model.kind,
        "causal": model.causal,
        "settings": lasting_settings(model.config),  # type: ignore[attr-defined]
    }


def label_dataset(
    dataset: Path, model: RewardModel, column: str = "", progress: Report = lambda done, text: None
) -> dict[str, Any]:
    """Write the column `column_name(model, column)`, and beside it `confidence/...` and, of stages, `stage/...`.

    Episodes that are labelled already are skipped, so a run that was interrupted goes on. The answer has `column`,
    `columns`, `episodes` and `images` (of this run), `skipped`, `images_per_s` and `kind`. `progress` counts episodes.
    """
    data = RewardData(dataset)
    cameras = cameras_of(model)
    for camera in cameras:
        data.image_size(camera)
    name = column_name(model, column)
    suffix = name.partition("/")[2]
    attributes = made_by(model)
    wanted = {f"confidence/{suffix}": ("confidence", "float32")}
    if getattr(model.config, "stages", ()):  # type: ignore[attr-defined]
        wanted[f"stage/{suffix}"] = ("stage", "int32")
    wanted[name] = ("value", "float32")  # the last one, for an episode that has it is not scored again
    started_s, images, episodes = time.perf_counter(), 0, 0
    with data.store.column_writer(name, ArraySpec(()), attributes) as writer:
        missing = writer.missing

    def score(group: list[int]) -> Columns:
        output = model.score(data.episodes(group, cameras))
        return {
            key: (output.raw[what] if what in output.raw else getattr(output, what)).cpu().numpy().astype(dtype)
            for key, (what, dtype) in wanted.items()
        }

    steps = sum(data.store.episodes[index].length for index in missing)
    groups = data.groups(missing, max(steps // (SHARES * _cores()), LEAST))
    for scored in side_by_side(score, groups):
        _write(data.store, scored, attributes)
        indices = [index for group, _ in scored for index in group]
        episodes += len(indices)
        images += sum(data.store.episodes[index].length for index in indices) * max(len(cameras), 1)
        progress(episodes, f"{images / (time.perf_counter() - started_s):.0f} images/s")
    wall_s = time.perf_counter() - started_s
    return {
        "column": name,
        "columns": list(wanted),
        "kind": model.kind,
        "episodes": episodes,
        "skipped": len(data.store.episodes) - episodes,
        "images": images,
        "images_per_s": images / wall_s if images else 0.0,
    }


def side_by_side(work: Callable[[list[int]], Columns], groups: Sequence[list[int]]) -> Iterator[list[Scored]]:
    """What `work` makes of each group, in order, a core each: one group is decoded while another is in the network.

    All that is ready comes at once, for a disk takes as long to make much durable as little. A CPU that works on a
    picture of its own per core has no others to wait for, as it has where all share one picture.
    """
    threads, workers = torch.get_num_threads(), _cores()
    waiting: deque[tuple[list[int], Future[Columns]]] = deque()
    torch.set_num_threads(1)
    pool = ThreadPoolExecutor(workers, "score")
    try:
        for group in groups:
            waiting.append((group, pool.submit(work, group)))
            if len(waiting) > AHEAD * workers:
                yield _ready(waiting)
        while waiting:
            yield _ready(waiting)
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(threads)


def _cores() -> int:
    """Two at least, so that a GPU does not wait for what is decoded."""
    return max(torch.get_num_threads(), 2)


def _ready(waiting: deque[tuple[list[int], Future[Columns]]]) -> list[Scored]:
    """Take the first ones, waiting for one of them."""
    ready: list[Scored] = []
    while waiting and (not ready or waiting[0][1].done()):
        group, future = waiting.popleft()
        ready.append((group, future.result()))
    return ready


def _write(store: ZarrStore, scored: Sequence[Scored], attributes: Mapping[str, Any]) -> None:
    """Write (B, T) values of the episodes of each group, column by column."""
    for name, example in scored[0][1].items():
        values = {
            index: columns[name][row, : store.episodes[index].length]
            for group, columns in scored
            for row, index in enumerate(group)
        }
        with store.column_writer(name, ArraySpec((), str(example.dtype)), attributes) as writer:
            writer.write_all(values)
