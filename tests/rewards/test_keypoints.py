"""Progress along waypoints."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from robolearn.errors import SpecError
from robolearn.rewards.keypoints import (
    KeypointsConfig,
    KeypointsReward,
    colour_track,
    waypoint_progress,
    with_success,
)
from robolearn.rewards.reward_model import Episodes
from robolearn.rewards.success import area_under_roc

WAYPOINTS = torch.tensor([[0.1, 0.1], [0.5, 0.1], [0.5, 0.6], [0.9, 0.6]])


def along(waypoints: torch.Tensor, steps: int) -> torch.Tensor:
    """(steps, 2) evenly along the straight lines between the waypoints."""
    position = torch.linspace(0, len(waypoints) - 1, steps)
    index = position.floor().long().clamp_max(len(waypoints) - 2)
    return waypoints[index] + (position - index)[:, None] * (waypoints[index + 1] - waypoints[index])


def test_a_scripted_path_ranks_above_every_random_walk() -> None:
    rng = np.random.default_rng(0)
    scripted = along(WAYPOINTS, 50) + torch.from_numpy(0.01 * rng.normal(size=(20, 50, 2))).float()
    walks = WAYPOINTS[0] + torch.from_numpy(np.cumsum(0.03 * rng.normal(size=(20, 50, 2)), 1)).float()
    progress, index = waypoint_progress(torch.cat([scripted, walks]), WAYPOINTS, 0.04)
    assert area_under_roc(progress.mean(1).numpy(), np.arange(40) < 20) == 1.0
    assert (index.diff(dim=1) >= 0).all()
    assert (index.diff(dim=1) <= 1).all()
    assert ((progress >= 0) & (progress < 1)).all()
    assert (progress[:20, -1] > 0.9).all()


def test_progress_by_hand() -> None:
    points = torch.tensor([[[0.1, 0.1], [0.3, 0.1], [0.49, 0.1], [0.5, 0.35], [0.3, 0.1]]])
    progress, index = waypoint_progress(points, WAYPOINTS, 0.02)
    assert index.tolist() == [[0, 0, 1, 1, 1]]
    np.testing.assert_allclose(progress[0].numpy(), [0, 0.5 / 3, 1 / 3, 1.5 / 3, 1 / 3], atol=1e-3)


def test_a_path_that_crosses_itself_is_not_cut_short() -> None:
    loop = torch.tensor([[0.5, 0.5], [0.9, 0.5], [0.9, 0.9], [0.5, 0.9], [0.5, 0.55]])
    _, index = waypoint_progress(along(loop, 60)[None], loop, 0.03)
    assert int(index[0, 5]) == 0  # the last waypoint is nearer than the next, and is not taken
    assert int(index[0, -1]) == 3


def test_a_point_that_is_not_seen_holds_the_value() -> None:
    points = along(WAYPOINTS, 20)[None].clone()
    points[:, 8:12] = torch.nan
    progress, _ = waypoint_progress(points, WAYPOINTS, 0.04)
    assert (progress[0, 8:12] == progress[0, 7]).all()
    assert torch.isfinite(progress).all()


def test_success_overrides() -> None:
    assert with_success(torch.tensor([0.3, 0.4]), torch.tensor([False, True])).tolist() == pytest.approx([0.3, 1.0])


def test_a_coloured_object_is_tracked() -> None:
    images = torch.full((1, 2, 40, 80, 3), 128, dtype=torch.uint8)
    images[0, 0, 10:20, 40:60] = torch.tensor([220, 40, 40], dtype=torch.uint8)
    track = colour_track(images, (220, 40, 40), 60.0)
    np.testing.assert_allclose(track[0, 0].numpy(), [50 / 80, 15 / 40], atol=1e-6)
    assert track[0, 1].isnan().all()


def test_waypoints_that_cannot_be_are_refused() -> None:
    with pytest.raises(SpecError, match="at least a start and an end"):
        KeypointsReward(KeypointsConfig(waypoints=((0.1, 0.1),)))
    with pytest.raises(SpecError, match="same point"):
        KeypointsReward(KeypointsConfig(waypoints=((0.1, 0.1), (0.1, 0.1))))
    with pytest.raises(SpecError, match="0 waypoints came"):
        KeypointsReward(KeypointsConfig())
    for point in ((20, 20), (0.5, "0.5"), (0.5,), (0.5, True), "ab", (0.5, float("nan"))):
        with pytest.raises(SpecError, match="as fractions of the image, each from 0 to 1"):
            KeypointsReward(KeypointsConfig(waypoints=((0.1, 0.1), point)))  # type: ignore[arg-type]
    wrong: dict[str, dict[str, Any]] = {
        "three for red, green and blue": {"colour": "red"},
        "and 0 to 255 each": {"colour": (300, 0, 0)},
        "expected 0 or more": {"radius": float("nan")},
        "expected more than 0": {"colour_distance": -5},
    }
    for words, settings in wrong.items():
        with pytest.raises(SpecError, match=words):
            KeypointsReward(KeypointsConfig(waypoints=((0, 0), (1, 1)), **settings))


def test_whole_numbers_are_waypoints_too() -> None:
    images = torch.zeros(1, 2, 8, 8, 3, dtype=torch.uint8)
    assert (
        KeypointsReward(KeypointsConfig(((0, 0), (1, 1)))).score(Episodes({"front": images}, ["go"])).value.sum() == 0
    )
