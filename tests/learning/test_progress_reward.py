"""SARM from images of the twin: 60 episodes of mixed quality, judged on episodes that were held out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from robolearn.recipes.collect import CollectConfig, collect_episodes
from robolearn.recipes.rewards.data import RewardData
from robolearn.recipes.rewards.settings import TrainingSettings
from robolearn.recipes.rewards.training import split_episodes, train_reward
from robolearn.rewards.saved import load_reward

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def test_progress_ranks_with_the_tasks_own_and_falls_with_undone_work(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    dataset = tmp_path / "mixed.zarr"
    collect_episodes(CollectConfig("pick_place-v1", manner="mixed", image_size=64), dataset, 60)
    settings = TrainingSettings(cameras=("front", "wrist"), steps=400)
    audit = train_reward("progress", dataset, tmp_path / "model", settings).audit
    assert audit["progress_spearman"] >= 0.95
    assert audit["stage_accuracy"] >= 0.95
    assert audit["passed"]

    data, model = RewardData(dataset), load_reward(tmp_path / "model")
    _, held_out = split_episodes(data, settings)
    undone = 0
    for index in held_out:
        truth = data.truth(index)
        assert truth is not None
        low = int(np.argmax(np.maximum.accumulate(truth.progress) - truth.progress))
        top = int(np.argmax(truth.progress[: low + 1]))
        fall = truth.progress[top] - truth.progress[low]
        if fall < 0.2:
            continue
        undone += 1
        value = model.score(data.episodes([index])).value[0].numpy()
        assert value[top : low + 1].max() - value[low] > 0.5 * fall
    assert undone >= 3  # successes that went back in between
