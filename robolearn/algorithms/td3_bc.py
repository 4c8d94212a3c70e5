"""TD3+BC: the simple baseline of offline reinforcement learning.

Fujimoto and Gu, "A minimalist approach to offline reinforcement learning", NeurIPS 2021: twin delayed DDPG whose actor
is held to the data's actions. Legend: B batch, E critics, A action; s' next state.

    a'     = clip(pi'(s') + clip(policy_noise * N(0, 1), -noise_clip, noise_clip), -1, 1)
    y      = r + discount * bootstrap * min_e Q'_e(s', a')
    critic = mean over B, sum over E of (Q_e(s, a) - y)^2
    actor  = mean of -lambda * Q_1(s, pi(s)) + |pi(s) - a|^2 / A,   lambda = alpha / mean |Q_1(s, pi(s))|
             every `policy_delay` steps, with the targets of actor and critics

Differences: none in the equations; observations are normalised by the statistics of the dataset, as in the paper.
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
class TD3BCConfig:
    """Settings of TD3+BC."""

    distributions: ClassVar[tuple[str, ...]] = ("deterministic",)  # that `policy.distribution` may be

    policy: GaussianPolicyConfig = field(default_factory=lambda: GaussianPolicyConfig(distribution="deterministic"))
    critic_hidden_sizes: tuple[int, ...] = (256, 256)
    steps: int = 100_000  # gradient steps of a run
    batch_size: int = 256  # of each update
    utd: int = 1  # updates per environment step
    discount: float = 0.99  # per environment step
    polyak: float = 0.005  # share of the way that the targets move each `policy_delay` steps
    learning_rate: float = 3e-4
    policy_noise: float = 0.2  # of the next action, which lies in [-1, 1]
    noise_clip: float = 0.5
    policy_delay: int = 2  # critic updates per actor update
    alpha: float = 2.5  # weight of the values against the data's actions
    max_shift_px: int = 2  # random shift of images, where the policy sees some; 0 for none


class TD3BC:
    """Learns from the transitions of others."""

    config_type: ClassVar[Any] = TD3BCConfig
    learns_from: ClassVar[DataKind] = "transitions"
    sees_images: ClassVar[bool] = True
    metrics: ClassVar[tuple[str, ...]] = ("critic_loss", "value", "actor_loss", "imitation_loss")

    def __init__(
        self,
        spec: InterfaceSpec,
        statistics: Statistics,
        config: TD3BCConfig,
        seed: int = 0,
        device: str = "cpu",
        wrapper: Wrapper = plain,
    ) -> None:
        self.config = config
        self.gradient_step = 0
        self._generator = torch.Generator(device).manual_seed(seed)
        self.actor = GaussianPolicy(spec, statistics, config.policy, seed).to(device)
        self.actor_target = GaussianPolicy(spec, statistics, config.policy, seed).to(device).requires_grad_(False)
        state_size, action_size = self.actor.state_size, self.actor.action_size
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed + 1)
            self.critic = Critic(2, state_size, action_size, config.critic_hidden_sizes).to(device)
        self.target = Critic(2, state_size, action_size, config.critic_hidden_sizes).to(device).requires_grad_(False)
        self.target.load_state_dict(self.critic.state_dict())
        self._actor_adam = Adam(self.actor.head_parameters(), config.learning_rate)
        critical = [*self.critic.parameters(), *self.actor.encoder_parameters()]
        self._critic_adam = Adam(critical, config.learning_rate)
        self._targets = [*self.target.parameters(), *self.actor_target.parameters()]
        self._sources = [*self.critic.parameters(), *self.actor.parameters()]
        self._critic_step = wrapper(self._update_critic)
        self._actor_step = wrapper(self._update_actor)
        self._last: Metrics = {}  # of the actor, until its next update

    def target_value(self, batch: Batch, noise: Tensor) -> Tensor:
        """y (B,), which nothing is differentiated through. noise: (B, A)."""
        config = self.config
        with torch.no_grad():
            next_state = self.actor.features(batch, "next_")
            noise = (config.policy_noise * noise).clamp(-config.noise_clip, config.noise_clip)
            action = (self.actor_target.mode(next_state) + noise).clamp(-1.0, 1.0)
            value = self.target(next_state, action).amin(0)
            return batch["reward"] + batch["discount"] * batch["bootstrap"] * value

    def critic_loss(self, batch: Batch, noise: Tensor) -> tuple[Tensor, Metrics]:
        """Squared distance of both critics to the target."""
        target = self.target_value(batch, noise)
        values = self.critic(self.actor.features(batch), self.actor.normalized_action(batch["action"]))
        loss = (values - target).square().mean(-1).sum()
        return loss, {"critic_loss": loss.detach(), "value": values.detach().mean()}

    def actor_loss(self, batch: Batch) -> tuple[Tensor, Metrics]:
        """The first critic's value, scaled to the size of `alpha`, against the distance from the data's actions."""
        with torch.no_grad():  # encoders of images are the critics' to improve
            state = self.actor.features(batch)
        action = self.actor.mode(state)
        value = self.critic(state, action)[0]
        imitation = (action - self.actor.normalized_action(batch["action"])).square().mean()
        loss = -self.config.alpha * value.mean() / value.abs().mean().detach() + imitation
        return loss, {"actor_loss": loss.detach(), "imitation_loss": imitation.detach()}

    def _update_critic(self, batch: Batch, noise: Tensor) -> Metrics:
        loss, metrics = self.critic_loss(batch, noise)
        self._critic_adam.step(loss)
        return metrics

    def _update_actor(self, batch: Batch) -> Metrics:
        loss, metrics = self.actor_loss(batch)
        self._actor_adam.step(loss)
        polyak_update(self._targets, self._sources, self.config.polyak)
        return metrics

    def update(self, batch: Batch) -> Metrics:
        size = self.config.batch_size
        updates = len(batch["reward"]) // size
        noise = self._noise(updates, size, self._generator)
        metrics: Metrics = {}
        for i in range(updates):
            rows = {name: values[i * size : (i + 1) * size] for name, values in batch.items()}
            rows = shifted(rows, self.actor.cameras, self.config.max_shift_px, self._generator)
            metrics = self._critic_step(rows, noise[i])
            if self.gradient_step % self.config.policy_delay == 0:
                self._last = self._actor_step(rows)
            self.gradient_step += 1
        return metrics | self._last

    def validate(self, batch: Batch) -> Metrics:
        noise = self._noise(1, len(batch["reward"]), torch.Generator(self._generator.device).manual_seed(0))[0]
        with torch.no_grad():
            return self.critic_loss(batch, noise)[1] | self.actor_loss(batch)[1]

    def policy(self) -> GaussianPolicy:
        return self.actor

    def _noise(self, updates: int, size: int, generator: torch.Generator) -> Tensor:
        shape = (updates, size, self.actor.action_size)
        return torch.randn(shape, generator=generator, device=generator.device)

    def _parts(self) -> dict[str, Any]:
        return {
            "actor": self.actor,
            "actor_target": self.actor_target,
            "critic": self.critic,
            "target": self.target,
            "actor_adam": self._actor_adam,
            "critic_adam": self._critic_adam,
        }

    def state_dict(self) -> dict[str, Tensor]:
        return state_of(self._parts(), self.gradient_step, self._generator)

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        self.gradient_step = load_state(state, self._parts(), self._generator)
