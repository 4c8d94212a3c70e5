from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.nn import functional
from transitions import SIZE, SPEC, doubled, noise, settings, transitions

from robolearn.algorithms.dsac import DSAC, DSACConfig
from robolearn.algorithms.sac import SAC, SACConfig
from robolearn.recipes.origin import initialise


def make(**changes: object) -> DSAC:
    return DSAC(SPEC, {}, DSACConfig(**settings(), **changes), seed=1)


def huber(value: torch.Tensor) -> torch.Tensor:
    return torch.where(value.abs() < 50, value**2 / 2, 50 * (value.abs() - 25))


def test_the_gradients_equal_a_float64_reference() -> None:
    dsac, precise = make(), make()
    for part in (precise.actor, precise.critic, precise.target):
        part.double()
    batch = doubled(transitions())
    batch["reward"][:4] *= 100  # beyond the limits of the loss
    eps, n = noise(SIZE, 2), noise(SIZE, seed=6) * 2
    action, log_prob = precise.actor.draw(batch["next_state"], eps.double())
    mean, spread = precise.target(batch["next_state"], action).unbind(-1)
    spread = functional.softplus(spread)
    smaller = (mean[1] < mean[0]).long()
    rows = torch.arange(SIZE)
    drawn = mean[smaller, rows] + spread[smaller, rows] * n.double().clamp(-3, 3)
    factor = 0.9 * batch["bootstrap"]
    y = (batch["reward"] + factor * (mean.min(0).values - log_prob)).detach()
    z = (batch["reward"] + factor * (drawn - log_prob)).detach()
    loss = torch.zeros((), dtype=torch.float64)
    for e in range(2):
        q, sigma = precise.critic(batch["state"], batch["action"])[e].unbind(-1)
        sigma = functional.softplus(sigma)
        still, b = sigma.detach(), sigma.detach().mean()
        bounded = q.detach() + (z - q.detach()).clamp(-3 * b, 3 * b)
        weight = (b**2 / (still**2 + 0.1)).clamp(0.1, 10)
        push = (still**2 - 2 * huber(q.detach() - bounded)) / (still + 0.1)
        loss = loss + (weight * (huber(q - y) + sigma * push)).mean()
    wanted = torch.autograd.grad(loss, list(precise.critic.parameters()))
    single = {**transitions(), "reward": batch["reward"].float()}
    found = torch.autograd.grad(dsac.critic_loss(single, eps, n)[0], list(dsac.critic.parameters()))
    for a, b in zip(found, wanted, strict=True):
        torch.testing.assert_close(a.double(), b, rtol=1e-4, atol=1e-4)


def test_the_gradients_are_those_of_the_likelihood_that_the_paper_scales() -> None:
    """By hand, number after number: those of -log N(z; q, sigma), with y for z where q moves, times the running
    variance. The critics are a table, and the returns so wide that the paper's epsilon is nothing."""
    dsac = make()
    table = torch.nn.Parameter(torch.randn(2, SIZE, 2, generator=torch.Generator().manual_seed(3)).double())
    table.data[..., 1] += 12.0  # which softplus leaves as it is
    dsac.critic = lambda state, action: table
    dsac.spread = torch.full((2, 1), 10.0, dtype=torch.float64)
    batch = {**doubled(transitions()), "bootstrap": torch.zeros(SIZE)}  # y = z = r
    batch["reward"][0] += 40.0  # beyond three running spreads, within Huber's limit
    dsac.critic_loss(batch, noise(SIZE, 2), noise(SIZE))[0].backward()
    assert table.grad is not None
    for e, outputs in enumerate(table.tolist()):
        b = 10.0 + 0.005 * (sum(sigma for _, sigma in outputs) / SIZE - 10.0)
        for i, (q, sigma) in enumerate(outputs):
            away = float(batch["reward"][i]) - q
            near = max(-3 * b, min(3 * b, away))
            wanted = torch.tensor([-away / sigma**2, 1 / sigma - near**2 / sigma**3], dtype=torch.float64)
            torch.testing.assert_close(table.grad[e, i] * SIZE / b**2, wanted, rtol=0.02, atol=1e-5)


def test_the_next_action_is_that_of_the_slow_actor() -> None:
    dsac = make()
    targets = [dsac.target_values(transitions(), noise(SIZE, 2), noise(SIZE))]
    for actor in (dsac.actor, dsac.actor_target):
        with torch.no_grad():
            for parameter in actor.parameters():
                parameter.add_(0.5)
        targets.append(dsac.target_values(transitions(), noise(SIZE, 2), noise(SIZE)))
    torch.testing.assert_close(targets[1], targets[0], rtol=0, atol=0)
    assert not torch.equal(targets[2][0], targets[0][0])


def test_the_target_counts_the_entropy_unless_told_otherwise() -> None:
    soft, hard = make(), make(backup_entropy=False)
    batch, eps, return_eps = transitions(), noise(SIZE, 2), noise(SIZE)
    _, log_prob = soft.actor_target.draw(batch["next_state"], eps)
    entropy = 0.9 * batch["bootstrap"] * log_prob  # the temperature is 1
    for with_it, without in zip(
        soft.target_values(batch, eps, return_eps), hard.target_values(batch, eps, return_eps), strict=True
    ):
        torch.testing.assert_close(without - with_it, entropy)


@pytest.mark.parametrize("delay", [1, 2])
def test_what_follows_the_critics_moves_every_so_many_steps(delay: int) -> None:
    dsac = make(policy_delay=delay)
    names = ("actor.", "actor_target.", "target.", "log_temperature")
    for step in range(4):
        before = {k: v.clone() for k, v in dsac.state_dict().items() if k.startswith(names)}
        dsac.update(transitions(seed=step))
        moved = {k.split(".")[0] for k, v in dsac.state_dict().items() if k in before and not torch.equal(v, before[k])}
        assert moved == ({name.rstrip(".") for name in names} if step % delay == 0 else set())


def test_unless_told_otherwise_its_temperature_and_values_are_as_fast_as_those_of_sac() -> None:
    """In a run of 20,000 steps with a delay of 2 the temperature could not arrive where SAC's does."""
    dsac, sac = make(), SAC(SPEC, {}, SACConfig(**settings()), seed=1)
    for step in range(4):
        dsac.update(transitions(seed=step))
        sac.update(transitions(seed=step))
    torch.testing.assert_close(dsac.log_temperature, sac.log_temperature, rtol=0, atol=1e-5)


def test_the_running_spread_begins_with_the_first_one_and_moves_slowly() -> None:
    dsac = make(polyak=0.5)
    assert (dsac.spread == 0).all()
    now = dsac.critic_loss(transitions(), noise(SIZE, 2), noise(SIZE))[1]
    dsac.update(transitions())
    torch.testing.assert_close(dsac.spread, now)
    dsac.update(transitions(seed=1))
    assert not torch.equal(dsac.spread, now)


def test_it_finds_the_spread_of_what_comes() -> None:
    """One state, one step: returns of mean 2 and standard deviation 3."""
    dsac = make(critic_learning_rate=3e-3)
    generator = torch.Generator().manual_seed(0)
    batch = {name: value[:1].expand(SIZE, *value.shape[1:]) for name, value in transitions().items()}
    for _ in range(700):
        reward = 2 + 3 * torch.randn(SIZE, generator=generator)
        rows = {**batch, "reward": reward, "bootstrap": torch.zeros(SIZE)}
        loss, running, _ = dsac.critic_loss(rows, noise(SIZE, 2), torch.randn(SIZE, generator=generator))
        dsac._critic_adam.step(loss)
        dsac.spread.copy_(running)
    mean, spread = dsac.returns(dsac.critic, batch["state"], batch["action"])
    torch.testing.assert_close(mean.mean().item(), 2.0, rtol=0, atol=0.5)
    assert 2.5 < spread.mean().item() < 3.5


@pytest.mark.parametrize("whole", [True, False], ids=["of dsac", "of a learner without a slow actor"])
def test_both_actors_begin_as_those_of_another_run(whole: bool) -> None:
    dsac, other = make(), DSAC(SPEC, {}, DSACConfig(**settings()), seed=7)
    other.update(transitions())
    found = {k: v.clone() for k, v in other.state_dict().items() if whole or not k.startswith("actor_target.")}
    initialise(dsac, Path("run"), found)
    wanted = (other.actor_target if whole else other.actor).state_dict()
    for name, value in dsac.actor_target.state_dict().items():
        torch.testing.assert_close(value, wanted[name], rtol=0, atol=0)
