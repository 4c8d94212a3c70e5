from __future__ import annotations

import math

import torch
from torch.distributions import Independent, Normal, TanhTransform, TransformedDistribution

from robolearn.networks.distributions import gaussian_log_prob, tanh_gaussian_log_prob, tanh_gaussian_sample


def numbers() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    mean, log_std, noise = torch.randn(3, 40, 3, generator=generator, dtype=torch.float64)
    return mean, log_std, noise


def test_a_squashed_sample_is_as_likely_as_torch_says() -> None:
    mean, log_std, noise = numbers()
    action, log_prob = tanh_gaussian_sample(mean, log_std, noise)
    reference = TransformedDistribution(Independent(Normal(mean, log_std.exp()), 1), [TanhTransform(cache_size=1)])
    clear = (action.abs() < 0.9999).all(-1)
    torch.testing.assert_close(log_prob[clear], reference.log_prob(action)[clear])
    torch.testing.assert_close(tanh_gaussian_log_prob(mean, log_std, action)[clear], log_prob[clear])


def test_a_saturated_action_has_finite_likelihood_and_slope() -> None:
    mean = torch.full((1, 1), 60.0, requires_grad=True)
    action, log_prob = tanh_gaussian_sample(mean, torch.zeros(1, 1), torch.zeros(1, 1))
    log_prob.sum().backward()
    assert action.item() == 1.0
    torch.testing.assert_close(log_prob.item(), -0.5 * math.log(2 * math.pi) - 2 * (math.log(2) - 60.0))
    assert mean.grad is not None
    assert mean.grad.item() == 2.0
    assert torch.isfinite(tanh_gaussian_log_prob(mean, torch.zeros(1, 1), torch.ones(1, 1))).all()


def test_the_squashed_density_sums_to_one() -> None:
    action = torch.linspace(-1, 1, 200_001, dtype=torch.float64)[1:-1, None]
    mean, log_std = torch.tensor([0.3], dtype=torch.float64), torch.tensor([-0.5], dtype=torch.float64)
    density = tanh_gaussian_log_prob(mean, log_std, action).exp()
    torch.testing.assert_close(torch.trapezoid(density, action[:, 0]).item(), 1.0, rtol=0, atol=1e-4)


def test_a_gaussian_is_as_likely_as_torch_says() -> None:
    mean, log_std, value = numbers()
    reference = Independent(Normal(mean, log_std.exp()), 1)
    torch.testing.assert_close(gaussian_log_prob(mean, log_std, value), reference.log_prob(value))
