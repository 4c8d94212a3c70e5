"""EPIC, DARD and STARC on a tabular problem of 12 states and 3 actions."""

from __future__ import annotations

import numpy as np
import pytest

from robolearn.errors import SpecError
from robolearn.rewards.compare import (
    dard_distance,
    dard_distance_sampled,
    epic_distance,
    pearson_distance,
    starc_distance,
    starc_distance_sampled,
)

STATES, ACTIONS, DISCOUNT = 12, 3, 0.9


@pytest.fixture
def problem() -> tuple[np.ndarray, np.ndarray]:
    """Reward and transition (S, A, S)."""
    rng = np.random.default_rng(0)
    return rng.normal(size=(STATES, ACTIONS, STATES)), rng.dirichlet(np.full(STATES, 0.5), (STATES, ACTIONS))


def distances(a: np.ndarray, b: np.ndarray, transition: np.ndarray) -> tuple[float, float, float]:
    return (
        epic_distance(a, b, DISCOUNT),
        dard_distance(a, b, transition, DISCOUNT),
        starc_distance(a, b, transition, DISCOUNT),
    )


def test_affine_and_shaped_copies_are_the_same_reward(problem: tuple[np.ndarray, np.ndarray]) -> None:
    reward, transition = problem
    potential = np.random.default_rng(1).normal(size=STATES)
    shaped = reward + DISCOUNT * potential[None, None, :] - potential[:, None, None]
    for copy in (3.0 * reward + 2.0, shaped, 0.5 * shaped - 1.0):
        assert distances(reward, copy, transition) == pytest.approx((0.0, 0.0, 0.0), abs=1e-6)


def test_the_negation_is_as_far_as_can_be(problem: tuple[np.ndarray, np.ndarray]) -> None:
    reward, transition = problem
    assert distances(reward, -reward, transition) == pytest.approx((1.0, 1.0, 1.0), abs=1e-6)


def test_only_starc_is_blind_to_reward_moved_between_next_states(problem: tuple[np.ndarray, np.ndarray]) -> None:
    """The distinguishing test: the same expected reward of every state and action."""
    reward, transition = problem
    moved = np.random.default_rng(2).normal(size=reward.shape) * 2.0
    moved -= np.einsum("sat,sat->sa", moved, transition)[..., None]
    epic, dard, starc = distances(reward, reward + moved, transition)
    assert epic > 0.2
    assert dard > 0.2
    assert starc == pytest.approx(0.0, abs=1e-9)


def test_distances_are_metrics_up_to_what_they_are_blind_to(problem: tuple[np.ndarray, np.ndarray]) -> None:
    _, transition = problem
    a, b, c = np.random.default_rng(3).normal(size=(3, STATES, ACTIONS, STATES))
    for ab, ba, bc, ac in zip(
        distances(a, b, transition),
        distances(b, a, transition),
        distances(b, c, transition),
        distances(a, c, transition),
        strict=True,
    ):
        assert ab == pytest.approx(ba)
        assert 0.0 < ac <= ab + bc


def test_starc_of_a_dataset_is_blind_to_shaping_and_finds_the_negation() -> None:
    """A deterministic walk on a ring with ends, features one-hot."""
    rng = np.random.default_rng(6)
    state = rng.integers(STATES, size=4000)
    next_state = (state + rng.integers(0, 2, size=4000)) % STATES
    bootstrap = (next_state != 0).astype(float)
    reward = rng.normal(size=(STATES, STATES))[state, next_state]
    potential = rng.normal(size=STATES)
    shaped = 2.0 * (reward + DISCOUNT * bootstrap * potential[next_state] - potential[state])
    table = np.eye(STATES)
    data = (table[state], table[next_state], bootstrap, DISCOUNT)
    assert starc_distance_sampled(reward, shaped, *data) < 1e-3
    assert starc_distance_sampled(reward, -shaped, *data) > 1 - 1e-3
    assert 0.2 < starc_distance_sampled(reward, rng.normal(size=4000), *data) < 0.8


def test_pearson_distance_of_labels() -> None:
    label = np.array([0.0, 0.0, 1.0, 1.0])
    assert pearson_distance(label, 5 * label - 3) == pytest.approx(0.0, abs=1e-9)
    assert pearson_distance(label, np.array([0.0, 1.0, 0.0, 1.0])) == pytest.approx(np.sqrt(0.5))
    with pytest.raises(SpecError, match="constant"):
        pearson_distance(label, np.ones(4))


def test_dard_of_a_dataset_is_dard_of_the_table() -> None:
    rng = np.random.default_rng(5)
    states, actions, count = 6, 2, 60_000
    transition = rng.dirichlet(np.full(states, 0.5), (states, actions))
    mine, reference = rng.normal(size=(2, states))
    state, action = rng.integers(states, size=count), rng.integers(actions, size=count)
    draw = rng.random(count)[:, None]
    after = np.minimum((transition[state, action].cumsum(1) < draw).sum(1), states - 1)
    features = np.eye(states)[state]
    table = [np.broadcast_to(one, (states, actions, states)) for one in (mine, reference)]
    exact = dard_distance(*table, transition, 0.99)
    assert dard_distance_sampled(mine[after], reference[after], features) == pytest.approx(exact, abs=0.01)
    assert dard_distance_sampled(mine[after], 3 * mine[after] + 1, features) == pytest.approx(0.0, abs=1e-6)
    assert dard_distance_sampled(mine[after], -mine[after], features) == pytest.approx(1.0)
