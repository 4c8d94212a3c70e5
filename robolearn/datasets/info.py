"""A dataset in figures."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from robolearn.datasets.preferences import read_preferences
from robolearn.datasets.statistics import statistics
from robolearn.datasets.store import UNKNOWN_SOURCE
from robolearn.datasets.zarr_store import ZarrStore
from robolearn.types import ActionSource


def info(path: Path | str) -> dict[str, Any]:
    """What a dataset holds, as JSON. Reads no image. Raises DatasetError when it cannot be opened."""
    store = ZarrStore.open(path)
    spec, episodes = store.spec, store.episodes
    lengths = [episode.length for episode in episodes]
    summary = statistics(store)
    summaries, quality = summary.fields, summary.quality
    files = [file for file in store.path.rglob("*") if file.is_file()]
    return {
        "path": str(store.path),
        "schema_version": store.schema_version,
        "robot": spec.robot.name,
        "tasks": sorted({*spec.tasks, *(episode.task for episode in episodes if episode.task)}),
        "control_hz": spec.interface.control_hz,
        "episodes": len(episodes),
        "steps": sum(lengths),
        "seconds": round(sum(lengths) / spec.interface.control_hz, 3),
        "shortest_steps": min(lengths, default=0),
        "longest_steps": max(lengths, default=0),
        "successes": sum(episode.success is True for episode in episodes),
        "failures": sum(episode.success is False for episode in episodes),
        "success_unknown": sum(episode.success is None for episode in episodes),
        "truncated": sum(episode.truncated for episode in episodes),
        "action_sources": _sources(store),
        "held_steps": sum(int(store.read(index, ["held"])["held"].sum()) for index in range(len(episodes))),
        "fields": {
            name: {
                "shape": list(field.shape),
                "dtype": field.dtype,
                "unit": field.unit,
                "names": list(field.names),
                "bytes": sum(map(_size, (store.path / name).glob("*"))),
                "mean": list(summaries[name].mean) if name in summaries else None,
                "std": list(summaries[name].std) if name in summaries else None,
                "masked_steps": sum(episode.masked.get(name, 0) for episode in episodes),
                "dropped_steps": sum(episode.dropped.get(name, 0) for episode in episodes),
            }
            for name, field in spec.fields.items()
        },
        "trajectory_quality": quality.tq,
        "state_action_coverage": quality.saco,
        "unique_state_actions": quality.unique_state_actions,
        "streams": {
            name: {
                "shape": list(stream.array.shape),
                "dtype": stream.array.dtype,
                "unit": stream.array.unit,
                "rate_hz": stream.rate_hz,
                "align": stream.align,
                "samples": sum(episode.streams.get(name, (0, 0))[1] for episode in episodes),
            }
            for name, stream in spec.streams.items()
        },
        "columns": {
            name: {
                "shape": list(column.spec.shape),
                "dtype": column.spec.dtype,
                "episodes": sum(column.has(e.id, e.start, e.stop) for e in episodes),
                "attributes": dict(column.attributes),
            }
            for name, column in store.columns.items()
        },
        "damaged_fields": list(store.damaged_fields.values()),
        "damaged_columns": list(store.damaged_columns.values()),
        "annotations": sum(len(episode.annotations) for episode in episodes),
        "preferences": len(read_preferences(store)),
        "image_codec": spec.to_json()["image_codec"],
        "cameras": dict(spec.cameras),
        "operators": sorted({episode.operator for episode in episodes if episode.operator}),
        "software_versions": sorted({episode.software_version for episode in episodes}),
        "unfinished": [str(episode) for episode in store.unfinished],
        "bytes": sum(map(_size, files)),
        "files": len(files),
    }


def _size(file: Path) -> int:
    """Bytes of a file; none of one that a writer has renamed meanwhile."""
    try:
        return file.stat().st_size
    except FileNotFoundError:
        return 0


def _sources(store: ZarrStore) -> dict[str, int]:
    """Steps by who chose the action."""
    counts: Counter[int] = Counter()
    for index in range(len(store.episodes)):
        sources, numbers = np.unique(store.read(index, ["action_source"])["action_source"], return_counts=True)
        counts.update(dict(zip(sources.tolist(), numbers.tolist(), strict=True)))
    names = {int(source): source.name.lower() for source in ActionSource} | {UNKNOWN_SOURCE: "unknown"}
    return {names.get(source, str(source)): number for source, number in sorted(counts.items())}
