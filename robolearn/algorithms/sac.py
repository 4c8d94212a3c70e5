"""Soft actor-critic.

Haarnoja et al., "Soft actor-critic algorithms and applications", 2018 (arXiv 1812.05905): two critics, the smaller of
which counts, and a temperature that is learned. Legend: B batch, E critics, A action; s' next state, a' ~ pi(s').

    y      = r + discount * bootstrap * (min_e Q'_e(s', a') - alpha * log pi(a' | s'))
    critic = mean over B, sum over E of (Q_e(s, a) - y)^2
    actor  = mean of alpha * log pi(a | s) - min_e Q_e(s, a),      a ~ pi(s)
    alpha  = mean of -log(alpha) * (log pi(a | s) + target_entropy)

Differences: the gradient of the temperature is taken with respect to its logarithm, as all implementations do; the
order is critic, actor, temperature, target, all with the temperature from before the step. An episode that was
truncated bootstraps. From images it is DrQ (Kostrikov et al. 2020) with one shift each of s and s', keypoints as
features, and encoders that the critics alone improve and that the target shares.
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
class SACConfig:
    """Settings of SAC."""

    distributions: ClassVar[tuple[str, ...]] = ("squashed", "clipped")  # that `policy.distribution` may be

    policy: GaussianPolicyConfig = field(default_factory=GaussianPolicyConfig)
    critic_hidden_sizes: tuple[int, ...] = (256, 256)
    steps: int = 100_000  # of a run: environment steps online, gradient steps offline
    batch_size: int = 256  # of each update
    utd: int = 1  # updates per environment step
    discount: float = 0.99  # per environment step
    polyak: float = 0.005  # share of the way that the target critics move each step
    actor_learning_rate: float = 3e-4
    critic_learning_rate: float = 3e-4
    temperature_learning_rate: float = 3e-4
    initial_temperature: float = 1.0
    target_entropy_per_action: float = -1.0  # times A
    backup_entropy: bool = True  # whether the target counts the entropy of the next action
    max_shift_px: int = 2  # random shift of images, where the policy sees some; 0 for none


class SAC:
    """Learns from transitions, its own or others'."""

    config_type: ClassVar[Any] = SACConfig
    learns_from: ClassVar[DataKind] = "transitions"
    sees_images: ClassVar[bool] = True
    metrics: ClassVar[tuple[str, ...]] = ("critic_loss", "value", "actor_loss", "entropy", "temperature")

    def __init__(
        self,
        spec: InterfaceSpec,
        statistics: Statistics,
        config: SACConfig,
        seed: int = 0,
        device: str = "cpu",
        wrapper: Wrapper = plain,
    ) -> None:
        self.config = config
        self.gradient_step = 0
        self._generator = torch.Generator(device).manual_seed(seed)
        self.actor = GaussianPolicy(spec, statistics, config.policy, seed).to(device)
        state_size, action_size = self.actor.state_size, self.actor.action_size
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed + 1)
            self.critic = Critic(2, state_size, action_size, config.critic_hidden_sizes).to(device)
        self.target = Critic(2, state_size, action_size, config.critic_hidden_sizes).to(device).requires_grad_(False)
        self.target.load_state_dict(self.critic.state_dict())
        self.log_temperature = torch.tensor(config.initial_temperature, device=device).log().requires_grad_()
        self.target_entropy = config.target_entropy_per_action * action_size
        self._actor_adam = Adam(self.actor.head_parameters(), config.actor_learning_rate)
        critical = [*self.critic.parameters(), *self.actor.encoder_parameters()]
        self._critic_adam = Adam(critical, config.critic_learning_rate)
        self._temperature_adam = Adam([self.log_temperature], config.temperature_learning_rate)
        self._targets, self._sources = list(self.target.parameters()), list(self.critic.parameters())
        self._step = wrapper(self._gradient_step)

    def target_value(self, batch: Batch, noise: Tensor) -> Tensor:
        """y (B,), which nothing is differentiated through. noise: (B, A)."""
        with torch.no_grad():
            next_state = self.actor.features(batch, "next_")
            action, log_prob = self.actor.draw(next_state, noise)
            value = self.target(next_state, action).amin(0)
            if self.config.backup_entropy:
                value = value - self.log_temperature.exp() * log_prob
            return batch["reward"] + batch["discount"] * batch["bootstrap"] * value

    def critic_loss(self, batch: Batch, noise: Tensor) -> tuple[Tensor, Metrics]:
        """Squared distance of all critics to the target."""
        target = self.target_value(batch, noise)
        values = self.critic(self.actor.features(batch), self.actor.normalized_action(batch["action"]))
        loss = (values - target).square().mean(-1).sum()
        return loss, {"critic_loss": loss.detach(), "value": values.detach().mean()}

    def actor_loss(self, batch: Batch, noise: Tensor) -> tuple[Tensor, Tensor, Metrics]:
        """Loss of the actor, and the log-probabilities (B,) of its actions. noise: (B, A)."""
        with torch.no_grad():  # encoders of images are the critics' to improve
            state = self.actor.features(batch)
        action, log_prob = self.actor.draw(state, noise)
        value = self.critic(state, action).amin(0)
        loss = (self.log_temperature.exp().detach() * log_prob - value).mean()
        return loss, log_prob.detach(), {"actor_loss": loss.detach(), "entropy": -log_prob.detach().mean()}

    def temperature_loss(self, log_prob: Tensor) -> tuple[Tensor, Metrics]:
        """Raises the temperature where the entropy -log_prob is below its target."""
        loss = -(self.log_temperature * (log_prob + self.target_entropy).mean())
        return loss, {"temperature": self.log_temperature.detach().exp()}

    def _gradient_step(self, batch: Batch, noise: Tensor) -> Metrics:
        """One update of everything. noise: (2, B, A)."""
        loss, critic_metrics = self.critic_loss(batch, noise[0])
        self._critic_adam.step(loss)
        loss, log_prob, actor_metrics = self.actor_loss(batch, noise[1])
        self._actor_adam.step(loss)
        loss, temperature_metrics = self.temperature_loss(log_prob)
        self._temperature_adam.step(loss)
        polyak_update(self._targets, self._sources, self.config.polyak)
        return critic_metrics | actor_metrics | temperature_metrics

    def update(self, batch: Batch) -> Metrics:
        size = self.config.batch_size
        updates = len(batch["reward"]) // size
        noise = self._noise(updates, size, self._generator)
        metrics: Metrics = {}
        for i in range(updates):
            rows = {name: values[i * size : (i + 1) * size] for name, values in batch.items()}
            rows = shifted(rows, self.actor.cameras, self.config.max_shift_px, self._generator)
            metrics = self._step(rows, noise[i])
        self.gradient_step += updates
        return metrics

    def validate(self, batch: Batch) -> Metrics:
        noise = self._noise(1, len(batch["reward"]), torch.Generator(self._generator.device).manual_seed(0))[0]
        with torch.no_grad():
            return self.critic_loss(batch, noise[0])[1] | self.actor_loss(batch, noise[1])[2]

    def policy(self) -> GaussianPolicy:
        return self.actor

    def _noise(self, updates: int, size: int, generator: torch.Generator) -> Tensor:
        shape = (updates, 2, size, self.actor.action_size)
        return torch.randn(shape, generator=generator, device=generator.device)

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
