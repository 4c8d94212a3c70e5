"""What a policy is shown beyond the observation of the moment: those before it, and the instruction."""

from __future__ import annotations

from collections import deque

import numpy as np

from robolearn.errors import SpecError
from robolearn.policies.instruction import embed
from robolearn.specs import INSTRUCTION, InterfaceSpec
from robolearn.types import Observation


class Context:
    """The newest observations of an episode and its instruction, as a policy of this spec wants them."""

    def __init__(self, spec: InterfaceSpec, instruction: str = "") -> None:
        self.instruction = instruction
        self._spec = spec
        self._seen: deque[Observation] = deque(maxlen=spec.observation_steps)

    def clear(self) -> None:
        """Forget the episode."""
        self._seen.clear()

    def add(self, observation: Observation) -> None:
        """The observation of a tick. Ticks that are lost leave no gap."""
        if INSTRUCTION in self._spec.observation and INSTRUCTION not in observation:
            vector = embed(self.instruction, self._spec.observation[INSTRUCTION])
            observation = {**observation, INSTRUCTION: vector.copy()}
        self._seen.append(observation)

    def shown(self) -> Observation:
        """What the policy is asked with: of a history every field with a leading axis, oldest first; before its first
        observation an episode shows that one. Raises SpecError where a field is missing."""
        newest, steps = self._seen[-1], self._spec.observation_steps
        if steps == 1:
            return newest
        missing = [name for name in self._spec.observation if name not in newest]
        if missing:
            raise SpecError(f"the policy needs {', '.join(missing)}; the observation has {', '.join(newest)}")
        past = [self._seen[0]] * (steps - len(self._seen)) + list(self._seen)
        return {name: np.stack([observation[name] for observation in past]) for name in self._spec.observation}
