"""Episodes of mixed quality, and a classifier of success that was made of them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from reward_settings import SETTINGS

from robolearn.recipes.collect import CollectConfig, collect_episodes
from robolearn.recipes.rewards.training import train_reward


@pytest.fixture(scope="session")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight episodes of mixed quality: of each four one is by a failing demonstrator."""
    path = tmp_path_factory.mktemp("recorded") / "mixed.zarr"
    collect_episodes(CollectConfig("reach-v1", manner="mixed", image_size=24), path, 8)
    return path


@pytest.fixture
def dataset(recorded: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(recorded, tmp_path / "mixed.zarr"))


@pytest.fixture(scope="session")
def success_model(recorded: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("model") / "success"
    train_reward("success", recorded, out, SETTINGS)
    return out
