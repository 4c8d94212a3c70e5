"""Preferences: four kinds of labels recover the hidden order of states; HERON's rule is lexicographic."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from robolearn.errors import SpecError
from robolearn.rewards import Episodes
from robolearn.rewards.audit import spearman
from robolearn.rewards.preference import (
    UNSURE,
    BradleyTerry,
    FitConfig,
    PreferenceConfig,
    PreferenceReward,
    fit_bradley_terry,
    ordered_factor_answers,
)
from robolearn.rewards.reward_model import initial_weights

FIT = FitConfig(learning_rate=3e-3, batch_size=128, passes=12)


def hidden(states: Tensor) -> Tensor:
    """The reward behind the answers (N,) of states (N, 6)."""
    return torch.sin(1.2 * states[:, 0]) + 0.8 * states[:, 1] - 0.3 * states[:, 2].square() + 0.4 * states[:, 3]


def fitted(
    first: Tensor, second: Tensor, answer: Tensor, sizes: tuple[int, ...] = (48, 48), fit: FitConfig = FIT
) -> BradleyTerry:
    with initial_weights(0):
        net = BradleyTerry(first.shape[-1], 3, sizes)
    fit_bradley_terry(net, first, second, answer, fit)
    return net


def reward(net: BradleyTerry, states: Tensor) -> np.ndarray:
    with torch.no_grad():
        return net(states).mean(-1).numpy()


def rank_agreement(net: BradleyTerry, states: Tensor) -> float:
    return spearman(reward(net, states), hidden(states).numpy()) or 0.0


@pytest.mark.parametrize("case", ["500 clean", "2000 noisy", "2000 noisy, unsure dropped"])
def test_the_hidden_order_is_recovered(case: str) -> None:
    generator = torch.Generator().manual_seed(0)
    count = int(case.split()[0])
    first, second = torch.randn(2, count, 6, generator=generator)
    difference = hidden(second) - hidden(first)
    answer = (difference > 0).long()
    if "noisy" in case:  # the more alike two states are, the likelier the labeller is wrong
        wrong = torch.rand(count, generator=generator) < 0.5 * torch.exp(-0.65 * difference.abs())
        answer = torch.where(wrong, 1 - answer, answer)
        assert 0.70 < float((~wrong).double().mean()) < 0.84
    if "unsure" in case:
        answer = torch.where(difference.abs() < 0.5, UNSURE, answer)
    states = torch.randn(1000, 6, generator=generator)
    net = fitted(first, second, answer)
    assert rank_agreement(net, states) >= 0.92


def factors(states: Tensor) -> Tensor:
    """Three factors (N, 3): most important first; the first is coarse, so that the others get to decide."""
    return torch.stack([(states[:, 0] > 0).float(), states[:, 1], states[:, 2]], 1)


def test_ordered_factors_are_lexicographic() -> None:
    first = torch.tensor([[0.0, 5.0, 0.0], [1.0, 0.0, 9.0], [1.0, 2.0, 0.0], [1.0, 2.0, 3.0], [1.0, 2.0, 3.0]])
    second = torch.tensor([[1.0, 0.0, 0.0], [0.0, 9.0, 9.0], [1.0, 3.5, 0.0], [1.0, 2.5, 1.0], [1.0, 2.1, 3.1]])
    margin = torch.tensor([0.5, 1.0, 1.0])
    assert ordered_factor_answers(first, second, margin).tolist() == [1, 0, 1, 0, UNSURE]


def test_herons_rule_survives_a_rescaled_factor_and_a_weighted_sum_does_not() -> None:
    generator = torch.Generator().manual_seed(1)
    first, second, a, b = torch.randn(4, 2500, 3, generator=generator)
    scale = torch.tensor([1.0, 1.0, 100.0])

    def margin(states: Tensor) -> Tensor:
        return 0.1 * states.std(0)

    def answers(x: Tensor, y: Tensor, weight: Tensor) -> Tensor:
        return ordered_factor_answers(factors(x) * weight, factors(y) * weight, margin(factors(x) * weight))

    answer = answers(first, second, torch.ones(3))
    assert torch.equal(answers(first, second, scale), answer)
    net = fitted(first, second, answer, fit=FitConfig(1e-2, passes=15, stop_accuracy=0.985))
    truth = answers(a, b, torch.ones(3))
    sure = truth != UNSURE
    said = torch.from_numpy(reward(net, b) > reward(net, a)).long()
    assert float((said == truth)[sure].double().mean()) >= 0.95
    weighted = ((factors(b) - factors(a)) * scale * torch.tensor([4.0, 2.0, 1.0])).sum(1) > 0
    assert float((weighted.long() == truth)[sure].double().mean()) < 0.75


def test_unsure_pairs_are_dropped_before_they_count() -> None:
    first, second = torch.randn(2, 100, 4)
    answer = torch.randint(0, 2, (100,))
    answer[:30] = UNSURE
    first[:30] = torch.nan  # whatever they hold is never looked at
    with initial_weights(0):
        net = BradleyTerry(4, 3, (16,))
    told = fit_bradley_terry(net, first, second, answer, FitConfig(passes=1))
    assert (told["pairs"], told["unsure"]) == (70, 30)
    assert all(torch.isfinite(parameter).all() for parameter in net.parameters())
    with pytest.raises(SpecError, match="none of the 100 comparisons was sure"):
        fit_bradley_terry(net, first, second, torch.full((100,), UNSURE), FitConfig())


def test_segments_are_judged_by_the_sum_of_their_steps() -> None:
    generator = torch.Generator().manual_seed(2)
    first, second = torch.randn(2, 1500, 4, 6, generator=generator)

    def total(segment: Tensor) -> Tensor:
        return hidden(segment.flatten(0, 1)).view(-1, 4).sum(1)

    net = fitted(first, second, (total(second) > total(first)).long())
    states = torch.randn(1000, 6, generator=generator)
    assert rank_agreement(net, states) >= 0.85


def test_members_differ_and_are_independent() -> None:
    first, second = torch.randn(2, 200, 6, generator=torch.Generator().manual_seed(3))
    net = fitted(first, second, (hidden(second) > hidden(first)).long(), (16,))
    outputs = net(torch.randn(50, 6))
    assert float(outputs.detach().std(-1).mean()) > 1e-3
    gradient = torch.autograd.grad(outputs[:, 0].sum(), net.weights[0])[0]
    assert float(gradient[0].abs().sum()) > 0
    assert float(gradient[1:].abs().sum()) == 0


def test_labels_of_a_dataset_have_mean_0_and_std_1_and_padding_does_not_count() -> None:
    model = PreferenceReward(PreferenceConfig())
    parts = [
        Episodes({"front": torch.randint(0, 256, (2, 5, 32, 32, 3), dtype=torch.uint8)}, ["", ""], None, length)
        for length in (torch.tensor([5, 2]), torch.tensor([4, 5]))
    ]
    before = model.version
    model.normalize_over(parts)
    assert model.version != before
    values = torch.cat([model.score(part).value[part.valid(torch.device("cpu"))] for part in parts])
    assert len(values) == 16
    assert float(values.mean()) == pytest.approx(0.0, abs=1e-4)
    assert float(values.std(correction=0)) == pytest.approx(1.0, abs=1e-3)
