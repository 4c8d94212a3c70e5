"""DSAC-T: distributional soft actor-critic with three refinements.

Duan et al., "DSAC-T: Distributional soft actor-critic with three refinements", 2023 (arXiv 2310.05858): the critics
tell mean q and spread sigma of the return as a Gaussian, which lessens overestimation and scales the gradients by
themselves. Legend: B batch, E critics, A action; s' next state, a' ~ pi'(s'), whose parameters follow those of pi as q'
follows q; m the critic whose mean of (s', a') is the smaller; n standard normal noise, at most 3.

    y      = r + discount * bootstrap * (q'_m - alpha * log pi'(a' | s'))                    target of the mean
    z      = r + discount * bootstrap * (q'_m + sigma'_m * n - alpha * log pi'(a' | s'))     a draw of the return
    z_e    = q_e + clip(z - q_e, -3 b_e, 3 b_e),      b_e a running mean of sigma_e
    w_e    = clip(b_e^2 / (sigma_e^2 + 0.1), 0.1, 10)
    critic = mean over B, sum over E of w_e * (huber(q_e - y) + sigma_e * [(sigma_e^2 - 2 huber(q_e - z_e)) /
             (sigma_e + 0.1)]),  nothing is differentiated through [...] and w_e
    actor  = mean of alpha * log pi(a | s) - min_e q_e(s, a)
    alpha  = mean of -log(alpha) * (log pi(a | s) + target_entropy)

huber(x) is x^2 / 2 up to 50 and linear beyond. Actor, temperature and targets move every `policy_delay` steps.
Differences from the authors' code: layers (ReLU, 2 x 256), learning rates, the first temperature and the bounds of the
policy's width are those of SAC here. `policy_delay` is 1, not 2: they update once for 20 new transitions, and so often
that it does not matter how soon the temperature and the values arrive. Here, with an update a step, a delay of 2 would
have them take twice as many steps as SAC's (values follow by polyak * (1 - discount) an update: 1 / 20,000); their port
to Stable-Baselines3, with an update a step too, delays actor and targets, but no longer the temperature. And their code
has no 2 before the huber of the spread, which is in the paper's gradient, and without which sigma tends to the
standard deviation of the return divided by the square root of 2.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from robolearn.algorithms.algorithm import Batch, DataKind, Metrics
from robolearn.algorithms.compile import Wrapper, plain
from robolearn.algorithms.optimizer import Adam, polyak_update
from robolearn.algorithms.state import load_state, state_of
from robolearn.networks.critic import Critic
from robolearn.networks.normalizer import Statistics
from robolearn.policies.gaussian import GaussianPolicy, GaussianPolicyConfig
from robolearn.specs import InterfaceSpec


@dataclass(frozen=True)
class DSACConfig:
    """Settings of DSAC-T."""

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
    policy_delay: int = 1  # critic updates per update of the actor, the temperature and the targets


HUBER_DELTA = 50.0
NOISE_LIMIT = 3.0  # standard deviations of a drawn return, and of the distance that counts
SOFTENING = 0.1  # keeps the loss finite where the spread is nothing


class DSAC:
    """Learns from transitions, its own or others'."""

    config_type: ClassVar[Any] = DSACConfig
    learns_from: ClassVar[DataKind] = "transitions"
    metrics: ClassVar[tuple[str, ...]] = (
        "critic_loss",
        "value",
        "value_std",
        "actor_loss",
        "entropy",
        "temperature",
    )

    def __init__(
        self,
        spec: InterfaceSpec,
        statistics: Statistics,
        config: DSACConfig,
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
            self.critic = Critic(2, state_size, action_size, config.critic_hidden_sizes, outputs=2).to(device)
        self.target = (
            Critic(2, state_size, action_size, config.critic_hidden_sizes, outputs=2).to(device).requires_grad_(False)
        )
        self.target.load_state_dict(self.critic.state_dict())
        self.actor_target = GaussianPolicy(spec, statistics, config.policy, seed).to(device).requires_grad_(False)
        self.log_temperature = torch.tensor(config.initial_temperature, device=device).log().requires_grad_()
        self.target_entropy = config.target_entropy_per_action * action_size
        self._actor_adam = Adam(self.actor.parameters(), config.actor_learning_rate)
        self._critic_adam = Adam(self.critic.parameters(), config.critic_learning_rate)
        self._temperature_adam = Adam([self.log_temperature], config.temperature_learning_rate)
        self._targets = [*self.target.parameters(), *self.actor_target.parameters()]
        self._sources = [*self.critic.parameters(), *self.actor.parameters()]
        self.spread = torch.zeros((2, 1), device=device)  # b_e; 0 before the first step
        self._critic_step = wrapper(self._update_critic)
        self._actor_step = wrapper(self._update_actor)
        self._last: Metrics = {}  # of the actor, until its next update

    @staticmethod
    def returns(critic: Critic, state: Tensor, action: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation (E, B) of the return."""
        mean, spread = critic(state, action).unbind(-1)
        return mean, functional.softplus(spread)

    def target_values(self, batch: Batch, noise: Tensor, return_noise: Tensor) -> tuple[Tensor, Tensor]:
        """y and z (B,), which nothing is differentiated through. noise: (B, A), return_noise: (B,)."""
        with torch.no_grad():
            next_state = self.actor_target.features(batch, "next_")
            action, log_prob = self.actor_target.draw(next_state, noise)
            mean, spread = self.returns(self.target, next_state, action)
            drawn = mean + spread * return_noise.clamp(-NOISE_LIMIT, NOISE_LIMIT)
            first = mean[0] < mean[1]
            entropy = self.log_temperature.exp() * log_prob if self.config.backup_entropy else 0.0
            factor = batch["discount"] * batch["bootstrap"]
            value = batch["reward"] + factor * (mean.amin(0) - entropy)
            return value, batch["reward"] + factor * (torch.where(first, drawn[0], drawn[1]) - entropy)

    def critic_loss(self, batch: Batch, noise: Tensor, return_noise: Tensor) -> tuple[Tensor, Tensor, Metrics]:
        """Loss of the distributions, and the running spreads b_e (E, 1) that it used."""
        target, drawn = self.target_values(batch, noise, return_noise)
        action = self.actor.normalized_action(batch["action"])
        mean, spread = self.returns(self.critic, self.actor.features(batch), action)
        fixed_mean, fixed_spread = mean.detach(), spread.detach()
        now = fixed_spread.mean(-1, keepdim=True)
        running = torch.where(self.spread > 0, self.spread.lerp(now, self.config.polyak), now)
        limit = NOISE_LIMIT * running
        bounded = fixed_mean + (drawn - fixed_mean).clamp(-limit, limit)
        weight = (running.square() / (fixed_spread.square() + SOFTENING)).clamp(0.1, 10.0)
        of_mean = functional.huber_loss(mean, target.expand_as(mean), reduction="none", delta=HUBER_DELTA)
        distance = 2.0 * functional.huber_loss(fixed_mean, bounded, reduction="none", delta=HUBER_DELTA)
        of_spread = spread * (fixed_spread.square() - distance) / (fixed_spread + SOFTENING)
        loss = (weight * (of_mean + of_spread)).mean(-1).sum()
        metrics = {"critic_loss": of_mean.detach().mean(-1).sum()}
        return loss, running, metrics | {"value": fixed_mean.mean(), "value_std": fixed_spread.mean()}

    def actor_loss(self, batch: Batch, noise: Tensor) -> tuple[Tensor, Tensor, Metrics]:
        """Loss of the actor, and the log-probabilities (B,) of its actions. noise: (B, A)."""
        state = self.actor.features(batch)
        action, log_prob = self.actor.draw(state, noise)
        value = self.returns(self.critic, state, action)[0].amin(0)
        loss = (self.log_temperature.exp().detach() * log_prob - value).mean()
        return loss, log_prob.detach(), {"actor_loss": loss.detach(), "entropy": -log_prob.detach().mean()}

    def temperature_loss(self, log_prob: Tensor) -> tuple[Tensor, Metrics]:
        """Raises the temperature where the entropy -log_prob is below its target."""
        loss = -(self.log_temperature * (log_prob + self.target_entropy).mean())
        return loss, {"temperature": self.log_temperature.detach().exp()}

    def _update_critic(self, batch: Batch, noise: Tensor, return_noise: Tensor) -> Metrics:
        loss, running, metrics = self.critic_loss(batch, noise, return_noise)
        self._critic_adam.step(loss)
        self.spread.copy_(running)
        return metrics

    def _update_actor(self, batch: Batch, noise: Tensor) -> Metrics:
        loss, log_prob, actor_metrics = self.actor_loss(batch, noise)
        self._actor_adam.step(loss)
        loss, temperature_metrics = self.temperature_loss(log_prob)
        self._temperature_adam.step(loss)
        polyak_update(self._targets, self._sources, self.config.polyak)
        return actor_metrics | temperature_metrics

    def update(self, batch: Batch) -> Metrics:
        size = self.config.batch_size
        updates = len(batch["reward"]) // size
        noise = self._noise(updates, size, self._generator)
        metrics: Metrics = {}
        for i in range(updates):
            rows = {name: values[i * size : (i + 1) * size] for name, values in batch.items()}
            metrics = self._critic_step(rows, noise[i, 0, :, :-1], noise[i, 0, :, -1])
            if self.gradient_step % self.config.policy_delay == 0:
                self._last = self._actor_step(rows, noise[i, 1, :, :-1])
            self.gradient_step += 1
        return metrics | self._last

    def validate(self, batch: Batch) -> Metrics:
        noise = self._noise(1, len(batch["reward"]), torch.Generator(self._generator.device).manual_seed(0))[0]
        with torch.no_grad():
            critic_metrics = self.critic_loss(batch, noise[0, :, :-1], noise[0, :, -1])[2]
            return critic_metrics | self.actor_loss(batch, noise[1, :, :-1])[2]

    def policy(self) -> GaussianPolicy:
        return self.actor

    def _noise(self, updates: int, size: int, generator: torch.Generator) -> Tensor:
        """(updates, 2, B, A + 1); the last entry is that of the return."""
        shape = (updates, 2, size, self.actor.action_size + 1)
        return torch.randn(shape, generator=generator, device=generator.device)

    def _parts(self) -> dict[str, Any]:
        return {
            "actor": self.actor,
            "critic": self.critic,
            "target": self.target,
            "actor_target": self.actor_target,
            "actor_adam": self._actor_adam,
            "critic_adam": self._critic_adam,
            "temperature_adam": self._temperature_adam,
        }

    def state_dict(self) -> dict[str, Tensor]:
        return state_of(
            self._parts(), self.gradient_step, self._generator, log_temperature=self.log_temperature, spread=self.spread
        )

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        self.gradient_step = load_state(
            state, self._parts(), self._generator, log_temperature=self.log_temperature, spread=self.spread
        )
