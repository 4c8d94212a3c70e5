"""People who take over: one played by the scripted expert, and what is learned from those that are recorded."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from robolearn.algorithms import algorithm_class
from robolearn.datasets.replay_buffer import ReplayBuffer
from robolearn.datasets.store import Store
from robolearn.errors import SpecError
from robolearn.recipes.finetune.prepare import PRETRAINED
from robolearn.recipes.finetune.settings import FinetuneConfig, InterventionsConfig
from robolearn.recipes.origin import restore, statistics_of
from robolearn.recipes.run import read_state
from robolearn.recipes.training_data import tensors
from robolearn.recipes.training_loop import AVERAGE
from robolearn.specs import InterfaceSpec
from robolearn.types import ActionSource, Observation

Worth = Callable[[Observation, NDArray[np.float32]], NDArray[np.float32]]
"""What each of some actions (N, A) is worth (N,) at what is seen; 1 is the most."""


class Interventions:
    """`acts` says whether the person is in control at the next decision."""

    def __init__(self, config: InterventionsConfig, worth: Worth) -> None:
        self._config, self._worth = config, worth
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

    def watch(self, seen: Observation, action: NDArray[np.float32], expert: Callable[[], NDArray[np.float32]]) -> None:
        """The policy does this (A,) at what is seen; the person may take over after it."""
        if not self._config.ratio:
            return
        done, best = self._worth(seen, np.stack([action, expert()]))
        attention = self._config.attention
        if self._rng.random() < (attention if done < self._config.ratio * best else 1.0 - attention):
            self._left = self._config.steps


def critics_of(run: Path, spec: InterfaceSpec) -> Worth:
    """What actions are worth by the critics of a finished run: discount^t, t decisions before the task is done.

    Raises SpecError when that run saw or did something else, or was rewarded otherwise.
    """
    if not run.name:
        raise SpecError(
            "interventions.critic is missing: the scripted person judges by the critics of a finished run of the same "
            "task; name its folder"
        )
    config = FinetuneConfig.read(run)
    if config.space().interface != spec or config.rewards != "task":
        raise SpecError(f"interventions.critic: {run} is no run of the same task that was rewarded for doing it")
    made: Any = algorithm_class(config.algorithm)  # every one that practises has an actor and critics
    algorithm = made(spec, statistics_of(run / PRETRAINED), config.learner, config.seed)
    restore(algorithm, run, {k: v for k, v in read_state(run)[0].items() if not k.startswith(AVERAGE)})

    @torch.no_grad()
    def worth(seen: Observation, actions: NDArray[np.float32]) -> NDArray[np.float32]:
        batch = tensors({name: np.repeat(value[None], len(actions), 0) for name, value in seen.items()}, "cpu")
        normalized = algorithm.actor.normalized_action(torch.as_tensor(actions))
        cost = algorithm.critic(algorithm.actor.features(batch), normalized).mean(0).numpy()
        return 1.0 + (1.0 - config.learner.discount) * cost  # every decision costs one

    return worth


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
