"""`robolearn dataset ...`: editing by index or id, dry runs, undo, exit codes."""

from __future__ import annotations

from pathlib import Path

import pytest
from painted import dataset

from robolearn import cli
from robolearn.datasets.zarr_store import ZarrStore
from robolearn.errors import RobolearnError


def lengths(path: Path) -> list[int]:
    return [info.length for info in ZarrStore.open(path).episodes]


def test_edits_are_dry_run_done_and_undone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "demos.zarr"
    dataset(path, [4, 5, 6])
    ids = [info.id for info in ZarrStore.open(path).episodes]
    run = lambda *words: cli.run(["dataset", words[0], str(path), *words[1:]])  # noqa: E731

    assert run("delete", "1", "--dry-run") == 0
    assert f"would be hidden: {ids[1]}" in capsys.readouterr().err
    assert lengths(path) == [4, 5, 6]
    assert run("delete", ids[1]) == 0
    assert lengths(path) == [4, 6]
    assert run("undo") == 0
    assert lengths(path) == [4, 5, 6]
    assert run("trim", "2", "--start", "1", "--stop", "4") == 0
    assert lengths(path) == [4, 5, 3]
    assert run("tag", "0", "1", "--name", "quality", "--value", "0.5") == 0
    assert [info.tags.get("quality") for info in ZarrStore.open(path).episodes] == [0.5, 0.5, None]
    assert run("gc") == 0
    assert lengths(path) == [4, 5, 3]
    assert run("split", "0", "2", "--out", str(tmp_path / "part.zarr")) == 0
    assert lengths(tmp_path / "part.zarr") == [4, 3]
    assert run("verify") == 0


def test_merge_adds_up_and_names_what_is_missing(tmp_path: Path) -> None:
    for name, length in (("a.zarr", 3), ("b.zarr", 2)):
        dataset(tmp_path / name, [length])
    words = [str(tmp_path / "a.zarr"), str(tmp_path / "b.zarr"), "--out", str(tmp_path / "all.zarr")]
    assert cli.run(["dataset", "merge", *words]) == 0
    assert lengths(tmp_path / "all.zarr") == [3, 2]
    with pytest.raises(RobolearnError, match="nowhere"):
        cli.run(["dataset", "merge", str(tmp_path / "nowhere"), "--out", str(tmp_path / "x.zarr")])


def test_an_episode_that_is_not_there_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "demos.zarr"
    dataset(path, [4])
    with pytest.raises(RobolearnError, match="7"):
        cli.run(["dataset", "delete", str(path), "7"])
    assert lengths(path) == [4]
