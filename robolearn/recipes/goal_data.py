"""A dataset as a learner sees it that is told where to get to: any step can be the goal of an earlier one.

Batches hold the fields of a state s under their names, and of other states under a prefix: `next_`, `goal_` (of the
values), `far_` (of the high level), `way_` (k steps on), `target_` (k steps on, or `far_` where that is nearer) and
`option_` (n steps on). `reward` is 0 where the goal is s, `option_reward` where it is less than n steps ahead of it,
else -1; there nothing bootstraps. No state of another episode is ever on the way.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robolearn.algorithms.algorithm import Batch
from robolearn.datasets.sampler import Sampler, SamplerConfig, TransitionConfig
from robolearn.datasets.zarr_store import ZarrStore
from robolearn.errors import DatasetError, SpecError
from robolearn.recipes.training_data import (
    Split,
    check_values,
    episode_indices,
    field_statistics,
    provenance,
    seen_spec,
    tensors,
)


class GoalData:
    """Every episode of a dataset, good and bad. No reward is looked at."""

    def __init__(self, dataset: Path, config: Any, seed: int, device: str = "cpu", split: Split | None = None) -> None:
        if config.subgoal_steps < 1 or config.option_steps < 0:
            raise SpecError(
                f"subgoal_steps is {config.subgoal_steps} and option_steps {config.option_steps}; expected at least 1 "
                "and at least 0"
            )
        if config.goals.offset == "geometric" and not config.discount < 1.0:
            raise SpecError(f"discount is {config.discount:g}; goals that are drawn by it want one below 1")
        store = ZarrStore.open(dataset)
        self.spec = seen_spec(dataset, store, config.policy.privileged)
        if split is None:
            split = {"train": [info.id for info in store.episodes if info.length > 1], "validation": []}
        self.split = split
        self.train_episodes = episode_indices(store, split["train"])
        if not self.train_episodes:
            raise DatasetError(f"{dataset} has no episode of at least two steps; collect some")
        self.seeds, self.tasks = provenance(store.episodes)
        check_values(dataset, store, self.spec, self.train_episodes)
        self.statistics = field_statistics(store, tuple(self.spec.observation), self.train_episodes)
        self.validation_batches: list[Batch] = []
        self._config, self._seed, self._device = config, seed, device
        fields = SamplerConfig(
            tuple(self.spec.observation), transition=TransitionConfig(discount=config.discount), goals=config.goals
        )
        self._sampler = Sampler(store, fields, self.train_episodes)

    def batch(self, step: int, size: int) -> Batch:
        """The batch of a gradient step, which the seed and the step alone decide."""
        sampler, config = self._sampler, self._config
        rng = np.random.default_rng((self._seed, step))
        steps = sampler.draw(size, rng)
        last = sampler.last_of(steps)
        goals = sampler.draw_goals(steps, config.goals, config.discount, rng)
        far = sampler.draw_goals(steps, config.far_goals, config.discount, rng)
        batch = sampler.batch(steps, goals)
        for unused in ("action_mask", "return_to_go", "goal_reached", "discount"):
            del batch[unused]
        way, target = on_the_way(steps, last, far, config.subgoal_steps)
        others = {"far_": far, "way_": way, "target_": target}
        if config.option_steps:
            others["option_"] = np.minimum(steps + config.option_steps, last)
            within = (goals >= steps) & (goals < steps + config.option_steps) & (goals <= last)
            batch["option_reward"] = within.astype(np.float32) - np.float32(1)
            batch["option_bootstrap"] = (~within).astype(np.float32)
        for prefix, seen in others.items():
            batch |= {prefix + name: values for name, values in sampler.seen(seen).items()}
        return tensors(batch, self._device)


def on_the_way(
    steps: NDArray[np.int64], last: NDArray[np.int64], far: NDArray[np.int64], ahead: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The steps (B,) so far ahead within the episode, and the same with goals of the episode's future that come
    first."""
    way = np.minimum(steps + ahead, last)
    comes = (far >= steps) & (far <= last)
    return way, np.where(comes, np.minimum(way, far), way)
