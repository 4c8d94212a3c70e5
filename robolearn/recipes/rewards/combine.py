"""Make one reward model of several saved ones."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from robolearn.errors import SpecError
from robolearn.networks.model_directory import require_place
from robolearn.recipes.rewards.data import RewardData
from robolearn.recipes.rewards.settings import Report
from robolearn.recipes.run import require_new
from robolearn.rewards.combine import CombineConfig, EnsembleReward, RunningNormalizer
from robolearn.rewards.reward_model import RewardModel
from robolearn.rewards.saved import load_reward, save_reward, trained_episodes, trained_hz, trained_tasks


def combine_rewards(
    folders: Sequence[Path],
    out: Path,
    config: CombineConfig,
    dataset: Path | None = None,
    progress: Report = lambda done, text: None,
) -> EnsembleReward:
    """Write the ensemble of the models in `folders` to `out`; it refers to them and keeps no copy.

    Rewards are brought to one scale first: mean 0 and standard deviation 1 over the episodes of `dataset`, of which
    `progress` counts one for each member. Raises SpecError for rewards without a dataset, and for progress or
    probabilities with one.
    """
    require_new(out)
    require_place(out)
    members = [load_reward(folder, config.device) for folder in folders]
    places = tuple(str(folder.absolute()) for folder in folders)
    ensemble = EnsembleReward(CombineConfig(config.rule, config.variance_weight, folders=places), members)
    if (ensemble.kind == "reward") is (dataset is None):
        raise SpecError(
            "rewards of several models have no scale in common; give --dataset, over which to normalise them"
            if dataset is None
            else f"models of kind {ensemble.kind} have one scale as they are, 0 to 1; leave --dataset out"
        )
    if dataset is not None:
        scales = _scales(RewardData(dataset), members, ensemble.config.cameras, progress)
        mean, std = tuple(one.mean for one in scales), tuple(one.std for one in scales)
        ensemble = EnsembleReward(
            CombineConfig(config.rule, config.variance_weight, mean, std, folders=places), members
        )
    facts: dict[str, Any] = {} if dataset is None else {"normalised_over": str(dataset)}
    facts["train_episodes"] = sorted(set().union(*map(trained_episodes, folders)))
    facts["train_tasks"] = sorted(set().union(*map(trained_tasks, folders)))
    rates = set(map(trained_hz, folders))
    facts["control_hz"] = rates.pop() if len(rates) == 1 else None
    save_reward(ensemble, out, facts)
    return ensemble


def _scales(
    data: RewardData, members: Sequence[RewardModel], cameras: Sequence[str], progress: Report
) -> list[RunningNormalizer]:
    """Mean and standard deviation of what each member says of all steps."""
    scales = [RunningNormalizer() for _ in members]
    done = 0
    for group, episodes in data.batches(range(len(data.store.episodes)), cameras):
        for member, scale in zip(members, scales, strict=True):
            value = member.score(episodes).value
            scale.update(value[episodes.valid(value.device)])
            done += len(group)
            progress(done, f"{member.id}-{member.version}")
    return scales
