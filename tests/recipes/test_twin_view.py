from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from robolearn.errors import DatasetError, HardwareError, SpecError
from robolearn.recipes.collect import CollectConfig, collect_episodes
from robolearn.recipes.twin_view import VIEW_SIZE, open_show, open_window, pictures, write_view

CELL = Path(__file__).parents[2] / "hardware" / "cells" / "so101_standin.yaml"


def frames_of(path: Path) -> list[np.ndarray]:
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def test_a_task_is_filmed_with_its_expert(tmp_path: Path) -> None:
    show = open_show("reach-v1", seed=3)
    write_view(show, tmp_path / "e.mp4")
    frames = frames_of(tmp_path / "e.mp4")
    assert show.twin.status().success
    assert 5 < len(frames) < show.twin.task.max_steps
    assert frames[0].shape == (VIEW_SIZE[0], 2 * VIEW_SIZE[1], 3)
    show.twin.close()


def test_a_cell_is_pictured_with_its_physics(tmp_path: Path) -> None:
    cell = tmp_path / "cell.yaml"
    cell.write_text(CELL.read_text().replace("../", f"{CELL.parents[1]}/") + "physics: {latency_s: 0.03}\n")
    show = open_show(str(cell), task_id="push-v1")
    assert show.twin.model.actuator_delay.max() > 0.02
    write_view(show, tmp_path / "c.png")
    assert np.asarray(Image.open(tmp_path / "c.png")).std() > 10
    show.twin.close()


def test_a_recording_is_shown_above_what_the_twin_makes_of_it(tmp_path: Path) -> None:
    collect_episodes(CollectConfig("reach-v1", image_size=32), tmp_path / "d.zarr", 1)
    show = open_show(str(tmp_path / "d.zarr"))
    seen = list(pictures(show))
    assert len(seen) == len(show.recorded["image_front"])
    above, below = np.split(seen[-1].astype(int), 2)
    assert np.abs(above - below).mean() < 4.0  # recorded in the same twin, kept in a lossy code
    assert np.abs(seen[0].astype(int) - seen[-1]).mean() > 8.0
    show.twin.close()
    with pytest.raises(DatasetError, match="has 1 episodes, counted from 0; there is no episode 4"):
        open_show(str(tmp_path / "d.zarr"), episode=4)


@pytest.mark.parametrize("name", ["nope.zarr", "runs/nope"])
def test_a_dataset_that_is_not_there_is_no_unknown_task(name: str) -> None:
    with pytest.raises(DatasetError, match=f"{name} does not exist; name a folder"):
        open_show(name)


@pytest.mark.parametrize("display", [None, ":987"])  # none, and one that does not answer
def test_without_a_display_it_says_what_to_do(display: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    monkeypatch.delenv("DISPLAY", raising=False)
    if display is not None:
        monkeypatch.setenv("DISPLAY", display)
    with pytest.raises(HardwareError, match=r"no display here; add --out FILE.mp4"):
        open_window(open_show("reach-v1"))


def test_only_films_and_pictures_are_written(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="name a file ending in"):
        write_view(open_show("reach-v1"), tmp_path / "e.gif")
