"""The success classifier of vectors."""

from __future__ import annotations

import copy

import numpy as np
import pytest

from robolearn.errors import SpecError
from robolearn.rewards.state_success import (
    StateSuccess,
    StateSuccessConfig,
    choose_threshold,
    train_state_success,
)
from robolearn.rewards.success import MIN_FOUND, area_under_roc

CONFIG = StateSuccessConfig(hidden_sizes=(32,), members=2, steps=250, learning_rate=1e-2, noise=0.0)
CONSECUTIVE = 3


def places(rng: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Done within a disc; the third number says nothing."""
    state = rng.uniform(-1, 1, (count, 3)).astype(np.float32)
    return state, np.hypot(state[:, 0], state[:, 1]) < 0.4


def episodes(rng: np.random.Generator, count: int, done: bool, length: int = 20) -> list[np.ndarray]:
    """Of places that are all done, or all not."""
    state, label = places(rng, 20 * count * length)
    return list(state[label == done][: count * length].reshape(count, length, 3))


@pytest.fixture(scope="module")
def trained() -> StateSuccess:
    return train_state_success(*places(np.random.default_rng(0), 1500), CONFIG)


@pytest.fixture
def model(trained: StateSuccess) -> StateSuccess:
    return copy.deepcopy(trained)


def called_done(model: StateSuccess, states: np.ndarray) -> bool:
    """As those who use it decide."""
    streak = 0
    for done in model.done(states):
        streak = streak + 1 if done else 0
        if streak >= CONSECUTIVE:
            return True
    return False


def test_the_threshold_is_that_of_failed_episodes_by_the_rule_that_decides(model: StateSuccess) -> None:
    rng = np.random.default_rng(1)
    state, done = places(rng, 2000)
    assert area_under_roc(model.probability(state), done) > 0.97
    failed, succeeded = episodes(rng, 40, False), episodes(rng, 10, True, CONSECUTIVE)
    circles = np.linspace(0.3, 0.5, 200, dtype=np.float32)[:, None] * np.array([1, 0, 0], np.float32)
    near = circles[np.argmax(model.probability(circles) < 0.6)]
    failed[0][5 : 5 + CONSECUTIVE] = near  # a near miss,
    failed[1][::2] = 0.0  # and one that looks like a success every other frame
    version = model.version
    chosen = choose_threshold(model, failed, succeeded, CONSECUTIVE, 0.01)
    assert chosen.threshold == model.config.threshold == pytest.approx(float(model.probability(near[None])[0]))
    assert model.version != version
    assert (chosen.failed, chosen.called_done) == (40, sum(called_done(model, states) for states in failed))
    assert chosen.called_done == 0
    assert chosen.found == sum(bool(model.done(states).all()) for states in succeeded) >= 8
    assert str(chosen).startswith(f"finds {chosen.found} of 10 held-out successes, threshold {chosen.threshold:.3f}: ")
    assert str(chosen).endswith(
        " of 40 failed episodes are called done, which says below 8 % of all at 95 % confidence"
    )


def test_failures_that_look_like_success_do_not_blind_it(model: StateSuccess) -> None:
    rng = np.random.default_rng(2)
    failed = [*episodes(rng, 5, False), *episodes(rng, 5, True)]
    chosen = choose_threshold(model, failed, episodes(rng, 20, True, CONSECUTIVE), CONSECUTIVE, 0.01)
    assert chosen.found >= MIN_FOUND * 20 - 1
    assert chosen.called_done == 5  # and it is told


def test_without_failures_the_threshold_stays_and_that_is_told(model: StateSuccess) -> None:
    chosen = choose_threshold(model, [], episodes(np.random.default_rng(3), 4, True, CONSECUTIVE), CONSECUTIVE, 0.01)
    assert model.config.threshold == CONFIG.threshold
    assert "threshold 0.5, for no failed episode is left to choose it on" in str(chosen)


def test_one_side_alone_teaches_nothing() -> None:
    state, _ = places(np.random.default_rng(0), 50)
    with pytest.raises(SpecError, match="needs both"):
        train_state_success(state, np.zeros(50, np.bool_), CONFIG)
