"""Success classifier: near-misses, threshold, decisions and calibration on drawn pegs and holes."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import betaincinv  # of the beta distribution, without scipy.stats, which is slow to import

from robolearn.errors import SpecError
from robolearn.rewards.features import EncoderConfig
from robolearn.rewards.success import (
    SuccessConfig,
    SuccessReward,
    area_under_roc,
    balanced_rows,
    calibration,
    decision_strength,
    decisions,
    episode_threshold,
    rate_bound,
)

SIZE = 64
CONFIG = SuccessConfig(
    encoder=EncoderConfig(image_height=SIZE, image_width=SIZE, channels=(8, 16, 16)), hidden_size=64, dropout=0.0
)


def draw(rng: np.random.Generator, depth: float, aside_px: float) -> np.ndarray:
    """A peg above a block with a hole: `depth` of the insertion in [0, 1], and how far it is off to the side."""
    image = np.full((SIZE, SIZE, 3), rng.integers(150, 220), np.uint8)
    x, top = int(rng.integers(22, 42)), 38
    cv2.rectangle(image, (x - 16, top), (x + 16, 60), (90, 90, 100), -1)
    cv2.rectangle(image, (x - 5, top), (x + 5, 56), (20, 20, 20), -1)
    low = int(top - 4 + depth * 21)
    centre = int(x + aside_px)
    cv2.rectangle(image, (centre - 4, low - 24), (centre + 4, low), (200, 60, 40), -1)
    return np.clip(image + rng.normal(0, 4, image.shape), 0, 255).astype(np.uint8)


def pictures(seed: int, done: int, far: int, near: int) -> tuple[torch.Tensor, np.ndarray]:
    """Images and labels: inserted; away from the hole; half inserted or just beside it, as failures too."""
    rng = np.random.default_rng(seed)
    images = [draw(rng, rng.uniform(0.93, 1.0), rng.uniform(-1, 1)) for _ in range(done)]
    images += [draw(rng, rng.uniform(-0.9, -0.2), rng.uniform(-14, 14)) for _ in range(far)]
    half = near // 2
    images += [draw(rng, rng.uniform(0.2, 0.75), rng.uniform(-1, 1)) for _ in range(half)]
    images += [draw(rng, 0.1, rng.choice([-1, 1]) * rng.uniform(6, 10)) for _ in range(near - half)]
    return torch.from_numpy(np.stack(images)), np.arange(len(images)) < done


def train(images: torch.Tensor, done: np.ndarray, steps: int = 70) -> SuccessReward:
    model = SuccessReward(CONFIG)
    rng, generator = np.random.default_rng(0), torch.Generator().manual_seed(0)
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    label = torch.from_numpy(done)
    model.train()
    for _ in range(steps):
        rows = torch.from_numpy(balanced_rows(rng, done, 32))
        loss = model.loss({"front": images[rows]}, label[rows], generator)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
    return model.eval()


@torch.no_grad()
def probability(model: SuccessReward, images: torch.Tensor) -> np.ndarray:
    return torch.sigmoid(model({"front": images})).numpy()


def test_near_misses_among_the_negatives_make_the_classifier() -> None:
    images, done = pictures(0, 200, 250, 250)
    held_out, truth = pictures(1, 100, 100, 300)
    near = np.arange(len(truth)) >= 200
    with_near = train(images, done)
    without = train(images[:450], done[:450])
    said = probability(with_near, held_out)
    rate = float((said[near] > 0.85).mean())
    naive_rate = float((probability(without, held_out)[near] > 0.85).mean())
    assert area_under_roc(said, truth) >= 0.99
    assert rate <= 0.01
    assert naive_rate >= max(5 * rate, 0.05)
    assert (said[truth] > 0.85).mean() > 0.9
    assert calibration(said, truth)[0] < 0.1
    threshold = episode_threshold(said[~truth], 0.01)
    unseen, unseen_truth = pictures(2, 100, 100, 300)
    assert (probability(with_near, unseen)[~unseen_truth] > threshold).mean() <= 0.02


def test_a_decision_needs_consecutive_frames_and_stays() -> None:
    probability = torch.tensor([[0.9, 0.9, 0.1, 0.9, 0.9, 0.9, 0.1], [0.9, 0.1, 0.9, 0.1, 0.9, 0.1, 0.9]])
    done = decisions(probability, 0.85, 3)
    assert done.tolist() == [[False] * 5 + [True] * 2, [False] * 7]
    assert decisions(probability, 0.85, 1)[:, 0].tolist() == [True, True]


@given(
    st.lists(st.lists(st.floats(0, 1, width=32), min_size=1, max_size=9), min_size=1, max_size=30), st.integers(1, 4)
)
def test_the_threshold_of_episodes_keeps_its_rate_by_the_rule_that_decides(
    episodes: list[list[float]], consecutive: int
) -> None:
    longest = max(map(len, episodes))
    probability = torch.tensor([[*one, *[0.0] * (longest - len(one))] for one in episodes])
    strength = decision_strength(probability, consecutive).numpy()
    for rate in (0.01, 0.2, 0.5):
        threshold = episode_threshold(strength, rate)
        called = decisions(probability, threshold, consecutive).any(1)
        assert int(called.sum()) <= int(rate * len(episodes))
        if threshold > 0:  # and it is the least
            less = float(np.nextafter(np.float32(threshold), np.float32(0)))
            assert int(decisions(probability, less, consecutive).any(1).sum()) > int(rate * len(episodes))


def test_one_bad_frame_in_many_pictures_does_not_move_the_threshold() -> None:
    probability = torch.full((20, 50), 0.1)
    probability[:, 7::10] = 0.99  # a tenth of the pictures, never two in a row
    assert episode_threshold(decision_strength(probability, 2).numpy(), 0.01) == pytest.approx(0.1)


def test_what_few_episodes_say_of_a_rate() -> None:
    assert rate_bound(0, 20) == pytest.approx(0.1391, abs=1e-4)
    assert rate_bound(0, 299) < 0.01 < rate_bound(0, 298)
    for found, count in ((0, 1), (1, 4), (3, 50), (7, 7), (40, 2000)):
        wanted = 1.0 if found == count else betaincinv(found + 1, count - found, 0.95)
        assert rate_bound(found, count) == pytest.approx(wanted, abs=1e-8)


def test_the_area_under_the_curve_counts_ties_half() -> None:
    assert area_under_roc(np.array([0.9, 0.8, 0.1]), np.array([True, True, False])) == 1.0
    assert area_under_roc(np.array([0.5, 0.5]), np.array([True, False])) == 0.5
    with pytest.raises(SpecError):
        area_under_roc(np.array([0.5]), np.array([True]))


def test_batches_are_half_successes() -> None:
    done = np.arange(100) < 3
    rows = balanced_rows(np.random.default_rng(0), done, 40)
    assert done[rows].sum() == 20
    with pytest.raises(SpecError, match="0 images of success"):
        balanced_rows(np.random.default_rng(0), np.zeros(5, bool), 4)


def test_calibration_by_hand() -> None:
    error, table = calibration(np.array([0.1, 0.1, 0.9, 0.9]), np.array([False, False, True, False]), 2)
    assert error == pytest.approx(0.5 * 0.1 + 0.5 * 0.4)
    assert [count for _, _, count in table] == [2, 2]


def test_several_cameras_all_count() -> None:
    model = SuccessReward(replace(CONFIG, cameras=("front", "wrist"))).eval()
    front, wrist = torch.randint(0, 256, (2, 3, SIZE, SIZE, 3), dtype=torch.uint8)
    with torch.no_grad():
        base = model({"front": front, "wrist": wrist})
        assert not torch.allclose(model({"front": 255 - front, "wrist": wrist}), base)
        assert not torch.allclose(model({"front": front, "wrist": 255 - wrist}), base)
