"""A policy that answers vectors, and images on request, with a Gaussian over the next action: what reinforcement
learning improves.

Legend: B batch, S entries of all the vectors and of the images' keypoints, A action, M components of a mixture.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from robolearn.errors import SpecError
from robolearn.networks.distributions import gaussian_log_prob, tanh_gaussian_log_prob, tanh_gaussian_sample
from robolearn.networks.encoders import FrozenEncoder, ImageEncoder
from robolearn.networks.mlp import mlp
from robolearn.networks.normalizer import ObservationNormalizer, Statistics
from robolearn.policies.tensors import action_chunk, observation_tensors
from robolearn.specs import InterfaceSpec, block_px
from robolearn.types import ActionChunk, Observation

EXPLORATION = 0.1  # standard deviation of the noise by which a deterministic policy explores (Fujimoto et al. 2018)


@dataclass(frozen=True)
class GaussianPolicyConfig:
    """Shape of a GaussianPolicy.

    distribution: `squashed`, tanh of a Gaussian; `clipped`, a Gaussian about tanh(mean) of a learned width that is the
    same everywhere; `mixture`, several Gaussians about tanh(mean), each with a weight and a width of its own, for data
    that does one thing or another; `deterministic`, tanh(mean) alone.
    """

    older: ClassVar[Mapping[str, Any]] = {"shrink": 1}
    hidden_sizes: tuple[int, ...] = (256, 256)
    layer_norm: bool = False
    privileged: bool = False  # see the fields `pose_<body>` too, which simulation alone has
    images: bool = False  # see the cameras too
    encoder_channels: tuple[int, ...] = (16, 32, 32)  # convolutions of each camera's encoder
    shrink: int = 0  # each block of so many by so many pixels is averaged to one; 0: down to SEEN_PX
    trunk: str = ""  # a frozen network of open_clip in the place of convolutions: MODEL/TAG or a folder
    distribution: Literal["squashed", "clipped", "mixture", "deterministic"] = "squashed"
    components: int = 5  # M: Gaussians of a mixture
    log_std_low: float = -20.0
    log_std_high: float = 2.0


class GaussianPolicy(nn.Module):
    """Implements `Policy` by its most likely action; `sample` explores. Actions are in [-1, 1] inside, and in the
    limits of the action spec outside.

    `statistics` normalise the fields that they name; the others go in as they are. `seed` fixes the initial weights.
    """

    config_type: ClassVar = GaussianPolicyConfig

    def __init__(
        self, spec: InterfaceSpec, statistics: Statistics, config: GaussianPolicyConfig, seed: int = 0
    ) -> None:
        super().__init__()
        self.spec = vector_spec(spec, config.privileged, config.images)
        self.statistics = {name: statistics[name] for name in self.spec.observation if name in statistics}
        self.config = config
        self.cameras = tuple(name for name, field in self.spec.observation.items() if len(field.shape) == 3)
        if config.trunk and not self.cameras:
            raise SpecError(
                f"policy.trunk is {config.trunk}, to look at images, and the policy sees none; leave it out"
            )
        vectors = (field.shape[0] for field in self.spec.observation.values() if len(field.shape) == 1)
        self.state_size = sum(vectors) + 2 * config.encoder_channels[-1] * len(self.cameras)
        self.action_size = self.spec.action.shape[0]
        self.normalizers = nn.ModuleDict({name: ObservationNormalizer(each) for name, each in self.statistics.items()})
        low, high = torch.tensor(self.spec.action.low), torch.tensor(self.spec.action.high)
        self.register_buffer("action_middle", (low + high) / 2, persistent=False)
        self.register_buffer("action_half", (high - low) / 2, persistent=False)
        with torch.random.fork_rng(devices=[]):  # the caller's random numbers stay as they were
            torch.manual_seed(seed)
            self.encoders = nn.ModuleDict()
            for name in self.cameras:
                height, width, _ = self.spec.observation[name].shape
                self.encoders[name] = (
                    FrozenEncoder(config.trunk, 2 * config.encoder_channels[-1])
                    if config.trunk
                    else ImageEncoder(height, width, config.encoder_channels, block_px((height, width), config.shrink))
                )
            each = {"squashed": 2 * self.action_size, "mixture": config.components * (2 * self.action_size + 1)}
            outputs = each.get(config.distribution, self.action_size)
            self.network = mlp((self.state_size, *config.hidden_sizes, outputs), layer_norm=config.layer_norm)
        if config.distribution == "clipped":
            self.log_std = nn.Parameter(torch.zeros(self.action_size))

    def features(self, observation: Mapping[str, Tensor], prefix: str = "") -> Tensor:
        """Normalised vectors and keypoints (B, S) of a batch whose fields are named `<prefix><field>`.

        It is differentiable with respect to the encoders: what learns by values improves them by its critics.
        """
        fields = []
        for name in self.spec.observation:
            field = observation[prefix + name]
            for parts in (self.encoders, self.normalizers):  # not merged, which torch 2.11 cannot compile
                field = parts[name](field) if name in parts else field
            fields.append(field)
        return fields[0] if len(fields) == 1 else torch.cat(fields, dim=-1)

    def forward(self, state: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and logarithm of the standard deviation (B, A) from `features`."""
        low, high = self.config.log_std_low, self.config.log_std_high
        if self.config.distribution == "squashed":
            mean, log_std = self.network(state).chunk(2, dim=-1)
            return mean, log_std.clamp(low, high)
        if self.config.distribution == "mixture":
            raise SpecError("a mixture has no one mean to draw from; this algorithm wants policy.distribution=squashed")
        mean = torch.tanh(self.network(state))
        if self.config.distribution == "clipped":
            return mean, self.log_std.clamp(low, high).expand_as(mean)
        return mean, torch.full_like(mean, -torch.inf)

    def encoder_parameters(self) -> list[nn.Parameter]:
        """Of the cameras' encoders; none without images."""
        return list(self.encoders.parameters())

    def head_parameters(self) -> list[nn.Parameter]:
        """All others."""
        encoders = {id(parameter) for parameter in self.encoder_parameters()}
        return [parameter for parameter in self.parameters() if id(parameter) not in encoders]

    def mixture(self, state: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Logarithms of the weights (B, M), and means and logarithms of the standard deviations (B, M, A)."""
        size = self.action_size
        weight, mean, log_std = (
            self.network(state).unflatten(-1, (self.config.components, 2 * size + 1)).split((1, size, size), dim=-1)
        )
        log_std = log_std.clamp(self.config.log_std_low, self.config.log_std_high)
        return weight.squeeze(-1).log_softmax(-1), torch.tanh(mean), log_std

    def draw(self, state: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Actions in [-1, 1] (B, A) made from standard normal noise (B, A), with their log-probabilities (B,)."""
        mean, log_std = self(state)
        if self.config.distribution == "squashed":
            return tanh_gaussian_sample(mean, log_std, noise)
        action = mean + torch.exp(log_std) * noise
        return action.clamp(-1.0, 1.0), gaussian_log_prob(mean, log_std, action)

    def log_prob(self, state: Tensor, action: Tensor) -> Tensor:
        """Log-probability (B,) of actions in [-1, 1] (B, A)."""
        if self.config.distribution == "mixture":
            weight, means, log_stds = self.mixture(state)
            return (weight + gaussian_log_prob(means, log_stds, action[:, None])).logsumexp(-1)
        mean, log_std = self(state)
        return (
            tanh_gaussian_log_prob(mean, log_std, action)
            if self.config.distribution == "squashed"
            else gaussian_log_prob(mean, log_std, action)
        )

    def mode(self, state: Tensor) -> Tensor:
        """The most likely actions in [-1, 1] (B, A); of a mixture, the mean of its weightiest component."""
        if self.config.distribution == "mixture":
            weight, means, _ = self.mixture(state)
            return means[torch.arange(means.shape[0], device=means.device), weight.argmax(-1)]
        mean, _ = self(state)
        return torch.tanh(mean) if self.config.distribution == "squashed" else mean

    def normalized_action(self, action: Tensor) -> Tensor:
        """From the units of the action spec to [-1, 1]."""
        return (action - self.get_buffer("action_middle")) / self.get_buffer("action_half")

    def spec_action(self, action: Tensor) -> Tensor:
        """Undo `normalized_action`."""
        return action * self.get_buffer("action_half") + self.get_buffer("action_middle")

    @torch.no_grad()
    def best(self, observation: Mapping[str, Tensor]) -> Tensor:
        """The most likely actions (B, A) in the units of the action spec."""
        return self.spec_action(self.mode(self.features(observation)))

    @torch.no_grad()
    def sample(self, observation: Mapping[str, Tensor], generator: torch.Generator) -> Tensor:
        """Random actions (B, A) in the units of the action spec, as exploration wants."""
        state = self.features(observation)
        noise = torch.randn(len(state), self.action_size, generator=generator, device=state.device)
        if self.config.distribution == "mixture":
            weight, means, log_stds = self.mixture(state)
            which = torch.multinomial(weight.exp(), 1, generator=generator).squeeze(-1)
            rows = torch.arange(len(state), device=state.device)
            return self.spec_action((means[rows, which] + log_stds[rows, which].exp() * noise).clamp(-1.0, 1.0))
        if self.config.distribution == "deterministic":
            return self.spec_action((self.mode(state) + EXPLORATION * noise).clamp(-1.0, 1.0))
        return self.spec_action(self.draw(state, noise)[0])

    def reset(self, seed: int = 0) -> None:
        """Nothing to forget: every action follows from one observation."""

    def act(self, observation: Observation, stamp_ns: int) -> ActionChunk:
        """One action (1, A) within the limits of the action spec. Raises SpecError for a wrong observation."""
        batch = observation_tensors(self.spec, observation, self.get_buffer("action_half").device)
        return action_chunk(self.spec, self.best(batch), stamp_ns)


def vector_spec(spec: InterfaceSpec, privileged: bool = False, images: bool = False) -> InterfaceSpec:
    """The part of a spec that a policy of vectors reads, with the images on request. Raises SpecError when it has no
    vector, no image where one is wanted, or unlimited actions."""
    fields = {
        name: field
        for name, field in spec.observation.items()
        if (len(field.shape) == 1 and (privileged or not name.startswith("pose_")))
        or (images and name.startswith("image_"))
    }
    if images and not any(name.startswith("image_") for name in fields):
        raise SpecError(f"the policy is to see images; the spec has {', '.join(spec.observation)}")
    if not fields:
        raise SpecError(f"a policy of vectors needs one to look at; the spec has {', '.join(spec.observation)}")
    low, high = spec.action.low, spec.action.high
    if (
        len(spec.action.shape) != 1
        or low is None
        or high is None
        or not all(-math.inf < a < b < math.inf for a, b in zip(low, high, strict=True))
    ):
        raise SpecError(
            f"reinforcement learning needs limits of every action; the spec has shape {spec.action.shape} from {low} "
            f"to {high}"
        )
    return replace(spec, observation=fields)
