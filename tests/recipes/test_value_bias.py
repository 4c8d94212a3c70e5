from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from robolearn.recipes.value_bias import soft_returns

NUMBER = st.floats(-10, 10)


@given(st.lists(st.tuples(NUMBER, NUMBER), max_size=6), NUMBER, st.floats(0, 1))
def test_a_soft_return_is_the_sum_by_its_definition(steps: list[tuple[float, float]], rest: float, d: float) -> None:
    """The entropy of the action itself does not count, as in no soft action value."""
    reward, bonus = np.array(steps).reshape(-1, 2).T
    found = soft_returns(reward, bonus, d, rest)
    for first in range(len(steps)):
        wanted = reward[first] + d ** (len(steps) - first) * rest
        for later in range(first + 1, len(steps)):
            wanted += d ** (later - first) * (reward[later] + bonus[later])
        assert np.isclose(found[first], wanted, rtol=1e-9, atol=1e-9)


def test_what_goes_on_for_ever_has_the_value_that_solves_its_equation() -> None:
    value = (1.0 + 0.9 * 0.5) / (1 - 0.9)  # of reward 1 and bonus 0.5 each step
    found = soft_returns(np.ones(20), np.full(20, 0.5), 0.9, value + 0.5)
    np.testing.assert_allclose(found, value)
