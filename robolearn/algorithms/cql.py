"""Conservative Q-learning.

Kumar et al., "Conservative Q-learning for offline reinforcement learning", NeurIPS 2020, the variant CQL(H): SAC whose
critics are pushed down on actions that the data does not show and up on those that it does. Legend: B batch, E critics,
A action, N sampled actions; s' next state.

    y      = r + discount * bootstrap * (min_e Q'_e(s', a') - alpha * log pi(a' | s')),   a' ~ pi(s'), by default
             without the entropy
    soft   = t * log mean exp over N actions each of uniform, pi(s) and pi(s') of Q_e(s, a) / t - log density(a)
    critic = mean over B, sum over E of (Q_e(s, a) - y)^2 + conservatism * (soft - Q_e(s, a))
    actor  = mean of alpha * log pi(a | s) - min_e Q_e(s, a),      a ~ pi(s)
    alpha  = mean of -log(alpha) * (log pi(a | s) + target_entropy)

Differences: the policy is evaluated once a state and N actions are drawn from the answer, where others evaluate it N
times; all 3 N + 1 actions of a state go through the critics in one product. `soft` is a mean, not a sum, over the
actions, which shifts it by the constant t * log(3 N). No Lagrange multiplier. t, the scale of the push, says what
difference of values is a large one; others have 1 and multiply rewards by 10 instead, which is the same as t = 0.1 with
conservatism / 10, but for the temperature. With t far above what actions differ by, densities decide: the push then
meets uniform actions alone, not the policy's, and values of the data rise without bound.
"""

from __future__ import annotations

import math
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
class CQLConfig:
    """Settings of CQL."""

    distributions: ClassVar[tuple[str, ...]] = ("squashed", "clipped")  # that `policy.distribution` may be

    policy: GaussianPolicyConfig = field(default_factory=GaussianPolicyConfig)
    critic_hidden_sizes: tuple[int, ...] = (256, 256, 256)
    critic_layer_norm: bool = False
    num_critics: int = 2
    steps: int = 100_000  # of a run: gradient steps offline, environment steps online
    batch_size: int = 256  # of each update
    utd: int = 1  # updates per environment step
    discount: float = 0.99  # per environment step
    polyak: float = 0.005  # share of the way that the target critics move each step
    actor_learning_rate: float = 1e-4
    critic_learning_rate: float = 3e-4
    temperature_learning_rate: float = 1e-4
    initial_temperature: float = 1.0
    target_entropy_per_action: float = -1.0  # times A
    backup_entropy: bool = False  # whether the target counts the entropy of the next action; the authors' code does not
    conservatism: float = 5.0  # weight of the push; 10 on narrow data
    push_scale: float = 1.0  # t, in the unit of the reward: a tenth of what a success is worth, or less
    num_actions: int = 10  # N
    max_shift_px: int = 2  # random shift of images, where the policy sees some; 0 for none


class CQL:
    """Learns from the transitions of others, and goes on with its own."""

    config_type: ClassVar[Any] = CQLConfig
    learns_from: ClassVar[DataKind] = "transitions"
    sees_images: ClassVar[bool] = True
    metrics: ClassVar[tuple[str, ...]] = ("critic_loss", "gap", "value", "actor_loss", "entropy", "temperature")

    def __init__(
        self,
        spec: InterfaceSpec,
        statistics: Statistics,
        config: CQLConfig,
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
        self._step = wrapper(self._gradient_step)

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

    def target_value(self, batch: Batch, next_state: Tensor, next_action: Tensor, log_prob: Tensor) -> Tensor:
        """y (B,), which nothing is differentiated through. next_action: (B, A), log_prob: its (B,)."""
        value = self.target(next_state, next_action).amin(0)
        if self.config.backup_entropy:
            value = value - self.log_temperature.exp() * log_prob
        return batch["reward"] + batch["discount"] * batch["bootstrap"] * value

    def critic_loss(self, batch: Batch, uniform: Tensor, noise: Tensor) -> tuple[Tensor, Metrics]:
        """Distance to the target, and the push. uniform: (N, B, A) in [0, 1); noise: (2, N, B, A)."""
        state, action = self.actor.features(batch), self.actor.normalized_action(batch["action"])
        count = self.config.num_actions
        with torch.no_grad():
            next_state = self.actor.features(batch, "next_")
            here, here_log_prob = self.actor.draw(state, noise[0])
            there, there_log_prob = self.actor.draw(next_state, noise[1])
            anywhere = 2.0 * uniform - 1.0
            target = self.target_value(batch, next_state, there[0], there_log_prob[0])
            tried = torch.cat([each.transpose(0, 1) for each in (action[None], anywhere, here, there)], dim=1)
        values = self.critic.of_many(state, tried).transpose(1, 2)  # (E, 1 + 3 N, B)
        uniform_log_prob = torch.full_like(here_log_prob, -math.log(2.0) * action.shape[-1])
        density = torch.cat([uniform_log_prob, here_log_prob, there_log_prob])
        pushed, push_metrics = self.pushed(values[:, 1:], batch)
        scale = self.config.push_scale
        soft = scale * ((pushed / scale - density).logsumexp(1) - math.log(3 * count))
        gap = soft - values[:, 0]
        distance = (values[:, 0] - target).square()
        loss = (distance + self.config.conservatism * gap).mean(-1).sum()
        return loss, {
            "critic_loss": distance.detach().mean(-1).sum(),
            "gap": gap.detach().mean(),
            **push_metrics,
            "value": values[:, 0].detach().mean(),
        }

    def pushed(self, values: Tensor, batch: Batch) -> tuple[Tensor, Metrics]:
        """What the push sees of the values (E, 3 N, B) of uniform actions, then those of pi(s) and pi(s'): all."""
        return values, {}

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

    def _gradient_step(self, batch: Batch, uniform: Tensor, noise: Tensor) -> Metrics:
        """One update of everything. uniform: (N, B, A), noise: (2 N + 1, B, A)."""
        loss, critic_metrics = self.critic_loss(batch, uniform, noise[1:].unflatten(0, (2, -1)))
        self._critic_adam.step(loss)
        loss, log_prob, actor_metrics = self.actor_loss(batch, noise[0])
        self._actor_adam.step(loss)
        loss, temperature_metrics = self.temperature_loss(log_prob)
        self._temperature_adam.step(loss)
        polyak_update(self._targets, self._sources, self.config.polyak)
        return critic_metrics | actor_metrics | temperature_metrics

    def update(self, batch: Batch) -> Metrics:
        size = self.config.batch_size
        metrics: Metrics = {}
        for i in range(len(batch["reward"]) // size):
            rows = {name: values[i * size : (i + 1) * size] for name, values in batch.items()}
            rows = shifted(rows, self.actor.cameras, self.config.max_shift_px, self._generator)
            metrics = self._step(rows, *self._draw(size, self._generator))
            self.gradient_step += 1
        return metrics

    def validate(self, batch: Batch) -> Metrics:
        generator = torch.Generator(self._generator.device).manual_seed(0)
        uniform, noise = self._draw(len(batch["reward"]), generator)
        with torch.no_grad():
            critic_metrics = self.critic_loss(batch, uniform, noise[1:].unflatten(0, (2, -1)))[1]
            return critic_metrics | self.actor_loss(batch, noise[0])[2]

    def policy(self) -> GaussianPolicy:
        return self.actor

    def _draw(self, size: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Uniform numbers (N, B, A) and noise (2 N + 1, B, A) of one update."""
        count, device = self.config.num_actions, generator.device
        uniform = torch.rand((count, size, self.actor.action_size), generator=generator, device=device)
        noise = torch.randn((2 * count + 1, size, self.actor.action_size), generator=generator, device=device)
        return uniform, noise

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
