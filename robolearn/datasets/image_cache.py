"""Images of many steps, decoded once and kept as raw pixels while the budget lasts."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from robolearn.datasets.store import Store
from robolearn.specs import block_px


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
        shrink: int = 1,
    ) -> None:
        """`episode` (steps,) is the store's index of every step's episode, `first` (steps,) that episode's first step.

        With a `folder` the pixels lie in files there, which vanish with this process, else in memory. shrink: as of
        `block_px`; pictures are kept and given so, without what is over at the right and below.
        """
        self._store = store
        self._episode, self._first = episode, first
        self._as_float = images == "float32"
        self._cached: dict[str, tuple[NDArray, NDArray[np.bool_]]] = {}
        self._block: dict[str, int] = {}
        self._shape: dict[str, tuple[int, ...]] = {}  # of a picture as it is given
        for name in fields:
            spec = store.spec.fields[name]
            block = self._block[name] = block_px(spec.shape, shrink)
            self._shape[name] = (spec.shape[0] // block, spec.shape[1] // block, *spec.shape[2:])
            shape, dtype = (len(episode), *self._shape[name]), np.dtype(spec.dtype)
            num_bytes = math.prod(shape) * dtype.itemsize
            if 0 < num_bytes <= budget_bytes:
                self._cached[name] = _pixels(shape, dtype, folder), np.zeros(len(episode), np.bool_)
                budget_bytes -= num_bytes

    def get(self, name: str, steps: NDArray[np.int64], out: NDArray | None = None) -> NDArray:
        """Images (*steps.shape, H, W, C) of a field, into `out` when given."""
        spec, shape = self._store.spec.fields[name], self._shape[name]
        if out is None:
            out = np.empty((*steps.shape, *shape), np.float32 if self._as_float else spec.dtype)
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
        flat = out.reshape(-1, *shape)
        for row, step in enumerate(steps.reshape(-1).tolist()):
            if self._as_float:
                image = self._decode(name, step, np.empty((1, *shape), spec.dtype))
                np.multiply(image[0], np.float32(1 / np.iinfo(spec.dtype).max), out=flat[row])
            else:
                self._decode(name, step, flat[row : row + 1])
        return out

    def _decode(self, name: str, step: int, out: NDArray) -> NDArray:
        """The picture of a step, into `out` (1, H, W, C)."""
        within, block = step - int(self._first[step]), self._block[name]
        place = (int(self._episode[step]), (name,), within, within + 1)
        if block == 1:
            return self._store.read(*place, {name: out})[name]
        (picture,) = self._store.read(*place)[name]
        height, width = self._shape[name][:2]
        whole = picture[: height * block, : width * block]
        out[0] = cv2.resize(whole, (width, height), interpolation=cv2.INTER_AREA).reshape(out.shape[1:])
        return out


def _pixels(shape: tuple[int, ...], dtype: np.dtype, folder: Path | None) -> NDArray:
    if folder is None:
        return np.empty(shape, dtype)  # memory is taken page by page as images are decoded into it
    with tempfile.TemporaryFile(dir=folder, prefix="images-") as file:  # without a name; lives as long as its mapping
        return np.memmap(file, dtype, "w+", shape=shape)
