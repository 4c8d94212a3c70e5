"""RLIF: the relabelling by hand, and a learner that beats its expert on a grid with pits."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robolearn.rewards.intervention import InterventionConfig, intervention_reward
from robolearn.types import ActionSource

P, X, H = ActionSource.POLICY, ActionSource.INTERVENTION, ActionSource.HUMAN  # X: the expert
SIZE, DISCOUNT, HORIZON, TAKEOVER_STEPS = 9, 0.95, 60, 4
GOAL = SIZE * SIZE - 1


def test_only_the_step_before_a_takeover_is_blamed() -> None:
    source = np.array([P, P, X, X, P, H, P, X], np.uint8)
    assert intervention_reward(source, InterventionConfig()).tolist() == [0, -1, 0, 0, -1, 0, -1, 0]
    assert intervention_reward(np.array([X, P], np.uint8), InterventionConfig()).tolist() == [0, 0]
    costly = intervention_reward(source[:3], InterventionConfig(penalty=2.0, step_cost=0.1))
    np.testing.assert_allclose(costly, [-0.1, -2.1, -0.1], rtol=1e-6)


@given(st.lists(st.sampled_from([P, X]), max_size=50))
def test_as_many_are_blamed_as_takeovers_came_after_the_first_step(acted: list[ActionSource]) -> None:
    source = np.array(acted, np.uint8)
    takeovers = sum(a == P and b == X for a, b in pairwise(acted))
    reward = intervention_reward(source, InterventionConfig())
    assert reward.sum() == -takeovers
    assert (reward[source == X] == 0).all()


def grid(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Next state (S, 4) and the best value of each action (S, 4). Pits hold for ever; the goal ends the episode."""
    rng = np.random.default_rng(seed)
    row, column = np.divmod(np.arange(SIZE * SIZE), SIZE)
    moves = np.array([(0, 1), (0, -1), (1, 0), (-1, 0)])
    there = np.stack([np.clip(row + dr, 0, SIZE - 1) * SIZE + np.clip(column + dc, 0, SIZE - 1) for dr, dc in moves], 1)
    pits = rng.choice(np.arange(1, GOAL), 12, replace=False)
    there[pits] = pits[:, None]
    q = np.zeros(there.shape)
    for _ in range(300):
        q = np.where(there == GOAL, 1.0, DISCOUNT * q.max(1)[there])
    return there, q


def expert_action(q: np.ndarray, state: int, noise: float, rng: np.random.Generator) -> int:
    return int(rng.integers(4)) if rng.random() < noise else int(q[state].argmax())


def success(there: np.ndarray, choose) -> float:
    """Share of 200 episodes from the first corner that reach the goal."""
    wins = 0
    for _ in range(200):
        state = 0
        for _ in range(HORIZON):
            state = int(there[state, choose(state)])
            if state == GOAL:
                wins += 1
                break
    return wins / 200


def learn(there: np.ndarray, q_star: np.ndarray, noise: float, rng: np.random.Generator) -> np.ndarray:
    """Q (S, 4) from interventions alone. The expert steps in when the last action lost value, often wrongly itself."""
    total, count = np.zeros((2, SIZE * SIZE, 4))
    q = np.zeros((SIZE * SIZE, 4))
    for _ in range(250):
        state, takeover, lost, visited, source = 0, 0, False, [], []
        for _ in range(HORIZON):
            if takeover == 0 and rng.random() < (0.95 if lost else 0.05):
                takeover = TAKEOVER_STEPS
            if takeover > 0:
                action, takeover, acted = expert_action(q_star, state, noise, rng), takeover - 1, X
                lost = False
            else:
                best = np.flatnonzero(q[state] >= q[state].max() - 1e-9)
                action, acted = int(rng.integers(4) if rng.random() < 0.05 else rng.choice(best)), P
                lost = q_star[state, action] < 0.99 * q_star[state].max()  # a ratio above the discount
            visited.append((state, action))
            source.append(acted)
            state = int(there[state, action])
            if state == GOAL:
                break
        reward = intervention_reward(np.array(source, np.uint8), InterventionConfig())
        for (s, a), r in zip(visited, reward, strict=True):
            total[s, a] += r
            count[s, a] += 1
        mean = total / np.maximum(count, 1)
        for _ in range(30):
            q = np.where(count > 0, mean + DISCOUNT * (there != GOAL) * q.max(1)[there], 0.0)
    return q


@pytest.mark.parametrize("noise", [0.0, 0.25])
def test_the_learner_beats_its_expert(noise: float) -> None:
    scores = []
    for seed in range(2):
        there, q_star = grid(seed)
        rng = np.random.default_rng(seed)
        expert = success(there, lambda s, q=q_star, r=rng: expert_action(q, s, noise, r))
        q = learn(there, q_star, noise, rng)
        scores.append((expert, success(there, lambda s, q=q: int(q[s].argmax()))))
    expert, learner = np.mean(scores, axis=0)
    assert expert == 1.0 if noise == 0.0 else 0.3 < expert < 0.75
    assert learner >= 0.95
