"""VLM-RM: the distance of an image to a sentence, in a vision-language model, is a reward.

Rocamonde et al., "Vision-language models are zero-shot reward models for reinforcement learning", 2023, section 3.
With unit embeddings s of the image, g the mean of the goal prompts, b the mean of the baseline prompts, d = g - b:

    P_alpha = alpha d d^T / |d|^2 + (1 - alpha) I          R(s) = 1 - |(s - g) P_alpha|^2 / 2

Differences: P is never built, for along d it leaves all of s - g and across d it leaves 1 - alpha of it, so that

    R(s) = 1 - [ (1 - alpha)^2 |s - g|^2 + alpha (2 - alpha) ((s - g) . d/|d|)^2 ] / 2          O(B D)

and the two lists of prompts may differ in length. alpha = 0 with one prompt is the cosine s . g; alpha = 1 sees only
what distinguishes goal from baseline, and is symmetric about g: going beyond the goal costs as much as falling short.
A baseline that lacks a word of the goal cannot project it out. Legend: N images, D embedding.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from robolearn.errors import SpecError
from robolearn.networks.open_clip import OpenClip, OpenClipConfig
from robolearn.rewards.reward_model import Episodes, Kind, RewardOutput, masked, version_of


@dataclass(frozen=True)
class VLMConfig:
    """Settings of VLMReward."""

    goal: tuple[str, ...] = ()  # prompts that describe success; the episode's instruction where empty
    baseline: tuple[str, ...] = ()  # prompts that describe the scene whatever happens
    alpha: float = 0.5  # strength of the projection, 0 to 1; must be 0 without a baseline
    camera: str = "front"  # whose images are scored
    clip: OpenClipConfig = field(default_factory=OpenClipConfig)


def goal_baseline_reward(images: Tensor, goal: Tensor, baseline: Tensor | None, alpha: float) -> Tensor:
    """Reward (N,) of unit image embeddings (N, D) for mean prompt embeddings (D,) or, one a row, (N, D)."""
    error = images - goal
    square = error.square().sum(-1)
    if baseline is None:
        return 1.0 - 0.5 * square
    direction = torch.nn.functional.normalize(goal - baseline, dim=-1)
    along = (error * direction).sum(-1)
    return 1.0 - 0.5 * ((1.0 - alpha) ** 2 * square + alpha * (2.0 - alpha) * along.square())


class VLMReward:
    """Scores every image by itself. The value is a reward, not a potential."""

    config_type: ClassVar = VLMConfig
    id = "vlm"
    kind: Kind = "reward"
    causal = True

    def __init__(self, config: VLMConfig) -> None:
        if not 0.0 <= config.alpha <= 1.0:
            raise SpecError(f"alpha is {config.alpha:g}, expected 0 to 1")
        if config.alpha > 0 and not config.baseline:
            raise SpecError(f"alpha is {config.alpha:g} without a baseline prompt; give a baseline or alpha 0")
        if not all(prompt.strip() for prompt in (*config.goal, *config.baseline)):
            raise SpecError("a prompt of the goal or the baseline is empty; say what is seen, or leave it out")
        self.config = config
        self._clip = OpenClip(config.clip)
        self._prompts: dict[tuple[str, ...], Tensor] = {}
        if config.goal and config.baseline and self._distance(config.goal) < 1e-4:
            raise SpecError("goal and baseline prompts mean the same to this network; say what distinguishes the goal")
        self._version = version_of(config, self._clip.weights())

    @property
    def version(self) -> str:
        return self._version

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return self._clip.device

    @torch.no_grad()
    def score(self, episodes: Episodes) -> RewardOutput:
        """Reward of every image; `raw` holds its cosine to the goal."""
        config, device = self.config, self.device
        episodes.check((config.camera,))
        frames, steps = episodes.images[config.camera].flatten(0, 1), episodes.shape[1]
        valid = episodes.valid(torch.device("cpu"))
        seen = valid.flatten().nonzero().flatten()  # on the CPU: a GPU that is asked has to finish first
        if not config.goal and not all(text.strip() for text in episodes.text):
            raise SpecError(
                "an episode has no instruction that its pictures could be compared with; give a goal prompt"
            )
        if config.goal:
            goal = self._mean(config.goal).to(device)
        else:
            goal = torch.stack([self._mean((text,)) for text in episodes.text])[seen // steps].to(device)
        baseline = self._mean(config.baseline).to(device) if config.baseline else None
        rows, valid = seen.to(device), valid.to(device)
        if len(seen) < len(frames):  # on the device, for to gather pictures there costs nothing
            frames = frames.to(device, non_blocking=True)[rows]
        embedding = self._clip.images(frames)
        value, cosine = (torch.zeros_like(valid, dtype=torch.float32) for _ in range(2))
        value.view(-1).index_copy_(0, rows, goal_baseline_reward(embedding, goal, baseline, config.alpha))
        cosine.view(-1).index_copy_(0, rows, torch.nn.functional.cosine_similarity(embedding, goal))
        return masked(RewardOutput(value, torch.ones_like(value), {"cosine": cosine}), valid)

    def _mean(self, prompts: tuple[str, ...]) -> Tensor:
        """Mean of the unit embeddings, not of unit length itself (as in the paper's code). Kept on the CPU, where every
        stream of a GPU finds it complete."""
        if prompts not in self._prompts:
            self._prompts[prompts] = self._clip.text(prompts).mean(0).cpu()
        return self._prompts[prompts]

    def _distance(self, goal: tuple[str, ...]) -> float:
        return float((self._mean(goal) - self._mean(self.config.baseline)).norm())
