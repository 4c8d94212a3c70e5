"""Three signals of a vision-language model that looks at a few moments of an episode: Large Reward Models' reward.

Large Reward Models (2026): every K steps a model is asked how far the task is (process, 0 to 1, from the first picture
and this one), whether it is done (completion, 0 or 1, from this one) and whether it is nearer to its end than when last
asked about (contrast, 1, -1 or 0), and its answers are held in between:

    r = (process + completion + (contrast + 1) / 2) / 3  in [0, 1]

As in the paper this is learned from as it is, for the contrast is no function of a state that a shaper could take
differences of; read in docs/rewards.md what process alone would do to a learner. Differences: one model answers all
three in the place of three fine-tuned heads, and where one is not known, what was known before stays, with a confidence
of 0. Legend: N questions, B episodes, T steps, Q asked steps of each.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

import torch
from torch import Tensor

from robolearn.errors import SpecError
from robolearn.rewards.hop import asked_steps, held
from robolearn.rewards.reward_model import Episodes, Kind, RewardOutput, carried, masked, version_of


@dataclass(frozen=True)
class ThreeSignalsConfig:
    """Settings of ThreeSignalsReward."""

    camera: str = "front"
    every: int = 10  # K: steps between two questions; the answer is held
    asked: str = ""  # name of the model that answers


class SignalModel(Protocol):
    """Looks at moments."""

    def signals(self, start: Tensor, before: Tensor, now: Tensor, text: Sequence[str]) -> Tensor:
        """Process, completion and contrast (3, N) of images (N, H, W, 3) uint8: the first one of the episode, the one
        that was last asked about, and the one that is asked about. NaN for what the model could not tell."""
        ...


def three_signals(process: Tensor, completion: Tensor, contrast: Tensor) -> Tensor:
    """The reward in [0, 1]: equal thirds; contrast is -1, 0 or 1."""
    return (process + completion + (contrast + 1.0) / 2.0) / 3.0


class ThreeSignalsReward:
    """Equal thirds of what a model says of every K-th step. Nothing is learned."""

    config_type: ClassVar = ThreeSignalsConfig
    id = "three_signals"
    kind: Kind = "reward"
    causal = True

    def __init__(self, config: ThreeSignalsConfig, model: SignalModel | None = None) -> None:
        if model is None:
            raise SpecError(
                "three_signals asks a vision model behind an endpoint; use it by `robolearn label DATASET --reward "
                "three_signals --endpoint-model NAME`"
            )
        self.config = config
        self._model = model

    @property
    def version(self) -> str:
        return version_of(self.config)

    @torch.no_grad()
    def score(self, episodes: Episodes) -> RewardOutput:
        """The reward of every step; its confidence is 0 where a signal is not known, else 1. `raw`: the three signals.
        Nobody is asked about padding."""
        episodes.check((self.config.camera,))
        frames = episodes.images[self.config.camera]
        batch, steps = episodes.shape
        at = asked_steps(steps, self.config.every).to(frames.device)
        valid = episodes.valid(frames.device)
        asked = frames[:, at]
        row, number = valid[:, at].nonzero(as_tuple=True)
        told = self._model.signals(
            asked[row, 0],
            asked[row, (number - 1).clamp_min(0)],
            asked[row, number],
            [episodes.text[i] for i in row.tolist()],
        )
        answers = torch.zeros(3, batch, len(at), device=frames.device)
        answers[:, row, number] = told.to(answers)
        known = ~answers.isnan()
        process, completion, contrast, confidence = (
            held(one, steps, self.config.every) for one in (*map(carried, answers, known), known.all(0).float())
        )
        value = three_signals(process, completion, contrast)
        raw = {"process": process, "completion": completion, "contrast": contrast}
        return masked(RewardOutput(value, confidence, raw), valid)
