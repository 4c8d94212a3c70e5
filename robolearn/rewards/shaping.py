"""Potential-based reward shaping: the only way in which progress reaches RL.

Ng, Harada and Russell, "Policy invariance under reward transformations", 1999; the terminal rule: Grzes, "Reward
shaping in episodic reinforcement learning", 2017; potentials that change while learning: Devlin and Kudenko 2012; used
for robot progress models by Robo-Dopamine (Dopamine-RL). With potential F and discount g, over n steps:

    r' = r + scale (g^n bootstrap F(s') - F(s))        bootstrap: 0 where terminated, by success or failure, else 1

Three rules keep the optimal policy what it was: F counts as 0 at every terminal state, but not where an episode is cut
off; g is the learner's own; both potentials of a transition come from the same version of the same model. Adding F
itself instead of the difference makes a policy hover near the goal.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from robolearn.errors import SpecError


@dataclass(frozen=True)
class ShapingConfig:
    """Settings of Shaper."""

    discount: float = 0.99  # of the learner, per step
    scale: float = 1.0  # of the potential, in units of the reward


@dataclass(frozen=True)
class Potential:
    """Potentials of some states, and the model that made them (`<id>-<version>`)."""

    value: Tensor
    model: str


class Shaper:
    """Adds the discounted difference of a potential to a reward."""

    config_type: ClassVar = ShapingConfig

    def __init__(self, config: ShapingConfig) -> None:
        if not 0.0 < config.discount <= 1.0:
            raise SpecError(f"the shaper's discount is {config.discount:g}, expected more than 0 and at most 1")
        self.config = config

    def check_discount(self, discount: float) -> None:
        """Raise SpecError unless a learner with this discount discounts as the shaper does."""
        if abs(discount - self.config.discount) > 1e-9:
            raise SpecError(
                f"the shaper discounts by {self.config.discount:g}, the learner by {discount:g}; "
                "give both the same, or shaping changes which policy is best"
            )

    def shape(
        self, reward: Tensor, potential: Potential, next_potential: Potential, bootstrap: Tensor, steps: int = 1
    ) -> Tensor:
        """Shaped reward, of the shape of `reward`.

        `bootstrap` is 1 unless the transition terminated; `steps` is the length of an n-step transition, whose reward
        is already summed and discounted.
        """
        if potential.model != next_potential.model:
            raise SpecError(
                f"potentials of {potential.model} and {next_potential.model} were mixed in one transition; "
                "label both states with one version"
            )
        ahead = self.config.discount**steps * bootstrap * next_potential.value
        return reward + self.config.scale * (ahead - potential.value)
