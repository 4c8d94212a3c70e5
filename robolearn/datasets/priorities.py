"""Draws in proportion to weights that change while learning. Schaul et al. 2016 (arXiv 1511.05952), the sum tree."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from robolearn.errors import DatasetError


class Priorities:
    """A weight of at least 0 for each of `size` items, 0 at first. Drawing and changing take O(log size)."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._leaves = 1 << max(size - 1, 1).bit_length()
        self._sums = np.zeros(2 * self._leaves)  # node n has the children 2n and 2n + 1; the root is 1

    @property
    def total(self) -> float:
        return float(self._sums[1])

    def set(self, items: NDArray[np.int64], weights: ArrayLike) -> None:
        """Weights of items (B,); of an item named twice the last one counts."""
        values = np.broadcast_to(np.asarray(weights, np.float64), items.shape)
        if len(items) and (items.min() < 0 or items.max() >= self.size):
            raise DatasetError(f"priorities of items {items.min()} to {items.max()}; there are {self.size}")
        if not (np.isfinite(values).all() and (values >= 0).all()):
            raise DatasetError("priorities must be finite numbers of at least 0")
        nodes = items + self._leaves
        self._sums[nodes] = values
        while nodes[0] > 1 if len(nodes) else False:
            nodes = np.unique(nodes >> 1)
            self._sums[nodes] = self._sums[2 * nodes] + self._sums[2 * nodes + 1]

    def get(self, items: NDArray[np.int64]) -> NDArray[np.float64]:
        return self._sums[items + self._leaves]

    def draw(self, number: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """Items (number,), each with the probability weight / total. Raises DatasetError when all weigh nothing."""
        if self.total <= 0:
            raise DatasetError("priorities: every item weighs nothing; give one a weight above 0")
        rest = rng.random(number) * self.total
        nodes = np.ones(number, np.int64)
        while nodes[0] < self._leaves if number else False:
            nodes *= 2
            left = self._sums[nodes]
            # A rounding must not lead into a branch that weighs nothing.
            right = (rest >= left) & (self._sums[nodes + 1] > 0)
            rest = np.where(right, rest - left, rest)
            nodes += right
        return nodes - self._leaves
