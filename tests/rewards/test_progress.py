"""SARM on synthetic features: stages beat frame counts, rewinding makes it fall, and RA-BC follows the expert."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from torch import Tensor

from robolearn.errors import SpecError
from robolearn.rewards import Episodes
from robolearn.rewards.features import EncoderConfig
from robolearn.rewards.progress import (
    ProgressConfig,
    ProgressNet,
    ProgressNetConfig,
    ProgressReward,
    SmoothingConfig,
    read_out,
    smooth,
)
from robolearn.rewards.reward_aligned import (
    RewardAlignedConfig,
    chunk_progress,
    reward_aligned_weights,
)
from robolearn.rewards.reward_model import initial_weights
from robolearn.rewards.stages import (
    StageTargets,
    WindowConfig,
    progress_of,
    stage_priors,
    targets_from_starts,
    training_window,
)

pytestmark = pytest.mark.xdist_group("progress")  # one process, which trains the network once that many tests ask
STAGES, FEATURES = 4, 32
WINDOW = WindowConfig(past=3, gap=5, max_rewind=2)
NET = ProgressNetConfig(width=64, layers=1, heads=2, dropout=0.0)


@dataclass(frozen=True)
class Demonstrations:
    """Episodes whose looks depend on stage and stage progress alone, with stages of log-normal lengths."""

    features: list[Tensor]  # (T, F) each
    targets: list[StageTargets]
    starts: list[list[int]]

    @property
    def priors(self) -> np.ndarray:
        return stage_priors(self.starts, [len(one) for one in self.features])


def looks(stage: np.ndarray, tau: np.ndarray, rng: np.random.Generator) -> Tensor:
    """Features (T, F): smooth in tau, of another kind in each stage, with a little noise."""
    basis = np.random.default_rng(123).normal(size=(STAGES, 6, FEATURES))
    curve = np.stack([np.ones_like(tau), tau, tau**2, np.sin(3 * tau), np.cos(3 * tau), 0 * tau], -1)
    mean = np.einsum("tb,tbf->tf", curve, basis[stage])
    return torch.from_numpy(mean + 0.02 * rng.normal(size=mean.shape)).float()


def demonstrations(seed: int, count: int) -> Demonstrations:
    rng = np.random.default_rng(seed)
    features, targets, starts = [], [], []
    for _ in range(count):
        lengths = np.maximum(rng.lognormal(np.log(20), 1.0, STAGES).astype(int), 4)
        starts.append(np.cumsum([0, *lengths[:-1]]).tolist())
        targets.append(targets_from_starts(starts[-1], int(lengths.sum())))
        features.append(looks(targets[-1].stage, targets[-1].tau, rng))
    return Demonstrations(features, targets, starts)


def train(data: Demonstrations, stages: int, steps: int = 200) -> ProgressNet:
    with initial_weights(0):
        net = ProgressNet(FEATURES, 4, stages, WINDOW.size + WINDOW.max_rewind, NET)
    rng, generator = np.random.default_rng(0), torch.Generator().manual_seed(0)
    optimizer = torch.optim.AdamW(net.parameters(), 3e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=steps)
    offset = np.cumsum([0, *[len(one) for one in data.features]])
    features = torch.cat(data.features)
    stage = torch.from_numpy(np.concatenate([one.stage for one in data.targets]))
    tau = torch.from_numpy(np.concatenate([one.tau for one in data.targets]))
    text = torch.zeros(64, 4)
    for _ in range(steps):
        episode = rng.integers(len(data.features), size=64)
        now = rng.integers(0, offset[episode + 1] - offset[episode])
        window, valid = training_window(rng, now, WINDOW)
        rows = torch.from_numpy(window + offset[episode][:, None])
        losses = net.loss(features[rows], text, stage[rows], tau[rows], torch.from_numpy(valid), generator)
        optimizer.zero_grad(set_to_none=True)
        losses["loss"].backward()
        optimizer.step()
        schedule.step()
    return net.eval()


@torch.no_grad()
def predict(net: ProgressNet, features: Tensor, priors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    logits, tau = read_out(net, features[None], torch.zeros(1, 4), WINDOW, 512)
    stage = logits[0].argmax(-1).numpy()
    return progress_of(stage, tau[0].numpy(), priors), stage


@pytest.fixture(scope="module")
def data() -> Demonstrations:
    return demonstrations(0, 60)


@pytest.fixture(scope="module")
def net(data: Demonstrations) -> ProgressNet:
    return train(data, STAGES)


def test_stages_give_semantic_progress_where_frame_counts_do_not(data: Demonstrations, net: ProgressNet) -> None:
    held_out = demonstrations(1, 20)
    counted = Demonstrations(data.features, [targets_from_starts((0,), len(one)) for one in data.features], [])
    by_frame = train(counted, 1, 100)
    errors, frame_errors, right = [], [], []
    for features, targets in zip(held_out.features, held_out.targets, strict=True):
        truth = progress_of(targets.stage, targets.tau, data.priors)
        value, stage = predict(net, features, data.priors)
        errors.append(value - truth)
        right.append(stage == targets.stage)
        frame_errors.append(predict(by_frame, features, np.ones(1))[0] - truth)
    rmse, frame_rmse = (float(np.sqrt(np.mean(np.concatenate(one) ** 2))) for one in (errors, frame_errors))
    assert rmse <= 0.02
    assert frame_rmse > 0.06
    assert np.mean(np.concatenate(right)) >= 0.98


def test_progress_falls_when_the_work_is_undone(data: Demonstrations, net: ProgressNet) -> None:
    """Forward to the middle, then the same looks in reverse."""
    features = demonstrations(2, 1).features[0]
    half = len(features) * 2 // 3
    value, _ = predict(net, torch.cat([features[:half], features[:half].flip(0)]), data.priors)
    assert value[half - 1] > 0.3
    assert value[-1] < 0.05
    assert np.corrcoef(value[half:], np.arange(half))[0, 1] < -0.9


def test_what_is_not_valid_is_not_learned() -> None:
    with initial_weights(0):
        net = ProgressNet(FEATURES, 4, STAGES, 6, NET)
    features, text = torch.randn(8, 6, FEATURES), torch.zeros(8, 4)
    stage, tau = torch.randint(0, STAGES, (8, 6)), torch.rand(8, 6)
    valid = torch.arange(6) < torch.randint(1, 6, (8, 1))

    def loss(stage: Tensor, tau: Tensor, features: Tensor) -> float:
        return float(net.loss(features, text, stage, tau, valid, torch.Generator().manual_seed(0))["loss"].detach())

    other = torch.where(valid, stage, (stage + 1) % STAGES)
    wild = torch.where(valid[..., None], features, 1e3)
    assert loss(other, torch.where(valid, tau, 9.0), wild) == pytest.approx(loss(stage, tau, features), abs=1e-6)


def test_the_window_is_causal() -> None:
    with initial_weights(0):
        net = ProgressNet(FEATURES, 4, STAGES, 6, NET).eval()
    features = torch.randn(2, 6, FEATURES)
    changed = features.clone()
    changed[:, 4:] = 7.0
    with torch.no_grad():
        (logits, tau), (other_logits, other_tau) = net(features, torch.zeros(2, 4)), net(changed, torch.zeros(2, 4))
    torch.testing.assert_close(logits[:, :4], other_logits[:, :4])
    torch.testing.assert_close(tau[:, :4], other_tau[:, :4])
    assert not torch.allclose(logits[:, 4:], other_logits[:, 4:])


def test_smoothing_weighs_by_confidence_and_keeps_the_old_value_in_doubt() -> None:
    progress = torch.tensor([[0.0, 0.2, 0.4, 0.9, 0.6]])
    confidence = torch.tensor([[1.0, 1.0, 1.0, 0.5, 1.0]])
    config = SmoothingConfig(window=2, confidence_power=3.0, min_confidence=0.9)
    value = smooth(progress, confidence, config)
    last = (0.9 * 0.125 + 0.6) / 1.125
    torch.testing.assert_close(value, torch.tensor([[0.0, 0.1, 0.3, 0.3, last]]))
    alone = smooth(progress, confidence, SmoothingConfig(window=1, min_confidence=0.0))
    torch.testing.assert_close(alone, progress)
    never_sure = smooth(progress, confidence * 0.1, config)
    torch.testing.assert_close(never_sure, torch.zeros(1, 5))


def test_settings_and_proprio_that_do_not_fit_are_said() -> None:
    with pytest.raises(SpecError, match="summing to 1"):
        ProgressReward(ProgressConfig(priors=(0.5, 0.5)))
    model = ProgressReward(ProgressConfig(proprio_size=6, encoder=EncoderConfig()))
    images = {"front": torch.zeros(1, 3, 32, 32, 3, dtype=torch.uint8)}
    with pytest.raises(SpecError, match="needs proprio"):
        model.score(Episodes(images, [""]))
    with pytest.raises(SpecError, match="proprio has 4 entries, expected 6; score episodes of the robot"):
        model.score(Episodes(images, [""], torch.zeros(1, 3, 4)))
    assert model.score(Episodes(images, [""], torch.zeros(1, 3, 6))).value.shape == (1, 3)


def test_one_stage_is_rewinds_form() -> None:
    config = ProgressConfig(stages=("all",), priors=(1.0,), smoothing=SmoothingConfig(1, min_confidence=0.0))
    model = ProgressReward(config)
    images = {"front": torch.randint(0, 256, (1, 5, 32, 32, 3), dtype=torch.uint8)}
    output = model.score(Episodes(images, ["push"]))
    torch.testing.assert_close(output.value, output.raw["stage_progress"])
    assert (output.confidence == 1).all()
    other = ProgressReward(replace(config, seed=1)).score(Episodes(images, ["push"]))
    assert not torch.allclose(other.value, output.value)


def test_weights_by_hand() -> None:
    gain = np.array([-0.02, 0.0, 0.004, 0.01, 0.011, 0.2, np.nan])
    weight = reward_aligned_weights(gain, 0.005, 0.01, RewardAlignedConfig())
    expected = [0.0, 0.375, 0.475, 0.625, 1.0, 1.0, 1.0]
    np.testing.assert_allclose(weight, expected, atol=2e-3)
    np.testing.assert_allclose(chunk_progress(np.array([0.0, 0.1, 0.3, 0.6]), 2), [0.3, 0.5, 0.3, 0.0])


def test_weighted_cloning_recovers_the_experts_gain_and_plain_cloning_does_not() -> None:
    """State x, action a, x' = x + a; the expert halves the distance to 0, the other half of the data drifts off."""
    rng = np.random.default_rng(0)
    state, action, gain = [], [], []
    for episode in range(200):
        slope = -0.5 if episode % 2 == 0 else 0.7
        x = rng.choice([-1.0, 1.0]) * rng.uniform(0.5, 1.0)
        xs, actions = [x], []
        for _ in range(3):
            actions.append(slope * x + rng.normal(0, 0.02))
            x += actions[-1]
            xs.append(x)
        progress = 1.0 - np.abs(np.array(xs)) / 5
        state += xs[:-1]
        action += actions
        gain += chunk_progress(progress, 1)[:-1].tolist()
    x, a, r = (np.array(one) for one in (state, action, gain))
    weight = reward_aligned_weights(r, float(r.mean()), float(r.std()), RewardAlignedConfig(chunk_steps=1))
    cloned = float((x * a).sum() / (x * x).sum())
    aligned = float((weight * x * a).sum() / (weight * x * x).sum())
    assert cloned > 0
    assert aligned == pytest.approx(-0.5, abs=0.05)
