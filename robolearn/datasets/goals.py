"""Goals for learning that is told where to get to: the observation of another step is taken as the goal.

Andrychowicz et al. 2017, Hindsight Experience Replay (arXiv 1707.01495); Park et al. 2023, HIQL (arXiv 2307.11949).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from robolearn.errors import DatasetError


@dataclass(frozen=True)
class GoalConfig:
    """How often the goal is which step; the shares add up to 1."""

    current: float = 0.2  # the step itself
    future: float = 0.5  # a later step of the episode
    final: float = 0.0  # the last step of the episode
    other: float = 0.3  # any step of all episodes
    offset: Literal["uniform", "geometric"] = "uniform"  # of future goals; geometric: by the discount
    reached: Literal["now", "next"] = "now"  # whether a step or the one after it has to be the goal to have reached it

    def __post_init__(self) -> None:
        shares = (self.current, self.future, self.final, self.other)
        if min(shares) < 0 or abs(sum(shares) - 1) > 1e-6:
            raise DatasetError(f"goals want shares of at least 0 that add up to 1, got {self}")


HIQL = GoalConfig()
"""The mixture of HIQL's value function."""

HER = GoalConfig(current=0.0, future=0.8, final=0.2, other=0.0, reached="next")
"""Strategy `future` with k = 4; for the fifth that keeps its goal, the end of the episode stands in."""


def draw_goals(
    steps: NDArray[np.int64],
    last: NDArray[np.int64],
    num_steps: int,
    config: GoalConfig,
    discount: float,
    rng: np.random.Generator,
) -> NDArray[np.int64]:
    """The goal (B,) of every step (B,), whose episode ends with step `last` (B,); there are `num_steps` in all.

    discount: that of the learner, per step, by which geometric goals are drawn; below 1. The future of an episode's
    last step is that step.
    """
    number = len(steps)
    if config.offset == "uniform":
        ahead = 1 + np.floor(rng.random(number) * (last - steps)).astype(np.int64)
    else:
        ahead = rng.geometric(1 - discount, number)
    future = np.minimum(steps + ahead, last)
    other = rng.integers(0, num_steps, number)
    bounds = np.cumsum([config.current, config.future, config.final])
    kind = np.searchsorted(bounds, rng.random(number), side="right")
    return np.choose(kind, [steps, future, last, other])
