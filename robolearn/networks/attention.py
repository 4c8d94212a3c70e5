"""Transformer blocks. Legend: B batch, T tokens, D width.

Those of torch take other paths in evaluation than in training, which round otherwise and cannot be exported.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from robolearn.errors import SpecError


class Attention(nn.Module):
    """Attention of tokens (B, T, D) to those of a memory (B, M, D), by several heads (Vaswani et al. 2017). Raises
    SpecError where the heads do not divide the width."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        if heads < 1 or width % heads:
            raise SpecError(
                f"attention of width {width} in {heads} heads; take a number of heads that divides the width"
            )
        self.heads = heads
        self.query, self.key_value = nn.Linear(width, width), nn.Linear(width, 2 * width)
        self.answer = nn.Linear(width, width)

    def forward(self, tokens: Tensor, memory: Tensor, mask: Tensor | None = None) -> Tensor:
        """mask: (B, M) bool, false for what must not be looked at."""
        key, value = self.key_value(memory).chunk(2, dim=-1)
        split = (self.query(tokens), key, value)
        query, key, value = (each.unflatten(-1, (self.heads, -1)).transpose(1, 2) for each in split)
        seen = self._seen(query, key, value, None if mask is None else mask[:, None, None, :])
        return self.answer(seen.transpose(1, 2).flatten(2))

    def _seen(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
        if query.device.type != "cpu":
            return functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        with torch.autocast("cpu", enabled=False):  # the way back takes 15 times as long in bfloat16 there
            query, key, value = (each.to(self.query.weight.dtype) for each in (query, key, value))
            return functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)


class Block(nn.Module):
    """Attention among tokens (B, T, D), to a memory when there is one, and a perceptron, each normalised before and
    added to what was there."""

    def __init__(self, width: int, heads: int, remembers: bool = False) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(3 if remembers else 2))
        self.among = Attention(width, heads)
        self.to_memory = Attention(width, heads) if remembers else None
        self.perceptron = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, tokens: Tensor, memory: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
        """mask: (B, T) bool, false for the tokens that no other looks at."""
        normal = self.norms[0](tokens)
        tokens = tokens + self.among(normal, normal, mask)
        if self.to_memory is not None and memory is not None:
            tokens = tokens + self.to_memory(self.norms[1](tokens), memory)
        return tokens + self.perceptron(self.norms[-1](tokens))


class Blocks(nn.Module):
    """Several blocks, and a norm behind them."""

    def __init__(self, width: int, heads: int, layers: int, remembers: bool = False) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block(width, heads, remembers) for _ in range(layers))
        self.norm = nn.LayerNorm(width)

    def forward(self, tokens: Tensor, memory: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
        for block in self.blocks:
            tokens = block(tokens, memory, mask)
        return self.norm(tokens)
