"""Targets and windows of stage-aware progress."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robolearn.errors import DatasetError, SpecError
from robolearn.rewards.stages import (
    WindowConfig,
    progress_of,
    stage_priors,
    starts_from_labels,
    targets_from_starts,
    training_window,
    window_steps,
    with_wrong_texts,
)

WINDOW = WindowConfig(past=7, gap=5, max_rewind=4)


def test_targets_of_a_demonstration_by_hand() -> None:
    targets = targets_from_starts((0, 4, 6), 9)
    assert targets.stage.tolist() == [0, 0, 0, 0, 1, 1, 2, 2, 2]
    np.testing.assert_allclose(targets.tau, [0, 0.25, 0.5, 0.75, 0, 0.5, 0, 0.5, 1.0])
    progress = progress_of(targets.stage, targets.tau, np.array([0.5, 0.2, 0.3]))
    np.testing.assert_allclose(progress, [0, 0.125, 0.25, 0.375, 0.5, 0.6, 0.7, 0.85, 1.0], atol=1e-7)


@given(st.lists(st.integers(1, 30), min_size=1, max_size=6))
def test_progress_grows_from_0_to_1(lengths: list[int]) -> None:
    starts, steps = np.cumsum([0, *lengths[:-1]]).tolist(), sum(lengths)
    targets = targets_from_starts(starts, steps)
    priors = stage_priors([starts], [steps])
    progress = progress_of(targets.stage, targets.tau, priors)
    assert priors.sum() == pytest.approx(1.0)
    assert (np.diff(progress) > 0).all()
    assert progress[-1] == pytest.approx(1.0)
    assert progress[0] == 0.0 or steps == 1
    assert starts_from_labels(targets.stage, [str(length) for length in lengths]) == tuple(starts)


def test_priors_are_the_mean_share_of_each_stage() -> None:
    np.testing.assert_allclose(stage_priors([(0, 5), (0, 30)], [10, 40]), [0.625, 0.375])
    with pytest.raises(DatasetError, match="annotate"):
        stage_priors([], [])


@pytest.mark.parametrize("starts", [(), (1, 4), (0, 4, 4), (0, 9), (0, 5, 3)])
def test_annotations_that_cannot_be_are_refused(starts: tuple[int, ...]) -> None:
    with pytest.raises(SpecError, match="stages start"):
        targets_from_starts(starts, 9)


@pytest.mark.parametrize("labels", [[0, 0, 1, 1], [0, 1, 0, 1, 2], [1, 2], [0, 2, 1]])
def test_labels_that_miss_or_repeat_a_stage_are_no_ground_truth(labels: list[int]) -> None:
    names = ("reach", "grasp", "lift")
    with pytest.raises(DatasetError, match=f"passes {names[labels[0]]}, .*; expected once each, and in order: r"):
        starts_from_labels(np.array(labels), names)


@given(st.integers(0, 500))
def test_a_window_is_causal_begins_at_the_first_step_and_ends_now(now: int) -> None:
    steps = window_steps(np.array([now]), WINDOW)[0]
    assert len(steps) == WINDOW.size
    assert steps[0] == 0
    assert steps[-1] == now
    assert (np.diff(steps) >= 0).all()
    assert steps.min() >= 0
    assert np.diff(steps[1:]).max() <= WINDOW.gap


@given(st.integers(0, 10_000), st.integers(0, 60))
def test_a_rewound_window_runs_back_from_now(seed: int, now: int) -> None:
    rng = np.random.default_rng(seed)
    steps, valid = training_window(rng, np.full(32, now), WINDOW)
    assert steps.shape == valid.shape == (32, WINDOW.size + WINDOW.max_rewind)
    assert valid[:, : WINDOW.size].all()
    for row, known in zip(steps, valid, strict=True):
        length = int(known.sum())
        assert known[:length].all()  # a prefix
        assert (np.diff(row[WINDOW.size - 1 : length]) < 0).all()  # strictly backwards from now
        assert row.min() >= 0


def test_every_sample_has_its_own_coin() -> None:
    _, valid = training_window(np.random.default_rng(0), np.full(4000, 100), WINDOW)
    count = valid[:, WINDOW.size :].sum(1)
    assert np.mean(count > 0) == pytest.approx(WINDOW.rewind_probability, abs=0.03)
    assert set(count.tolist()) == {0, 1, 2, 3, 4}
    _, never = training_window(np.random.default_rng(0), np.full(100, 100), WindowConfig(rewind_probability=0.0))
    assert not never[:, WINDOW.size :].any()


def test_a_wrong_text_comes_with_no_progress() -> None:
    rng = np.random.default_rng(0)
    stage, tau = np.ones((2000, 5), np.int64), np.full((2000, 5), 0.5, np.float32)
    texts, told, progress = with_wrong_texts(rng, ["push"] * 2000, ["fold", "pour"], stage, tau, WINDOW)
    wrong = np.array([text != "push" for text in texts])
    assert wrong.mean() == pytest.approx(WINDOW.wrong_text_probability, abs=0.03)
    assert set(texts) == {"push", "fold", "pour"}
    assert (told[wrong] == 0).all()
    assert (progress[wrong] == 0).all()
    assert (told[~wrong] == 1).all()
    assert (progress[~wrong] == 0.5).all()
    with pytest.raises(SpecError, match="hold push"):
        with_wrong_texts(rng, ["push"], ["push"], stage[:1], tau[:1], WINDOW)
