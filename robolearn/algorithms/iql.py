"""Implicit Q-learning.

Kostrikov et al., "Offline reinforcement learning with implicit Q-learning", ICLR 2022: values of the best actions that
the data shows, without ever asking for the value of another one. Legend: B batch, E critics, A action.

    u      = min_e Q'_e(s, a) - V(s)
    value  = mean of |expectile - [u < 0]| * u^2
    critic = mean over B, sum over E of (Q_e(s, a) - r - discount * bootstrap * V(s'))^2
    actor  = mean of -min(exp(inverse_temperature * u), max_weight) * log pi(a | s)

The actor is a Gaussian about tanh of its network, of a width that is the same everywhere; its learning rate falls by a
cosine over a whole run offline, as in the paper. Differences: V(s') and u are those from before the step, as in the
CORL implementation. Encoders of images learn from the critics and the actor, which imitates and so steadies them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor

from robolearn.algorithms.algorithm import Batch, DataKind, Metrics
from robolearn.algorithms.compile import Wrapper, plain
from robolearn.algorithms.optimizer import OVER_A_RUN, Adam, cosine_learning_rate, polyak_update, step_together
from robolearn.algorithms.state import load_state, state_of
from robolearn.networks.augmentation import shifted_at
from robolearn.networks.critic import Critic
from robolearn.networks.mlp import mlp
from robolearn.networks.normalizer import Statistics
from robolearn.policies.gaussian import GaussianPolicy, GaussianPolicyConfig
from robolearn.specs import InterfaceSpec


@dataclass(frozen=True)
class IQLConfig:
    """Settings of IQL."""

    distributions: ClassVar[tuple[str, ...]] = ("squashed", "clipped", "mixture")  # that `policy.distribution` may be

    policy: GaussianPolicyConfig = field(
        default_factory=lambda: GaussianPolicyConfig(distribution="clipped", log_std_low=-5.0)
    )
    critic_hidden_sizes: tuple[int, ...] = (256, 256)  # and of the value
    steps: int = 100_000  # of a run: gradient steps offline, environment steps online
    batch_size: int = 256  # of each update
    utd: int = 1  # updates per environment step
    discount: float = 0.99  # per environment step
    polyak: float = 0.005  # share of the way that the target critics move each step
    learning_rate: float = 3e-4  # of value and critics; of the actor where it begins
    decay_steps: int = OVER_A_RUN  # over which the actor's learning rate falls to 0; 0: it stays; -1: over a run
    expectile: float = 0.7  # 0.5 is the mean of the data's actions, 1 their maximum; 0.9 for mazes
    inverse_temperature: float = 3.0  # 0 is behaviour cloning; 10 for mazes
    max_weight: float = 100.0  # of an action in the actor's loss
    max_shift_px: int = 2  # random shift of images, where the policy sees some; 0 for none


def expectile_loss(difference: Tensor, expectile: float) -> Tensor:
    """Squared differences, those above 0 weighted by `expectile` and those below by 1 - `expectile` (equation 4)."""
    weight = torch.where(difference > 0, expectile, 1.0 - expectile)
    return weight * difference.square()


class IQL:
    """Learns from the transitions of others, and goes on with its own."""

    config_type: ClassVar[Any] = IQLConfig
    learns_from: ClassVar[DataKind] = "transitions"
    sees_images: ClassVar[bool] = True
    metrics: ClassVar[tuple[str, ...]] = ("value_loss", "value", "critic_loss", "actor_loss", "weight")

    def __init__(
        self,
        spec: InterfaceSpec,
        statistics: Statistics,
        config: IQLConfig,
        seed: int = 0,
        device: str = "cpu",
        wrapper: Wrapper = plain,
    ) -> None:
        self.config = config
        self.gradient_step, self._seed = 0, seed
        self.actor = GaussianPolicy(spec, statistics, config.policy, seed).to(device)
        state_size, action_size = self.actor.state_size, self.actor.action_size
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed + 1)
            self.critic = Critic(2, state_size, action_size, config.critic_hidden_sizes).to(device)
            self.value = mlp((state_size, *config.critic_hidden_sizes, 1)).to(device)
        self.target = Critic(2, state_size, action_size, config.critic_hidden_sizes).to(device).requires_grad_(False)
        self.target.load_state_dict(self.critic.state_dict())
        self._actor_adam = Adam(self.actor.head_parameters(), config.learning_rate)
        critical = [*self.critic.parameters(), *self.actor.encoder_parameters()]
        self._critic_adam = Adam(critical, config.learning_rate)
        self._value_adam = Adam(self.value.parameters(), config.learning_rate)
        self._targets, self._sources = list(self.target.parameters()), list(self.critic.parameters())
        self._step = wrapper(self._gradient_step)

    def advantage(self, state: Tensor, action: Tensor) -> Tensor:
        """u (B,), differentiable with respect to the value alone."""
        with torch.no_grad():
            value = self.target(state, action).amin(0)
        return value - self.value(state).squeeze(-1)

    def value_loss(self, advantage: Tensor) -> Tensor:
        """Moves the value to an expectile of the critics."""
        return expectile_loss(advantage, self.config.expectile).mean()

    def critic_loss(self, batch: Batch, state: Tensor, action: Tensor, next_value: Tensor) -> Tensor:
        """Squared distance of both critics to the target that the next value (B,) makes."""
        target = batch["reward"] + batch["discount"] * batch["bootstrap"] * next_value
        return (self.critic(state, action) - target).square().mean(-1).sum()

    def actor_loss(self, state: Tensor, action: Tensor, advantage: Tensor) -> tuple[Tensor, Tensor]:
        """Likelihood of the data's actions, weighted by how good they are; and the weights (B,)."""
        weight = (self.config.inverse_temperature * advantage).exp().clamp_max(self.config.max_weight)
        return -(weight * self.actor.log_prob(state, action)).mean(), weight

    def _losses(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor, Metrics]:
        """Of value, critics and actor, all as things stand before the step."""
        state, action = self.actor.features(batch), self.actor.normalized_action(batch["action"])
        with torch.no_grad():
            next_value = self.value(self.actor.features(batch, "next_")).squeeze(-1)
        critic_loss = self.critic_loss(batch, state, action, next_value)
        advantage = self.advantage(state.detach(), action)  # encoders of images learn from critics and actor alone
        value_loss = self.value_loss(advantage)
        actor_loss, weight = self.actor_loss(state, action, advantage.detach())
        metrics = {
            "value_loss": value_loss.detach(),
            "value": next_value.mean(),
            "critic_loss": critic_loss.detach(),
            "actor_loss": actor_loss.detach(),
            "weight": weight.mean(),
        }
        return value_loss, critic_loss, actor_loss, metrics

    def _gradient_step(self, batch: Batch) -> Metrics:
        """One update of everything."""
        value_loss, critic_loss, actor_loss, metrics = self._losses(batch)
        step_together(value_loss + critic_loss + actor_loss, self._value_adam, self._critic_adam, self._actor_adam)
        polyak_update(self._targets, self._sources, self.config.polyak)
        return metrics

    def update(self, batch: Batch) -> Metrics:
        size = self.config.batch_size
        metrics: Metrics = {}
        for i in range(len(batch["reward"]) // size):
            if self.config.decay_steps > 0:
                self._actor_adam.learning_rate.fill_(
                    cosine_learning_rate(self.gradient_step, self.config.learning_rate, 0, self.config.decay_steps)
                )
            rows = {name: values[i * size : (i + 1) * size] for name, values in batch.items()}
            shift_px = self.config.max_shift_px
            metrics = self._step(shifted_at(rows, self.actor.cameras, shift_px, self._seed, self.gradient_step))
            self.gradient_step += 1
        return metrics

    def validate(self, batch: Batch) -> Metrics:
        with torch.no_grad():
            return self._losses(batch)[3]

    def policy(self) -> GaussianPolicy:
        return self.actor

    def _parts(self) -> dict[str, Any]:
        return {
            "actor": self.actor,
            "critic": self.critic,
            "value": self.value,
            "target": self.target,
            "actor_adam": self._actor_adam,
            "critic_adam": self._critic_adam,
            "value_adam": self._value_adam,
        }

    def state_dict(self) -> dict[str, Tensor]:
        return state_of(self._parts(), self.gradient_step)

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        self.gradient_step = load_state(state, self._parts())
