"""The guard declares operators only for a CPU torch beside a CUDA torchvision."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from robolearn.networks.torchvision_guard import builds_clash


@pytest.mark.parametrize(
    ("torch_cuda", "version", "clash"),
    [
        (None, "0.28.0+cu130", True),
        (None, "0.28.0+cpu", False),
        (None, "0.28.0", False),
        ("13.0", "0.28.0+cu130", False),
    ],
)
def test_only_a_cpu_torch_beside_a_cuda_torchvision_clashes(
    tmp_path: Path, torch_cuda: str | None, version: str, clash: bool
) -> None:
    file = tmp_path / "version.py"
    file.write_text(f"__version__ = '{version}'\ngit_version = 'x'\n")
    assert builds_clash(torch_cuda, file) is clash
    assert builds_clash(torch_cuda, tmp_path / "missing.py") is False


def test_torchvision_imports_behind_the_guard(tmp_path: Path) -> None:
    """A package that, like torchvision's CUDA build, registers a fake kernel for an operator nobody declared."""
    package = tmp_path / "torchvision"
    package.mkdir()
    (package / "version.py").write_text("__version__ = '0.28.0+cu130'\n")
    (package / "__init__.py").write_text(
        "import torch\ntorch.library.register_fake('torchvision::nms')(lambda d, s, t: d)\n"
    )
    code = (
        "from robolearn.networks.torchvision_guard import declare_torchvision_operators as declare\n"
        "declared = declare()\nimport torchvision\nprint(declared, declare())\n"
    )
    if importlib.util.find_spec("torchvision") is not None or torch.version.cuda is not None:
        pytest.skip("a real torchvision or a CUDA torch is installed")
    environment = {"PYTHONPATH": str(tmp_path), "PATH": "/usr/bin:/bin"}
    guarded = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert guarded.stdout.split() == ["True", "False"], guarded.stderr
    bare = subprocess.run([sys.executable, "-c", "import torchvision"], env=environment, capture_output=True, text=True)
    assert "torchvision::nms" in bare.stderr
