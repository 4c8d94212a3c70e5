from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from robolearn.datasets.returns import returns_to_go, worth_of_a_cut


@given(
    st.lists(st.lists(st.floats(-5, 5, width=32), min_size=1, max_size=6), min_size=1, max_size=4),
    st.floats(0, 0.99),
    st.data(),
)
def test_the_return_of_a_cut_episode_is_no_more_than_that_of_the_whole(
    episodes: list[list[float]], discount: float, data: st.DataObject
) -> None:
    whole = np.array([reward for episode in episodes for reward in episode], np.float32)
    last = np.cumsum([len(episode) for episode in episodes]) - 1
    wanted = returns_to_go(whole, last, np.zeros(len(last)), discount)
    for episode, end, start in zip(episodes, last, last - np.array([len(e) - 1 for e in episodes]), strict=True):
        by_hand = sum(discount**i * np.float32(reward) for i, reward in enumerate(episode))
        np.testing.assert_allclose(wanted[start], by_hand, rtol=1e-4, atol=1e-4)
        length = data.draw(st.integers(1, len(episode)))
        after = np.array([worth_of_a_cut(whole, discount)])
        cut = returns_to_go(whole[start : start + length], np.array([length - 1]), after, discount)
        assert (cut <= wanted[start : start + length] + 1e-3).all()
        assert end - start == len(episode) - 1


def test_where_a_step_costs_one_a_cut_is_worth_all_steps_to_come() -> None:
    assert worth_of_a_cut(np.full(3, -1.0, np.float32), 0.9) == np.float64(-1.0) / (1 - 0.9)
    assert worth_of_a_cut(np.array([0.0, 1.0], np.float32), 0.9) == 0.0
    assert worth_of_a_cut(np.array([-1.0], np.float32), 1.0) == -np.inf
    assert worth_of_a_cut(np.zeros(0, np.float32), 1.0) == 0.0
