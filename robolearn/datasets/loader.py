"""Batches as torch tensors, made in the background: while one is learned from, threads decode the next ones."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch

from robolearn.datasets.mixture import Source

Tensors = dict[str, torch.Tensor]


@dataclass(frozen=True)
class LoaderConfig:
    """How batches are made."""

    batch_size: int
    seed: int = 0
    workers: int = 2  # threads; the codecs let others run while they decode
    ahead: int = 4  # batches that are made before they are asked for
    device: str = "cpu"  # a GPU gets its batches from page-locked memory, without waiting for the copy


class Loader:
    """An endless iterator. Batch number k depends on the seed and k alone, however many threads make it.

    To go on where another one stopped, begin at its `position`. A context manager.
    """

    def __init__(self, source: Source, config: LoaderConfig, position: int = 0) -> None:
        self.position = position  # number of the batch that comes next
        self._source, self._config = source, config
        self._pin = torch.device(config.device).type == "cuda"
        first = source.sample(1, np.random.default_rng((config.seed, position)))
        self._shapes = {name: (values.shape[1:], values.dtype) for name, values in first.items()}
        self._pool = ThreadPoolExecutor(config.workers, "loader")
        self._made: deque[Future[Tensors]] = deque()

    def __iter__(self) -> Iterator[Tensors]:
        return self

    def __next__(self) -> Tensors:
        while len(self._made) <= self._config.ahead:
            self._made.append(self._pool.submit(self._make, self.position + len(self._made)))
        batch = self._made.popleft().result()
        self.position += 1
        return {name: tensor.to(self._config.device, non_blocking=True) for name, tensor in batch.items()}

    def close(self) -> None:
        self._pool.shutdown(cancel_futures=True)
        self._made.clear()

    def __enter__(self) -> Loader:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _make(self, number: int) -> Tensors:
        size = self._config.batch_size
        tensors = {
            name: torch.empty((size, *shape), dtype=_torch_dtype(dtype), pin_memory=self._pin)
            for name, (shape, dtype) in self._shapes.items()
        }
        rng = np.random.default_rng((self._config.seed, number))
        self._source.sample(size, rng, {name: tensor.numpy() for name, tensor in tensors.items()})
        return tensors


def _torch_dtype(dtype: np.dtype) -> torch.dtype:
    return torch.from_numpy(np.zeros(0, dtype)).dtype
