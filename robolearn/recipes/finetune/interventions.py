"""A person at the controls who takes over when the policy wastes its time, played by the scripted expert."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from robolearn.recipes.finetune.settings import InterventionsConfig


class Interventions:
    """`acts` says whether the person is in control at the next decision."""

    def __init__(self, config: InterventionsConfig, discount: float) -> None:
        self._config, self._discount = config, discount
        self._left = 0

    @property
    def acts(self) -> bool:
        return self._left > 0

    def begin(self, rng: np.random.Generator) -> None:
        """An attempt begins."""
        self._rng, self._left = rng, 0

    def action(self, expert: Callable[[], NDArray[np.float32]]) -> NDArray[np.float32]:
        """What the person does (A,)."""
        self._left -= 1
        action = expert()
        noise = self._config.noise * self._rng.normal(size=action.shape)
        return np.clip(action + noise, -1.0, 1.0).astype(np.float32)

    def watch(self, before: float, after: float) -> None:
        """The progress before and after a decision; the person may take over now.

        A state of progress p is worth discount^((1 - p) horizon): what is still to come. An action is wasted when
        discount * V(after) < ratio * V(before).
        """
        if not self._config.ratio or self._left:
            return
        gained = (after - before) * self._config.horizon
        wasted = self._discount ** (1.0 - gained) < self._config.ratio
        attention = self._config.attention
        if self._rng.random() < (attention if wasted else 1.0 - attention):
            self._left = self._config.steps
