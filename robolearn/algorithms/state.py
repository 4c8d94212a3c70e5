"""The state of an algorithm, parts of which know their own, as one flat mapping of tensors."""

from __future__ import annotations

from collections.abc import Mapping

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
