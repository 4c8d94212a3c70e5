"""CQL and Cal-QL: their losses, and the bound that tells them apart."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from transitions import SIZE, SPEC, doubled, noise, settings, transitions

from robolearn.algorithms.calql import CalQL, CalQLConfig
from robolearn.algorithms.cql import CQL, CQLConfig
from robolearn.networks.critic import Critic

COUNT = 3
UNIFORM = torch.rand((COUNT, SIZE, 2), generator=torch.Generator().manual_seed(3))
NOISE = noise(2, COUNT, SIZE, 2)


@pytest.mark.parametrize("layer_norm", [False, True])
def test_many_actions_of_a_state_are_valued_as_if_each_had_one_of_its_own(layer_norm: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    critic = Critic(3, 5, 2, (8, 8), layer_norm).double()
    state = torch.randn((4, 5), generator=generator).double()
    actions = torch.randn((4, 6, 2), generator=generator).double()
    found = critic.of_many(state, actions)
    wanted = critic(state.repeat_interleave(6, 0), actions.flatten(0, 1)).unflatten(1, (4, 6))
    torch.testing.assert_close(found, wanted)
    parameters = list(critic.parameters())
    both = (torch.autograd.grad(values.square().sum(), parameters) for values in (found, wanted))
    for a, b in zip(*both, strict=True):
        torch.testing.assert_close(a, b)


def make(kind: type, **changes: Any) -> Any:
    config = {CQL: CQLConfig, CalQL: CalQLConfig}[kind]
    return kind(SPEC, {}, config(**settings(), num_actions=COUNT, **changes), seed=1)


def gradients(algorithm: Any, batch: dict[str, Tensor]) -> list[Tensor]:
    loss = algorithm.critic_loss(batch, UNIFORM, NOISE)[0]
    return list(torch.autograd.grad(loss, list(algorithm.critic.parameters())))


@pytest.mark.parametrize(("kind", "entropy"), [(CQL, False), (CalQL, False), (CalQL, True)])
def test_the_critic_loss_equals_a_float64_reference(kind: type, entropy: bool) -> None:
    changes = {"backup_entropy": True} if entropy else {}
    plain, precise = make(kind, **changes), make(kind, **changes)
    actor, critic, target = (part.double() for part in (precise.actor, precise.critic, precise.target))
    batch = doubled(transitions())
    here, here_log_prob = actor.draw(batch["state"], NOISE[0].double())
    there, there_log_prob = actor.draw(batch["next_state"], NOISE[1].double())
    anywhere = 2 * UNIFORM.double() - 1
    q = target(batch["next_state"], there[0])
    soft_value = torch.minimum(q[0], q[1]) - entropy * there_log_prob[0]  # the temperature is 1
    y = (batch["reward"] + 0.9 * batch["bootstrap"] * soft_value).detach()
    wanted = torch.zeros((), dtype=torch.float64)
    for e in range(2):
        for b in range(SIZE):
            state = batch["state"][b : b + 1]

            def value(action: Tensor, e: int = e, state: Tensor = state) -> Tensor:
                return critic(state, action[None])[e, 0]

            terms = []
            for n in range(COUNT):
                terms.append(value(anywhere[n, b]) - math.log(0.25))
                for action, log_prob in ((here, here_log_prob), (there, there_log_prob)):
                    own = value(action[n, b])
                    if kind is CalQL:
                        own = torch.maximum(own, batch["return_to_go"][b])
                    terms.append(own - log_prob[n, b])
            soft = torch.stack(terms).exp().mean().log()
            shown = value(batch["action"][b])
            wanted += ((shown - y[b]) ** 2 + 5.0 * (soft - shown)) / SIZE
    found = plain.critic_loss(transitions(), UNIFORM, NOISE)[0]
    torch.testing.assert_close(found.double(), wanted, rtol=1e-5, atol=1e-5)


def test_without_a_bound_it_is_cql() -> None:
    batch = {**transitions(), "return_to_go": torch.full((SIZE,), -torch.inf)}
    for a, b in zip(gradients(make(CQL), batch), gradients(make(CalQL), batch), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-6)


def test_above_all_its_values_the_policys_actions_are_not_pushed() -> None:
    high = {**transitions(), "return_to_go": torch.full((SIZE,), 10.0)}
    calql = make(CalQL, conservatism=1.0)
    _, metrics = calql.critic_loss(high, UNIFORM, NOISE)
    assert metrics["bounded"] == 1.0
    found = gradients(calql, high)
    # The only gradients that are left are those of the data's and of the uniform actions.
    state, action = high["state"], torch.cat([high["action"][None], 2 * UNIFORM - 1])
    values = calql.critic(state.expand(len(action), *state.shape).flatten(0, 1), action.flatten(0, 1))
    values = values.unflatten(1, (len(action), SIZE))
    here, there = calql.actor.draw(state, NOISE[0])[1], calql.actor.draw(high["next_state"], NOISE[1])[1]
    fixed = 10.0 - torch.cat([here, there]).detach()
    terms = torch.cat([values[:, 1:] + 2 * math.log(2.0), fixed.expand(2, *fixed.shape)], dim=1)
    next_action = calql.actor.draw(high["next_state"], NOISE[1])[0][0].detach()
    target = calql.target_value(high, high["next_state"], next_action, torch.zeros(SIZE)).detach()
    loss = ((values[:, 0] - target) ** 2 + terms.logsumexp(1) - values[:, 0]).mean(-1).sum()
    for a, b in zip(found, torch.autograd.grad(loss, list(calql.critic.parameters())), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


def test_a_push_of_a_small_scale_meets_the_largest_value_alone() -> None:
    batch = transitions()
    cql = make(CQL, push_scale=1e-4)
    gap = cql.critic_loss(batch, UNIFORM, NOISE)[1]["gap"]
    state, next_state = cql.actor.features(batch), cql.actor.features(batch, "next_")
    own = torch.cat([cql.actor.draw(state, NOISE[0])[0], cql.actor.draw(next_state, NOISE[1])[0]])
    tried = torch.cat([2.0 * UNIFORM - 1.0, own])
    values = torch.stack([cql.critic(state, action) for action in tried])  # (3 N, E, B)
    data = cql.critic(state, cql.actor.normalized_action(batch["action"]))
    torch.testing.assert_close(gap, (values.amax(0) - data).mean().detach(), atol=2e-3, rtol=0)


def test_the_push_is_the_same_in_another_unit_of_reward() -> None:
    """What it does to values ten times as large with ten times the scale is ten times what it does to these."""
    batch = transitions()
    small, large = make(CQL, push_scale=0.1), make(CQL, push_scale=1.0)
    with torch.no_grad():
        for a, b in zip(*(list(each.critic.parameters())[-2:] for each in (small, large)), strict=True):
            b.copy_(10.0 * a)
    gaps = [each.critic_loss(batch, UNIFORM, NOISE)[1]["gap"] for each in (small, large)]
    torch.testing.assert_close(10.0 * gaps[0], gaps[1], rtol=1e-4, atol=1e-5)


def test_values_of_the_data_rise_above_those_of_other_actions() -> None:
    cql = make(CQL, critic_learning_rate=1e-2)
    first = cql.validate(transitions())["gap"]
    for _ in range(120):
        cql.update(transitions())
    assert cql.validate(transitions())["gap"] < first - 0.5
