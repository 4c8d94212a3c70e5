"""The main job in process: demonstrations of the expert, cloning from two cameras, episodes that it was not shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from robolearn.recipes.collect import CollectConfig, collect_episodes
from robolearn.recipes.evaluate import evaluate_policy
from robolearn.recipes.train_offline import train_offline

TASK = "pick_place-v1"


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_cloned_policy_picks_and_places(tmp_path: Path) -> None:
    dataset = tmp_path / "demonstrations.zarr"
    collect_episodes(CollectConfig(TASK, image_size=64, perturbation=0.2), dataset, episodes=80)
    result = train_offline("bc", dataset, tmp_path / "run", steps=1500)
    untrained = evaluate_policy(result["untrained_checkpoint"], TASK, episodes=10)
    assert untrained["success_rate"] <= 0.1
    learned = evaluate_policy(result["checkpoint"], TASK, episodes=40)
    assert learned["demonstrated_episodes"] == 0
    assert learned["success_rate"] >= 0.8, learned
