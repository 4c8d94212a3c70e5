"""Episodes to ask models about, and a model to ask."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from model_server import ModelServer

from robolearn.recipes.collect import CollectConfig, collect_episodes


@pytest.fixture(scope="session")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("recorded") / "reach.zarr"
    collect_episodes(CollectConfig("reach-v1", manner="mixed", image_size=16), path, 4)  # the last one fails
    return path


@pytest.fixture
def dataset(recorded: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(recorded, tmp_path / "reach.zarr"))


@pytest.fixture
def server() -> Iterator[ModelServer]:
    server = ModelServer()
    yield server
    server.close()
