"""RLPD: reinforcement learning with prior data.

Ball et al., "Efficient online reinforcement learning with offline data", ICML 2023: SAC with an ensemble of critics
that normalise their layers, of which two, drawn anew each time, make the target; many critic updates per step; and
batches of which one half is prior data (which the recipe mixes). Legend: B batch, D its rows of prior data, E critics,
A action; s' next state, a' ~ pi(s').

    Z      = 2 of E critics, without replacement
    y      = r + discount * bootstrap * (min_{e in Z} Q'_e(s', a') - alpha * log pi(a' | s'))
    critic = mean over B, sum over E of (Q_e(s, a) - y)^2              `utd` times
    actor  = mean of alpha * log pi(a | s) - mean_e Q_e(s, a)          once after them, on the last batch
    alpha  = mean of -log(alpha) * (log pi(a | s) + target_entropy)    with the actor

Where prior data are demonstrations, the actor may also be held to them by `cloning_weight` times the mean over D of
|mode of pi(s) - a|^2 (Nair et al., "Overcoming exploration in reinforcement learning with demonstrations", ICRA 2018,
eq. 5, without its filter). The paper's experiments with rare rewards take one critic for Z, not two.

Differences: only the critics of Z are computed for the target; the target entropy is -A/2, as in the paper's code and
in SERL, and the temperature begins at 1. An episode that was truncated bootstraps. Without prior data, begun with the
networks of an offline run and warmed up by its policy, this is the online part of WSRL (Zhou et al. 2024).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor

from robolearn.algorithms.algorithm import Batch, DataKind, Metrics
from robolearn.algorithms.compile import Wrapper, plain
from robolearn.algorithms.optimizer import Adam, polyak_update
from robolearn.algorithms.state import load_state, state_of
from robolearn.networks.augmentation import shifted
from robolearn.networks.critic import Critic
from robolearn.networks.normalizer import Statistics
from robolearn.policies.gaussian import GaussianPolicy, GaussianPolicyConfig
from robolearn.specs import InterfaceSpec


@dataclass(frozen=True)
class RLPDConfig:
    """Settings of RLPD."""

    distributions: ClassVar[tuple[str, ...]] = ("squashed", "clipped")  # that `policy.distribution` may be

    policy: GaussianPolicyConfig = field(default_factory=GaussianPolicyConfig)
    critic_hidden_sizes: tuple[int, ...] = (256, 256)
    critic_layer_norm: bool = True
    num_critics: int = 10
    num_sampled_critics: int = 2  # of them that make a target
    steps: int = 100_000  # of a run: environment steps online, gradient steps offline
    batch_size: int = 256  # of each update
    utd: int = 20  # critic updates per environment step and per actor update
    discount: float = 0.99  # per environment step
    polyak: float = 0.005  # share of the way that the target critics move each update
    actor_learning_rate: float = 3e-4
    critic_learning_rate: float = 3e-4
    temperature_learning_rate: float = 3e-4
    initial_temperature: float = 1.0
    target_entropy_per_action: float = -0.5  # times A
    backup_entropy: bool = True  # whether the target counts the entropy of the next action
    cloning_weight: float = 0.0  # of the distance to the actions of prior data in the loss of the actor
    max_shift_px: int = 2  # random shift of images, where the policy sees some; 0 for none


class RLPD:
    """Learns from transitions, its own and others'."""

    config_type: ClassVar[Any] = RLPDConfig
    learns_from: ClassVar[DataKind] = "transitions"
    sees_images: ClassVar[bool] = True
    metrics: ClassVar[tuple[str, ...]] = ("critic_loss", "value", "actor_loss", "entropy", "temperature")

    def __init__(
        self,
        spec: InterfaceSpec,
        statistics: Statistics,
        config: RLPDConfig,
        seed: int = 0,
        device: str = "cpu",
        wrapper: Wrapper = plain,
    ) -> None:
        self.config = config
        self.gradient_step = 0
        self._generator = torch.Generator(device).manual_seed(seed)
        self.actor = GaussianPolicy(spec, statistics, config.policy, seed).to(device)
        self.critic = self._make_critic(seed + 1).to(device)
        self.target = self._make_critic(seed + 1).to(device).requires_grad_(False)
        self.log_temperature = torch.tensor(config.initial_temperature, device=device).log().requires_grad_()
        self.target_entropy = config.target_entropy_per_action * self.actor.action_size
        self._actor_adam = Adam(self.actor.head_parameters(), config.actor_learning_rate)
        critical = [*self.critic.parameters(), *self.actor.encoder_parameters()]
        self._critic_adam = Adam(critical, config.critic_learning_rate)
        self._temperature_adam = Adam([self.log_temperature], config.temperature_learning_rate)
        self._targets, self._sources = list(self.target.parameters()), list(self.critic.parameters())
        self._critic_step = wrapper(self._update_critic)
        self._actor_step = wrapper(self._update_actor)
        self._last: Metrics = {}  # of the actor, until its next update

    def _make_critic(self, seed: int) -> Critic:
        config, actor = self.config, self.actor
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return Critic(
                config.num_critics,
                actor.state_size,
                actor.action_size,
                config.critic_hidden_sizes,
                config.critic_layer_norm,
            )

    def target_value(self, batch: Batch, noise: Tensor, members: Tensor) -> Tensor:
        """y (B,), which nothing is differentiated through. noise: (B, A), members: the critics of Z."""
        with torch.no_grad():
            next_state = self.actor.features(batch, "next_")
            action, log_prob = self.actor.draw(next_state, noise)
            value = self.target(next_state, action, members).amin(0)
            if self.config.backup_entropy:
                value = value - self.log_temperature.exp() * log_prob
            return batch["reward"] + batch["discount"] * batch["bootstrap"] * value

    def critic_loss(self, batch: Batch, noise: Tensor, members: Tensor) -> tuple[Tensor, Metrics]:
        """Squared distance of all critics to the target."""
        target = self.target_value(batch, noise, members)
        values = self.critic(self.actor.features(batch), self.actor.normalized_action(batch["action"]))
        loss = (values - target).square().mean(-1).sum()
        return loss, {"critic_loss": loss.detach(), "value": values.detach().mean()}

    def actor_loss(self, batch: Batch, noise: Tensor) -> tuple[Tensor, Tensor, Metrics]:
        """Loss of the actor, and the log-probabilities (B,) of its actions. noise: (B, A)."""
        with torch.no_grad():  # encoders of images are the critics' to improve
            state = self.actor.features(batch)
        action, log_prob = self.actor.draw(state, noise)
        value = self.critic(state, action).mean(0)
        loss = (self.log_temperature.exp().detach() * log_prob - value).mean()
        if self.config.cloning_weight:
            loss = loss + self.config.cloning_weight * self._distance_to_prior(state, batch)
        return loss, log_prob.detach(), {"actor_loss": loss.detach(), "entropy": -log_prob.detach().mean()}

    def _distance_to_prior(self, state: Tensor, batch: Batch) -> Tensor:
        """Mean over the rows of prior data, which a batch that does not tell is made of."""
        distance = (self.actor.mode(state) - self.actor.normalized_action(batch["action"])).square().sum(-1)
        prior = batch.get("prior", torch.ones_like(distance))
        return (prior * distance).sum() / prior.sum().clamp_min(1.0)

    def temperature_loss(self, log_prob: Tensor) -> tuple[Tensor, Metrics]:
        """Raises the temperature where the entropy -log_prob is below its target."""
        loss = -(self.log_temperature * (log_prob + self.target_entropy).mean())
        return loss, {"temperature": self.log_temperature.detach().exp()}

    def _update_critic(self, batch: Batch, noise: Tensor, members: Tensor) -> Metrics:
        loss, metrics = self.critic_loss(batch, noise, members)
        self._critic_adam.step(loss)
        polyak_update(self._targets, self._sources, self.config.polyak)
        return metrics

    def _update_actor(self, batch: Batch, noise: Tensor) -> Metrics:
        loss, log_prob, actor_metrics = self.actor_loss(batch, noise)
        self._actor_adam.step(loss)
        loss, temperature_metrics = self.temperature_loss(log_prob)
        self._temperature_adam.step(loss)
        return actor_metrics | temperature_metrics

    def update(self, batch: Batch) -> Metrics:
        """As everywhere; after every `config.utd`-th critic update the actor is updated on the same rows."""
        size = self.config.batch_size
        updates = len(batch["reward"]) // size
        noise, members = self._draw(updates, size, self._generator)
        metrics: Metrics = {}
        for i in range(updates):
            rows = {name: values[i * size : (i + 1) * size] for name, values in batch.items()}
            rows = shifted(rows, self.actor.cameras, self.config.max_shift_px, self._generator)
            metrics = self._critic_step(rows, noise[i, 0], members[i])
            self.gradient_step += 1
            if self.gradient_step % self.config.utd == 0:
                self._last = self._actor_step(rows, noise[i, 1])
        return metrics | self._last

    def validate(self, batch: Batch) -> Metrics:
        generator = torch.Generator(self._generator.device).manual_seed(0)
        noise, members = self._draw(1, len(batch["reward"]), generator)
        with torch.no_grad():
            critic_metrics = self.critic_loss(batch, noise[0, 0], members[0])[1]
            return critic_metrics | self.actor_loss(batch, noise[0, 1])[2]

    def policy(self) -> GaussianPolicy:
        return self.actor

    def _draw(self, updates: int, size: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Noise (updates, 2, size, A) and the critics that make each target (updates, num_sampled_critics)."""
        device = generator.device
        noise = torch.randn((updates, 2, size, self.actor.action_size), generator=generator, device=device)
        order = torch.rand((updates, self.config.num_critics), generator=generator, device=device).argsort(-1)
        return noise, order[:, : self.config.num_sampled_critics].contiguous()

    def _parts(self) -> dict[str, Any]:
        return {
            "actor": self.actor,
            "critic": self.critic,
            "target": self.target,
            "actor_adam": self._actor_adam,
            "critic_adam": self._critic_adam,
            "temperature_adam": self._temperature_adam,
        }

    def state_dict(self) -> dict[str, Tensor]:
        return state_of(self._parts(), self.gradient_step, self._generator, log_temperature=self.log_temperature)

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        self.gradient_step = load_state(state, self._parts(), self._generator, log_temperature=self.log_temperature)
