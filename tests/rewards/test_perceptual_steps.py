"""The exact split is the paper's recursion; true steps are found and told apart."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robolearn.errors import SpecError
from robolearn.rewards.perceptual_steps import segment_costs, split_exact, split_recursive, step_statistics

CUTS = (22, 31)


def features(seed: int = 0) -> np.ndarray:
    """(50, 40): three steps that differ in half of the features."""
    rng = np.random.default_rng(seed)
    mean = np.zeros((3, 40))
    mean[:, :20] = np.random.default_rng(9).normal(size=(3, 20)) * 1.5
    step = np.searchsorted(np.array(CUTS), np.arange(50), side="right")
    return mean[step] + 0.4 * rng.normal(size=(50, 40))


def test_true_cuts_are_found_by_both_searches() -> None:
    cost = segment_costs(features())
    assert split_exact(cost, 3, 3) == split_recursive(cost, 3, 3)[1] == CUTS


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 4), st.integers(1, 3))
def test_the_exact_split_costs_what_the_recursion_finds(seed: int, segments: int, min_length: int) -> None:
    cost = segment_costs(np.random.default_rng(seed).normal(size=(14, 5)))
    cuts = split_exact(cost, segments, min_length)
    edges = [0, *cuts, 14]
    total = sum(cost[a, b] for a, b in pairwise(edges))
    assert total == pytest.approx(split_recursive(cost, segments, min_length)[0])
    assert min(np.diff(edges)) >= min_length


def test_costs_are_mean_standard_deviations() -> None:
    data = features()
    cost = segment_costs(data)
    assert cost[5, 17] == pytest.approx(data[5:17].std(0).mean())
    assert cost[5, 6] == pytest.approx(0.0, abs=1e-6)
    assert np.isinf(cost[7, 7])


def test_step_classifiers_know_unseen_frames() -> None:
    data = features()
    step = np.searchsorted(np.array(split_exact(segment_costs(data), 3, 3)), np.arange(50), side="right")
    unseen, truth = features(1), np.searchsorted(np.array(CUTS), np.arange(50), side="right")
    scores = []
    for k in range(3):
        mean, std, kept = step_statistics(data, step == k, 8, 1.0)
        assert kept.sum() == 8
        assert kept[:20].sum() == 8  # none of the features that tell nothing
        scores.append(-(((unseen - mean) / std) ** 2 * kept).sum(1))
    assert (np.argmax(scores, 0) == truth).mean() == 1.0


def test_too_short_a_demonstration_is_said() -> None:
    with pytest.raises(SpecError, match="7 frames cannot hold 3 steps of 3 frames"):
        split_exact(segment_costs(np.zeros((7, 2))), 3, 3)
