"""People who take over: one played by the scripted expert, and what is learned from those that are recorded."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from robolearn.datasets.replay_buffer import ReplayBuffer
from robolearn.datasets.store import Store
from robolearn.recipes.finetune.settings import InterventionsConfig
from robolearn.types import ActionSource


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


def add_human_steps(buffer: ReplayBuffer, store: Store, index: int, rewards: NDArray) -> None:
    """Add what the person did in an attempt to the demonstrations, as HIL-SERL does; with the policy's own steps it is
    in the replay buffer as well. rewards (D,): of its decisions."""
    fields = tuple(buffer.spec.observation)
    rows = store.read(index, [*fields, "action", "action_source"])
    human = rows["action_source"] == ActionSource.INTERVENTION
    last = len(human) - 2  # the row after it holds what was seen at the end
    for step in np.flatnonzero(human[: last + 1]).tolist():
        if step == 0 or not human[step - 1]:
            buffer.begin({name: rows[name][step] for name in fields})
        over = step == last and store.episodes[index].terminated
        ends = step == last or not human[step + 1]
        following = {name: rows[name][step + 1] for name in fields}
        buffer.append(rows["action"][step], float(rewards[step]), following, over, ends and not over)
