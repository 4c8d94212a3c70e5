"""Compiled gradient steps: losses, gradients and optimizer of a step as one program.

A gradient step that goes through here has fixed shapes, reads no number back to the host and gets its noise as an
argument, so compiled and plain differ by rounding alone. On a CPU it becomes C++ (Inductor with its C++ wrapper); on a
GPU it is captured as a CUDA graph, whose kernels are launched together.
"""

from __future__ import annotations

import ctypes
import sys
import warnings
from collections.abc import Callable
from types import FunctionType
from typing import Any, TypeAlias

import torch

from robolearn.errors import SpecError
from robolearn.networks.captured import Captured

Step: TypeAlias = Callable[..., Any]
Wrapper: TypeAlias = Callable[[Step], Step]
"""Makes of a gradient step another that does the same."""

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, LARGEST = -1, -3, 1 << 30  # of malloc.h; [bytes]
M_ARENA_MAX = -8


def plain(step: Step) -> Step:
    """The step as it is: no warm-up, for short runs and debugging."""
    return step


def compiled(device: str = "cpu") -> Wrapper:
    """Makes of a step one program. Its first call takes 5 to 50 s, less when Inductor has it in its cache.

    The program is for the shapes of the first call and for parameters that stay where they are; nothing is checked at
    later calls, because the checks would take a tenth of a step's time. Raises SpecError at the first one where the
    compiler does not do its work.
    """
    if torch.device(device).type == "cuda":
        warnings.filterwarnings("ignore", "TensorFloat32")  # is advised, and would be another precision
        # torch 2.11 fails on SAC and CQL where it may reorder loops
        return lambda step: Captured(_inductor(step, {"loop_ordering_after_fusion": False}))
    return lambda step: _inductor(step, {"cpp_wrapper": True})


def _inductor(step: Step, options: dict[str, Any]) -> Step:
    torch._dynamo.config.trace_autograd_ops = True  # gradients are taken inside the step
    options = {**options, "guard_filter_fn": torch.compiler.skip_all_guards_unsafe}
    program = torch.compile(_alone(step), fullgraph=True, dynamic=False, options=options)

    def call(*inputs: Any) -> Any:
        try:
            return program(*inputs)
        except torch._inductor.exc.InductorError as error:
            lines = [line.strip() for line in str(error).split("\n\nSet TORCHDYNAMO")[0].splitlines()]
            told = next((line for line in lines if "error: " in line), lines[0])
            raise SpecError(
                f"no compiled step came of the compiler: {told}; see what it lacks (CXX, for a GPU CC, says which "
                "one is taken), or leave --compile out"
            ) from error

    return call


def _alone(step: Step) -> Step:
    """The step as a function with a code object of its own: Dynamo keeps its programs there, and without checks two
    learners would take each other's."""

    def call(*inputs: Any) -> Any:
        return step(*inputs)

    return FunctionType(call.__code__.replace(), call.__globals__, closure=call.__closure__)


def keep_memory() -> None:
    """Have the C library keep the buffers that are freed, for this process: those of a step take megabytes, and to be
    given new pages for them by the system each time costs up to a third of it. Does nothing where there is no glibc.

    Threads that start later share one heap: what they have of their own is given back however large it may be."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        for option, value in ((M_MMAP_THRESHOLD, LARGEST), (M_TRIM_THRESHOLD, LARGEST), (M_ARENA_MAX, 1)):
            mallopt(option, value)


def has_bfloat16(device: str) -> bool:
    """Whether the device has units that multiply matrices of bfloat16: GPUs since Ampere, processors with AMX. Others
    round for it and are slower."""
    if torch.device(device).type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return bool(torch.cpu.get_capabilities().get("amx_bf16", False))


def reduced(step: Step, device: str) -> Step:
    """The step with the products inside of its networks in bfloat16; parameters, what enters and leaves a network,
    losses and optimizers stay in float32."""

    def inside(*inputs: Any) -> Any:
        # No cache: a rounded weight is out of date as soon as the optimizer has stepped.
        with torch.autocast(torch.device(device).type, torch.bfloat16, cache_enabled=False):
            return step(*inputs)

    return inside
