from __future__ import annotations

import os
import resource
import subprocess
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


BROKEN = """#!/bin/sh
case "$1" in --version) echo "g++ (as it says) 12.2.0"; exit 0;; esac
echo "main.cpp:1:10: fatal error: omp.h: No such file or directory" >&2
exit 1
"""
STEP = """
import torch
from robolearn.algorithms.compute import Compute
from robolearn.errors import SpecError
try:
    Compute(compile=True, precision="float32").wrapper()(lambda x: x.exp() + 1)(torch.ones(4))
except SpecError as error:
    print(error)
"""


def test_a_compiler_that_fails_is_told_of_in_a_line(tmp_path: Path) -> None:
    compiler = tmp_path / "c++"
    compiler.write_text(BROKEN)
    compiler.chmod(0o755)
    env = os.environ | {"CXX": str(compiler), "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "cache")}
    ended = subprocess.run([sys.executable, "-c", STEP], env=env, capture_output=True, text=True, check=True)
    assert ended.stdout.count("\n") == 1
    assert "fatal error: omp.h: No such file or directory; see what it lacks" in ended.stdout
