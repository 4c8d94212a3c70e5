"""Ensembles of reward models: conservative rules beat one model at best-of-n; running normalisation is exact."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from robolearn.errors import SpecError
from robolearn.rewards import Episodes
from robolearn.rewards.combine import (
    CombineConfig,
    EnsembleReward,
    RunningNormalizer,
    uncertainty_weighted,
    worst_case,
)
from robolearn.rewards.keypoints import KeypointsConfig, KeypointsReward
from robolearn.rewards.preference import BradleyTerry, FitConfig, PreferenceConfig, PreferenceReward, fit_bradley_terry
from robolearn.rewards.reward_model import RewardOutput, initial_weights


def gold(states: Tensor) -> Tensor:
    """The true reward: high on a shell, so that going ever further in a good direction is punished."""
    return torch.tanh(states[..., 0] + 0.5 * states[..., 1]) - 0.25 * states.square().sum(-1).sqrt()


@pytest.fixture(scope="module")
def members() -> Tensor:
    """Normalised rewards (5, n) of five members, of candidates (n, 6), and the true reward as the last row."""
    generator = torch.Generator().manual_seed(0)
    pairs = torch.randn(2, 300, 6, generator=generator)
    answer = (gold(pairs[1]) > gold(pairs[0])).long()
    flipped = torch.rand(300, generator=generator) < 0.25
    answer = torch.where(flipped, 1 - answer, answer)
    with initial_weights(0):
        net = BradleyTerry(6, 5, (64, 64))
    fit_bradley_terry(net, pairs[0], pairs[1], answer, FitConfig(learning_rate=2e-3, batch_size=32, passes=40))
    candidates = 1.5 * torch.randn(40, 4096, 6, generator=generator)
    with torch.no_grad():
        rewards = net(candidates).movedim(-1, 0)
    normal = (rewards - rewards.mean((1, 2), keepdim=True)) / rewards.std((1, 2), keepdim=True)
    return torch.cat([normal, gold(candidates)[None]])


def best_of_n(score: Tensor, truth: Tensor) -> float:
    """Mean true reward of the best candidate (40, n) by score."""
    return float(truth.gather(1, score.argmax(1)[:, None]).mean())


def test_conservative_rules_beat_one_model_at_best_of_n(members: Tensor) -> None:
    rewards, truth = members[:5], members[5]
    single = float(np.mean([best_of_n(one, truth) for one in rewards]))
    worst = best_of_n(worst_case(rewards), truth)
    weighted = best_of_n(uncertainty_weighted(rewards, 0.5), truth)
    assert worst > single + 0.1
    assert weighted > single + 0.1
    assert best_of_n(rewards.mean(0), truth) > single
    assert single > float(truth.mean())  # the model is worth something


def test_the_variance_is_of_the_population() -> None:
    rewards = torch.tensor([[1.0], [3.0]])
    assert float(uncertainty_weighted(rewards, 0.5)) == pytest.approx(2.0 - 0.5 * 1.0)
    assert float(worst_case(rewards)) == 1.0


@given(st.lists(st.lists(st.floats(-1e3, 1e3), max_size=8), min_size=1, max_size=6))
def test_running_statistics_are_those_of_all_values(parts: list[list[float]]) -> None:
    normalizer = RunningNormalizer()
    for part in parts:
        normalizer.update(torch.tensor(part, dtype=torch.float64))
    everything = np.array([value for part in parts for value in part])
    assert normalizer.count == len(everything)
    if len(everything):
        assert normalizer.mean == pytest.approx(everything.mean(), abs=1e-6)
        std = everything.std()
        assert normalizer.std == pytest.approx(std if std > 1e-6 else normalizer.std, abs=1e-6)


def test_a_value_that_is_not_finite_spoils_nothing() -> None:
    normalizer = RunningNormalizer()
    normalizer.update(torch.tensor([1.0, 3.0]))
    with pytest.raises(SpecError, match="not finite"):
        normalizer.update(torch.tensor([1.0, torch.nan]))
    assert (normalizer.count, normalizer.mean, normalizer.std) == (2, 2.0, 1.0)


def test_an_ensemble_combines_and_keeps_its_members() -> None:
    models = [PreferenceReward(PreferenceConfig(seed=seed)) for seed in range(3)]
    images = torch.randint(0, 256, (2, 4, 32, 32, 3), dtype=torch.uint8)
    episodes = Episodes({"front": images}, ["a", "b"])
    values = torch.stack([model.score(episodes).value for model in models])
    output = EnsembleReward(CombineConfig("worst"), models).score(episodes)
    torch.testing.assert_close(output.value, values.amin(0))
    torch.testing.assert_close(output.raw["members"].movedim(-1, 0), values)
    shifted = EnsembleReward(CombineConfig("mean", mean=(1.0,) * 3, std=(2.0,) * 3), models).score(episodes)
    torch.testing.assert_close(shifted.value, (values.mean(0) - 1) / 2)


def test_members_compute_on_several_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keypoints where the pictures lie, a net where it was put: `meta` stands for a GPU."""
    ways = [KeypointsReward(KeypointsConfig(((0.1, 0.1), (end, 0.9)), colour_distance=500.0)) for end in (0.5, 0.9)]
    score, meta = ways[0].score, torch.device("meta")

    def scored_there(episodes: Episodes) -> RewardOutput:
        output = score(episodes)
        return RewardOutput(output.value.to(meta), output.confidence.to(meta), output.raw)

    images = torch.zeros(2, 4, 32, 32, 3, dtype=torch.uint8)
    episodes = Episodes({"front": images}, ["a", "b"], length=torch.tensor([4, 2]))
    wanted = EnsembleReward(CombineConfig(), ways).score(episodes)
    monkeypatch.setattr(ways[0], "score", scored_there)
    output = EnsembleReward(CombineConfig(), ways).score(episodes)
    for ours, theirs in zip((output.value, output.confidence), (wanted.value, wanted.confidence), strict=True):
        assert (ours.device, ours.shape) == (meta, theirs.shape)


def test_members_must_mean_the_same() -> None:
    preference = PreferenceReward(PreferenceConfig())
    with pytest.raises(SpecError, match="potential, reward"):
        EnsembleReward(CombineConfig(), [preference, KeypointsReward(KeypointsConfig(((0.1, 0.1), (0.9, 0.9))))])
    with pytest.raises(SpecError, match="1 members"):
        EnsembleReward(CombineConfig(), [preference])
    with pytest.raises(SpecError, match="a model came twice"):
        EnsembleReward(CombineConfig(), [preference, PreferenceReward(PreferenceConfig())])
    for weight in (-0.5, float("nan")):
        with pytest.raises(SpecError, match=r"variance_weight is .*; expected 0 or more"):
            EnsembleReward(
                CombineConfig(variance_weight=weight), [preference, PreferenceReward(PreferenceConfig(seed=1))]
            )
