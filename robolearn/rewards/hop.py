"""Hops: how much nearer to the goal is this picture than that one?

Tan et al., "Robo-Dopamine: general process reward modeling for high-precision robotic manipulation", 2025. A model
compares two moments of progress p before and q after, and says the share of the possible change that happened:

    h = (q - p) / (1 - p)  if q >= p  else  (q - p) / p         in [-1, 1]
    incremental        p' = p + (1 - p) h  if h >= 0  else  p + p h
    forward-anchored   p' = h(start -> now)            backward-anchored   p' = 1 + h(goal -> now)
    fused              mean of the three; confidence is 1 less their spread

The model is asked every K steps, and its answers are held in between. Differences: progress is clamped to [0, 1] after
every step; where a hop is not known, what it would have told stays as it was, and the confidence is 0; nobody is asked
about padding. The three are not weighted by their consistency, and a net is trained on pairs of moments that are drawn
evenly from an episode, not balanced over the bins of score and gap.
The model behind is pluggable: here it is a small net that is trained on pairs of one dataset; a vision-language model
behind a wire answers the same `HopModel`. Legend: N pairs, B episodes, T steps, Q queries.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Protocol

import torch
from torch import Tensor, nn

from robolearn.errors import SpecError
from robolearn.networks.mlp import mlp
from robolearn.rewards.features import EncoderConfig, make_encoder
from robolearn.rewards.reward_model import Episodes, Kind, RewardOutput, carried, initial_weights, masked, version_of


@dataclass(frozen=True)
class HopConfig:
    """Settings of HopReward."""

    camera: str = "front"
    every: int = 10  # K: steps between two questions; the answer is held
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    hidden_sizes: tuple[int, ...] = (128, 128)
    seed: int = 0  # of the initial weights
    asked: str = ""  # name of the model behind a wire that answers in the place of the small net


class HopModel(Protocol):
    """Compares moments."""

    def hops(self, before: Tensor, after: Tensor, text: Sequence[str]) -> Tensor:
        """Hops (N,) in [-1, 1] between images (N, H, W, 3) uint8; NaN where the model could not tell."""
        ...


def hop(before: Tensor, after: Tensor) -> Tensor:
    """The hop between two progresses in [0, 1]."""
    change = after - before
    room = torch.where(change >= 0, 1.0 - before, before)
    return torch.where(room == 0, 0.0, change / room.clamp_min(1e-9)).clamp(-1.0, 1.0)


def apply_hop(progress: Tensor, hop: Tensor) -> Tensor:
    """Progress after a hop; undoes `hop`."""
    return (progress + torch.where(hop >= 0, 1.0 - progress, progress) * hop).clamp(0.0, 1.0)


def incremental(hops: Tensor, start: float = 0.0) -> Tensor:
    """Progress (B, Q) from hops between neighbours (B, Q - 1), beginning at `start`."""
    values = [torch.full_like(hops[:, 0], start) if hops.shape[1] else hops.new_full((len(hops),), start)]
    for i in range(hops.shape[1]):
        values.append(apply_hop(values[-1], hops[:, i]))
    return torch.stack(values, 1)


def forward_anchored(from_start: Tensor) -> Tensor:
    """Progress from hops start -> now."""
    return from_start.clamp(0.0, 1.0)


def backward_anchored(from_goal: Tensor) -> Tensor:
    """Progress from hops goal -> now."""
    return (1.0 + from_goal).clamp(0.0, 1.0)


def fuse(step_by_step: Tensor, forward: Tensor, backward: Tensor) -> tuple[Tensor, Tensor]:
    """Mean of the three progresses, and confidence: 1 less the distance of the farthest two."""
    three = torch.stack([step_by_step, forward, backward])
    return three.mean(0), 1.0 - (three.amax(0) - three.amin(0))


def asked_steps(steps: int, every: int) -> Tensor:
    """Steps at which the model is asked: 0, K, 2K ... below `steps`. Raises SpecError for a K below 1."""
    if every < 1:
        raise SpecError(f"a model is asked every {every} steps; expected a number from 1 on")
    return torch.arange(0, steps, every)


def held(answers: Tensor, steps: int, every: int) -> Tensor:
    """Answers (B, Q) at every K-th step, held until the next: (B, T)."""
    return answers.repeat_interleave(every, dim=1)[:, :steps]


class HopNet(nn.Module):
    """A HopModel: one encoder for both images, a perceptron on both features, their difference and the text."""

    def __init__(self, config: HopConfig) -> None:
        super().__init__()
        self.encoder = make_encoder(config.encoder)
        size = 3 * self.encoder.image_size + self.encoder.text_size
        self.head = mlp((size, *config.hidden_sizes, 1))

    def hops(self, before: Tensor, after: Tensor, text: Sequence[str]) -> Tensor:
        a, b = self.encoder.images(before), self.encoder.images(after)
        words = self.encoder.text(text).to(a.device)
        return torch.tanh(self.head(torch.cat([a, b, b - a, words], -1)))[:, 0]


class HopReward(nn.Module):
    """Fused progress by hops from the first image, the previous asked one, and a goal image."""

    config_type: ClassVar = HopConfig
    id = "hop"
    kind: Kind = "potential"
    causal = True
    trained_on: frozenset[str] = frozenset()

    def __init__(self, config: HopConfig, model: HopModel | None = None) -> None:
        super().__init__()
        self.config = config
        with initial_weights(config.seed):
            self.model: HopModel = HopNet(config) if model is None else model
        shape = (config.encoder.image_height, config.encoder.image_width, 3)
        self.register_buffer("goal", torch.zeros(shape, dtype=torch.uint8))

    @property
    def version(self) -> str:
        return version_of(self.config, self.state_dict())

    def set_goal(self, image: Tensor) -> None:
        """The picture (H, W, 3) uint8 of the finished task, to which the backward-anchored progress refers."""
        self.goal = image.to(self.get_buffer("goal").device)

    @torch.no_grad()
    def score(self, episodes: Episodes) -> RewardOutput:
        """Progress with consistency as confidence, 0 where a hop is not known. `raw`: the three reconstructions."""
        episodes.check((self.config.camera,))
        goal = self.get_buffer("goal")
        frames = episodes.images[self.config.camera].to(goal.device)
        batch, steps = episodes.shape
        at = asked_steps(steps, self.config.every).to(frames.device)
        valid = episodes.valid(frames.device)
        row, number = valid[:, at].nonzero(as_tuple=True)
        asked = frames[:, at]
        text = [episodes.text[i] for i in row.tolist()]

        def ask(before: Tensor) -> Tensor:
            hops = torch.zeros(batch, len(at), device=frames.device)
            hops[row, number] = self.model.hops(before, asked[row, number], text).to(hops)
            return hops

        step, start, end = (
            ask(asked[row, (number - 1).clamp_min(0)]),
            ask(asked[row, 0]),
            ask(goal.expand(len(row), *goal.shape)),
        )
        parts = (
            incremental(step[:, 1:].nan_to_num(nan=0.0)),
            carried(forward_anchored(start), ~start.isnan()),
            carried(backward_anchored(end), ~end.isnan()),
        )
        fused, consistency = fuse(*parts)
        consistency = torch.where((step + start + end).isnan(), 0.0, consistency)
        value, confidence = (held(answer, steps, self.config.every) for answer in (fused, consistency))
        names = ("incremental", "forward", "backward")
        raw = {name: held(part, steps, self.config.every) for name, part in zip(names, parts, strict=True)}
        return masked(RewardOutput(value, confidence, raw), valid)
