from __future__ import annotations

import pytest
import torch
from transitions import SIZE, SPEC, doubled, settings, transitions

from robolearn.algorithms.sac import SAC, SACConfig
from robolearn.algorithms.state_bc import StateBC, StateBCConfig
from robolearn.errors import SpecError
from robolearn.policies.gaussian import GaussianPolicyConfig


def make(distribution: str, **changes: object) -> StateBC:
    own = settings(distribution=distribution, log_std_low=-4.0)
    own.pop("critic_hidden_sizes")
    return StateBC(SPEC, {}, StateBCConfig(**own, **changes), seed=1)


def two_ways(seed: int) -> dict[str, torch.Tensor]:
    """Actions of -0.7 or 0.7 in every state, as likely."""
    batch = transitions(seed=seed)
    sign = torch.randint(0, 2, (SIZE, 1), generator=torch.Generator().manual_seed(seed)) * 2 - 1
    return {**batch, "action": 0.7 * sign.expand(SIZE, 2).float()}


def test_the_loss_of_a_mixture_equals_a_float64_reference() -> None:
    cloning, precise = make("mixture"), make("mixture")
    batch = doubled(transitions())
    rows = precise.actor.double().network(batch["state"]).unflatten(-1, (5, 5))
    mean, std = torch.tanh(rows[..., 1:3]), rows[..., 3:].clamp(-4, 2).exp()
    each = torch.distributions.Independent(torch.distributions.Normal(mean, std), 1)
    which = torch.distributions.Categorical(logits=rows[..., 0])
    wanted = -torch.distributions.MixtureSameFamily(which, each).log_prob(batch["action"]).mean()
    torch.testing.assert_close(cloning.loss(transitions())[0].double(), wanted, rtol=1e-5, atol=1e-6)


def test_a_mixture_does_one_thing_or_the_other_where_one_gaussian_does_what_lies_between() -> None:
    answers = {}
    for distribution in ("mixture", "clipped"):
        cloning = make(distribution, learning_rate=1e-2)
        for i in range(150):
            cloning.update(two_ways(i))
        state = transitions(200, seed=999)["state"]
        answers[distribution] = cloning.actor.mode(state).detach()
        drawn = cloning.actor.sample({"state": state}, torch.Generator().manual_seed(0))
        if distribution == "mixture":
            assert ((drawn.abs() - 0.7).abs() < 0.2).float().mean() > 0.9
            assert 0.3 < (drawn[:, 0] > 0).float().mean() < 0.7
    assert (answers["mixture"].abs() - 0.7).abs().median() < 0.1
    assert answers["clipped"].abs().median() < 0.4


def test_what_wants_one_gaussian_refuses_a_mixture() -> None:
    sac = SAC(SPEC, {}, SACConfig(batch_size=SIZE, policy=GaussianPolicyConfig(distribution="mixture")))
    with pytest.raises(SpecError, match=r"wants policy\.distribution=squashed"):
        sac.update(transitions())
