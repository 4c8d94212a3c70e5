"""SAC's losses against the equations, written out with torch.distributions in float64."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.distributions import Independent, Normal, TanhTransform, TransformedDistribution

from robolearn.algorithms.sac import SAC, SACConfig
from robolearn.errors import SpecError
from robolearn.policies.gaussian import GaussianPolicyConfig
from robolearn.specs import ArraySpec, InterfaceSpec

SPEC = InterfaceSpec({"state": ArraySpec((3,))}, ArraySpec((2,), low=(-2.0, 0.0), high=(2.0, 1.0)), 10.0)
SIZE = 32
CONFIG = SACConfig(
    policy=GaussianPolicyConfig(hidden_sizes=(16,)),
    critic_hidden_sizes=(16,),
    batch_size=SIZE,
    initial_temperature=0.3,
    target_entropy_per_action=-0.5,
)


def transitions(seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        "state": torch.randn(SIZE, 3, generator=generator),
        "next_state": torch.randn(SIZE, 3, generator=generator),
        "action": torch.rand(SIZE, 2, generator=generator) * torch.tensor([4.0, 1.0]) - torch.tensor([2.0, 0.0]),
        "reward": torch.randn(SIZE, generator=generator),
        "bootstrap": (torch.rand(SIZE, generator=generator) < 0.7).float(),
        "discount": torch.full((SIZE,), 0.9),
    }


def doubled(batch: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.double() for name, value in batch.items()}


def reference(sac: SAC, batch: dict[str, Tensor], noise: Tensor) -> tuple[Tensor, Tensor]:
    """Critic and actor loss in float64."""
    actor, critic, target = (part.double() for part in (sac.actor, sac.critic, sac.target))
    alpha = sac.log_temperature.double().exp()

    def act(state: Tensor, eps: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_std = actor(state)
        action = torch.tanh(mean + log_std.exp() * eps)
        squashed = TransformedDistribution(Independent(Normal(mean, log_std.exp()), 1), [TanhTransform(cache_size=1)])
        return action, squashed.log_prob(action)

    action = (batch["action"] - torch.tensor([0.0, 0.5])) / torch.tensor([2.0, 0.5])
    next_action, next_log_prob = act(batch["next_state"], noise[0])
    first, second = target(batch["next_state"], next_action)
    soft = torch.minimum(first, second) - alpha * next_log_prob
    y = (batch["reward"] + 0.9 * batch["bootstrap"] * soft).detach()
    critic_loss = sum(((value - y) ** 2).mean() for value in critic(batch["state"], action))
    mine, log_prob = act(batch["state"], noise[1])
    actor_loss = (alpha * log_prob - torch.minimum(*critic(batch["state"], mine))).mean()
    return torch.as_tensor(critic_loss), actor_loss


def test_the_losses_equal_a_float64_reference() -> None:
    sac, precise = SAC(SPEC, {}, CONFIG, seed=1), SAC(SPEC, {}, CONFIG, seed=1)
    noise = torch.randn(2, SIZE, 2, generator=torch.Generator().manual_seed(2))
    critic_loss, actor_loss = reference(precise, doubled(transitions()), noise.double())
    torch.testing.assert_close(sac.critic_loss(transitions(), noise[0])[0].double(), critic_loss, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(sac.actor_loss(transitions(), noise[1])[0].double(), actor_loss, rtol=1e-5, atol=1e-6)


def test_the_temperature_rises_where_the_entropy_is_too_low_and_falls_where_it_is_not() -> None:
    sac = SAC(SPEC, {}, CONFIG)
    for log_prob, rises in ((5.0, True), (-5.0, False)):
        before = sac.log_temperature.item()
        sac._temperature_adam.step(sac.temperature_loss(torch.full((SIZE,), log_prob))[0])
        assert (sac.log_temperature.item() > before) == rises
    assert sac.target_entropy == -1.0


def test_only_the_actor_moves_by_the_actor_loss() -> None:
    sac = SAC(SPEC, {}, CONFIG)
    before = {name: value.clone() for name, value in sac.critic.state_dict().items()}
    sac._actor_adam.step(sac.actor_loss(transitions(), torch.zeros(SIZE, 2))[0])
    assert all(torch.equal(value, before[name]) for name, value in sac.critic.state_dict().items())
    assert sac.log_temperature.grad is None


def test_the_soft_values_of_a_small_mdp_are_found() -> None:
    """Two states, one action dimension, a policy that is held fixed: the critic must find the values that the linear
    equations of policy evaluation give."""
    discount, alpha = 0.5, 0.3
    spec = InterfaceSpec({"state": ArraySpec((2,))}, ArraySpec((1,), low=(-1.0,), high=(1.0,)), 10.0)
    config = SACConfig(
        policy=GaussianPolicyConfig(hidden_sizes=(8,)),
        critic_hidden_sizes=(32,),
        batch_size=64,
        critic_learning_rate=1e-2,
        polyak=0.1,
        initial_temperature=alpha,
    )
    sac = SAC(spec, {}, config, seed=0)
    generator = torch.Generator().manual_seed(0)
    states = torch.eye(2)
    # State 0 pays 1 and goes to state 1, state 1 pays 0 and goes to state 0, whatever the action.
    with torch.no_grad():
        entropy = torch.stack(
            [
                -sac.actor.draw(states[[s]].expand(20_000, 2), torch.randn(20_000, 1, generator=generator))[1].mean()
                for s in (0, 1)
            ]
        )
    system = torch.tensor([[1.0, -discount], [-discount, 1.0]])
    soft_value = torch.linalg.solve(system, torch.tensor([1.0, 0.0]) + alpha * entropy)
    wanted = torch.stack([1 + discount * soft_value[1], discount * soft_value[0]])
    for _ in range(600):
        here = torch.randint(0, 2, (64,), generator=generator)
        batch = {
            "state": states[here],
            "next_state": states[1 - here],
            "action": torch.rand(64, 1, generator=generator) * 2 - 1,
            "reward": (here == 0).float(),
            "bootstrap": torch.ones(64),
            "discount": torch.full((64,), discount),
        }
        sac._critic_adam.step(sac.critic_loss(batch, torch.randn(64, 1, generator=generator))[0])
        with torch.no_grad():
            for target, source in zip(sac.target.parameters(), sac.critic.parameters(), strict=True):
                target.lerp_(source, config.polyak)
    with torch.no_grad():
        found = sac.critic(states, torch.zeros(2, 1)).mean(0)
    torch.testing.assert_close(found, wanted, rtol=0.05, atol=0.05)


def test_actions_without_limits_are_refused() -> None:
    endless = replace(SPEC, action=replace(SPEC.action, low=(-math.inf, 0.0), high=(math.inf, 1.0)))
    with pytest.raises(SpecError, match="needs limits of every action"):
        SAC(endless, {}, CONFIG)
