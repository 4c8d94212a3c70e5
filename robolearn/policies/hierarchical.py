"""A policy that is told where to get to: it thinks of a subgoal, then of the action that leads there.

Park et al. 2023 (HIQL). Legend: B batch, S entries of all vectors, A action, R representation of a subgoal.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor, nn

from robolearn.networks.goal_value import of_one_length
from robolearn.networks.mlp import mlp
from robolearn.networks.normalizer import ObservationNormalizer, Statistics
from robolearn.policies.gaussian import vector_spec
from robolearn.policies.tensors import action_chunk, observation_tensors
from robolearn.specs import GOAL_PREFIX, InterfaceSpec
from robolearn.types import ActionChunk, Observation


@dataclass(frozen=True)
class HierarchicalPolicyConfig:
    """Shape of a HierarchicalPolicy."""

    hidden_sizes: tuple[int, ...] = (512, 512, 512)  # of both levels
    representation_size: int = 10  # R: of a subgoal
    privileged: bool = False  # see the poses of bodies, which only a simulation knows


class HierarchicalPolicy(nn.Module):
    """Implements `Policy`. Of every vector it looks at, `<field>`, it wants `goal_<field>` too: what it is to be."""

    config_type: ClassVar = HierarchicalPolicyConfig

    def __init__(
        self, spec: InterfaceSpec, statistics: Statistics, config: HierarchicalPolicyConfig, seed: int = 0
    ) -> None:
        super().__init__()
        fields = {k: v for k, v in spec.observation.items() if not k.startswith(GOAL_PREFIX)}
        seen = vector_spec(replace(spec, observation=fields), config.privileged)
        self.fields = tuple(seen.observation)
        goals = {GOAL_PREFIX + name: field for name, field in seen.observation.items()}
        self.spec = replace(seen, observation={**seen.observation, **goals})
        self.statistics = {name: statistics[name] for name in self.fields if name in statistics}
        self.config = config
        self.normalizers = nn.ModuleDict({name: ObservationNormalizer(each) for name, each in self.statistics.items()})
        self.state_size = sum(field.shape[0] for field in seen.observation.values())
        self.action_size = self.spec.action.shape[0]
        low, high = torch.tensor(self.spec.action.low), torch.tensor(self.spec.action.high)
        self.register_buffer("action_middle", (low + high) / 2, persistent=False)
        self.register_buffer("action_half", (high - low) / 2, persistent=False)
        size, hidden, representation = self.state_size, config.hidden_sizes, config.representation_size
        with torch.random.fork_rng(devices=[]):  # the caller's random numbers stay as they were
            torch.manual_seed(seed)
            self.high = mlp((2 * size, *hidden, representation), layer_norm=True)
            self.low = mlp((size + representation, *hidden, self.action_size), layer_norm=True)

    def features(self, observation: Mapping[str, Tensor], prefix: str = "") -> Tensor:
        """Normalised vectors (B, S) of a batch whose fields are named `<prefix><field>`."""
        values = {name: observation[prefix + name] for name in self.fields}
        known = self.normalizers
        return torch.cat([known[name](value) if name in known else value for name, value in values.items()], dim=-1)

    def subgoal(self, state: Tensor, goal: Tensor) -> Tensor:
        """The mean (B, R) of the subgoals on the way from `features` to a goal, not yet at one length."""
        return self.high(torch.cat([state, goal], dim=-1))

    def action(self, state: Tensor, subgoal: Tensor) -> Tensor:
        """The mean (B, A) of the actions towards a represented subgoal (B, R), in [-1, 1] where it is good."""
        return self.low(torch.cat([state, subgoal], dim=-1))

    def normalized_action(self, action: Tensor) -> Tensor:
        """From the units of the action spec to [-1, 1]."""
        return (action - self.get_buffer("action_middle")) / self.get_buffer("action_half")

    @torch.no_grad()
    def best(self, observation: Mapping[str, Tensor]) -> Tensor:
        """The means of both levels: actions (B, A) in the units of the action spec."""
        state, goal = self.features(observation), self.features(observation, GOAL_PREFIX)
        action = self.action(state, of_one_length(self.subgoal(state, goal))).clamp(-1.0, 1.0)
        return action * self.get_buffer("action_half") + self.get_buffer("action_middle")

    def reset(self, seed: int = 0) -> None:
        """Nothing to forget: every action follows from one observation and the goal in it."""

    def act(self, observation: Observation, stamp_ns: int) -> ActionChunk:
        """One action (1, A) within the limits of the action spec. Raises SpecError for a wrong observation."""
        batch = observation_tensors(self.spec, observation, self.get_buffer("action_half").device)
        return action_chunk(self.spec, self.best(batch), stamp_ns)
