"""The processes of one training, as `torchrun` starts them: each takes its share of the rows of every batch.

    torchrun --nproc-per-node 2 -m robolearn.cli train iql --dataset D --task T --out runs/iql

is the training of one process with twice the batch size, but for noise, which an algorithm draws alike in each process.
Metrics are those of the first one's rows.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

import torch
from torch import distributed

from robolearn.algorithms.algorithm import Batch
from robolearn.algorithms.compute import Compute
from robolearn.errors import SpecError


def started() -> int:
    """How many processes `torchrun` started, this one included."""
    return int(os.environ.get("WORLD_SIZE", "1"))


@dataclass(frozen=True)
class Processes:
    """How many there are, and the number of this one."""

    count: int = 1
    number: int = 0

    @classmethod
    def join(cls, compute: Compute) -> Processes:
        """Find the others, if `torchrun` started any. Raises SpecError for what several processes cannot do."""
        count, number = started(), int(os.environ.get("RANK", "0"))
        if count == 1:
            return cls()
        cuda = compute.device == "cuda"  # of which each process takes its own
        if compute.compile and cuda:
            raise SpecError(
                "several processes exchange gradients, which a step captured on a GPU cannot; leave --compile out"
            )
        if cuda:
            torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
        if not distributed.is_initialized():
            distributed.init_process_group("cpu:gloo,cuda:nccl" if cuda else "gloo")  # what `any` tells is on the CPU
        return cls(count, number)

    @property
    def first(self) -> bool:
        """Whether this one writes the run and tells of it."""
        return self.number == 0

    def share(self, batch: Batch) -> Batch:
        """The rows of this process."""
        return batch if self.count == 1 else {name: rows[self.number :: self.count] for name, rows in batch.items()}

    def any(self, flag: bool) -> bool:
        """Whether it is so in any of them, which all of them hear at once."""
        if self.count == 1:
            return flag
        told = torch.tensor(float(flag))
        distributed.all_reduce(told)
        return bool(told > 0)

    def leave(self) -> None:
        """Part from the others."""
        if self.count > 1:
            distributed.destroy_process_group()
