"""The success classifier of vectors."""

from __future__ import annotations

import numpy as np
import pytest

from robolearn.errors import SpecError
from robolearn.rewards.state_success import MIN_FOUND, StateSuccessConfig, train_state_success

CONFIG = StateSuccessConfig(hidden_sizes=(32,), members=2, steps=500, learning_rate=5e-3, noise=0.0)


def places(rng: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Done within a disc; the third number says nothing."""
    state = rng.uniform(-1, 1, (count, 3)).astype(np.float32)
    return state, np.hypot(state[:, 0], state[:, 1]) < 0.4


def test_it_finds_success_at_the_stated_rate_and_comes_back_as_it_was() -> None:
    rng = np.random.default_rng(0)
    model, facts = train_state_success(places(rng, 1500), places(rng, 800), CONFIG, 0.02)
    assert facts["area_under_roc"] > 0.97
    assert facts["false_positive_rate"] <= 0.02
    state, done = places(rng, 2000)
    assert model.done(state)[~done].mean() < 0.05
    assert model.done(state)[done].mean() > 0.7


def test_failures_that_look_like_success_do_not_blind_it() -> None:
    rng = np.random.default_rng(1)
    state, done = places(rng, 800)
    mistaken = done & (rng.random(len(done)) < 0.2)
    _, facts = train_state_success(places(rng, 1500), (state, done & ~mistaken), CONFIG, 0.01)
    assert facts["true_positive_rate"] >= MIN_FOUND - 0.02
    assert facts["false_positive_rate"] > 0.01  # and it is told


def test_one_side_alone_teaches_nothing() -> None:
    state, _ = places(np.random.default_rng(0), 50)
    nothing = (state, np.zeros(50, np.bool_))
    with pytest.raises(SpecError, match="needs both"):
        train_state_success(nothing, nothing, CONFIG, 0.1)
