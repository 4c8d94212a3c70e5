"""Rewards from comparisons: which of two images or states is nearer to the goal?

Wang et al., "RL-VLM-F", 2024, and its offline form (Venkataraman et al. 2024): pairs are compared by a vision-language
model, a person, or a rule; a Bradley-Terry model turns the answers into a reward; the whole dataset is relabelled.
HERON (Bukharin et al. 2023): the rule by ordered factors, the first one that differs by more than its margin decides.

    p(second over first) = sigmoid(r(second) - r(first))        loss = -log p(answer)        r = mean of E members

Differences: pairs called unsure are dropped before they count, equal ones count by half for either side (Christiano et
al. 2017); each member sees its own bootstrap of the pairs; the values are normalised to mean 0 and std 1 over the
dataset (`normalize_over`), the raw ones being kept; the output is not squashed by tanh, whose range of 2 cannot hold
two factors that outrank each other; HERON's margin of the first factor is not left out.

Legend: N pairs or steps, E members, D numbers of a state, B episodes, T steps.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor, nn

from robolearn.errors import SpecError
from robolearn.networks.mlp import mlp
from robolearn.rewards.combine import RunningNormalizer
from robolearn.rewards.features import EncoderConfig, make_encoder, step_features
from robolearn.rewards.reward_model import Episodes, Kind, RewardOutput, initial_weights, masked, version_of

FIRST, SECOND, UNSURE = 0, 1, -1
EQUAL = 0.5
"""Answers of a labeller: which of the two is better. Equal counts as half an answer for each; unsure as none."""


@dataclass(frozen=True)
class PreferenceConfig:
    """Settings of PreferenceReward and its fit."""

    cameras: tuple[str, ...] = ("front",)
    proprio_size: int = 0  # P; 0 for none
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    members: int = 3  # E
    hidden_sizes: tuple[int, ...] = (256, 256, 256)
    mean: float = 0.0  # of the raw values over the dataset (`normalize_over`)
    std: float = 1.0
    seed: int = 0  # of the initial weights


@dataclass(frozen=True)
class FitConfig:
    """How Bradley-Terry members are fitted."""

    learning_rate: float = 3e-4
    batch_size: int = 128
    passes: int = 25  # over the pairs, at most
    stop_accuracy: float = 0.97  # on the training pairs
    seed: int = 0  # of bootstrap and order


class BradleyTerry(nn.Module):
    """E perceptrons as one batched product: (..., D) -> (..., E)."""

    def __init__(self, inputs: int, members: int, hidden_sizes: tuple[int, ...]) -> None:
        super().__init__()
        nets = [mlp((inputs, *hidden_sizes, 1), nn.LeakyReLU) for _ in range(members)]
        layers = [[layer for layer in net if isinstance(layer, nn.Linear)] for net in nets]
        self.weights = nn.ParameterList(
            torch.stack([layer.weight.T for layer in group]).detach() for group in zip(*layers, strict=True)
        )
        self.biases = nn.ParameterList(
            torch.stack([layer.bias for layer in group]).detach() for group in zip(*layers, strict=True)
        )

    def forward(self, inputs: Tensor) -> Tensor:
        rewards = self.per_member(inputs.reshape(1, -1, inputs.shape[-1]))
        return rewards.T.reshape(*inputs.shape[:-1], -1)

    def per_member(self, inputs: Tensor) -> Tensor:
        """(E or 1, n, D) -> (E, n): each member on inputs of its own."""
        hidden = inputs
        last = len(self.weights) - 1
        for i, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            hidden = hidden @ weight + bias[:, None]
            if i < last:
                hidden = nn.functional.leaky_relu(hidden)
        return hidden[..., 0]


def ordered_factor_answers(first: Tensor, second: Tensor, margin: Tensor) -> Tensor:
    """HERON's answers (N,) for factors (N, L), most important first, larger is better; margin (L,) of each.

    UNSURE where no factor differs by more than its margin.
    """
    difference = second - first
    decides = difference.abs() > margin
    level = decides.float().argmax(-1)  # the first that is true
    sign = difference.gather(-1, level[:, None])[:, 0] > 0
    return torch.where(decides.any(-1), sign.long(), UNSURE)


def bradley_terry_loss(first: Tensor, second: Tensor, answer: Tensor) -> Tensor:
    """Mean negative log-likelihood (E,) of answers given rewards, all (E, N)."""
    loss = nn.functional.binary_cross_entropy_with_logits(second - first, answer.float(), reduction="none")
    return loss.mean(1)


def fit_bradley_terry(
    net: BradleyTerry, first: Tensor, second: Tensor, answer: Tensor, config: FitConfig
) -> dict[str, float]:
    """Fit every member on its bootstrap of the sure pairs; first and second are (N, D) or segments (N, L, D).

    The reward of a segment is the sum over its steps. Returns `pairs`, `unsure` and the training `accuracy`.
    """
    sure = answer != UNSURE
    first, second, answer = first[sure], second[sure], answer[sure]
    if len(answer) == 0:
        raise SpecError(f"none of the {len(sure)} comparisons was sure; ask for easier pairs or a better labeller")
    generator = torch.Generator().manual_seed(config.seed)
    members = net.biases[0].shape[0]
    rows = torch.randint(len(answer), (members, len(answer)), generator=generator)
    optimizer = torch.optim.Adam(net.parameters(), lr=config.learning_rate)
    accuracy = 0.0
    for _ in range(config.passes):
        right, seen = 0, 0
        rows = rows[:, torch.randperm(len(answer), generator=generator)]
        for part in rows.split(config.batch_size, dim=1):
            a, b = _rewards(net, first[part]), _rewards(net, second[part])  # (E, n)
            labels = answer[part]
            loss = bradley_terry_loss(a, b, labels).sum()
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            decided = labels != EQUAL
            right += int(((b > a) == (labels > EQUAL))[decided].sum())
            seen += int(decided.sum())
        accuracy = right / max(seen, 1)
        if accuracy > config.stop_accuracy:
            break
    return {"pairs": float(len(answer)), "unsure": float((~sure).sum()), "accuracy": accuracy}


def _rewards(net: BradleyTerry, states: Tensor) -> Tensor:
    """(E, n) of states (E, n, D) or of segments (E, n, L, D), summed over their steps."""
    members, count = states.shape[:2]
    return net.per_member(states.reshape(members, -1, states.shape[-1])).view(members, count, -1).sum(2)


class PreferenceReward(nn.Module):
    """The reward of an image or state by a Bradley-Terry ensemble over features of cameras and proprio."""

    config_type: ClassVar = PreferenceConfig
    id = "preference"
    kind: Kind = "reward"
    causal = True

    def __init__(self, config: PreferenceConfig) -> None:
        super().__init__()
        self.config = config
        with initial_weights(config.seed):
            self.encoder = make_encoder(config.encoder)
            size = len(config.cameras) * self.encoder.image_size + config.proprio_size
            self.net = BradleyTerry(size, config.members, config.hidden_sizes)
        self.register_buffer("mean", torch.tensor(config.mean))
        self.register_buffer("std", torch.tensor(config.std))

    @property
    def version(self) -> str:
        return version_of(self.config, self.state_dict())

    def encode(self, episodes: Episodes) -> Tensor:
        """Features (B, T, D): cameras, then proprio. Differentiable."""
        config, device = self.config, self.get_buffer("mean").device
        return step_features(self.encoder, episodes, config.cameras, config.proprio_size, device)

    @torch.no_grad()
    def normalize_over(self, dataset: Iterable[Episodes]) -> None:
        """Set mean and std to those of the raw values over a whole dataset."""
        normalizer = RunningNormalizer()
        for episodes in dataset:
            raw = self.net(self.encode(episodes)).mean(-1)
            normalizer.update(raw[episodes.valid(raw.device)])
        self.get_buffer("mean").fill_(normalizer.mean)
        self.get_buffer("std").fill_(normalizer.std)

    @torch.no_grad()
    def score(self, episodes: Episodes) -> RewardOutput:
        """Normalised reward. Confidence falls with the spread of the members, 1 where they agree. `raw`: `members`."""
        members = self.net(self.encode(episodes))
        value = (members.mean(-1) - self.get_buffer("mean")) / self.get_buffer("std")
        spread = members.std(-1, correction=0) / self.get_buffer("std")
        return masked(RewardOutput(value, torch.exp(-spread), {"members": members}), episodes.valid(value.device))
