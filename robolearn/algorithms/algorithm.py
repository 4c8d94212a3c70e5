"""The Algorithm protocol: what updates a policy from batches."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Protocol, TypeAlias, runtime_checkable

from torch import Tensor

from robolearn.algorithms.compile import Wrapper
from robolearn.networks.normalizer import Statistics
from robolearn.policies.policy import TrainablePolicy
from robolearn.specs import InterfaceSpec

Batch: TypeAlias = Mapping[str, Tensor]
"""By field name, leading axis B, on the algorithm's device.

Of chunks: observation fields, `action` (B, K, A), `action_mask` (B, K) bool, false where the episode had ended or the
action is not to be imitated. Of transitions: observation fields, the same under `next_<field>`, `action` (B, A), and
(B,) float32 `reward`, `bootstrap` (0 where the task was over, else 1), `discount` (of the next value) and, online,
`prior` (1 where the row is of prior data, else 0). Of goals, see `recipes/goal_data.py`.
"""

DataKind: TypeAlias = Literal["chunks", "goals", "transitions"]

Metrics: TypeAlias = dict[str, Tensor]
"""Scalars by name; they stay on the device until somebody logs them."""


@runtime_checkable
class Algorithm(Protocol):
    """Learns from batches. Knows nothing of files, logs or devices other than its tensors'."""

    config: Any

    @property
    def gradient_step(self) -> int:
        """Those done."""
        ...

    def update(self, batch: Batch) -> Metrics:
        """One gradient step on every `config.batch_size` rows of the batch, in their order."""
        ...

    def validate(self, batch: Batch) -> Metrics:
        """The losses of `update` on a batch that is not learned from. Of chunks, `loss` is what a better policy has
        less of; of transitions, no loss tells that."""
        ...

    def policy(self) -> TrainablePolicy:
        """The policy as it stands, which later updates go on changing."""
        ...

    def state_dict(self) -> dict[str, Tensor]:
        """Everything that the next update depends on, as flat tensors."""
        ...

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Continue as the algorithm whose `state_dict` this is."""
        ...


class AlgorithmClass(Protocol):
    """How an algorithm is made."""

    config_type: Any
    learns_from: DataKind
    metrics: tuple[str, ...]  # names of what `update` answers

    def __call__(
        self,
        spec: InterfaceSpec,
        statistics: Statistics,
        config: Any,
        seed: int = 0,
        device: str = "cpu",
        wrapper: Wrapper = ...,
    ) -> Algorithm:
        """An untrained one. The seed fixes initial weights and noise; `wrapper` compiles its gradient steps."""
        ...
