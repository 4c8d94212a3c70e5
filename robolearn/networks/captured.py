"""Work on a GPU, recorded once: to launch its kernels one by one takes longer than they do where they are small."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import torch
from torch.utils._pytree import TreeSpec, tree_flatten, tree_map, tree_unflatten

WARM_UP_CALLS = 3  # libraries set themselves up in the first, and choose their kernels

_turn = threading.Lock()
_ended: dict[int, torch.cuda.Event] = {}
"""By GPU: the end of what was launched last."""


class Captured:
    """What tensor work does, as a CUDA graph. The first calls are plain; the next is recorded, and from then on inputs
    are copied to where the recording reads them and its kernels are launched together.

    `work` always takes tensors of the same shapes, on one GPU, asks for no number of them and draws none at random. All
    recordings of a process share workspaces of libraries, so that no two may run at the same time: each waits on its
    GPU for the one before, whatever their threads and streams are. Those of one `pool` share their memory, too.
    """

    def __init__(self, work: Callable[..., Any], pool: Any = None) -> None:
        """pool: a `torch.cuda.graph_pool_handle()`."""
        self._work = work
        self._pool = pool
        self._plain_calls = 0
        self._graph: torch.cuda.CUDAGraph | None = None
        self._inputs: list[torch.Tensor] = []
        self._outputs: Any = None

    def __call__(self, *inputs: Any) -> Any:
        """What the work answers, in tensors that the next call leaves alone."""
        leaves, form = tree_flatten(inputs)
        device = leaves[0].device
        with _turn, torch.cuda.device(device):
            stream = torch.cuda.current_stream()
            ended = _ended.setdefault(stream.device_index, torch.cuda.Event())
            stream.wait_event(ended)
            answer = self._called(leaves, form)
            ended.record(stream)
        return answer

    def _called(self, leaves: list[torch.Tensor], form: TreeSpec) -> Any:
        if self._graph is None and self._plain_calls < WARM_UP_CALLS:
            self._plain_calls += 1
            return self._work(*tree_unflatten(leaves, form))
        if self._graph is None:
            self._inputs = [leaf.clone() for leaf in leaves]
            graph = torch.cuda.CUDAGraph()
            # other threads (pinned memory, pictures of an evaluation) may ask the driver for things meanwhile
            with torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"):
                self._outputs = self._work(*tree_unflatten(self._inputs, form))
            self._graph = graph
        torch._foreach_copy_(self._inputs, leaves)
        self._graph.replay()
        return tree_map(torch.clone, self._outputs)
