from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from transitions import SPEC, doubled

from robolearn.algorithms.hiql import HIQL, HIQLConfig
from robolearn.networks.goal_value import of_one_length
from robolearn.policies.hierarchical import HierarchicalPolicyConfig
from robolearn.recipes.goal_data import on_the_way

SIZE = 16
PREFIXES = ("", "next_", "goal_", "far_", "way_", "target_", "option_")


def make(**changes: Any) -> HIQL:
    policy = HierarchicalPolicyConfig(hidden_sizes=(16,), representation_size=4)
    config = HIQLConfig(policy=policy, value_hidden_sizes=(16,), batch_size=SIZE, discount=0.9, **changes)
    hiql = HIQL(SPEC, {}, config, seed=1)
    with torch.no_grad():  # so that values and their targets are not the same
        for parameter in hiql.targets.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(2)))
    return hiql


def batch(seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    answer = {f"{prefix}state": torch.randn(SIZE, 3, generator=generator) for prefix in PREFIXES}
    answer["action"] = torch.rand(SIZE, 2, generator=generator) * 1.8 - 0.9
    for prefix in ("", "option_"):
        answer[f"{prefix}bootstrap"] = (torch.rand(SIZE, generator=generator) < 0.7).float()
        answer[f"{prefix}reward"] = -answer[f"{prefix}bootstrap"]
    return answer


def log_prob(value: Tensor, mean: Tensor) -> Tensor:
    """Of a Gaussian of width 1, less what does not depend on the mean."""
    normal = torch.distributions.Normal(mean, torch.ones_like(mean))
    return (normal.log_prob(value) - normal.log_prob(mean)).sum(-1)


@pytest.mark.parametrize("option_steps", [0, 5])
def test_the_losses_equal_a_float64_reference(option_steps: int) -> None:
    hiql, precise = make(option_steps=option_steps), make(option_steps=option_steps)
    for part in (precise.actor, precise.values, precise.targets):
        part.double()
    b = doubled(batch())
    value_loss = torch.zeros((), dtype=torch.float64)
    for name, prefix in (("value", ""), ("high_value", "option_"))[: 2 if option_steps else 1]:
        online, target = precise.values[name], precise.targets[name]
        following = target(b[f"{prefix or 'next_'}state"], b["goal_state"])
        reward, kept = b[f"{prefix}reward"], 0.9 * b[f"{prefix}bootstrap"]
        advantage = reward + kept * torch.minimum(*following) - target(b["state"], b["goal_state"]).sum(0) / 2
        weight = torch.abs(0.7 - (advantage < 0).double())
        for i in range(2):
            error = reward + kept * following[i] - online(b["state"], b["goal_state"])[i]
            value_loss = value_loss + (weight * error**2).mean()
    value, high = precise.values["value"], precise.values["high_value" if option_steps else "value"]
    gain = (value(b["next_state"], b["way_state"]) - value(b["state"], b["way_state"])).mean(0)
    near = value.represent(b["state"], b["way_state"])
    action = precise.actor.low(torch.cat([b["state"], near], -1))
    low = -((3.0 * gain).exp().clamp(max=100.0) * log_prob(b["action"], action)).mean()
    gain = (high(b["target_state"], b["far_state"]) - high(b["state"], b["far_state"])).mean(0)
    subgoal = precise.actor.high(torch.cat([b["state"], b["far_state"]], -1))
    wanted = value.represent(b["state"], b["target_state"])
    high_loss = -((3.0 * gain).exp().clamp(max=100.0) * log_prob(wanted, subgoal)).mean()
    torch.testing.assert_close(wanted.norm(dim=-1), torch.full((SIZE,), 2.0, dtype=torch.float64))
    found = hiql._losses(batch())
    torch.testing.assert_close(found[0].double(), value_loss, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(found[1].double(), low + high_loss, rtol=1e-5, atol=1e-6)


def test_the_policies_teach_the_values_nothing() -> None:
    hiql = make()
    gradients = torch.autograd.grad(hiql._losses(batch())[1], list(hiql.values.parameters()), allow_unused=True)
    assert all(gradient is None for gradient in gradients)


def test_it_acts_by_the_subgoal_that_it_thinks_of() -> None:
    actor = make().policy()
    seen = {"state": torch.randn(3, 3), "goal_state": torch.randn(3, 3)}
    subgoal = of_one_length(actor.subgoal(seen["state"], seen["goal_state"]))
    torch.testing.assert_close(actor.best(seen), actor.action(seen["state"], subgoal).clamp(-1, 1))


@given(st.integers(0, 20), st.integers(0, 20), st.integers(-5, 60), st.integers(1, 30))
def test_subgoals_lie_ahead_in_the_episode_and_never_beyond_its_goal(
    first: int, length: int, far: int, ahead: int
) -> None:
    steps = np.arange(first, first + length + 1)
    last = np.full(len(steps), first + length)
    way, target = on_the_way(steps, last, np.full(len(steps), far), ahead)
    assert ((way >= steps) & (way <= last) & (way - steps <= ahead)).all()
    assert ((target >= steps) & (target <= way)).all()
    comes = (far >= steps) & (far <= last)
    assert (target[comes] <= far).all()
    assert (target[~comes] == way[~comes]).all()
