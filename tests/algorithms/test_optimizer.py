from __future__ import annotations

import pytest
import torch
from torch import nn

from robolearn.algorithms.adamw import AdamW
from robolearn.algorithms.optimizer import cosine_learning_rate


def test_the_learning_rate_rises_and_falls_to_nothing() -> None:
    rates = [cosine_learning_rate(step, 2.0, 10, 110) for step in range(120)]
    assert rates[0] == pytest.approx(0.2)
    assert rates[9] == rates[10] == 2.0
    assert rates[60] == pytest.approx(1.0)
    assert rates[110] == rates[119] == pytest.approx(0.0, abs=1e-12)
    assert rates[10:111] == sorted(rates[10:111], reverse=True)


@pytest.mark.parametrize("max_grad_norm", [0.5, 1e9])
def test_it_steps_as_that_of_torch_and_decays_matrices_alone(max_grad_norm: float) -> None:
    def make() -> nn.Sequential:
        torch.manual_seed(0)
        convolution = nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        return nn.Sequential(convolution, nn.Flatten(), nn.Linear(4, 2))

    ours, theirs = make(), make()
    ours[2].bias.requires_grad_(False)
    theirs[2].bias.requires_grad_(False)
    adamw = AdamW(ours.parameters(), 0.05, 0.1, max_grad_norm)
    learned = [each for each in theirs.parameters() if each.requires_grad]
    groups = [
        {"params": [each for each in learned if each.ndim > 1], "weight_decay": 0.1},
        {"params": [each for each in learned if each.ndim == 1], "weight_decay": 0.0},
    ]
    reference = torch.optim.AdamW(groups, lr=0.05)
    images = torch.rand(5, 3, 3, 3, generator=torch.Generator().manual_seed(1))
    for i in range(6):
        adamw.learning_rate.fill_(0.05 / (i + 1))
        for group in reference.param_groups:
            group["lr"] = 0.05 / (i + 1)
        norm = adamw.step(ours(images).square().sum())
        reference.zero_grad()
        theirs(images).square().sum().backward()
        torch.testing.assert_close(norm, nn.utils.clip_grad_norm_(learned, max_grad_norm))
        reference.step()
        for mine, wanted in zip(ours.parameters(), theirs.parameters(), strict=True):
            torch.testing.assert_close(mine, wanted, rtol=1e-5, atol=1e-6)


def test_the_state_is_laid_out_as_its_parameter_is() -> None:
    convolution = nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    adamw = AdamW(convolution.parameters(), 0.1, 0.0, 1.0)
    adamw.step(convolution(torch.rand(1, 3, 5, 5)).square().sum())
    stored = {name: each.clone(memory_format=torch.contiguous_format) for name, each in adamw.state_dict().items()}
    adamw.load_state_dict(stored)
    for name, tensor in adamw.state_dict().items():
        assert torch.equal(tensor, stored[name])
        assert tensor.ndim < 4 or tensor.is_contiguous(memory_format=torch.channels_last)
