"""The Policy protocol: observation in, action chunk out; and what a policy owes that learns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from robolearn.specs import InterfaceSpec
from robolearn.types import ActionChunk, Observation

if TYPE_CHECKING:  # a robot that runs a scripted policy needs no torch
    from torch import Tensor

    from robolearn.networks.normalizer import FieldStatistics


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


class TrainablePolicy(Policy, Protocol):
    """A torch module that is a policy: made from a spec, statistics and a config, which its checkpoint holds."""

    config: Any
    statistics: dict[str, FieldStatistics]

    def best(self, observation: Mapping[str, Tensor]) -> Tensor:
        """Actions (B, A) or (B, K, A) in the units of the action spec, for a batch of observations (B, ...). It is what
        `act` answers with, and nothing but arithmetic, so that it can be exported."""
        ...

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state_dict: Any) -> Any: ...

    def to(self, device: Any) -> Any: ...

    def eval(self) -> Any: ...
