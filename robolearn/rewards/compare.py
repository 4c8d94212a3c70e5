"""Distances between reward functions: 0 where they order all policies alike, 1 where they order them oppositely.

    EPIC (Gleave et al. 2021)    C(R) = R + E[g R(s', A, S') - R(s, A, S') - g R(S, A, S')]     S, A, S' independent
    DARD (Wulfe et al. 2022)     C(R) = R + E[g R(s', A, S'') - R(s, A, S') - g R(S', A, S'')]
                                 with one A for all three, S' ~ T(s, A) and S'' ~ T(s', A) throughout
                                 both: d = sqrt((1 - rho) / 2), rho the correlation of C(R1) with C(R2)
    STARC (Skalse et al. 2024)   C(R)(s, a) = E[R - V(s) + g V(S')], S' ~ T(s, a), V the value of a fixed policy;
                                 d = |C(R1)/|C(R1)| - C(R2)/|C(R2)|| / 2

All are blind to scale and to potential shaping. Only STARC is also blind to moving reward between next states that no
policy can choose between, which changes no policy's return. Legend: S states, A actions, N transitions.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from robolearn.errors import SpecError

Array: TypeAlias = NDArray[np.float64]


def pearson_distance(a: Array, b: Array, weight: Array | None = None) -> float:
    """sqrt((1 - rho) / 2) of two arrays of one shape. EPIC of state-only rewards on independent states."""
    weight = np.full(a.shape, 1.0 / a.size) if weight is None else weight / weight.sum()
    x, y = a - (weight * a).sum(), b - (weight * b).sum()
    scale = np.sqrt((weight * x**2).sum() * (weight * y**2).sum())
    if scale < 1e-12 * max(1.0, float(np.abs(a).max() * np.abs(b).max())):
        raise SpecError("a reward is constant, and a constant has no distance to another; leave it out")
    rho = (weight * x * y).sum() / scale
    return float(np.sqrt(np.clip((1.0 - rho) / 2.0, 0.0, 1.0)))


def epic_canonical(reward: Array, discount: float, state_weight: Array, action_weight: Array) -> Array:
    """Canonical form of reward (S, A, S) under independent draws of state (S,) and action (A,)."""
    mean_from = np.einsum("sat,a,t->s", reward, action_weight, state_weight)  # E R(s, A, S')
    overall = float(mean_from @ state_weight)
    return reward + discount * mean_from[None, None, :] - mean_from[:, None, None] - discount * overall


def epic_distance(a: Array, b: Array, discount: float) -> float:
    """EPIC of two rewards (S, A, S), with uniform states, actions and transitions as coverage."""
    states, actions, _ = a.shape
    weights = np.full(states, 1.0 / states), np.full(actions, 1.0 / actions)
    return pearson_distance(epic_canonical(a, discount, *weights), epic_canonical(b, discount, *weights))


def dard_canonical(reward: Array, transition: Array, discount: float) -> Array:
    """Canonical form of reward (S, A, S) under transition (S, A, S), with uniform actions."""
    actions = reward.shape[1]
    mean_from = np.einsum("sau,sau->s", reward, transition) / actions  # E R(s, A, S')
    across = np.einsum("sau,tav,uav->st", transition, transition, reward, optimize=True) / actions  # E R(S', A, S'')
    return reward + discount * mean_from[None, None, :] - mean_from[:, None, None] - discount * across[:, None, :]


def dard_distance(a: Array, b: Array, transition: Array, discount: float) -> float:
    """DARD of two rewards (S, A, S), with the transitions that can happen under uniform s, a as coverage."""
    return pearson_distance(
        dard_canonical(a, transition, discount), dard_canonical(b, transition, discount), transition
    )


def dard_distance_sampled(a: Array, b: Array, features: Array) -> float:
    """DARD of two columns of rewards (N,), of next states alone, of a dataset and the policy that collected it.

    Of such rewards R(s') the canonical form is R(s') - E[R(S')], S' ~ T(s, A): what of the reward could not be foreseen
    in s. The expectation is linear in features (N, D) of s, so what that cannot express stays in the distance.
    """
    values = np.stack([a, b], 1)
    expected = features @ np.linalg.lstsq(features, values, rcond=None)[0]
    return pearson_distance(*(values - expected).T)


def starc_canonical(reward: Array, transition: Array, discount: float) -> Array:
    """Canonical form (S, A) of reward (S, A, S): the advantage under the uniform policy."""
    expected = np.einsum("sat,sat->sa", reward, transition)
    step = transition.mean(1)
    value = np.linalg.solve(np.eye(len(step)) - discount * step, expected.mean(1))
    return expected - value[:, None] + discount * np.einsum("sat,t->sa", transition, value)


def starc_distance(a: Array, b: Array, transition: Array, discount: float) -> float:
    """STARC of two rewards (S, A, S), with the Euclidean norm."""
    return _normalized_distance(starc_canonical(a, transition, discount), starc_canonical(b, transition, discount))


def starc_distance_sampled(
    a: Array, b: Array, features: Array, next_features: Array, bootstrap: Array, discount: float, ridge: float = 1e-3
) -> float:
    """STARC of two columns of rewards (N,) of a dataset, with the policy that collected it.

    Each reward's value is linear in features (N, D) and found by least-squares temporal differences (Bradtke and Barto
    1996); `bootstrap` (N,) is 0 where terminated. The expectation over S' is one sample a row, so noise of the dynamics
    stays in the distance: read it against the distance of a reward to a shaped copy of itself.
    """
    ahead = discount * bootstrap[:, None] * next_features
    system = features.T @ (features - ahead) + ridge * np.eye(features.shape[1])

    def canonical(reward: Array) -> Array:
        weights = np.linalg.solve(system, features.T @ reward)
        return reward - features @ weights + ahead @ weights

    return _normalized_distance(canonical(a), canonical(b))


def _normalized_distance(a: Array, b: Array) -> float:
    norms = float(np.linalg.norm(a)), float(np.linalg.norm(b))
    if min(norms) < 1e-12:
        raise SpecError("a reward that makes all policies equal has no distance to another; leave it out")
    return float(np.linalg.norm(a / norms[0] - b / norms[1])) / 2.0
