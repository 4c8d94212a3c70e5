"""Hops: exact round trips, the noise of the three reconstructions, and the signals of Large Reward Models."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from robolearn.rewards import Episodes
from robolearn.rewards.features import EncoderConfig
from robolearn.rewards.hop import (
    HopConfig,
    HopReward,
    apply_hop,
    backward_anchored,
    forward_anchored,
    fuse,
    held,
    hop,
    incremental,
)
from robolearn.rewards.three_signals import ThreeSignalsConfig, ThreeSignalsReward, three_signals


@given(st.floats(0, 1), st.floats(0, 1))
def test_a_hop_is_in_range_and_undone_by_its_inverse(before: float, after: float) -> None:
    p, q = torch.tensor([before], dtype=torch.float64), torch.tensor([after], dtype=torch.float64)
    h = hop(p, q)
    assert -1.0 <= float(h) <= 1.0
    assert float(apply_hop(p, h)) == pytest.approx(after, abs=1e-8)


def reconstructions(progress: Tensor, noise: float, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """From hops of progress (B, Q) with noise of this standard deviation."""
    generator = torch.Generator().manual_seed(seed)

    def noisy(hops: Tensor) -> Tensor:
        return (hops + noise * torch.randn(hops.shape, generator=generator, dtype=hops.dtype)).clamp(-1, 1)

    return (
        incremental(noisy(hop(progress[:, :-1], progress[:, 1:]))),
        forward_anchored(noisy(hop(torch.zeros_like(progress), progress))),
        backward_anchored(noisy(hop(torch.ones_like(progress), progress))),
    )


def test_without_noise_all_three_are_exact_also_when_work_is_undone() -> None:
    progress = torch.tensor([[0.0, 0.2, 0.5, 0.4, 0.1, 0.6, 1.0, 0.9]], dtype=torch.float64)
    for one in reconstructions(progress, 0.0, 0):
        torch.testing.assert_close(one, progress)


def test_fusion_is_less_noisy_than_any_of_the_three() -> None:
    progress = torch.linspace(0, 1, 21, dtype=torch.float64).expand(400, -1)
    three = reconstructions(progress, 0.05, 0)
    fused, confidence = fuse(*three)
    errors = [float((one - progress).square().mean().sqrt()) for one in (*three, fused)]
    assert errors[3] < min(errors[:3])
    assert 0.06 < errors[0] < 0.11
    assert all(0.035 < error < 0.055 for error in errors[1:3])
    assert errors[3] < 0.045
    assert ((confidence >= 0) & (confidence <= 1)).all()
    wrong = (fused - progress).abs()
    assert float(wrong[confidence < 0.8].mean()) > float(wrong[confidence > 0.95].mean())


def test_answers_are_held() -> None:
    assert held(torch.tensor([[1.0, 2.0, 3.0]]), 7, 3).tolist() == [[1, 1, 1, 2, 2, 2, 3]]


def test_three_signals_are_equal_thirds() -> None:
    ones = torch.ones(1)
    assert float(three_signals(ones, ones, ones)) == pytest.approx(1.0)
    assert float(three_signals(0 * ones, 0 * ones, -ones)) == pytest.approx(0.0)
    assert float(three_signals(0.6 * ones, 0 * ones, 0 * ones)) == pytest.approx((0.6 + 0.5) / 3)


class Brightness:
    """A HopModel that reads progress off the brightness, and counts its questions."""

    def __init__(self) -> None:
        self.asked = 0

    def hops(self, before: Tensor, after: Tensor, text: Sequence[str]) -> Tensor:
        assert len(text) == len(before) == len(after)
        self.asked += len(text)
        return hop(*(one.float().mean((1, 2, 3)) / 255 for one in (before, after)))


def test_any_model_may_answer_and_is_asked_every_k_steps() -> None:
    level = torch.linspace(0, 255, 20).round().to(torch.uint8)
    images = level[None, :, None, None, None].expand(2, 20, 32, 32, 3)
    model = Brightness()
    reward = HopReward(HopConfig(every=5), model)
    reward.set_goal(torch.full((32, 32, 3), 255, dtype=torch.uint8))
    output = reward.score(Episodes({"front": images}, ["a", "b"]))
    assert model.asked == 3 * 2 * 4
    truth = held((level[::5].float() / 255)[None], 20, 5)
    torch.testing.assert_close(output.value, truth.expand(2, -1), atol=1e-4, rtol=0)
    assert (output.confidence > 0.999).all()


class Mute:
    """A HopModel and a SignalModel whose answers about some of the moments that it is asked about cannot be read."""

    def __init__(self, moments: Sequence[int]) -> None:
        self.moments = list(moments)

    def hops(self, before: Tensor, after: Tensor, text: Sequence[str]) -> Tensor:
        told = Brightness().hops(before, after, text)
        told[self.moments] = torch.nan
        return told

    def signals(self, start: Tensor, before: Tensor, now: Tensor, text: Sequence[str]) -> Tensor:
        told = now.flatten(1).float().mean(1) / 255
        told[self.moments] = torch.nan
        return told.expand(3, -1)


@settings(max_examples=25)
@given(st.lists(st.integers(1, 12), min_size=1, max_size=4), st.integers(1, 5), st.data())
def test_nobody_is_asked_about_padding_and_what_is_not_known_stays_as_it_was(
    lengths: list[int], every: int, data: st.DataObject
) -> None:
    moments = [(row, step) for row, length in enumerate(lengths) for step in range(0, length, every)]
    level = torch.linspace(0, 255, max(lengths)).round().to(torch.uint8)
    images = level[None, :, None, None, None].expand(len(lengths), -1, 4, 4, 3)
    episodes = Episodes({"front": images}, ["go"] * len(lengths), None, torch.tensor(lengths))
    config = HopConfig(every=every, encoder=EncoderConfig(image_height=4, image_width=4))
    model = Brightness()
    together = HopReward(config, model).score(episodes)
    assert model.asked == 3 * len(moments)
    for row, length in enumerate(lengths):
        one = Episodes({"front": images[:1, :length]}, ["go"])
        torch.testing.assert_close(together.value[row, :length], HopReward(config, Brightness()).score(one).value[0])
    mute = Mute(sorted(data.draw(st.sets(st.integers(0, len(moments) - 1)))))
    unknown = {moments[which] for which in mute.moments}
    hops = HopReward(config, mute)
    hops.set_goal(torch.full((4, 4, 3), 255, dtype=torch.uint8))
    for reward, start in ((hops, 0.0), (ThreeSignalsReward(ThreeSignalsConfig(every=every), mute), 0.5 / 3)):
        output = reward.score(episodes)
        assert output.value.isfinite().all()
        for row, length in enumerate(lengths):
            for step in range(length):
                asked = step - step % every
                if (row, asked) in unknown:
                    before = output.value[row, asked - 1] if asked else start
                    assert float(output.value[row, step]) == pytest.approx(float(before), abs=1e-6)
                assert bool(output.confidence[row, step] == 0.0) == ((row, asked) in unknown)
