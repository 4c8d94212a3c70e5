"""Compiled gradient steps: losses, gradients and optimizer of a step as one program.

A gradient step that goes through here has fixed shapes, reads no number back to the host and gets its noise as an
argument, so compiled and plain differ by rounding alone. On a CPU it becomes C++ (Inductor with its C++ wrapper); on a
GPU it is captured as a CUDA graph, whose kernels are launched together.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable
from dataclasses import dataclass
from types import FunctionType
from typing import Any, Literal, TypeAlias, get_args

import torch
from torch.utils._pytree import tree_flatten, tree_map, tree_unflatten

Step: TypeAlias = Callable[..., Any]
Wrapper: TypeAlias = Callable[[Step], Step]
"""Makes of a gradient step another that does the same."""

WARM_UP_STEPS = 3  # before a step is captured: libraries set themselves up in the first
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, LARGEST = -1, -3, 1 << 30  # of malloc.h; [bytes]

Precision: TypeAlias = Literal["float32", "bfloat16"]


def plain(step: Step) -> Step:
    """The step as it is: no warm-up, for short runs and debugging."""
    return step


def compiled(device: str = "cpu") -> Wrapper:
    """Makes of a step one program. On a CPU its first call takes 5 to 50 s, less when Inductor has it in its cache; on
    a GPU the first few take what plain ones do.

    The program is for the shapes of the first call and for parameters that stay where they are; nothing is checked at
    later calls, because the checks would take a tenth of a step's time.
    """
    return Captured if torch.device(device).type == "cuda" else _inductor


def _inductor(step: Step) -> Step:
    torch._dynamo.config.trace_autograd_ops = True  # gradients are taken inside the step
    options: dict[str, Any] = {"cpp_wrapper": True, "guard_filter_fn": torch.compiler.skip_all_guards_unsafe}
    return torch.compile(_alone(step), fullgraph=True, dynamic=False, options=options)


class Captured:
    """A step as a CUDA graph. The first calls are plain; the next is recorded, and from then on inputs are copied to
    where the recording reads them and its kernels are launched together."""

    def __init__(self, step: Step) -> None:
        self._step = step
        self._plain_calls = 0
        self._graph: torch.cuda.CUDAGraph | None = None
        self._inputs: list[torch.Tensor] = []
        self._outputs: Any = None

    def __call__(self, *inputs: Any) -> Any:
        """What the step answers, in tensors that the next call leaves alone."""
        if self._graph is None and self._plain_calls < WARM_UP_STEPS:
            self._plain_calls += 1
            return self._beside(inputs)
        leaves, form = tree_flatten(inputs)
        if self._graph is None:
            self._inputs = [leaf.clone() for leaf in leaves]
            self._graph = torch.cuda.CUDAGraph()
            # other threads (pinned memory, pictures of an evaluation) may ask the driver for things meanwhile
            with torch.cuda.graph(self._graph, capture_error_mode="thread_local"):
                self._outputs = self._step(*tree_unflatten(self._inputs, form))
        torch._foreach_copy_(self._inputs, leaves)
        self._graph.replay()
        return tree_map(torch.clone, self._outputs)

    def _beside(self, inputs: tuple[Any, ...]) -> Any:
        """A plain step on a stream of its own, as what is captured later must have been run before."""
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            outputs = self._step(*inputs)
        torch.cuda.current_stream().wait_stream(stream)
        return outputs


def _alone(step: Step) -> Step:
    """The step as a function with a code object of its own: Dynamo keeps its programs there, and without checks two
    learners would take each other's."""

    def call(*inputs: Any) -> Any:
        return step(*inputs)

    return FunctionType(call.__code__.replace(), call.__globals__, closure=call.__closure__)


def keep_memory() -> None:
    """Have the C library keep the buffers that are freed, for this process: those of a step take megabytes, and to be
    given new pages for them by the system each time costs up to a third of it. Does nothing where there is no glibc."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        for option in (M_MMAP_THRESHOLD, M_TRIM_THRESHOLD):
            mallopt(option, LARGEST)


def reduced(step: Step, device: str) -> Step:
    """The step with the products inside of its networks in bfloat16; parameters, what enters and leaves a network,
    losses and optimizers stay in float32."""

    def inside(*inputs: Any) -> Any:
        # No cache: a rounded weight is out of date as soon as the optimizer has stepped.
        with torch.autocast(torch.device(device).type, torch.bfloat16, cache_enabled=False):
            return step(*inputs)

    return inside


@dataclass(frozen=True)
class Compute:
    """Where and how a training computes. Another choice gives other roundings, so a run is resumed with its own."""

    device: str = "cpu"
    compile: bool = False
    precision: Precision = "float32"  # of products of hidden layers, see `reduced`

    def __post_init__(self) -> None:
        if self.precision not in get_args(Precision):
            raise ValueError(f"precision is {self.precision!r}, expected one of {', '.join(get_args(Precision))}")

    def wrapper(self) -> Wrapper:
        """What to make algorithms with. Memory that is freed stays with the process from then on."""
        keep_memory()
        outer = compiled(self.device) if self.compile else plain
        if self.precision == "float32":
            return outer
        return lambda step: outer(reduced(step, self.device))
