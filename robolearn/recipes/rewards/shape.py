"""Shaped rewards of a dataset that has progress, as a column to learn from; the rules are those of `shaping.py`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from robolearn.datasets.sampler import SUCCESS
from robolearn.datasets.store import Store
from robolearn.datasets.zarr_store import ZarrStore
from robolearn.errors import DatasetError, UnknownNameError
from robolearn.recipes.rewards.settings import Report
from robolearn.rewards.shaping import Potential, Shaper, ShapingConfig
from robolearn.specs import ArraySpec

POTENTIAL = "potential"  # `kind` of a column that is no reward by itself


def shape_dataset(
    dataset: Path,
    potential_column: str,
    config: ShapingConfig = ShapingConfig(),  # noqa: B008, it is frozen
    reward: str = SUCCESS,
    progress: Report = lambda done, text: None,
) -> dict[str, Any]:
    """Write the column `reward/shaped-<name of the potential>-<discount>`: of every step the reward plus the discounted
    difference of the potential. The learner has to discount alike.

    reward: a field or column, or `success`: 1 at the last step of one. Raises UnknownNameError for a column that is not
    there, and DatasetError for one that is no potential.
    """
    store = ZarrStore.open(dataset)
    if potential_column not in store.columns:
        raise UnknownNameError("column", potential_column, store.columns)
    kind = store.columns[potential_column].attributes.get("kind")
    if kind != POTENTIAL:
        raise DatasetError(f"{potential_column} is {kind or 'of no kind'}, no potential; learn from it as it is")
    shaper = Shaper(config)
    name = f"reward/shaped-{potential_column.partition('/')[2] or potential_column}-{config.discount:g}"
    attributes = {"kind": "reward", "potential": potential_column, "reward": reward, "discount": config.discount}
    total = 0.0
    with store.column_writer(name, ArraySpec(()), attributes) as writer:
        missing = set(writer.missing)
        for index in range(len(store.episodes)):
            values = _shaped(store, index, potential_column, reward, shaper)
            total += float(values.sum())
            if index in missing:
                writer.write(index, values)
            progress(index + 1, "")
    return {"column": name, "discount": config.discount, "mean_return": total / max(len(store.episodes), 1)}


def _shaped(store: Store, index: int, column: str, reward: str, shaper: Shaper) -> NDArray[np.float32]:
    info = store.episodes[index]
    potential = torch.from_numpy(store.read(index, [column])[column].astype(np.float32))
    plain = torch.zeros(info.length)
    if reward != SUCCESS:
        plain = torch.from_numpy(store.read(index, [reward])[reward].astype(np.float32))
    else:
        plain[-1] = float(bool(info.success))
    following = torch.cat([potential[1:], potential[-1:]])  # what came after an episode that was cut off is unknown
    bootstrap = torch.ones(info.length)
    bootstrap[-1] = 0.0 if info.terminated else 1.0
    shaped = shaper.shape(plain, Potential(potential, column), Potential(following, column), bootstrap)
    return shaped.numpy().astype(np.float32)
