"""SARM: which stage is on, and how far it is, from a causal window of features.

Chen et al., "SARM: stage-aware reward modeling for long horizon robot manipulation", 2025, section 3.2. With one stage
it is ReWiND's progress model. For every step of a window

    p(stage | steps so far, text), tau(stage, steps so far, text);   value = P[k] + a[k] tau,  k = argmax p
    loss = mean over valid steps of CE(stage) + (tau - target)^2

Differences: all streams of one step are added before attention, so that the mask is causal in time and images see the
proprio; one trunk with two heads in the place of two transformers; tau is told the true stage with probability
`teacher_forcing`, by a coin of each sample; the current step is the last valid one and is read there; padded and
wrongly told samples are handled as `stages.py` says. Smoothing as the authors': a mean of the last values weighted by
confidence^3, and the old value kept while the stage is doubtful. Legend: B batch, T steps, W window, S stages.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from robolearn.errors import SpecError
from robolearn.networks.mlp import mlp
from robolearn.rewards.features import EncoderConfig, make_encoder, step_features
from robolearn.rewards.reward_model import Episodes, Kind, RewardOutput, initial_weights, masked, version_of
from robolearn.rewards.stages import WindowConfig, progress_of, window_steps


@dataclass(frozen=True)
class ProgressNetConfig:
    """Size of ProgressNet."""

    width: int = 128
    layers: int = 2
    heads: int = 4
    dropout: float = 0.1
    teacher_forcing: float = 0.5  # probability of telling tau the true stage while training


@dataclass(frozen=True)
class SmoothingConfig:
    """How raw progress becomes the value."""

    window: int = 10  # steps in the mean; 1 for none
    confidence_power: float = 3.0  # weight of a step is its confidence to this power
    min_confidence: float = 0.9  # below it the old value is kept; 0 for never


@dataclass(frozen=True)
class ProgressConfig:
    """Settings of ProgressReward."""

    stages: tuple[str, ...] = ("reach", "grasp", "place")  # in order; one stage is ReWiND's form
    priors: tuple[float, ...] = (1 / 3, 1 / 3, 1 / 3)  # share of each stage, summing to 1 (`stage_priors`)
    cameras: tuple[str, ...] = ("front",)
    proprio_size: int = 0  # P; 0 for none
    encoder: EncoderConfig = field(default_factory=EncoderConfig)  # one for all cameras
    window: WindowConfig = field(default_factory=WindowConfig)
    net: ProgressNetConfig = field(default_factory=ProgressNetConfig)
    smoothing: SmoothingConfig = field(default_factory=SmoothingConfig)
    batch_size: int = 1024  # windows in one forward pass when scoring
    seed: int = 0  # of the initial weights


class ProgressNet(nn.Module):
    """Features (B, W, F) and text (B, G) to stage logits (B, W, S) and tau (B, W), causal in W."""

    def __init__(self, features: int, text: int, stages: int, window: int, config: ProgressNetConfig) -> None:
        super().__init__()
        self.config = config
        self.stages = stages
        self.features = nn.Linear(features, config.width)
        self.text = nn.Linear(text, config.width)
        self.position = nn.Parameter(torch.randn(window, config.width) * 0.02)
        layer = nn.TransformerEncoderLayer(
            config.width, config.heads, 2 * config.width, config.dropout, batch_first=True, norm_first=True
        )
        self.trunk = nn.TransformerEncoder(layer, config.layers, enable_nested_tensor=False)
        self.norm = nn.LayerNorm(config.width)
        self.stage_head = mlp((config.width, config.width, stages))
        self.tau_head = mlp((config.width + stages, config.width, 1))

    def forward(self, features: Tensor, text: Tensor, true_stage: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """`true_stage` (B, W) int64, -1 where tau is to go by the predicted one."""
        window = features.shape[1]
        tokens = self.features(features) + self.text(text)[:, None] + self.position[:window]
        causal = torch.ones(window, window, dtype=torch.bool, device=features.device).triu(1)
        hidden = self.norm(self.trunk(tokens, mask=causal))
        logits = self.stage_head(hidden)
        stage = logits.argmax(-1)
        if true_stage is not None:
            stage = torch.where(true_stage >= 0, true_stage, stage)
        told = nn.functional.one_hot(stage, self.stages).to(hidden.dtype)
        return logits, torch.sigmoid(self.tau_head(torch.cat([hidden, told], -1)))[..., 0]

    def loss(
        self, features: Tensor, text: Tensor, stage: Tensor, tau: Tensor, valid: Tensor, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """`loss` and its two parts; stage, tau, valid are (B, W), and what `valid` hides is not learned."""
        forced = torch.rand(len(stage), 1, generator=generator, device=stage.device) < self.config.teacher_forcing
        logits, predicted = self(features, text, torch.where(forced, stage, -1))
        weight = valid.float() / valid.sum().clamp_min(1)
        cross_entropy = nn.functional.cross_entropy(logits.movedim(-1, 1), stage, reduction="none")
        stage_loss, tau_loss = (weight * cross_entropy).sum(), (weight * (predicted - tau).square()).sum()
        return {"loss": stage_loss + tau_loss, "stage_loss": stage_loss.detach(), "tau_loss": tau_loss.detach()}


class ProgressReward(nn.Module):
    """The model with its encoder. The value is a potential in [0, 1]: it reaches RL through the shaper."""

    config_type: ClassVar = ProgressConfig
    id = "progress"
    kind: Kind = "potential"
    causal = True

    def __init__(self, config: ProgressConfig) -> None:
        super().__init__()
        if len(config.priors) != len(config.stages) or abs(sum(config.priors) - 1.0) > 1e-6:
            raise SpecError(f"priors {config.priors} for {len(config.stages)} stages; expected one each, summing to 1")
        self.config = config
        with initial_weights(config.seed):
            self.encoder = make_encoder(config.encoder)
            features = len(config.cameras) * self.encoder.image_size + config.proprio_size
            window = config.window.size + config.window.max_rewind
            self.net = ProgressNet(features, self.encoder.text_size, len(config.stages), window, config.net)
        self.register_buffer("priors", torch.tensor(config.priors), persistent=False)

    @property
    def version(self) -> str:
        return version_of(self.config, self.state_dict())

    def encode(self, episodes: Episodes) -> Tensor:
        """Features (B, T, F) of every step: all cameras, then proprio. Differentiable."""
        config, device = self.config, self.get_buffer("priors").device
        return step_features(self.encoder, episodes, config.cameras, config.proprio_size, device)

    @torch.no_grad()
    def score(self, episodes: Episodes) -> RewardOutput:
        """Progress, with the probability of the stage as confidence, which is 1 of a single one. `raw`: `progress`
        unsmoothed, `stage_progress`, and of several stages `stage`."""
        self.eval()
        features = self.encode(episodes)
        valid = episodes.valid(features.device)
        text = self.encoder.text(list(episodes.text)).to(features.device)
        logits, tau = read_out(self.net, features, text, self.config.window, self.config.batch_size)
        confidence, stage = logits.softmax(-1).max(-1)
        progress = progress_of(stage, tau, self.get_buffer("priors"))
        value = smooth(progress, confidence, self.config.smoothing)
        raw = {"progress": progress, "stage_progress": tau}
        if len(self.config.stages) > 1:
            raw["stage"] = stage
        return masked(RewardOutput(value, confidence, raw), valid)


def read_out(
    net: ProgressNet, features: Tensor, text: Tensor, config: WindowConfig, batch_size: int
) -> tuple[Tensor, Tensor]:
    """Stage logits (B, T, S) and tau (B, T), each from the window that ends at its own step."""
    batch, steps, _ = features.shape
    index = torch.from_numpy(window_steps(np.arange(steps), config)).to(features.device)  # (T, W)
    logits, taus = [], []
    for part in torch.arange(batch * steps, device=features.device).split(batch_size):
        episode, step = part // steps, part % steps
        stage, tau = net(features[episode[:, None], index[step]], text[episode])
        logits.append(stage[:, -1])
        taus.append(tau[:, -1])
    return torch.cat(logits).view(batch, steps, -1), torch.cat(taus).view(batch, steps)


def smooth(progress: Tensor, confidence: Tensor, config: SmoothingConfig) -> Tensor:
    """Causal smoothing of progress (B, T): weighted mean of the last values, the old one kept while in doubt."""
    weight = confidence.pow(config.confidence_power)
    padded = nn.functional.pad(torch.stack([weight * progress, weight]), (config.window - 1, 0))
    total, norm = padded.unfold(-1, config.window, 1).sum(-1)
    mean = total / norm.clamp_min(1e-8)
    if config.min_confidence <= 0.0:
        return mean
    sure = confidence >= config.min_confidence
    sure[:, 0] = True  # there is nothing older to keep
    steps = torch.arange(mean.shape[1], device=mean.device)
    newest = torch.where(sure, steps, 0).cummax(1).values
    return mean.gather(1, newest)
