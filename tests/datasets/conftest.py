from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from painted import dataset


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset that nobody writes to."""
    path = tmp_path_factory.mktemp("made") / "d"
    dataset(path, [3, 4, 5])
    return path


@pytest.fixture
def path(made: Path, tmp_path: Path) -> Path:
    """A dataset of the test's own: to copy one takes less than to record it."""
    return Path(shutil.copytree(made, tmp_path / "d"))
