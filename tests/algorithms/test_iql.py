from __future__ import annotations

import pytest
import torch
from transitions import SPEC, doubled, settings, transitions

from robolearn.algorithms.iql import IQL, IQLConfig, expectile_loss


def make(**changes: object) -> IQL:
    return IQL(SPEC, {}, IQLConfig(**settings(distribution="clipped", log_std_low=-5.0), **changes), seed=1)


def expectile(values: torch.Tensor, share: float) -> float:
    """The number that the expectile loss is smallest at, by bisection of its slope."""
    low, high = values.min(), values.max()
    for _ in range(60):
        middle = ((low + high) / 2).requires_grad_()
        (slope,) = torch.autograd.grad(expectile_loss(values - middle, share).mean(), middle)
        low, high = (middle.detach(), high) if slope < 0 else (low, middle.detach())
    return float(low)


def test_the_expectile_runs_from_the_least_over_the_mean_to_the_largest() -> None:
    values = torch.tensor([-3.0, 0.5, 1.0, 2.0, 7.0], dtype=torch.float64)
    assert expectile(values, 0.5) == pytest.approx(values.mean().item())
    assert expectile(values, 1 - 1e-9) == pytest.approx(7.0, abs=1e-4)
    assert expectile(values, 1e-9) == pytest.approx(-3.0, abs=1e-4)
    found = [expectile(values, share) for share in (0.1, 0.3, 0.5, 0.7, 0.9)]
    assert found == sorted(found)
    share, at = 0.7, expectile(values, 0.7)  # its definition: weighted distances above and below balance
    above, below = (values - at).clamp_min(0).sum(), (at - values).clamp_min(0).sum()
    assert share * above == pytest.approx(float((1 - share) * below))


def test_the_losses_equal_a_float64_reference() -> None:
    iql, precise = make(), make()
    for part in (precise.actor, precise.critic, precise.target, precise.value):
        part.double()
    batch = doubled(transitions())
    q = torch.minimum(*precise.target(batch["state"], batch["action"]))
    u = (q - precise.value(batch["state"])[:, 0]).detach()
    value_loss = (torch.where(u > 0, 0.7, 0.3) * u**2).mean()
    y = batch["reward"] + 0.9 * batch["bootstrap"] * precise.value(batch["next_state"])[:, 0]
    critic_loss = sum(((value - y) ** 2).mean() for value in precise.critic(batch["state"], batch["action"]))
    mean = torch.tanh(precise.actor.network(batch["state"]))
    normal = torch.distributions.Normal(mean, precise.actor.log_std.exp())
    log_prob = normal.log_prob(batch["action"]).sum(-1)
    actor_loss = -((3.0 * u).exp().clamp(max=100.0) * log_prob).mean()
    found = iql._losses(transitions())[:3]
    for loss, wanted in zip(found, (value_loss, critic_loss, actor_loss), strict=True):
        torch.testing.assert_close(loss.double(), torch.as_tensor(wanted), rtol=1e-5, atol=1e-6)


def test_no_action_is_asked_for_that_the_data_does_not_show() -> None:
    iql = make()
    before = [loss.detach() for loss in iql._losses(transitions())[:2]]
    with torch.no_grad():
        for parameter in iql.actor.parameters():
            parameter.add_(1.0)
    for loss, same in zip(iql._losses(transitions())[:2], before, strict=True):
        torch.testing.assert_close(loss, same)


def test_weights_are_limited_and_nothing_weighs_is_cloning() -> None:
    state, action, advantage = transitions()["state"], transitions()["action"], torch.linspace(-5, 5, 16)
    assert make(inverse_temperature=1e3).actor_loss(state, action, advantage)[1].max() == 100.0
    cloning = make(inverse_temperature=0.0)
    loss, weight = cloning.actor_loss(state, action, advantage)
    assert (weight == 1).all()
    torch.testing.assert_close(loss, -cloning.actor.log_prob(state, action).mean())


def test_the_actors_rate_falls_over_its_steps() -> None:
    iql = make(decay_steps=3)
    rates = []
    for _ in range(4):
        iql.update(transitions())
        rates.append(iql._actor_adam.learning_rate.item())
    assert rates[0] == pytest.approx(3e-4)
    assert rates == sorted(rates, reverse=True)
    assert rates[3] == pytest.approx(0.0, abs=1e-10)
