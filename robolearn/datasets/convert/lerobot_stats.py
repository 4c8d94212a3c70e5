"""The statistics that LeRobot keeps: of every episode, and joined over all of them. Pictures in [0, 1], per channel."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

QUANTILES = {"q01": 0.01, "q10": 0.1, "q50": 0.5, "q90": 0.9, "q99": 0.99}
PICTURES = 64  # of an episode that count, evenly spread
PIXELS = 16  # a picture's pixels that count: every so many-th, along both axes

Stats = dict[str, NDArray]


def column_stats(values: NDArray) -> Stats:
    """Of a column (T, ...) of numbers, per entry."""
    return _stats(values.reshape(len(values), -1).astype(np.float64), len(values), (-1,))


class PictureStats:
    """Collects a part of the pixels of the pictures (H, W, 3) of an episode of `length` steps."""

    def __init__(self, length: int) -> None:
        self._stride = max(length // PICTURES, 1)
        self._seen = 0
        self._pixels: list[NDArray] = []

    def add(self, picture: NDArray[np.uint8]) -> None:
        if self._seen % self._stride == 0:
            step = max(min(picture.shape[:2]) // PIXELS, 1)
            self._pixels.append(picture[::step, ::step].reshape(-1, 3))
        self._seen += 1

    def stats(self) -> Stats:
        return _stats(np.concatenate(self._pixels).astype(np.float64) / 255, len(self._pixels), (-1, 1, 1))


def _stats(rows: NDArray, count: int, shape: tuple[int, ...]) -> Stats:
    figures = {"min": rows.min(axis=0), "max": rows.max(axis=0), "mean": rows.mean(axis=0), "std": rows.std(axis=0)}
    quantiles = dict(zip(QUANTILES, np.quantile(rows, list(QUANTILES.values()), axis=0), strict=True))
    stats = {name: values.reshape(shape) for name, values in (figures | quantiles).items()}
    return stats | {"count": np.array([count])}


def joined(first: Stats, second: Stats) -> Stats:
    """Statistics of both together. Of the quantiles the outer one stands, as in LeRobot: up to the median the lower,
    above it the higher."""
    numbers = float(first["count"][0]), float(second["count"][0])
    share = numbers[1] / sum(numbers)
    mean = first["mean"] * (1 - share) + second["mean"] * share
    variance = sum(
        weight * (part["std"] ** 2 + (part["mean"] - mean) ** 2)
        for part, weight in ((first, 1 - share), (second, share))
    )
    return {
        "min": np.minimum(first["min"], second["min"]),
        "max": np.maximum(first["max"], second["max"]),
        "mean": mean,
        "std": np.sqrt(variance),
        **{n: (np.minimum if q <= 0.5 else np.maximum)(first[n], second[n]) for n, q in QUANTILES.items()},
        "count": first["count"] + second["count"],
    }


def to_json(stats: Mapping[str, Stats]) -> dict[str, Any]:
    return {field: {name: values.tolist() for name, values in each.items()} for field, each in stats.items()}
