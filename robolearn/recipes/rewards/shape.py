"""Shaped rewards of a dataset that has progress, as a column to learn from; the rules are those of `shaping.py`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from robolearn.datasets.columns import remove_column
from robolearn.datasets.sampler import SUCCESS
from robolearn.datasets.store import Store
from robolearn.datasets.zarr_store import ZarrStore
from robolearn.errors import DatasetError, UnknownNameError
from robolearn.recipes.rewards.label import check_name
from robolearn.recipes.rewards.settings import Report
from robolearn.recipes.training_data import check_outcomes, check_reward
from robolearn.rewards.shaping import Potential, Shaper, ShapingConfig
from robolearn.specs import ArraySpec

POTENTIAL = "potential"  # `kind` of a column that is no reward by itself


def shape_dataset(
    dataset: Path,
    potential_column: str,
    config: ShapingConfig = ShapingConfig(),  # noqa: B008, it is frozen
    reward: str = SUCCESS,
    column: str = "",
    progress: Report = lambda done, text: None,
) -> dict[str, Any]:
    """Write the column `shaped_name(...)`: of every step the reward plus the discounted difference of the potential.
    The learner has to discount alike.

    reward: a field or column, or `success`: 1 at the last step of one. Raises UnknownNameError for a column that is not
    there, and DatasetError for one that is no potential, or no reward, as the success of an episode that nobody judged.
    What fails leaves no new column. Episodes whose outcome or end changed since are shaped anew.
    """
    store = ZarrStore.open(dataset)
    if potential_column not in store.columns:
        raise UnknownNameError("column", potential_column, store.columns)
    kind = store.columns[potential_column].attributes.get("kind")
    if kind != POTENTIAL:
        raise DatasetError(f"{potential_column} is {kind or 'of no kind'}, no potential; learn from it as it is")
    if reward == SUCCESS:
        check_outcomes(dataset, store, range(len(store.episodes)), "known")
    else:
        spec = store.spec_of(reward)
        if spec.shape != () or np.dtype(spec.dtype).kind not in "biuf":
            raise DatasetError(f"{reward} is {spec.dtype} {spec.shape} a step, no reward; name one that is a number")
        check_reward(store, reward)
    shaper = Shaper(config)
    name = shaped_name(potential_column, config, reward, column)
    attributes = {"kind": "reward", "potential": potential_column, "reward": reward, **asdict(config)}
    total, new = 0.0, name not in store.columns
    try:
        with store.column_writer(name, ArraySpec(()), attributes) as writer:
            missing, shaped = set(writer.missing), {}
            for index in range(len(store.episodes)):
                values = _shaped(store, index, potential_column, reward, shaper)
                total += float(values.sum())
                if index in missing or not np.array_equal(store.read(index, [name])[name], values):
                    shaped[index] = values  # the second: its outcome or its end is another one than it was
                progress(index + 1, "")
            writer.write_all(shaped)
    except BaseException:
        if new and name in ZarrStore.open(dataset).columns:
            remove_column(dataset, name)
        raise
    return {"column": name, "discount": config.discount, "mean_return": total / max(len(store.episodes), 1)}


def shaped_name(potential_column: str, config: ShapingConfig, reward: str = SUCCESS, wanted: str = "") -> str:
    """`reward/shaped-<name of the potential>-<discount>`, and behind it the scale and the reward where they are other
    than by default; of `wanted`, what is missing."""
    kind, _, name = check_name(wanted).partition("/")
    parts = ["shaped", potential_column.partition("/")[2] or potential_column, f"{config.discount:g}"]
    if config.scale != ShapingConfig().scale:
        parts.append(f"x{config.scale:g}".replace("+", ""))
    if reward != SUCCESS:
        parts.append(reward.replace("/", "-"))
    return f"{kind or 'reward'}/{name or '-'.join(parts)}"


def _shaped(store: Store, index: int, column: str, reward: str, shaper: Shaper) -> NDArray[np.float32]:
    info = store.episodes[index]
    final = info.num_actions - 1
    potential = torch.from_numpy(store.read(index, [column])[column].astype(np.float32))
    plain = torch.zeros(info.length)
    if reward != SUCCESS:
        plain = torch.from_numpy(store.read(index, [reward])[reward].astype(np.float32))
    else:
        plain[final] = float(bool(info.success))
    following = torch.cat([potential[1:], potential[-1:]])  # what came after an episode that was cut off is unknown
    bootstrap = torch.ones(info.length)
    bootstrap[final] = 0.0 if info.terminated else 1.0
    shaped = shaper.shape(plain, Potential(potential, column), Potential(following, column), bootstrap)
    shaped[final + 1 :] = 0.0
    return shaped.numpy().astype(np.float32)
