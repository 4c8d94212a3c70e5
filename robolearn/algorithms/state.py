"""The state of an algorithm, parts of which know their own, as one flat mapping of tensors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor


def pack(parts: Mapping[str, Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """`<part>.<name>` for every tensor of every part; the names of part "" stay as they are."""
    return {
        f"{part}.{name}" if part else name: tensor
        for part, tensors in parts.items()
        for name, tensor in tensors.items()
    }


def unpack(state: Mapping[str, Tensor], part: str) -> dict[str, Tensor]:
    """The tensors of one part under their own names."""
    return {key.removeprefix(f"{part}."): tensor for key, tensor in state.items() if key.startswith(f"{part}.")}


def state_of(
    parts: Mapping[str, Any], gradient_step: int, generator: torch.Generator | None = None, **tensors: Tensor
) -> dict[str, Tensor]:
    """State of an algorithm made of networks and optimizers, of where its noise and its steps stand, and of tensors of
    its own."""
    facts = {name: tensor.detach() for name, tensor in tensors.items()}
    facts["gradient_step"] = torch.tensor(gradient_step)
    if generator is not None:
        facts["generator"] = generator.get_state()
    return pack({name: part.state_dict() for name, part in parts.items()} | {"": facts})


def load_state(
    state: Mapping[str, Tensor], parts: Mapping[str, Any], generator: torch.Generator | None = None, **tensors: Tensor
) -> int:
    """Put all that `state_of` was given back to where it was; the answer is the gradient step."""
    for name, part in parts.items():
        part.load_state_dict(unpack(state, name))
    with torch.no_grad():
        for name, tensor in tensors.items():
            tensor.copy_(state[name])
    if generator is not None:
        generator.set_state(state["generator"].cpu())
    return int(state["gradient_step"])
