"""A dataset as a learner sees it: checked, split into training and held-out episodes, with statistics and batches."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from robolearn.algorithms.algorithm import Batch
from robolearn.datasets.sampler import Sampler, SamplerConfig, split_episodes
from robolearn.datasets.stats import summarize
from robolearn.datasets.zarr_store import ZarrStore
from robolearn.errors import DatasetError
from robolearn.networks.normalizer import FieldStatistics
from robolearn.policies.chunking import policy_spec

VALIDATION_FRACTION = 0.1  # of the episodes, at least one, held out from learning
VALIDATION_BATCHES, VALIDATION_BATCH_SIZE = 4, 128


class TrainingData:
    """The episodes of a dataset that are worth imitating: not empty, and not known to have failed.

    Raises DatasetError or SpecError in one line when they cannot be learned from.
    """

    def __init__(self, dataset: Path, chunk_steps: int, seed: int, device: str = "cpu") -> None:
        store = ZarrStore.open(dataset)
        self.spec = policy_spec(store.spec.interface)
        usable = [i for i, info in enumerate(store.episodes) if info.length > 0 and info.success is not False]
        if len(usable) < 2:
            raise DatasetError(
                f"{dataset} has {len(usable)} successful episodes of {len(store.episodes)}; training wants at least 2, "
                "one to learn from and one to hold out; collect more"
            )
        train, validation = split_episodes(len(usable), VALIDATION_FRACTION, seed)
        self.train_episodes = [usable[i] for i in train]
        self.validation_episodes = [usable[i] for i in validation]
        self.episode_seeds = [info.seed for info in store.episodes if info.seed is not None]
        summary = summarize(store, ("proprio", "action"), self.train_episodes)
        self.statistics = {name: FieldStatistics(s.mean, s.std, s.low, s.high) for name, s in summary.items()}

        self._seed, self._device = seed, device
        config = SamplerConfig(fields=tuple(self.spec.observation), action_horizon=chunk_steps)
        self._sampler = Sampler(store, config, self.train_episodes)
        held_out = Sampler(store, config, self.validation_episodes)
        rng = np.random.default_rng(seed)
        self.validation_batches = [self._draw(held_out, VALIDATION_BATCH_SIZE, rng) for _ in range(VALIDATION_BATCHES)]

    def batch(self, step: int, size: int) -> Batch:
        """The batch of a gradient step, which the seed and the step alone decide."""
        return self._draw(self._sampler, size, np.random.default_rng((self._seed, step)))

    def _draw(self, sampler: Sampler, size: int, rng: np.random.Generator) -> Batch:
        """At most `size` samples. Of a chunk, only the actions before a perturbation are imitated.

        A push that was put in on purpose cannot be foreseen, and what comes after it is the answer to the push. So
        twice as many are drawn, and those that begin with a push are left out.
        """
        sample = sampler.sample(2 * size, rng)
        sample["action_mask"] = np.logical_and.accumulate(sample["action_mask"], axis=1)
        rows = np.flatnonzero(sample["action_mask"][:, 0])[:size]
        return {name: torch.from_numpy(values[rows]).to(self._device) for name, values in sample.items()}
