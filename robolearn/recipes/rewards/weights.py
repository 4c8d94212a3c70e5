"""RA-BC's weights of a dataset that has progress: a column that behaviour cloning weighs its samples by."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from robolearn.datasets.columns import remove_column
from robolearn.datasets.zarr_store import ZarrStore
from robolearn.errors import DatasetError, UnknownNameError
from robolearn.recipes.rewards.settings import Report
from robolearn.recipes.rewards.shape import POTENTIAL
from robolearn.rewards.reward_aligned import RewardAlignedConfig, chunk_progress, reward_aligned_weights
from robolearn.specs import ArraySpec


def weigh_dataset(
    dataset: Path,
    progress_column: str,
    config: RewardAlignedConfig = RewardAlignedConfig(),  # noqa: B008, it is frozen
    progress: Report = lambda done, text: None,
) -> dict[str, Any]:
    """Write the column `weight/<name of the progress>-<chunk_steps>`. Where the dataset has grown since, all are made
    anew, for they depend on the mean and the spread of all progress.

    The answer has `column`, `mean_weight` and `mean_progress` (of a chunk). A healthy mean weight is .3 to .8; near 1
    `full_weight_above` is too low. Raises UnknownNameError for a column that is not there, and DatasetError for one
    that is no potential, and where nothing weighs anything.
    """
    store = ZarrStore.open(dataset)
    if progress_column not in store.columns:
        raise UnknownNameError("column", progress_column, store.columns)
    kind = store.columns[progress_column].attributes.get("kind")
    if kind != POTENTIAL:
        raise DatasetError(f"{progress_column} is {kind or 'of no kind'}, no potential; name a column of progress")
    gains = [
        chunk_progress(store.read(index, [progress_column])[progress_column].astype(np.float64), config.chunk_steps)
        for index in range(len(store.episodes))
    ]
    every = np.concatenate(gains) if gains else np.zeros(1)
    mean, std = float(every.mean()), float(every.std())
    name = f"weight/{progress_column.partition('/')[2] or progress_column}-{config.chunk_steps}"
    attributes = {"progress": progress_column, "settings": asdict(config), "mean": mean, "std": std}
    weights = [reward_aligned_weights(gain, mean, std, config) for gain in gains]
    if not any(weight.any() for weight in weights):
        raise DatasetError(
            f"{progress_column} grows in no {config.chunk_steps} steps of {len(gains)} episodes, so all weights would "
            "be 0; take the progress of another model, see `robolearn reward audit`"
        )
    if name in store.columns and store.columns[name].attributes != attributes:
        remove_column(store.path, name)
    with store.column_writer(name, ArraySpec(()), attributes) as writer:
        writer.write_all({index: weights[index].astype(np.float32) for index in writer.missing})
        progress(len(weights), "")
    return {"column": name, "mean_weight": float(np.concatenate(weights).mean()), "mean_progress": mean}
