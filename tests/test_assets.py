from __future__ import annotations

from pathlib import Path

import pytest

from robolearn import assets
from robolearn.assets import OVERRIDE, asset, launch_file
from robolearn.errors import AssetError, UnknownNameError

ARM = "sim_assets/robots/so101/so101.xml"


def test_the_checkout_is_found() -> None:
    assert asset(ARM).is_file()


def test_the_override_wins_and_the_rest_still_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mine = tmp_path / "sim_assets" / "mine.xml"
    mine.parent.mkdir()
    mine.write_text("<mujoco/>")
    monkeypatch.setenv(OVERRIDE, str(tmp_path))
    assert asset("sim_assets/mine.xml") == mine
    assert asset(ARM).is_file()


@pytest.mark.parametrize("packages", ["lib/python3.12/site-packages", "lib/python3.12/dist-packages", ""])
def test_an_installed_copy_is_the_last_resort(packages: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a virtual environment, by `pip install --user` or by `--target`."""
    installed = tmp_path / "share" / "robolearn" / "sim_assets" / "only_installed.xml"
    installed.parent.mkdir(parents=True)
    installed.write_text("<mujoco/>")
    monkeypatch.setattr(assets, "__file__", str(tmp_path / packages / "robolearn" / "assets.py"))
    assert asset("sim_assets/only_installed.xml") == installed


def test_files_that_are_links_are_at_home_where_the_links_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As an installer leaves them that keeps one copy for all environments."""
    kept, linked = (
        tmp_path / "cache" / "assets.py",
        tmp_path / "venv" / "lib" / "site-packages" / "robolearn" / "assets.py",
    )
    installed = tmp_path / "venv" / "share" / "robolearn" / "sim_assets" / "only_installed.xml"
    for file in (kept, linked, installed):
        file.parent.mkdir(parents=True)
    kept.write_text("")
    installed.write_text("<mujoco/>")
    linked.symlink_to(kept)
    monkeypatch.setattr(assets, "__file__", str(linked))
    assert asset("sim_assets/only_installed.xml") == installed


def test_a_missing_file_says_where_it_was_looked_for() -> None:
    with pytest.raises(AssetError, match=OVERRIDE):
        asset("sim_assets/nothing.xml")


def test_launch_files_by_path_and_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "launch" / "mine.launch.yaml"
    file.parent.mkdir()
    file.write_text("launch: []\n")
    assert launch_file(str(file)) == file
    monkeypatch.setenv(OVERRIDE, str(tmp_path))
    assert launch_file("mine") == file
    with pytest.raises(UnknownNameError, match="did you mean mine"):
        launch_file("minee")
