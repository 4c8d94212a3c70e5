"""Several reward models as one: conservative combinations and running normalisation.

Coste et al., "Reward model ensembles help mitigate overoptimization", 2023, section 3, over E members on one scale:

    worst case  min_e r_e        uncertainty-weighted  mean_e r_e - c var_e r_e        mean  mean_e r_e

Difference: their code uses the population variance in one place and the sample variance in another; here it is always
the population variance. Legend: E ensemble members, B episodes, T steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import inf
from pathlib import Path
from typing import ClassVar, Literal

import torch
from torch import Tensor

from robolearn.errors import CheckpointError, SpecError
from robolearn.rewards.reward_model import Episodes, Kind, RewardModel, RewardOutput, cameras_of, masked, version_of


@dataclass(frozen=True)
class CombineConfig:
    """Settings of EnsembleReward."""

    rule: Literal["worst", "uncertainty", "mean"] = "worst"
    variance_weight: float = 0.5  # c of the uncertainty-weighted rule
    mean: tuple[float, ...] = ()  # of each member, taken off before combining; nothing where empty
    std: tuple[float, ...] = ()  # of each member, divided by
    folders: tuple[str, ...] = ()  # of saved members; no copy is kept
    device: str = "cpu"  # of members that are loaded
    members: tuple[str, ...] = ()  # `<id>-<version>` of each, filled in by the ensemble, as what follows
    cameras: tuple[str, ...] = ()  # that any of them looks at
    proprio_size: int = 0  # that any of them looks at


def worst_case(rewards: Tensor) -> Tensor:
    """(E, ...) -> (...): the least of the members."""
    return rewards.amin(0)


def uncertainty_weighted(rewards: Tensor, variance_weight: float) -> Tensor:
    """(E, ...) -> (...): mean less `variance_weight` times the population variance of the members."""
    return rewards.mean(0) - variance_weight * rewards.var(0, correction=0)


class RunningNormalizer:
    """Mean and standard deviation of all values seen so far; merges whole batches (Chan, Golub and LeVeque 1979)."""

    def __init__(self) -> None:
        self.count, self.mean, self._squares = 0, 0.0, 0.0

    def update(self, values: Tensor) -> None:
        """Take in values of any shape. Raises SpecError for one that is not finite, and takes in nothing."""
        flat = values.detach().double().flatten()
        if not bool(torch.isfinite(flat).all()):
            raise SpecError("a reward that is not finite came to the normaliser; expected numbers")
        if len(flat) == 0:
            return
        total = self.count + len(flat)
        mean = float(flat.mean())
        shift = mean - self.mean
        self._squares += float((flat - mean).square().sum()) + shift**2 * self.count * len(flat) / total
        self.mean += shift * len(flat) / total
        self.count = total

    @property
    def std(self) -> float:
        """Population standard deviation; 1 before there are two different values."""
        std = (self._squares / self.count) ** 0.5 if self.count else 0.0
        return std if std > 1e-8 else 1.0

    def __call__(self, values: Tensor) -> Tensor:
        return (values - self.mean) / self.std


class EnsembleReward:
    """Members scored on the same episodes, each on its own scale, combined by one rule."""

    config_type: ClassVar = CombineConfig
    id = "ensemble"

    def __init__(self, config: CombineConfig, members: Sequence[RewardModel] = ()) -> None:
        """Of these members, or of those in the folders of the config. Raises CheckpointError where one of them cannot
        be loaded or is not the one that was combined."""
        members = members or _loaded(config)
        kinds = sorted({member.kind for member in members})
        if len(members) < 2 or len(kinds) > 1:
            raise SpecError(
                f"{len(members)} members of kind {', '.join(kinds) or 'none'}; give two or more of one kind"
            )
        if len(set(_names(members))) < len(members):
            raise SpecError(f"a model came twice ({', '.join(_names(members))}); it knows no better than once")
        if not 0.0 <= config.variance_weight < inf:
            raise SpecError(f"variance_weight is {config.variance_weight:g}; expected 0 or more")
        for name in ("mean", "std"):
            if getattr(config, name) and len(getattr(config, name)) != len(members):
                raise SpecError(f"{len(getattr(config, name))} values of {name} for {len(members)} members")
        settings = [getattr(member, "config", None) for member in members]
        cameras = [cameras_of(member) or ("front",) for member in members]
        self.config = replace(
            config,
            members=_names(members),
            cameras=tuple(dict.fromkeys(camera for some in cameras for camera in some)),
            proprio_size=max(getattr(one, "proprio_size", 0) for one in settings),
        )
        self.members = tuple(members)
        self.kind: Kind = members[0].kind
        self.causal = all(member.causal for member in members)

    @property
    def version(self) -> str:
        return version_of(self.config)

    def score(self, episodes: Episodes) -> RewardOutput:
        """`raw` holds every member's value as `members` (B, T, E), and `done` where all of them decide that. The least
        confident member's confidence counts."""
        outputs = [member.score(episodes) for member in self.members]
        device = outputs[0].value.device  # others may compute elsewhere, as keypoints do where the pictures lie
        values = torch.stack([output.value.to(device) for output in outputs])
        shape = (-1, 1, 1)
        mean = values.new_tensor(self.config.mean or [0.0] * len(outputs)).view(shape)
        std = values.new_tensor(self.config.std or [1.0] * len(outputs)).view(shape)
        scaled = (values - mean) / std
        if self.config.rule == "worst":
            value = worst_case(scaled)
        elif self.config.rule == "uncertainty":
            value = uncertainty_weighted(scaled, self.config.variance_weight)
        else:
            value = scaled.mean(0)
        confidence = torch.stack([output.confidence.to(device) for output in outputs]).amin(0)
        raw = {"members": values.movedim(0, -1)}
        if all("done" in output.raw for output in outputs):
            raw["done"] = torch.stack([output.raw["done"].to(device) for output in outputs]).all(0)
        return masked(RewardOutput(value, confidence, raw), episodes.valid(value.device))


def _names(members: Sequence[RewardModel]) -> tuple[str, ...]:
    return tuple(f"{member.id}-{member.version}" for member in members)


def _loaded(config: CombineConfig) -> list[RewardModel]:
    from robolearn.rewards.saved import load_reward  # which knows ensembles, too

    members = [load_reward(Path(folder), config.device) for folder in config.folders]
    for folder, was, name in zip(config.folders, config.members, _names(members), strict=False):
        if name != was:
            raise CheckpointError(
                f"the ensemble was made of {was}, {folder} holds {name} now; combine its models again"
            )
    return members
