"""Statistics of the fields of a dataset, over the steps that are valid, summed in float64."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robolearn.datasets.store import Store
from robolearn.errors import DatasetError, UnknownNameError

QUANTILES = (0.01, 0.1, 0.5, 0.9, 0.99)


@dataclass(frozen=True)
class FieldSummary:
    """Per entry of a vector, or per channel of an image: in the field's unit, images in grey levels.

    `quantiles` are rows, one each of QUANTILES.
    """

    count: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    quantiles: tuple[tuple[float, ...], ...]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def summarize(
    store: Store, fields: Iterable[str] | None = None, episodes: Sequence[int] | None = None, image_stride: int = 1
) -> dict[str, FieldSummary]:
    """Summary of every numeric field, or of those named, over the episodes with these indices.

    Of images, every `image_stride`-th step counts. Raises DatasetError when a field has no valid step.
    """
    spec = store.spec
    names = [n for n, s in spec.fields.items() if s.dtype != "bool"] if fields is None else list(fields)
    for name in names:
        if name not in spec.fields:
            raise UnknownNameError("dataset field", name, spec.fields)
    indices = range(len(store.episodes)) if episodes is None else episodes
    return {
        name: _images(store, name, indices, image_stride)
        if name in spec.image_fields
        else _vectors(store, name, indices)
        for name in names
    }


def _vectors(store: Store, name: str, indices: Sequence[int]) -> FieldSummary:
    rows = [_valid_rows(store, name, index) for index in indices]
    values = np.concatenate(rows or [np.zeros((0, 1))]).astype(np.float64)
    if not len(values):
        raise DatasetError(f"{name} has no valid step in {len(indices)} episodes; there is nothing to summarize")
    values = values.reshape(len(values), -1)
    return FieldSummary(
        len(values),
        _row(values.mean(0)),
        _row(values.std(0)),
        _row(values.min(0)),
        _row(values.max(0)),
        tuple(_row(q) for q in np.quantile(values, QUANTILES, axis=0)),
    )


def _images(store: Store, name: str, indices: Sequence[int], stride: int) -> FieldSummary:
    spec = store.spec.fields[name]
    levels = np.iinfo(spec.dtype).max + 1
    channels = spec.shape[2] if len(spec.shape) == 3 else 1
    counts = np.zeros((channels, levels), np.int64)
    for index in indices:
        valid = store.read_valid(index)[name]
        for step in range(0, len(valid), stride):
            if valid[step]:
                image = store.read(index, [name], step, step + 1)[name].reshape(-1, channels)
                for channel in range(channels):
                    counts[channel] += np.bincount(image[:, channel], minlength=levels)
    number = int(counts[0].sum())
    if not number:
        raise DatasetError(f"{name} has no valid step in {len(indices)} episodes; there is nothing to summarize")
    grey = np.arange(levels, dtype=np.float64)
    mean = counts @ grey / number
    std = np.sqrt(np.maximum(counts @ grey**2 / number - mean**2, 0))
    there = counts > 0
    share = np.cumsum(counts, axis=1) / number
    return FieldSummary(
        number,
        _row(mean),
        _row(std),
        _row(there.argmax(axis=1)),
        _row(levels - 1 - there[:, ::-1].argmax(axis=1)),
        tuple(_row((share >= q).argmax(axis=1)) for q in QUANTILES),
    )


def _valid_rows(store: Store, name: str, index: int) -> NDArray:
    rows = store.read(index, [name])[name]
    return rows[store.read_valid(index)[name]] if name in store.spec.stamped_fields else rows


def _row(values: NDArray) -> tuple[float, ...]:
    return tuple(float(value) for value in values)
