from __future__ import annotations

import resource
import sys
from pathlib import Path

import pytest
import torch

from robolearn.algorithms import compile
from robolearn.algorithms.compile import has_bfloat16
from robolearn.algorithms.compute import Compute


@pytest.mark.parametrize("there", [True, False])
def test_bfloat16_is_for_compiled_updates_on_what_multiplies_it(there: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compile, "has_bfloat16", lambda device: there)
    assert Compute().settled() == Compute(precision="float32")
    assert Compute(compile=True).settled().precision == ("bfloat16" if there else "float32")
    for asked in ("float32", "bfloat16"):
        assert Compute(compile=True, precision=asked).settled().precision == asked
        assert Compute.begun({"compile": True, "precision": asked}).settled().precision == asked
    assert Compute.begun({"compile": True}) == Compute(compile=True, precision="float32")


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_processor_tells_whether_it_multiplies_bfloat16() -> None:
    assert has_bfloat16("cpu") == ("amx_bf16" in Path("/proc/cpuinfo").read_text().split())


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
    with pytest.raises(ValueError, match="expected one of auto, float32, bfloat16"):
        Compute(precision="medium")  # type: ignore[arg-type]
