"""Which devices a network can be put on."""

from __future__ import annotations

import torch

from robolearn.errors import SpecError


def usable_device(name: str) -> torch.device:
    """The device `cpu`, `cuda` or `cuda:<number>`. Raises SpecError for one that torch cannot use here."""
    try:
        device = torch.device(name)
    except RuntimeError:
        raise SpecError(f"device is {name!r}; expected cpu or cuda") from None
    if device.type not in ("cpu", "cuda"):
        raise SpecError(f"device is {name!r}; expected cpu or cuda")
    there = torch.cuda.device_count() if device.type == "cuda" else 1
    if not there:
        raise SpecError(f"device is {name} and torch sees no GPU; take cpu, the default")
    if (device.index or 0) >= there:
        raise SpecError(f"device is {name} and torch sees {there}, counted from 0; take another one")
    return device
