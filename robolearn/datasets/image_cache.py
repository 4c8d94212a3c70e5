"""Images of many steps, decoded once and kept as raw pixels while the budget lasts."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from robolearn.datasets.store import Store


class ImageCache:
    """Steps count through the sampler's episodes. Safe to use from several threads."""

    def __init__(
        self,
        store: Store,
        fields: Sequence[str],
        episode: NDArray[np.int64],
        first: NDArray[np.int64],
        images: Literal["uint8", "float32"],
        budget_bytes: int,
        folder: Path | None,
    ) -> None:
        """`episode` (steps,) is the store's index of every step's episode, `first` (steps,) that episode's first step.

        With a `folder` the pixels lie in files there, which vanish with this process, else in memory.
        """
        self._store = store
        self._episode, self._first = episode, first
        self._as_float = images == "float32"
        self._cached: dict[str, tuple[NDArray, NDArray[np.bool_]]] = {}
        for name in fields:
            spec = store.spec.fields[name]
            shape, dtype = (len(episode), *spec.shape), np.dtype(spec.dtype)
            num_bytes = math.prod(shape) * dtype.itemsize
            if 0 < num_bytes <= budget_bytes:
                self._cached[name] = _pixels(shape, dtype, folder), np.zeros(len(episode), np.bool_)
                budget_bytes -= num_bytes

    def get(self, name: str, steps: NDArray[np.int64], out: NDArray | None = None) -> NDArray:
        """Images (*steps.shape, H, W, C) of a field, into `out` when given."""
        spec = self._store.spec.fields[name]
        if out is None:
            out = np.empty((*steps.shape, *spec.shape), np.float32 if self._as_float else spec.dtype)
        cached = self._cached.get(name)
        if cached is not None:
            pixels, there = cached
            for step in np.unique(steps[np.logical_not(there.take(steps))]).tolist():
                self._decode(name, step, pixels[step : step + 1])
                there[step] = True  # after the pixels: another thread may look
            if not self._as_float:
                return np.take(pixels, steps, axis=0, out=out, mode="clip")
            np.multiply(pixels.take(steps, axis=0), np.float32(1 / np.iinfo(spec.dtype).max), out=out)
            return out
        flat = out.reshape(-1, *spec.shape)
        for row, step in enumerate(steps.reshape(-1).tolist()):
            if self._as_float:
                image = self._decode(name, step, np.empty((1, *spec.shape), spec.dtype))
                np.multiply(image[0], np.float32(1 / np.iinfo(spec.dtype).max), out=flat[row])
            else:
                self._decode(name, step, flat[row : row + 1])
        return out

    def _decode(self, name: str, step: int, out: NDArray) -> NDArray:
        within = step - int(self._first[step])
        return self._store.read(int(self._episode[step]), (name,), within, within + 1, {name: out})[name]


def _pixels(shape: tuple[int, ...], dtype: np.dtype, folder: Path | None) -> NDArray:
    if folder is None:
        return np.empty(shape, dtype)  # memory is taken page by page as images are decoded into it
    with tempfile.TemporaryFile(dir=folder, prefix="images-") as file:  # without a name; lives as long as its mapping
        return np.memmap(file, dtype, "w+", shape=shape)
