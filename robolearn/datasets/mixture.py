"""Batches from several sources in a fixed ratio, such as demonstrations and a replay buffer half and half."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from robolearn.errors import DatasetError

Arrays = dict[str, NDArray]


class Source(Protocol):
    """Where batches come from: `Sampler`, `ReplayBuffer`, `Mixture`."""

    def sample(self, batch_size: int, rng: np.random.Generator, out: Arrays | None = None) -> Arrays:
        """A batch, written into `out` (B, ...) when given. The draws depend on the generator alone."""
        ...


class Mixture:
    """A source of sources. Their rows follow one another in a batch; fields that one of them lacks are left out."""

    def __init__(self, sources: Sequence[tuple[Source, float]]) -> None:
        """Each source with its share; shares are above 0 and need not add up to 1."""
        if not sources or min(share for _, share in sources) <= 0:
            raise DatasetError(f"a mixture wants sources with shares above 0, got {[share for _, share in sources]}")
        total = sum(share for _, share in sources)
        self._sources = [source for source, _ in sources]
        self._shares = np.array([share / total for _, share in sources])
        self._names: list[str] = []  # of the fields that all sources have, once somebody has sampled

    def counts(self, batch_size: int) -> list[int]:
        """Rows of each source in a batch: rounded down, and what is left goes to the largest remainders."""
        wanted = self._shares * batch_size
        counts = np.floor(wanted).astype(int)
        order = np.argsort(-(wanted - counts), kind="stable")
        counts[order[: batch_size - counts.sum()]] += 1
        return counts.tolist()

    def sample(self, batch_size: int, rng: np.random.Generator, out: Arrays | None = None) -> Arrays:
        counts = self.counts(batch_size)
        if not self._names:  # a small batch may have no row of a source
            every = [source.sample(1, np.random.default_rng(0)) for source in self._sources]
            self._names = [name for name in every[0] if all(name in part for part in every)]
        parts = [source.sample(count, rng) for source, count in zip(self._sources, counts, strict=True) if count]
        return {
            name: np.concatenate([part[name] for part in parts], out=None if out is None else out[name])
            for name in self._names
        }
