"""Normalisation of vectors by the statistics of a dataset."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

MIN_STD_FRACTION = 0.01  # of the widest std of the field: a joint that hardly moved must not be blown up
MIN_STD = 1e-6  # of the widest std: below, the field never moved, and says how far it moves when it does to nobody
OUTLIER = 5.0  # standard deviations


@dataclass(frozen=True)
class FieldStatistics:
    """Mean, standard deviation, minimum and maximum of each entry of a vector field, in the field's unit."""

    mean: tuple[float, ...]
    std: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Sequence[float]]) -> FieldStatistics:
        return cls(**{key: tuple(float(v) for v in values) for key, values in data.items()})

    def select(self, indices: Sequence[int]) -> FieldStatistics:
        """Statistics of some of the entries."""
        return FieldStatistics(
            *(tuple(values[i] for i in indices) for values in (self.mean, self.std, self.low, self.high))
        )


Statistics: TypeAlias = Mapping[str, FieldStatistics]
"""By field name."""


class Normalizer(nn.Module):
    """(..., D) to zero mean and unit standard deviation, and back; a field that never moved keeps its unit. The numbers
    live in the checkpoint's config."""

    def __init__(self, statistics: FieldStatistics) -> None:
        super().__init__()
        std = torch.tensor(statistics.std, dtype=torch.float32)
        widest = float(std.max())
        floor = max(widest * MIN_STD_FRACTION, MIN_STD) if widest > MIN_STD else 1.0
        self.register_buffer("mean", torch.tensor(statistics.mean, dtype=torch.float32), persistent=False)
        self.register_buffer("std", std.clamp_min(floor), persistent=False)

    def forward(self, value: Tensor) -> Tensor:
        return (value - self.get_buffer("mean")) / self.get_buffer("std")

    def inverse(self, value: Tensor) -> Tensor:
        return value * self.get_buffer("std") + self.get_buffer("mean")


class ObservationNormalizer(Normalizer):
    """Of what a network is shown: beyond OUTLIER standard deviations logarithmically. What demonstrations held still, a
    learner moves a hundred times as far, and to such inputs critics answer with values that nothing is worth."""

    def forward(self, value: Tensor) -> Tensor:
        normalized = super().forward(value)
        beyond = (normalized.abs() - OUTLIER).clamp_min(0.0)
        return normalized.clamp(-OUTLIER, OUTLIER) + normalized.sign() * beyond.log1p()
