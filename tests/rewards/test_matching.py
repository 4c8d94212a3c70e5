"""Nearest states, optimal transport, and the discount that follows progress."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from robolearn.rewards.matching import (
    DiscountConfig,
    MatchingConfig,
    MatchingReward,
    cosine_cost,
    matched_steps,
    scheduled_discount,
    sinkhorn_plan,
    transport_reward,
)

STEPS = 40


@pytest.fixture
def expert() -> torch.Tensor:
    """Features (40, 16) of a smooth demonstration."""
    rng = np.random.default_rng(0)
    path = np.cumsum(rng.normal(size=(STEPS, 16)), 0)
    return torch.from_numpy(path)


def executed(expert: torch.Tensor, share: float) -> torch.Tensor:
    """The first part of the demonstration, then standing still."""
    count = round(share * STEPS)
    return torch.cat([expert[:count], expert[count - 1 : count].expand(STEPS - count, -1)])


def test_the_discount_follows_what_was_mastered(expert: torch.Tensor) -> None:
    config = DiscountConfig()
    nearest = [cosine_cost(executed(expert, s), expert).argmin(1).numpy() for s in (0.1, 0.3, 0.6, 1)]
    steps = [int(matched_steps(one, config.share)[-1]) for one in nearest]
    assert steps == [4, 13, 26, 40]
    discounts = [scheduled_discount(one, config) for one in steps]
    np.testing.assert_allclose(discounts, [0.669, 0.884, 0.940, 0.961], atol=5e-4)
    assert scheduled_discount(0, config) == 0.9


def test_transport_keeps_its_margins_and_its_rewards_add_up_to_its_cost(expert: torch.Tensor) -> None:
    cost = cosine_cost(executed(expert, 0.5)[:25], expert)
    plan = sinkhorn_plan(cost, 0.02, 2000)
    torch.testing.assert_close(plan.sum(0), torch.full((STEPS,), 1 / STEPS, dtype=torch.float64))
    torch.testing.assert_close(plan.sum(1), torch.full((25,), 1 / 25, dtype=torch.float64), atol=1e-4, rtol=0)
    assert float(transport_reward(cost, 0.02, 2000).sum()) == pytest.approx(-float((cost * plan).sum()), abs=1e-4)


def test_transport_is_near_the_exact_one() -> None:
    from scipy.optimize import linprog  # slow to import, in every process that collects this file

    cost = torch.rand(6, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    rows = np.kron(np.eye(6), np.ones(5))
    columns = np.kron(np.ones(6), np.eye(5))
    exact = linprog(
        cost.flatten().numpy(),
        A_eq=np.concatenate([rows, columns]),
        b_eq=np.concatenate([np.full(6, 1 / 6), np.full(5, 1 / 5)]),
    ).fun
    assert -float(transport_reward(cost, 0.005, 3000).sum()) == pytest.approx(exact, abs=5e-3)


def test_doing_more_of_the_demonstration_returns_more(expert: torch.Tensor) -> None:
    shares = (0.1, 0.3, 0.6, 1.0)
    costs = [cosine_cost(executed(expert, share), expert) for share in shares]
    transport = [float(transport_reward(cost, 0.02, 1000).sum()) for cost in costs]
    assert transport == sorted(transport)
    assert transport[-1] == pytest.approx(0.0, abs=0.02)
    reversed_cost = cosine_cost(expert.flip(0), expert)
    assert float((-reversed_cost.amin(1)).sum()) == pytest.approx(0.0, abs=1e-9)  # nearest states do not see order
    assert matched_steps(reversed_cost.argmin(1).numpy(), 0.9)[-1] < 5  # the schedule does


@pytest.mark.parametrize("method", ["nearest", "transport"])
def test_the_demonstration_itself_scores_best(method: str) -> None:
    from robolearn.rewards import Episodes

    images = torch.randint(0, 256, (32, 32, 32, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    model = MatchingReward(MatchingConfig(method=method, demonstration_steps=32))  # type: ignore[arg-type]
    before = model.version
    model.set_demonstration(images)
    assert model.version != before
    other = 255 - images
    value = model.score(Episodes({"front": torch.stack([images, other])}, ["", ""])).value.sum(1)
    assert value[0] > value[1]
    assert model.causal == (method == "nearest")


def test_frames_between_the_steps_of_a_resampled_demonstration_follow_it() -> None:
    from robolearn.rewards import Episodes

    images = torch.randint(0, 256, (48, 32, 32, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    slow = images.repeat_interleave(2, 0)  # 96 frames, of which the model keeps 48
    model = MatchingReward(MatchingConfig(demonstration_steps=48, demonstrated_steps=96))
    model.set_demonstration(slow)
    half = torch.cat([slow[:48], slow[47:48].expand(48, -1, -1, -1)])
    followed = model.score(Episodes({"front": torch.stack([slow, half])}, ["", ""])).raw["followed"]
    assert abs(int(followed[0, -1]) - 96) <= 2
    assert abs(int(followed[1, -1]) - 48 / 0.9) <= 4
    assert (followed[:, 1:] >= followed[:, :-1]).all()
