"""Datasets: list, search, look into episodes, edit. HTTP alone; the work is done in `robolearn.datasets`."""

from __future__ import annotations

import struct
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query, Response
from pydantic import BaseModel

from robolearn.datasets import edit
from robolearn.datasets.histograms import histograms
from robolearn.datasets.pictures import jpegs
from robolearn.datasets.select import Filter, choices, matching
from robolearn.datasets.series import series
from robolearn.datasets.statistics import statistics
from robolearn.datasets.store import EpisodeInfo
from robolearn.errors import DatasetError, RobolearnError
from robolearn.web.security import sayable
from robolearn.web.stores import Stores, version

PICTURES_AT_ONCE = 64
ROWS_AT_ONCE = 500
KEPT_BY_BROWSERS = {"cache-control": "private, max-age=3600, immutable"}  # the address changes with the dataset


class Edit(BaseModel):
    """A change of the episodes of these ids."""

    dataset: str
    episodes: list[str]
    action: Literal["delete", "tag", "relabel", "trim"]
    tags: dict[str, Any] = {}  # of tag: null takes one away
    changes: dict[str, Any] = {}  # of relabel
    start: int = 0  # of trim
    stop: int | None = None


class Undo(BaseModel):
    dataset: str
    expected: str  # what the person saw as the last edit


class Split(BaseModel):
    dataset: str
    episodes: list[str]
    out: str


class Merge(BaseModel):
    datasets: list[str]
    out: str


def make_router(stores: Stores) -> APIRouter:
    router = APIRouter()

    @router.get("")
    def datasets() -> list[dict[str, Any]]:
        """Every dataset; one that cannot be opened, or shown whole, says why."""
        twice = "has the name of a dataset in a data folder before this one, which is shown; rename one"
        hidden = [{"name": sayable(str(path)), "problem": f"it {twice}"} for path in stores.hidden()]
        return [*(_summary(stores, name) for name in stores.names()), *hidden]

    @router.get("/episodes")
    def episodes(
        dataset: str,
        wanted: Annotated[Filter, Depends()],
        first: Annotated[int, Query(ge=0)] = 0,
        count: Annotated[int, Query(ge=1, le=ROWS_AT_ONCE)] = 100,
    ) -> dict[str, Any]:
        """Rows of the table that fit, from `first` on, the ids of all that fit, and what can be chosen from."""
        store = stores.get(dataset)
        table = store.episodes
        found = matching(table, wanted)
        return {
            "episodes": len(table),
            "found": [table[index].id for index in found],
            "found_steps": sum(table[index].length for index in found),
            "rows": [_row(table[index], index) for index in found[first : first + count]],
            "choices": choices(table),
            "last_edit": edit.last_edit(store),
            "control_hz": store.spec.interface.control_hz,
        }

    @router.get("/statistics")
    def dataset_statistics(dataset: str) -> dict[str, Any]:
        """Histograms, coverage and quality; what is missing of the quality is computed, which may take a while."""
        store = stores.get(dataset)
        return {**histograms(store), **asdict(statistics(store).quality)}

    @router.get("/episode")
    def episode(dataset: str, episode: str) -> dict[str, Any]:
        """Everything about one episode but its values, and its neighbours."""
        store, index = stores.episode(dataset, episode)
        table, spec = store.episodes, store.spec
        cameras = {
            name: {"height": spec.fields[name].shape[0], "width": spec.fields[name].shape[1]}
            for name in spec.image_fields
        }
        return {
            **_row(table[index], index),
            "tags": dict(table[index].tags),
            "annotations": [asdict(note) for note in table[index].annotations],
            "masked": dict(table[index].masked),
            "dropped": dict(table[index].dropped),
            "cameras": cameras,
            "control_hz": spec.interface.control_hz,
            "episodes": len(table),
            "before": table[index - 1].id if index else None,
            "after": table[index + 1].id if index + 1 < len(table) else None,
            "version": version(store, table[index]),
            "last_edit": edit.last_edit(store),
        }

    @router.get("/series")
    def episode_series(dataset: str, episode: str) -> dict[str, Any]:
        """Every vector, stream and column of an episode."""
        return series(*stores.episode(dataset, episode))

    @router.get("/pictures")
    def pictures(dataset: str, episode: str, camera: str, first: int, count: int) -> Response:
        """JPEGs of `count` steps in one answer: their number and their lengths (uint32 each, 0: none), then they."""
        if not 1 <= count <= PICTURES_AT_ONCE:
            raise DatasetError(f"{count} pictures at once; ask for 1 to {PICTURES_AT_ONCE}")
        store, index = stores.episode(dataset, episode)
        found = jpegs(store, index, camera, first, min(first + count, store.episodes[index].length))
        lengths = [len(data or b"") for data in found]
        head = struct.pack(f"<{len(lengths) + 1}I", len(lengths), *lengths)
        body = b"".join([head, *(data or b"" for data in found)])
        return Response(body, media_type="application/octet-stream", headers=KEPT_BY_BROWSERS)

    @router.post("/edit")
    def change(wanted: Edit) -> dict[str, Any]:
        """Delete, tag, relabel or trim episodes; all of it can be undone."""

        def apply(path: Path) -> list[str]:
            if wanted.action == "delete":
                return edit.delete(path, wanted.episodes)
            if wanted.action == "tag":
                return edit.tag(path, wanted.episodes, wanted.tags)
            if wanted.action == "relabel":
                return edit.relabel(path, wanted.episodes, wanted.changes)
            if len(wanted.episodes) != 1:
                raise DatasetError(f"trim came with {len(wanted.episodes)} episodes; it takes one")
            return edit.trim(path, wanted.episodes[0], wanted.start, wanted.stop)

        return {"episodes": stores.edit(wanted.dataset, apply)}

    @router.post("/undo")
    def undo(wanted: Undo) -> dict[str, str]:
        """Take back the last edit, if it still is the one that was shown."""
        return {"undone": stores.edit(wanted.dataset, lambda path: edit.undo(path, expected=wanted.expected))}

    @router.post("/split")
    def split(wanted: Split) -> dict[str, Any]:
        """Copy episodes into a new dataset."""
        path, out = stores.path(wanted.dataset), stores.new_path(wanted.out)
        return {"dataset": wanted.out, "episodes": edit.split(path, {out: wanted.episodes})[out]}

    @router.post("/merge")
    def merge(wanted: Merge) -> dict[str, Any]:
        """Copy all episodes of several datasets into a new one."""
        out = stores.new_path(wanted.out)
        return {"dataset": wanted.out, "episodes": edit.merge([stores.path(name) for name in wanted.datasets], out)}

    return router


def _summary(stores: Stores, name: str) -> dict[str, Any]:
    try:
        store = stores.get(name)
    except RobolearnError as error:
        return {"name": sayable(name), "problem": str(error)}
    if store.damaged_fields:
        return {"name": name, "problem": "; ".join(store.damaged_fields.values())}
    table = store.episodes
    return {
        "name": name,
        "problem": "",
        "episodes": len(table),
        "steps": sum(episode.length for episode in table),
        "successes": sum(episode.success is True for episode in table),
        "failures": sum(episode.success is False for episode in table),
        "tasks": choices(table)["task"],
        "robot": store.spec.robot.name,
        "cameras": list(store.spec.image_fields),
        "newest_ns": max([episode.created_ns for episode in table], default=0),
        "unfinished": len(store.unfinished),
    }


def _row(episode: EpisodeInfo, index: int) -> dict[str, Any]:
    return {
        "index": index,
        "id": episode.id,
        "length": episode.length,
        "task": episode.task,
        "instruction": episode.instruction,
        "seed": episode.seed,
        "success": episode.success,
        "terminated": episode.terminated,
        "truncated": episode.truncated,
        "reason": episode.reason,
        "operator": episode.operator,
        "created_ns": episode.created_ns,
        "tag_names": sorted(episode.tags),
        "stages": list(dict.fromkeys(note.label for note in episode.annotations)),
        "annotators": sorted({note.author for note in episode.annotations}),
    }
