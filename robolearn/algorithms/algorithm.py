"""The Algorithm protocol: what updates a policy from batches."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, TypeAlias, runtime_checkable

from torch import Tensor

from robolearn.policies.chunking import ChunkPolicy

Batch: TypeAlias = Mapping[str, Tensor]
"""By field name, leading axis B, on the algorithm's device: observation fields, `action` (B, K, A), `action_mask`
(B, K) bool, false where the episode had ended or the action is not to be imitated."""

Metrics: TypeAlias = dict[str, Tensor]
"""Scalars by name; they stay on the device until somebody logs them."""


@runtime_checkable
class Algorithm(Protocol):
    """Learns from batches. Knows nothing of files, logs or devices other than its tensors'."""

    gradient_step: int

    def update(self, batch: Batch) -> Metrics:
        """One gradient step."""
        ...

    def validate(self, batch: Batch) -> Metrics:
        """The losses of `update` on a batch that is not learned from; `loss` is what a better policy has less of."""
        ...

    def policy(self) -> ChunkPolicy:
        """The policy as it stands, which later updates go on changing."""
        ...

    def state_dict(self) -> dict[str, Tensor]:
        """Everything that the next update depends on, as flat tensors."""
        ...

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Continue as the algorithm whose `state_dict` this is."""
        ...
