"""Compiled gradient steps: losses, gradients and optimizer of a step as one program.

A gradient step that goes through here has fixed shapes, reads no number back to the host and gets its noise as an
argument, so compiled and plain differ by rounding alone. On a CPU it becomes C++ (Inductor with its C++ wrapper); on a
GPU it is captured as a CUDA graph.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import torch

Step: TypeAlias = Callable[..., Any]
Wrapper: TypeAlias = Callable[[Step], Step]
"""Makes of a gradient step another that does the same."""

OPTIONS: dict[str, dict[str, Any]] = {"cpu": {"cpp_wrapper": True}, "cuda": {"triton.cudagraphs": True}}
"""Of Inductor, by device type."""


def plain(step: Step) -> Step:
    """The step as it is: no warm-up, for short runs and debugging."""
    return step


def compiled(device: str = "cpu") -> Wrapper:
    """Makes of a step one compiled program. Its first call takes 5 to 50 s, less when Inductor has it in its cache."""

    def wrapper(step: Step) -> Step:
        torch._dynamo.config.trace_autograd_ops = True  # gradients are taken inside the step
        return torch.compile(step, fullgraph=True, dynamic=False, options=OPTIONS[torch.device(device).type])

    return wrapper


@dataclass(frozen=True)
class Compute:
    """Where and how a training computes. Another choice gives other roundings, so a run is resumed with its own."""

    device: str = "cpu"
    compile: bool = False
    precision: Literal["highest", "high", "medium"] = "highest"  # of products of float32; `medium` has bfloat16 factors

    def wrapper(self) -> Wrapper:
        """What to make algorithms with. Sets the precision, which torch keeps for the whole process."""
        torch.set_float32_matmul_precision(self.precision)
        return compiled(self.device) if self.compile else plain
