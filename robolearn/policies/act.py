"""A policy that answers with a chunk of actions by a transformer, trained with a latent that tells how it is done.

Zhao et al. 2023 (ACT). Legend: B batch, K chunk, A action, P proprio, D width, L latent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from robolearn.networks.attention import Blocks
from robolearn.networks.mlp import Linear
from robolearn.networks.normalizer import Statistics
from robolearn.policies.robot_features import FeaturesConfig, RobotFeatures, policy_spec
from robolearn.policies.tensors import answer_chunks
from robolearn.specs import InterfaceSpec
from robolearn.types import ActionChunk, Observation


@dataclass(frozen=True)
class ACTPolicyConfig(FeaturesConfig):
    """Shape of an ACTPolicy."""

    chunk_steps: int = 16  # K: actions predicted from one observation
    width: int = 128  # D: of the transformers
    heads: int = 4  # of attention
    layers: int = 2  # of each transformer
    latent_size: int = 8  # L


class ACTPolicy(nn.Module):
    """Deterministic action chunks: the latent is 0 outside of training. Implements `Policy`.

    `statistics` are of the fields `proprio` and `action`. `seed` fixes the initial weights.
    """

    config_type: ClassVar = ACTPolicyConfig

    def __init__(self, spec: InterfaceSpec, statistics: Statistics, config: ACTPolicyConfig, seed: int = 0) -> None:
        super().__init__()
        self.spec = policy_spec(spec, config)
        self.statistics = {name: statistics[name] for name in ("proprio", "action")}
        self.config = config
        width, action_size = config.width, self.spec.action.shape[0]
        with torch.random.fork_rng(devices=[]):  # the caller's random numbers stay as they were
            torch.manual_seed(seed)
            self.features = RobotFeatures(self.spec, statistics, config)
            self.tokens = nn.ModuleList(Linear(size, width, exact=True) for size in self.features.sizes)
            self.places = nn.Parameter(0.02 * torch.randn(1 + len(self.tokens), width))  # of the latent and the vectors
            self.latent_token = Linear(config.latent_size, width, exact=True)
            self.encoder = Blocks(width, config.heads, config.layers)
            self.decoder = Blocks(width, config.heads, config.layers, remembers=True)
            self.queries = nn.Parameter(0.02 * torch.randn(config.chunk_steps, width))
            self.head = Linear(width, action_size, exact=True)
            # What follows is used in training alone.
            self.action_token = Linear(action_size, width, exact=True)
            self.action_places = nn.Parameter(0.02 * torch.randn(config.chunk_steps + 2, width))
            self.summary_token = nn.Parameter(0.02 * torch.randn(1, width))
            self.style = Blocks(width, config.heads, config.layers)
            self.style_head = Linear(width, 2 * config.latent_size, exact=True)

    def chunk(self, seen: Sequence[Tensor], here: Tensor, latent: Tensor) -> Tensor:
        """Normalised actions (B, K, A) from the vectors of `features`, the measured position (B, A), to which the
        answer is added, and a latent (B, L)."""
        vectors = [token(vector) for token, vector in zip(self.tokens, seen, strict=True)]
        memory = self.encoder(torch.stack([self.latent_token(latent), *vectors], dim=1) + self.places)
        return here[:, None, :] + self.head(self.decoder(self.queries.expand(here.shape[0], -1, -1), memory))

    def latent(self, proprio: Tensor, chunk: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and logarithm of the variance (B, L) of the latent that tells a demonstrated chunk (B, K, A)."""
        size = chunk.shape[0]
        sequence = torch.cat(
            [self.summary_token.expand(size, 1, -1), self.tokens[0](proprio)[:, None], self.action_token(chunk)], dim=1
        )
        shown = torch.cat([mask.new_ones(size, 2), mask], dim=1)
        answer = self.style(sequence + self.action_places, mask=shown)[:, 0]
        mean, log_variance = self.style_head(answer).chunk(2, dim=-1)
        return mean, log_variance

    @torch.no_grad()
    def best(self, observation: Mapping[str, Tensor]) -> Tensor:
        """Actions (B, K, A) in the units of the action spec, by the latent 0."""
        here = self.features.here(observation)
        latent = here.new_zeros(here.shape[0], self.config.latent_size)
        return self.features.action_normalizer.inverse(self.chunk(self.features(observation), here, latent))

    def reset(self, seed: int = 0) -> None:
        """Nothing to forget: every chunk follows from one observation."""

    def act(self, observation: Observation, stamp_ns: int) -> ActionChunk:
        """Actions (K, A) within the limits of the action spec. Raises SpecError for a wrong observation."""
        return self.act_many([observation], [stamp_ns])[0]

    def act_many(self, observations: Sequence[Observation], stamps_ns: Sequence[int]) -> list[ActionChunk]:
        """As `act`, of several observations in one batch."""
        return answer_chunks(self, observations, stamps_ns)
