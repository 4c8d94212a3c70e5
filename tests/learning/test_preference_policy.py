"""Offline from comparisons alone: a policy learned by the reward does better than cloning the same data."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from robolearn.recipes.collect import CollectConfig, collect_episodes
from robolearn.recipes.rewards.policy import policy_from_preferences
from robolearn.recipes.rewards.settings import TrainingSettings
from robolearn.recipes.rewards.tool_policy import SETTINGS, learn_offline

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


def test_a_reward_from_comparisons_of_which_a_fifth_is_wrong_beats_cloning(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    dataset = tmp_path / "push.zarr"
    collect_episodes(CollectConfig("push-v1", manner="mixed"), dataset, 60)
    collect_episodes(CollectConfig("push-v1", manner="play"), dataset, 20)
    gains = []
    for seed in range(3):  # one of them gains .1 to .6
        settings = TrainingSettings(seed=seed, labeller="task", wrong_answers=0.2, steps=300)
        out = tmp_path / str(seed)
        learned = policy_from_preferences(dataset, out / "learned", settings, steps=3000, episodes=50)
        cloning = replace(SETTINGS, steps=3000, inverse_temperature=0.0)
        cloned = learn_offline(dataset, "push-v1", learned["column"], out / "cloned", cloning, seed, episodes=50)
        gains.append(learned["success_rate"] - cloned["success_rate"])
    assert np.mean(gains) >= 0.15, gains
