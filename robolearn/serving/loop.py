"""The control loop: from action chunks to one action a tick."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from robolearn.errors import SpecError
from robolearn.policies.policy import Policy
from robolearn.serving.chunks import EXECUTE_STEPS, checked, index_at
from robolearn.serving.context import Context
from robolearn.types import ActionChunk, ActionSource, Observation


@dataclass(frozen=True)
class LoopStep:
    """Answer to one tick: action (A,) in the units of the action spec, and the chunk if this tick made a new one."""

    action: NDArray[np.float32]
    source: ActionSource
    chunk: ActionChunk | None


class ControlLoop:
    """Executes `execute_steps` of every chunk of the policy (all of a shorter one), then asks for the next.

    Actions are chosen by stamps, not by counting calls: when ticks are lost, the actions of the lost ticks are
    skipped. What the policy returns is checked; a chunk of another shape or with a NaN raises SpecError, is forgotten,
    and the policy is asked anew at the next tick. So is one that cannot be reset, as when its server is away.
    """

    def __init__(self, policy: Policy, execute_steps: int = EXECUTE_STEPS, instruction: str = "") -> None:
        """instruction: of the task, for a policy that follows words."""
        if execute_steps < 1:
            raise SpecError(f"execute_steps is {execute_steps}; expected at least 1")
        self.policy = policy
        self.execute_steps = execute_steps
        self._chunk: ActionChunk | None = None
        self._seed: int | None = None  # of an episode for which the policy was not reset yet
        self._context = Context(policy.spec, instruction)

    def reset(self, seed: int = 0) -> None:
        """Forget the episode. The policy is reset with the seed when the first tick asks it."""
        self._chunk = None
        self._context.clear()
        self._seed = seed

    def due(self, stamp_ns: int) -> bool:
        """Whether the tick at `stamp_ns` asks the policy; if not, `step` needs no observation, unless the policy wants
        those of several ticks."""
        chunk = self._chunk
        if chunk is None or stamp_ns < chunk.stamp_ns:  # time went back: another episode
            return True
        return index_at(chunk, stamp_ns) >= min(self.execute_steps, len(chunk.actions))

    def step(self, observation: Observation | None, stamp_ns: int) -> LoopStep:
        """Action of the tick at `stamp_ns`, whose observation is `observation`.

        Raises SpecError when the policy is due and there is no observation, or when its answer does not fit its spec.
        """
        chunk = None
        if observation is not None:
            self._context.add(observation)
        if self.due(stamp_ns):
            self._chunk = None
            if observation is None:
                raise SpecError(f"the policy is due at {stamp_ns} ns and there is no observation")
            if self._seed is not None:
                self.policy.reset(self._seed)
                self._seed = None
            answer = self.policy.act(self._context.shown(), stamp_ns)
            chunk = self._chunk = checked(answer, self.policy.spec.action, stamp_ns)
        assert self._chunk is not None
        index = index_at(self._chunk, stamp_ns)
        return LoopStep(self._chunk.actions[index], self._chunk.source, chunk)
