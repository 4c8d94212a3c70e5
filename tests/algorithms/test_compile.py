from __future__ import annotations

import resource
import sys

import pytest
import torch

from robolearn.algorithms.compute import Compute


@pytest.mark.skipif(sys.platform != "linux", reason="asks glibc")
def test_buffers_that_are_freed_are_not_fetched_anew() -> None:
    Compute().wrapper()

    def faults() -> int:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        for _ in range(3):
            torch.ones(9 << 20)  # 36 MiB, 9216 pages
        return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

    # other allocations may split the free buffer now and then; without the setting every round fetches 27648 pages
    assert min(faults() for _ in range(8)) < 1000


def test_an_unknown_precision_is_refused() -> None:
    with pytest.raises(ValueError, match="expected one of float32, bfloat16"):
        Compute(precision="medium")  # type: ignore[arg-type]
