"""Hierarchical implicit Q-learning: getting anywhere that a dataset has been, without rewards, by subgoals.

Park et al., "HIQL: Offline goal-conditioned RL with latent states as actions", NeurIPS 2023; the option-aware value of
Ahn et al., "Option-aware temporally abstracted value for offline goal-conditioned reinforcement learning" (OTA), 2025.
Legend: B batch; s state, s' the next, s_n the state n steps on; g goal, w the state k steps on (the goal where that is
nearer); phi(s, g) representation of a goal; V two values; r = 0 where the goal is reached, else -1.

    y_i    = r + discount * bootstrap * V'_i(s', g),   A = min_i y_i - mean_i V'_i(s, g)
    value  = mean over B, sum over both of |expectile - [A < 0]| * (y_i - V_i(s, g))^2
    low    = mean of -min(exp(inverse_temperature * (V(s', w) - V(s, w))), max_weight) * log pi_l(a | s, phi(s, w))
    high   = mean of -min(exp(high_inverse_temperature * (V_h(w) - V_h(s))), max_weight) * log pi_h(phi(s, w) | s, g)

V_h is V(., g), as in HIQL, or with `option_steps` = n a value of its own that counts options of n steps in the place of
steps: r = 0 where the goal is reached within n, and s_n in the place of s'. Distances shrink n times, and with them the
noise that makes the order of far states wrong. Both policies are Gaussians of width 1. Differences: ReLU in the place
of GELU.
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
from robolearn.datasets.goals import GoalConfig
from robolearn.networks.goal_value import GoalValue
from robolearn.networks.normalizer import Statistics
from robolearn.policies.hierarchical import HierarchicalPolicy, HierarchicalPolicyConfig
from robolearn.specs import InterfaceSpec

VALUE_GOALS = GoalConfig(offset="geometric")
FAR_GOALS = GoalConfig(current=0.0, future=1.0, other=0.0)


@dataclass(frozen=True)
class HIQLConfig:
    """Settings of HIQL."""

    policy: HierarchicalPolicyConfig = field(default_factory=HierarchicalPolicyConfig)
    value_hidden_sizes: tuple[int, ...] = (512, 512, 512)
    steps: int = 100_000  # gradient steps of a run
    batch_size: int = 1024  # of each update
    discount: float = 0.99  # per step, or per option of the high level
    polyak: float = 0.005  # share of the way that the target values move each step
    learning_rate: float = 3e-4
    expectile: float = 0.7
    inverse_temperature: float = 3.0  # of the low level
    high_inverse_temperature: float = 3.0
    max_weight: float = 100.0  # of a sample in the loss of a policy
    subgoal_steps: int = 25  # k: how far ahead a subgoal is
    option_steps: int = 0  # n of the high level's own value; 0: both levels share one, as in HIQL
    goals: GoalConfig = VALUE_GOALS
    far_goals: GoalConfig = FAR_GOALS  # of the high level


class HIQL:
    """Learns from the steps of others where they can lead."""

    config_type: ClassVar[Any] = HIQLConfig
    learns_from: ClassVar[DataKind] = "goals"
    metrics: ClassVar[tuple[str, ...]] = ("value_loss", "value", "low_loss", "high_loss", "weight", "high_weight")

    def __init__(
        self,
        spec: InterfaceSpec,
        statistics: Statistics,
        config: HIQLConfig,
        seed: int = 0,
        device: str = "cpu",
        wrapper: Wrapper = plain,
    ) -> None:
        self.config = config
        self.gradient_step = 0
        self.actor = HierarchicalPolicy(spec, statistics, config.policy, seed).to(device)
        size, representation = self.actor.state_size, config.policy.representation_size
        names = ("value", "high_value") if config.option_steps else ("value",)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed + 1)
            self.values = torch.nn.ModuleDict(
                {name: GoalValue(size, config.value_hidden_sizes, representation) for name in names}
            ).to(device)
            self.targets = torch.nn.ModuleDict(
                {name: GoalValue(size, config.value_hidden_sizes, representation) for name in names}
            ).to(device)
        self.targets.requires_grad_(False).load_state_dict(self.values.state_dict())
        self._value_adam = Adam(self.values.parameters(), config.learning_rate)
        self._actor_adam = Adam(self.actor.parameters(), config.learning_rate)
        self._targets, self._sources = list(self.targets.parameters()), list(self.values.parameters())
        self._step = wrapper(self._gradient_step)

    def value_loss(self, name: str, batch: Batch, option: str = "") -> tuple[Tensor, Tensor]:
        """Moves a value to an expectile of what follows, a step or an option later; and its mean."""
        value: Any = self.values[name]
        target: Any = self.targets[name]
        features = self.actor.features
        state, goal = features(batch), features(batch, "goal_")
        with torch.no_grad():
            following = features(batch, option or "next_")
            reward, kept = batch[f"{option}reward"], self.config.discount * batch[f"{option}bootstrap"]
            ahead = target(following, goal)
            advantage = reward + kept * ahead.amin(0) - target(state, goal).mean(0)
            weight = torch.where(advantage >= 0, self.config.expectile, 1.0 - self.config.expectile)
        now = value(state, goal)
        return (weight * (reward + kept * ahead - now).square()).mean(-1).sum(), now.detach().mean()

    def low_loss(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Likelihood of the data's actions towards subgoals, weighted by how much nearer they led; and the weight."""
        value: Any = self.values["value"]
        features = self.actor.features
        state, way = features(batch), features(batch, "way_")
        with torch.no_grad():
            gain = (value(features(batch, "next_"), way) - value(state, way)).mean(0)
            weight = (self.config.inverse_temperature * gain).exp().clamp_max(self.config.max_weight)
            subgoal = value.represent(state, way)
        action = self.actor.action(state, subgoal)
        log_prob = -0.5 * (action - self.actor.normalized_action(batch["action"])).square().sum(-1)
        return -(weight * log_prob).mean(), weight.mean()

    def high_loss(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Likelihood of the data's subgoals on the way to far goals, weighted by how much nearer they led; and the
        weight."""
        value: Any = self.values["value"]
        high: Any = self.values["high_value" if self.config.option_steps else "value"]
        features = self.actor.features
        state, goal, target = features(batch), features(batch, "far_"), features(batch, "target_")
        with torch.no_grad():
            gain = (high(target, goal) - high(state, goal)).mean(0)
            weight = (self.config.high_inverse_temperature * gain).exp().clamp_max(self.config.max_weight)
            subgoal = value.represent(state, target)
        log_prob = -0.5 * (self.actor.subgoal(state, goal) - subgoal).square().sum(-1)
        return -(weight * log_prob).mean(), weight.mean()

    def _losses(self, batch: Batch) -> tuple[Tensor, Tensor, Metrics]:
        """Of values and policies, all as things stand before the step."""
        value_loss, value = self.value_loss("value", batch)
        if self.config.option_steps:
            value_loss = value_loss + self.value_loss("high_value", batch, "option_")[0]
        low_loss, weight = self.low_loss(batch)
        high_loss, high_weight = self.high_loss(batch)
        metrics = {
            "value_loss": value_loss.detach(),
            "value": value,
            "low_loss": low_loss.detach(),
            "high_loss": high_loss.detach(),
            "weight": weight,
            "high_weight": high_weight,
        }
        return value_loss, low_loss + high_loss, metrics

    def _gradient_step(self, batch: Batch) -> Metrics:
        value_loss, actor_loss, metrics = self._losses(batch)
        self._value_adam.step(value_loss)
        self._actor_adam.step(actor_loss)
        polyak_update(self._targets, self._sources, self.config.polyak)
        return metrics

    def update(self, batch: Batch) -> Metrics:
        size = self.config.batch_size
        metrics: Metrics = {}
        for i in range(len(batch["reward"]) // size):
            metrics = self._step({name: values[i * size : (i + 1) * size] for name, values in batch.items()})
            self.gradient_step += 1
        return metrics

    def validate(self, batch: Batch) -> Metrics:
        with torch.no_grad():
            return self._losses(batch)[2]

    def policy(self) -> HierarchicalPolicy:
        return self.actor

    def _parts(self) -> dict[str, Any]:
        return {
            "actor": self.actor,
            "value": self.values,
            "target": self.targets,
            "actor_adam": self._actor_adam,
            "value_adam": self._value_adam,
        }

    def state_dict(self) -> dict[str, Tensor]:
        return state_of(self._parts(), self.gradient_step)

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        self.gradient_step = load_state(state, self._parts())
