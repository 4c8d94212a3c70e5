"""Rewards without hand-engineering: models behind one protocol, one readable file each."""

from __future__ import annotations

from typing import Any

from robolearn.errors import UnknownNameError
from robolearn.plugins import Table
from robolearn.rewards.combine import EnsembleReward
from robolearn.rewards.hop import HopReward
from robolearn.rewards.keypoints import KeypointsReward
from robolearn.rewards.matching import MatchingReward
from robolearn.rewards.perceptual_steps import PerceptualStepsReward
from robolearn.rewards.preference import PreferenceReward
from robolearn.rewards.progress import ProgressReward
from robolearn.rewards.reward_model import Episodes, RewardModel, RewardOutput
from robolearn.rewards.success import SuccessReward
from robolearn.rewards.three_signals import ThreeSignalsReward
from robolearn.rewards.vlm import VLMReward

REWARDS: Table[type[Any]] = Table(
    "robolearn.rewards",
    "reward model",
    {
        "vlm": VLMReward,
        "progress": ProgressReward,
        "success": SuccessReward,
        "preference": PreferenceReward,
        "hop": HopReward,
        "three_signals": ThreeSignalsReward,
        "matching": MatchingReward,
        "perceptual_steps": PerceptualStepsReward,
        "keypoints": KeypointsReward,
        "ensemble": EnsembleReward,
    },
    owed=("config_type", "score"),
)
"""Every reward model by name. Its config class is `config_type`, and `REWARDS[name](config)` makes one."""

__all__ = ["REWARDS", "Episodes", "RewardModel", "RewardOutput", "reward_class"]


def reward_class(name: str) -> type[Any]:
    """The class of that name. Raises UnknownNameError with the near misses."""
    if name not in REWARDS:
        raise UnknownNameError("reward model", name, REWARDS)
    return REWARDS[name]
