"""A small interface and batches of it, for the tests of the losses."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from robolearn.policies.gaussian import GaussianPolicyConfig
from robolearn.specs import ArraySpec, InterfaceSpec

SPEC = InterfaceSpec({"state": ArraySpec((3,))}, ArraySpec((2,), low=(-1.0, -1.0), high=(1.0, 1.0)), 10.0)
SIZE = 16


def settings(**policy: Any) -> dict[str, Any]:
    return {
        "policy": GaussianPolicyConfig(hidden_sizes=(16,), **policy),
        "critic_hidden_sizes": (16,),
        "batch_size": SIZE,
    }


def transitions(size: int = SIZE, seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        "state": torch.randn(size, 3, generator=generator),
        "next_state": torch.randn(size, 3, generator=generator),
        "action": torch.rand(size, 2, generator=generator) * 1.8 - 0.9,
        "reward": torch.randn(size, generator=generator),
        "bootstrap": (torch.rand(size, generator=generator) < 0.7).float(),
        "discount": torch.full((size,), 0.9),
        "return_to_go": torch.randn(size, generator=generator),
    }


def doubled(batch: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.double() for name, value in batch.items()}


def noise(*shape: int, seed: int = 5) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))
