"""Shaping keeps the best policy, and only by its three rules. Small problems solved exactly by value iteration."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from robolearn.errors import SpecError
from robolearn.rewards.shaping import Potential, Shaper, ShapingConfig

STATES = 20


def shaped(reward: torch.Tensor, here: torch.Tensor, there: torch.Tensor, bootstrap: torch.Tensor, discount: float):
    shaper = Shaper(ShapingConfig(discount))
    return shaper.shape(reward, Potential(here, "m-1"), Potential(there, "m-1"), bootstrap)


def chain() -> tuple[torch.Tensor, torch.Tensor]:
    """Next states and bootstrap (S, 2) of a chain with actions left and right; the last state is the goal."""
    here = torch.arange(STATES)
    there = torch.stack([(here - 1).clamp_min(0), (here + 1).clamp_max(STATES - 1)], 1)
    return there, (there != STATES - 1).double()


def greedy(reward: torch.Tensor, there: torch.Tensor, bootstrap: torch.Tensor, discount: float) -> torch.Tensor:
    """Best action of every state, after value iteration."""
    value = torch.zeros(len(reward), dtype=torch.float64)
    for _ in range(5000):
        q = reward + discount * bootstrap * value[there]
        value = q.max(1).values
    return q.argmax(1)


def steps_to_goal(action: torch.Tensor, there: torch.Tensor) -> int | None:
    state = 0
    for step in range(10 * STATES):
        if state == STATES - 1:
            return step
        state = int(there[state, action[state]])
    return None


@pytest.mark.parametrize("discount", [0.95, 0.99])
def test_added_progress_hovers_and_shaping_arrives(discount: float) -> None:
    there, bootstrap = chain()
    success = (there == STATES - 1).double()
    potential = torch.arange(STATES).double() / (STATES - 1)
    added = greedy(success + potential[there], there, bootstrap, discount)
    assert steps_to_goal(added, there) is None
    reward = shaped(success, potential[:, None].expand(-1, 2), potential[there], bootstrap, discount)
    assert steps_to_goal(greedy(reward, there, bootstrap, discount), there) == STATES - 1
    bonus = greedy(success / (1 - discount) + potential[there], there, bootstrap, discount)
    assert steps_to_goal(bonus, there) == STATES - 1


def test_a_terminal_failure_counts_as_no_potential() -> None:
    """Two exits from one state: the goal, and a failure that looks almost as good. A step costs a little."""
    discount, potential = 0.95, torch.tensor([0.3, 1.0, 0.9], dtype=torch.float64)
    reward = torch.tensor([1.0, -1.0], dtype=torch.float64) * 0.05  # goal, failure
    there = torch.tensor([1, 2])
    right = shaped(reward, potential[[0, 0]], potential[there], torch.zeros(2), discount)
    assert right[0] > right[1]
    assert float(right[0] - right[1]) == pytest.approx(0.1)  # as without shaping
    misleading = torch.tensor([0.3, 0.6, 0.9], dtype=torch.float64)  # the model takes the failure for the goal
    kept = shaped(reward, misleading[[0, 0]], misleading[there], torch.ones(2), discount)
    assert kept[1] > kept[0]  # the fault that the rule prevents
    zero = shaped(reward, misleading[[0, 0]], misleading[there], torch.zeros(2), discount)
    assert zero[0] > zero[1]


def test_a_cut_off_episode_keeps_its_potential() -> None:
    one = torch.ones(1)
    assert float(shaped(torch.zeros(1), one * 0.5, one * 0.8, one, 0.9)) == pytest.approx(0.9 * 0.8 - 0.5)
    assert float(shaped(torch.zeros(1), one * 0.5, one * 0.8, one * 0, 0.9)) == pytest.approx(-0.5)


@given(st.lists(st.floats(0, 1), min_size=2, max_size=30), st.floats(0.5, 1.0), st.booleans())
def test_shaping_adds_up_to_the_first_and_last_potential(values: list[float], discount: float, ended: bool) -> None:
    potential = torch.tensor(values, dtype=torch.float64)
    bootstrap = torch.ones(len(values) - 1, dtype=torch.float64)
    bootstrap[-1] = 0.0 if ended else 1.0
    reward = shaped(torch.zeros_like(bootstrap), potential[:-1], potential[1:], bootstrap, discount)
    powers = discount ** torch.arange(len(reward), dtype=torch.float64)
    last = 0.0 if ended else discount ** len(reward) * values[-1]
    assert float((powers * reward).sum()) == pytest.approx(last - values[0], abs=1e-9)


def test_an_n_step_transition_is_discounted_n_times() -> None:
    shaper = Shaper(ShapingConfig(0.9))
    value = shaper.shape(
        torch.zeros(1), Potential(torch.zeros(1), "m"), Potential(torch.ones(1), "m"), torch.ones(1), 3
    )
    assert float(value) == pytest.approx(0.9**3)


def test_discounts_and_versions_must_agree() -> None:
    shaper = Shaper(ShapingConfig(0.99))
    shaper.check_discount(0.99)
    with pytest.raises(SpecError, match=r"discounts by 0.99, the learner by 0.95"):
        shaper.check_discount(0.95)
    one = torch.ones(1)
    with pytest.raises(SpecError, match="progress-a and progress-b were mixed"):
        shaper.shape(one, Potential(one, "progress-a"), Potential(one, "progress-b"), one)
    with pytest.raises(SpecError, match=r"discount is 1.5"):
        Shaper(ShapingConfig(1.5))
