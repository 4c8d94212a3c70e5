"""How long episodes are, what they command and where they go: counts over all visible steps. Legend: A entries."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from robolearn.datasets.statistics import CELLS
from robolearn.datasets.zarr_store import ZarrStore

BINS = 30


def histograms(store: ZarrStore) -> dict[str, Any]:
    """As JSON: `length` and, one for each entry of the vector, `action` and `position`: {name, unit, edges, counts}.

    They reach from limit to limit of the robot, where it has limits. A position also has its `coverage`: the share of
    the tenths of its range that the robot has been in; `position_coverage` is their mean, None without positions.
    """
    spec, robot, action = store.spec, store.spec.robot, store.spec.interface.action
    size = int(np.prod(action.shape))
    lows, highs = action.low or (np.nan,) * size, action.high or (np.nan,) * size
    names = action.names or tuple(str(entry) for entry in range(size))
    lengths = np.array([episode.length for episode in store.episodes], np.float64)
    commanded = [
        _counted(values, name, action.unit, low, high)
        for values, name, low, high in zip(_valid_rows(store, "action").T, names, lows, highs, strict=True)
    ]
    positions = []
    if "proprio" in spec.fields:
        rows = _valid_rows(store, "proprio")[:, : len(robot.joint_names)]
        limits = zip(rows.T, robot.joint_names, robot.position_low, robot.position_high, strict=True)
        positions = [
            {**_counted(values, name, robot.unit, low, high), "coverage": _coverage(values, low, high)}
            for values, name, low, high in limits
        ]
    return {
        "length": _counted(lengths, "length", "steps"),
        "action": commanded,
        "position": positions,
        "position_coverage": float(np.mean([one["coverage"] for one in positions])) if positions else None,
    }


def _valid_rows(store: ZarrStore, field: str) -> NDArray[np.float64]:
    """Values (N, A) of a vector at the visible steps where it is valid, read in one go."""
    there = np.zeros(store.num_steps, np.bool_)
    for episode in store.episodes:
        there[episode.start : episode.stop] = True
    there &= store.reader("valid").read(0, store.num_steps)[:, store.spec.stamped_fields.index(field)]
    size = int(np.prod(store.spec_of(field).shape))
    return store.reader(field).read(0, store.num_steps).reshape(store.num_steps, size)[there].astype(np.float64)


def _coverage(values: NDArray[np.float64], low: float, high: float) -> float:
    counts, _ = np.histogram(values, CELLS, (low, high) if high > low else None)
    return float((counts > 0).mean())


def _counted(
    values: NDArray[np.float64], name: str, unit: str, low: float = np.nan, high: float = np.nan
) -> dict[str, Any]:
    """What lies beyond a limit is counted at the end."""
    known = np.isfinite([low, high]).all() and high > low
    if not known:
        low, high = (values.min(), values.max()) if len(values) else (0.0, 1.0)
        high = max(high, low + 1e-9)
    counts, edges = np.histogram(np.clip(values, low, high), BINS, (low, high))
    return {"name": name, "unit": unit, "edges": edges.tolist(), "counts": counts.tolist()}
