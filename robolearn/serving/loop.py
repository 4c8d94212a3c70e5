"""The control loop: from action chunks to one action a tick."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from robolearn.errors import SpecError
from robolearn.policies.policy import Policy
from robolearn.types import ActionChunk, ActionSource, Observation

EXECUTE_STEPS = 4  # of a chunk: cloned on pick_place-v1, 300 of 300 episodes succeed, with 8 it is 288


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
    and the policy is asked anew at the next tick.
    """

    def __init__(self, policy: Policy, execute_steps: int = EXECUTE_STEPS) -> None:
        if execute_steps < 1:
            raise SpecError(f"execute_steps is {execute_steps}; expected at least 1")
        self.policy = policy
        self.execute_steps = execute_steps
        self._chunk: ActionChunk | None = None

    def reset(self, seed: int = 0) -> None:
        """Forget the episode."""
        self._chunk = None
        self.policy.reset(seed)

    def due(self, stamp_ns: int) -> bool:
        """Whether the tick at `stamp_ns` asks the policy; if not, `step` needs no observation."""
        chunk = self._chunk
        if chunk is None or stamp_ns < chunk.stamp_ns:  # time went back: another episode
            return True
        return _index(chunk, stamp_ns) >= min(self.execute_steps, len(chunk.actions))

    def step(self, observation: Observation | None, stamp_ns: int) -> LoopStep:
        """Action of the tick at `stamp_ns`, whose observation is `observation`.

        Raises SpecError when the policy is due and there is no observation, or when its answer does not fit its spec.
        """
        chunk = None
        if self.due(stamp_ns):
            self._chunk = None
            if observation is None:
                raise SpecError(f"the policy is due at {stamp_ns} ns and there is no observation")
            chunk = self._chunk = self._checked(self.policy.act(observation, stamp_ns), stamp_ns)
        assert self._chunk is not None
        index = _index(self._chunk, stamp_ns)
        return LoopStep(self._chunk.actions[index], self._chunk.source, chunk)

    def _checked(self, chunk: ActionChunk, stamp_ns: int) -> ActionChunk:
        actions = np.asarray(chunk.actions)
        if actions.ndim != 2 or len(actions) == 0:
            raise SpecError(f"the policy returned actions of shape {actions.shape}, expected (K, A) with K at least 1")
        spec = self.policy.spec.action
        actions = np.stack([spec.check(f"the policy's action {k}", action) for k, action in enumerate(actions)])
        if chunk.period_ns < 1:
            raise SpecError(f"the policy returned a chunk with period {chunk.period_ns} ns; expected a positive one")
        if _index(chunk, stamp_ns) >= len(actions):
            raise SpecError(f"the policy returned a chunk that ended before the tick at {stamp_ns} ns")
        return replace(chunk, actions=actions)


def _index(chunk: ActionChunk, stamp_ns: int) -> int:
    """Which action of the chunk is due at the stamp, to the nearest tick: the first before its start, K or more after
    its end."""
    return max((stamp_ns - chunk.start_ns + chunk.period_ns // 2) // chunk.period_ns, 0)
