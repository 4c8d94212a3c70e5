from __future__ import annotations

import pytest
import torch
from torch import nn

from robolearn.algorithms.optimizer import (
    adamw,
    cosine_learning_rate,
    load_optimizer_tensors,
    optimizer_tensors,
)


def test_the_learning_rate_rises_and_falls_to_nothing() -> None:
    rates = [cosine_learning_rate(step, 2.0, 10, 110) for step in range(120)]
    assert rates[0] == pytest.approx(0.2)
    assert rates[9] == rates[10] == 2.0
    assert rates[60] == pytest.approx(1.0)
    assert rates[110] == rates[119] == pytest.approx(0.0, abs=1e-12)
    assert rates[10:111] == sorted(rates[10:111], reverse=True)


def test_only_matrices_decay() -> None:
    layer = nn.Linear(3, 2)
    optimizer = adamw(layer.parameters(), learning_rate=0.1, weight_decay=0.5)
    before = layer.weight.detach().clone(), layer.bias.detach().clone()
    for parameter in layer.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    torch.testing.assert_close(layer.weight.detach(), before[0] * 0.95)
    torch.testing.assert_close(layer.bias.detach(), before[1])


def test_the_state_survives_as_flat_tensors() -> None:
    def step(layer: nn.Linear, optimizer: torch.optim.Optimizer) -> None:
        optimizer.zero_grad()
        layer(torch.ones(1, 3)).square().sum().backward()
        optimizer.step()

    layer = nn.Linear(3, 2)
    optimizer = adamw(layer.parameters(), 0.1, 0.0)
    step(layer, optimizer)
    copy = nn.Linear(3, 2)
    copy.load_state_dict(layer.state_dict())
    resumed = adamw(copy.parameters(), 0.1, 0.0)
    load_optimizer_tensors(resumed, {k: v.clone() for k, v in optimizer_tensors(optimizer).items()})
    step(layer, optimizer)
    step(copy, resumed)
    assert torch.equal(layer.weight, copy.weight)


def test_the_state_is_laid_out_as_its_parameter_is() -> None:
    convolution = nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = adamw(convolution.parameters(), 0.1, 0.0)
    convolution(torch.rand(1, 3, 5, 5)).square().sum().backward()
    optimizer.step()
    stored = {
        name: tensor.clone(memory_format=torch.contiguous_format)
        for name, tensor in optimizer_tensors(optimizer).items()
    }
    load_optimizer_tensors(optimizer, stored)
    for name, tensor in optimizer_tensors(optimizer).items():
        assert torch.equal(tensor, stored[name])
        assert tensor.ndim < 4 or tensor.is_contiguous(memory_format=torch.channels_last)
