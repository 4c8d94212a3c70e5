"""The Policy protocol: observation in, action chunk out."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from robolearn.specs import InterfaceSpec
from robolearn.types import ActionChunk, Observation


@runtime_checkable
class Policy(Protocol):
    """Maps an observation to an action chunk. `spec` names the fields that it needs; others are ignored."""

    spec: InterfaceSpec

    def reset(self, seed: int = 0) -> None:
        """Forget the episode; `seed` fixes any randomness of the next one."""
        ...

    def act(self, observation: Observation, stamp_ns: int) -> ActionChunk:
        """Actions (K, A) from the observation captured at `stamp_ns`; the first one is due at `stamp_ns`."""
        ...
