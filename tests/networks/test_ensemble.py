from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

from robolearn.networks.critic import Critic
from robolearn.networks.ensemble import EnsembleMLP


@pytest.mark.parametrize("layer_norm", [False, True])
def test_every_member_is_a_perceptron_of_its_own(layer_norm: bool) -> None:
    torch.manual_seed(0)
    ensemble = EnsembleMLP(3, (5, 8, 7, 2), layer_norm).double()
    for parameter in ensemble.parameters():
        nn.init.normal_(parameter)
    value = torch.randn(4, 5, dtype=torch.float64)
    together = ensemble(value)
    assert together.shape == (3, 4, 2)
    for member in range(3):
        hidden = value
        for i, layer in enumerate(ensemble.layers):
            hidden = functional.linear(hidden, layer.weight[member].T, layer.bias[member, 0])
            if i < 2:
                if layer_norm:
                    scale, shift = layer.scale[member, 0], layer.shift[member, 0]
                    hidden = functional.layer_norm(hidden, (hidden.shape[-1],), scale, shift)
                hidden = hidden.relu()
        torch.testing.assert_close(together[member], hidden)


def test_chosen_members_are_computed_alone() -> None:
    ensemble = EnsembleMLP(5, (3, 6, 1), layer_norm=True)
    value = torch.randn(4, 3)
    torch.testing.assert_close(ensemble(value, torch.tensor([3, 1])), ensemble(value)[[3, 1]])


def test_it_starts_as_linear_layers_do() -> None:
    torch.manual_seed(0)
    weight = EnsembleMLP(50, (16, 32, 1)).layers[0].weight
    like = torch.cat([nn.Linear(16, 32).weight for _ in range(50)])
    assert weight.abs().max() <= 0.25
    torch.testing.assert_close(weight.std(), like.std(), rtol=0.02, atol=0)
    assert len({float(member.sum()) for member in weight.detach()}) == 50


def test_a_critic_has_one_value_or_several_for_every_member() -> None:
    state, action = torch.zeros(4, 3), torch.zeros(4, 2)
    assert Critic(6, 3, 2, (8,))(state, action).shape == (6, 4)
    assert Critic(6, 3, 2, (8,), outputs=2)(state, action).shape == (6, 4, 2)
